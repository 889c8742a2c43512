//! The load, judged by the oracle: with kills it finds nothing, and anomalies made by hand it calls by their names.

use crate::laws::history::{History, Output};
use crate::laws::{Anomaly, Fate, judge, report};
use crate::reader::{OUTPUT, Told, Watch, now_ms, read};
use crate::rig::{Instance, Load, Random, World, say};
use rdkafka::ClientConfig;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Waits until everything is taken and published, then asks the oracle.
pub fn history(world: &World, load: &Load, told: Told) -> History {
    world.wait_taken(load.sent.cast_signed(), Duration::from_secs(60));
    crate::rig::until("everything is published", Duration::from_secs(30), || {
        let behind = world.audit().behind().len();
        if behind == 0 { Ok(()) } else { Err(format!("{behind} partitions are behind")) }
    });
    let told = Told { is_drained: true, accepted: load.accepted(), ..told };
    read(&world.servers(), told).unwrap()
}

/// The anomalies, and the report.
pub fn told(history: &History) -> (BTreeSet<Anomaly>, String) {
    let findings = judge(history);
    (findings.iter().map(|finding| finding.anomaly).collect(), report(history, &findings))
}

/// An output may stand for 30 s after the last kill (O11); the watcher sees the moment after that.
const WATCHED_ONCE_HEALED: Duration = Duration::from_secs(32);
/// Then everything is worked off (O12).
const WORKED_OFF_WITHIN_MS: i64 = 60_000;

/// `TIDEGATE_LOAD_SECONDS` (40) and `TIDEGATE_LOAD_RECORDS` (40,000) say how much, `TIDEGATE_LOAD_SEED` repeats a run's
/// choices, though not the algorithm's. The first half of the time has the kills.
#[test]
fn the_oracle_finds_nothing_under_the_load_and_kills() {
    let seed = Random::seed("TIDEGATE_LOAD_SEED");
    let amount =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, records) = (amount("TIDEGATE_LOAD_SECONDS", 40), amount("TIDEGATE_LOAD_RECORDS", 40_000));
    let Some(world) = World::load("load") else { return };
    say(&format!("load: TIDEGATE_LOAD_SEED={seed} TIDEGATE_LOAD_SECONDS={seconds} TIDEGATE_LOAD_RECORDS={records}"));
    let mut load = Load::new(&world, seed);
    let mut instances = ["first", "second", "third"].map(|name| world.instance(name));
    world.wait_owners(3);
    let watch = Watch::start(&world.servers()).unwrap();

    let during = Duration::from_secs(seconds);
    let (kills, healed, healed_at_ms) = std::thread::scope(|scope| {
        scope.spawn(|| load.send(records, during));
        let kills = kill_at_random(&world, &mut instances, Random::new(seed ^ 0x10AD), during / 2);
        (kills, Instant::now(), now_ms())
    });
    std::thread::sleep(WATCHED_ONCE_HEALED.saturating_sub(healed.elapsed()));
    let samples = watch.end().unwrap();
    let history = history(&world, &load, Told { samples, healed_at_ms: Some(healed_at_ms), ..Told::default() });
    let (anomalies, text) = told(&history);
    assert!(anomalies.is_empty(), "TIDEGATE_LOAD_SEED={seed}: {anomalies:?}\n{text}");

    // Nothing was found, and there was something to judge: the watcher saw enough, and the load has its claimed shape.
    let watched_ms = history.samples.last().map(|last| last.at_ms - healed_at_ms);
    assert!(kills >= 3 && watched_ms > Some(30_000), "{kills} kills, watched for {watched_ms:?} ms once healed");
    let read_ms = history.read_at_ms - healed_at_ms;
    assert!(read_ms < WORKED_OFF_WITHIN_MS, "worked off {read_ms} ms after the last kill");
    let changes = history.links.len() as f64;
    let notices = history.outputs.iter().filter(|output| output.is_visible && output.topic.as_str() == OUTPUT).count();
    let passed = notices as f64 / changes;
    assert!((0.27..0.33).contains(&passed), "the filter passed {passed}");
    let poison = 1.0 - changes / history.inputs.len() as f64;
    assert!((0.007..0.016).contains(&poison), "dead letters: {poison}");
    let largest = history.outputs.iter().filter_map(|output| output.found.value.as_ref()).map(Vec::len).max();
    assert!(largest > Some(100 << 10), "the largest message has {largest:?} bytes");
    world.note(&format!("{kills} kills, {notices} notices, the largest of {largest:?} bytes; {text}"));
}

/// Kills one of the instances every 2 to 5 s and starts it again at once; how often.
fn kill_at_random(world: &World, instances: &mut [Instance; 3], mut random: Random, during: Duration) -> usize {
    let end = Instant::now() + during;
    let mut kills = 0;
    loop {
        std::thread::sleep(Duration::from_millis(2_000 + random.below(3_000)));
        if Instant::now() >= end {
            return kills;
        }
        let instance = &mut instances[usize::try_from(random.below(3)).unwrap()];
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        instance.kill();
        *instance = world.instance(&instance.name.clone());
        kills += 1;
        world.note(&format!("kill {kills}: {}; {} records taken", instance.name, world.taken()));
    }
}

/// Produces the given records by hand, in a transaction that is aborted or not.
fn by_hand(world: &World, output: &Output, is_committed: bool) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.bootstrap)
        .set("transactional.id", "by-hand")
        .create()
        .unwrap();
    let within = Duration::from_secs(20);
    producer.init_transactions(within).unwrap();
    producer.begin_transaction().unwrap();
    let found = &output.found;
    let headers = found.headers.iter().fold(OwnedHeaders::new(), |all, header| {
        all.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() })
    });
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(OUTPUT)
        .partition(found.partition)
        .key(found.key.as_deref().unwrap())
        .payload(found.value.as_deref().unwrap())
        .headers(headers);
    producer.send(record).map_err(|(error, record)| format!("{error}: {:?}", record.key)).unwrap();
    producer.flush(within).unwrap();
    if is_committed {
        producer.commit_transaction(within).unwrap();
    } else {
        producer.abort_transaction(within).unwrap();
    }
}

/// A copy of the message with another id.
fn renamed(output: &Output, id: &str) -> Output {
    let mut output = output.clone();
    for header in output.found.headers.iter_mut().filter(|header| header.name == "tg_id" || header.name == "ce_id") {
        header.value = Some(id.into());
    }
    output
}

#[test]
fn what_is_done_by_hand_is_flagged_by_its_name() {
    let Some(world) = World::load("byhand") else { return };
    let mut load = Load::new(&world, 7);
    let mut instance = world.instance("only");
    load.send(3_000, Duration::from_secs(2));
    let clean = history(&world, &load, Told::default());
    let (anomalies, text) = told(&clean);
    assert!(anomalies.is_empty(), "{anomalies:?}\n{text}");
    assert!(instance.terminate(Duration::from_secs(15)).0.success());

    let mut expected = BTreeSet::new();
    let mut expect = |acts: &str, anomalies: &[Anomaly]| {
        expected.extend(anomalies);
        let told_us = Told { is_drained: true, accepted: load.accepted(), ..Told::default() };
        let now = read(&world.servers(), told_us).unwrap();
        let (found, text) = told(&now);
        assert_eq!(found, expected, "{acts}\n{text}");
        world.note(&format!("{acts}: {anomalies:?}"));
        now
    };
    let notices: Vec<&Output> =
        clean.outputs.iter().filter(|output| output.topic.as_str() == OUTPUT && output.is_visible).collect();
    let (first, source) = (notices[0], &clean.sources[0]);

    by_hand(&world, first, false);
    by_hand(&world, &renamed(first, "another pipeline's"), true);
    let now = expect("a notice is produced again and aborted, and a message of another pipeline", &[]);
    let attempts = |history: &History| history.outputs.iter().filter(|output| output.fate == Fate::Aborted).count();
    assert_eq!(attempts(&now), attempts(&clean) + 1, "the reader of everything sees it, and its marker");

    let beyond = format!("load/{}/{}/{}/0", source.place.topic, source.place.partition, source.end);
    by_hand(&world, first, true);
    by_hand(&world, &renamed(first, &beyond), true);
    let anomalies = [Anomaly::NoticeTwice, Anomaly::NoticeWithoutRecord];
    expect("a notice is produced again, and one of a record that does not exist", &anomalies);

    world.sql("UPDATE things SET nonce = nonce + 1 WHERE id = (SELECT min(id) FROM ledger)");
    world.sql("UPDATE things SET version = version + 1 WHERE id = (SELECT max(id) FROM ledger)");
    expect("a row is written, another's version raised", &[Anomaly::RowNotLastLink, Anomaly::RowVersionJump]);

    let doubled = input_of(notices[2]);
    world.sql(&format!("INSERT INTO tidegate.verdict SELECT * FROM tidegate.verdict WHERE {doubled}"));
    world.sql(&format!("DELETE FROM tidegate.outbox WHERE {}", input_of(notices[1])));
    world.sql(
        "UPDATE tidegate.position SET published = next_offset + 1 WHERE topic = 'load-readings' AND partition = 0",
    );
    let anomalies = [Anomaly::DecidedTwice, Anomaly::OutboxRowLost, Anomaly::PublishedBeyondCommitted];
    expect("a verdict is doubled, an outbox row deleted, P raised", &anomalies);

    // The program says the same.
    let output = world.oracle();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for anomaly in expected {
        assert!(text.contains(&format!("1 times O{} {anomaly}: ", anomaly.law())), "{anomaly}\n{text}");
    }
}

/// The input of a notice, in SQL.
fn input_of(output: &Output) -> String {
    let id = output.found.header("tg_id").unwrap();
    let [_, topic, partition, offset, _] = id.split('/').collect::<Vec<_>>()[..] else { panic!("{id}") };
    format!("topic = '{topic}' AND partition = {partition} AND source_offset = {offset}")
}
