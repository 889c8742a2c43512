//! State in a step with rows on a real Kafka and a real PostgreSQL: instances are killed, and rows, store, changelog and
//! notices are those of a one-by-one computation.

use crate::rig::{Random, World, say, until};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::{KafkaAdmin, KafkaFeed, TopicSpec};
use tidegate::adapters::rocksdb::{RocksSettings, RocksStores};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{Partition, TopicName};
use tidegate::ports::store::{StoreId, Stores};

const PARTITIONS: i32 = 12;
const IDS: u64 = 500;
const RECORDS: i64 = 20_000;
const KILLS: i64 = 6;

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn create_topics(world: &World) {
    let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
    let config = |settings: &[(&str, &str)]| settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let spec = |name: &str, settings: &[(&str, &str)]| TopicSpec {
        name: topic(name),
        partitions: PARTITIONS,
        replicas: 1,
        config: config(settings),
    };
    let compacted = [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000")];
    let topics = ["deposits", "deposits-dlt", "milestones"].map(|name| spec(name, &[]));
    admin.create(&topics).unwrap();
    admin.create(&[spec("tally-deposits-changelog", &compacted)]).unwrap();
}

/// Each partition's keys and values as a replay of the changelog from zero leaves them.
fn replayed(world: &World) -> Vec<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut kept = vec![BTreeMap::new(); PARTITIONS.unsigned_abs() as usize];
    for record in world.messages("tally-deposits-changelog") {
        kept[usize::try_from(record.partition).unwrap()].insert(record.key.unwrap(), record.value.unwrap());
    }
    kept
}

fn count(value: &[u8]) -> i64 {
    serde_json::from_slice(&value[2..]).unwrap()
}

/// `TIDEGATE_ROWSTATE_SEED` repeats a run's choices.
#[test]
fn rows_and_store_agree_with_a_one_by_one_computation_through_kills() {
    let seed = Random::seed("TIDEGATE_ROWSTATE_SEED");
    let Some(world) = World::example("rowstate", "tally") else { return };
    say(&format!("rowstate: TIDEGATE_ROWSTATE_SEED={seed}"));
    create_topics(&world);
    world.ok(&["migrate"]);
    world.sql(&format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, version bigint NOT NULL);
         INSERT INTO accounts SELECT id, 0, 0 FROM generate_series(0, {IDS} - 1) id"
    ));
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let mut random = Random::new(seed);
    let mut instances = ["first", "second", "third"].map(|name| world.stateful_instance(name));
    let mut expected: BTreeMap<u64, (i64, i64)> = BTreeMap::new(); // deposits and balance
    let mut milestones: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut kills = 0;
    for n in 0..RECORDS {
        let (id, amount) = (random.below(IDS), i64::try_from(random.below(100)).unwrap() + 1);
        let (key, value) = (id.to_string(), format!(r#"{{"amount":{amount}}}"#));
        feed.send(&topic("deposits"), None, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        let (deposits, balance) = expected.entry(id).or_default();
        (*deposits, *balance) = (*deposits + 1, *balance + amount);
        if *deposits % 10 == 0 {
            milestones.entry(key).or_default().push(format!(r#"{{"deposits":{deposits},"balance":{balance}}}"#));
        }
        // Slowly, but for a burst in front of each kill: it is to meet batches that are committed and not published.
        let next = RECORDS * (kills + 1) / (KILLS + 1);
        if n < next - 1_000 && n % 20 == 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        if n == next {
            feed.flush().unwrap();
            std::thread::sleep(Duration::from_millis(random.below(60)));
            let index = usize::try_from(random.below(3)).unwrap();
            assert!(instances[index].is_running(), "{} ended by itself", instances[index].name);
            instances[index].kill();
            let name = instances[index].name.clone();
            instances[index] = world.stateful_instance(&name);
            kills += 1;
            world.note(&format!("kill {kills}: {name}; {} records taken", world.taken()));
        }
    }
    feed.flush().unwrap();
    world.wait_taken(RECORDS, Duration::from_secs(120));
    let audit = until("everything is published", Duration::from_secs(60), || {
        let audit = world.audit();
        let behind = format!("{:?}", audit.behind());
        if audit.behind().is_empty() { Ok(audit) } else { Err(behind) }
    });
    assert_eq!((audit.number("records"), audit.number("row_changes")), (RECORDS, RECORDS));

    let rows = world.sql("SELECT id, balance, version FROM accounts ORDER BY id");
    for row in rows {
        use sqlx::Row as _;
        let at = |index: usize| row.try_get_unchecked::<i64, _>(index).unwrap();
        let (deposits, balance) = expected.get(&at(0).unsigned_abs()).copied().unwrap_or_default();
        assert_eq!((at(1), at(2)), (balance, deposits), "account {}", at(0));
    }
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for found in world.messages("milestones") {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        told.entry(text(found.key)).or_default().push(text(found.value));
    }
    assert_eq!(told, milestones, "each tenth deposit is told once, in order");

    let kept = replayed(&world);
    for (id, (deposits, _)) in &expected {
        let key = id.to_string();
        let place = usize::try_from(partition_for(key.as_bytes(), PARTITIONS)).unwrap();
        assert_eq!(count(&kept[place][key.as_bytes()]), *deposits, "deposits of {id}");
    }
    let all: i64 = kept.iter().filter_map(|kept| kept.get(b"all".as_slice())).map(|value| count(value)).sum();
    assert_eq!(all, RECORDS, "the counts of the partitions");

    // One after the other, so that the last one has had every partition when it leaves.
    for (left, instance) in [2, 1, 0].into_iter().zip(&mut instances) {
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
        std::thread::sleep(Duration::from_secs(if left > 0 { 8 } else { 0 })); // those that are left take over
    }
    let restored: usize = instances.iter().map(|instance| instance.log().matches("store restored").count()).sum();
    let recovered: usize = instances
        .iter()
        .map(|i| i.log().matches("publishing the messages that an earlier owner decided").count())
        .sum();
    let folder = world.folder().join("state-third").join("tally");
    let stores = RocksStores::open(&RocksSettings::new(&folder)).unwrap();
    for (number, kept) in (0..PARTITIONS).zip(&kept) {
        let store = stores.open(&StoreId { name: "deposits".into(), partition: Partition(number) }).unwrap();
        let mut found = BTreeMap::new();
        let mut visit = |key: &[u8], value: &[u8]| found.insert(key.to_vec(), value.to_vec()).is_none();
        store.scan(b"", None, &mut visit).unwrap();
        assert_eq!(&found, kept, "partition {number}: the store is its changelog from zero");
    }
    world.note(&format!("{kills} kills, {restored} restores, {recovered} leftovers published by a later owner"));
}
