//! Records that nobody can use, and the stream that goes on behind them.

use crate::rig::{Account, Feed, World, until};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaAdmin;
use tidegate::flow::record::TopicName;
use tidegate::ports::history::Found;

const IDS: i64 = 100;

/// A record sent to `readings`, and the code that its dead letter must bear.
struct Wrong {
    key: Option<&'static [u8]>,
    value: Option<Vec<u8>>,
    partition: Option<i32>,
    code: &'static str,
}

fn wrong(key: &'static str, value: &str, code: &'static str) -> Wrong {
    Wrong { key: Some(key.as_bytes()), value: Some(value.into()), partition: None, code }
}

fn all() -> Vec<Wrong> {
    let large = format!(r#"{{"value": 1.0, "padding": "{}"}}"#, "x".repeat(2 << 20));
    vec![
        wrong("7", "{\"value\": ", "bad-json"),
        wrong("7", r#"{"value": "ten"}"#, "bad-json"),
        wrong("7", r#"{"score": 3.0}"#, "bad-json"),
        wrong("7", "", "empty-value"),
        Wrong { key: Some(b"7"), value: None, partition: None, code: "empty-value" },
        Wrong { key: None, value: Some(br#"{"value": 1.0}"#.into()), partition: Some(3), code: "null-key" },
        wrong("seven", r#"{"value": 1.0}"#, "bad-key"),
        wrong("404", r#"{"value": 1.0}"#, "missing-row"),
        wrong("7", &large, "too-large"),
        wrong("7", "{\"value\": 1e999}", "bad-json"),
        // The row holds -1.7e308: the way to 1.7e308 is longer than a number can say.
        wrong("101", r#"{"value": 1.7e308}"#, "not-finite"),
    ]
}

fn number<const N: usize>(found: &Found, name: &str) -> [u8; N] {
    let header = found.headers.iter().find(|header| header.name == name);
    header.unwrap_or_else(|| panic!("{name} in {:?}", found.headers)).value.as_deref().unwrap().try_into().unwrap()
}

#[test]
fn records_that_cannot_be_used_become_dead_letters_with_the_cause_and_the_stream_goes_on() {
    let Some(world) = World::new("input", IDS + 1) else { return };
    let readings = TopicName::parse("readings").unwrap();
    let larger = BTreeMap::from([("max.message.bytes".to_owned(), (4 << 20).to_string())]);
    KafkaAdmin::connect(&world.kafka_settings()).unwrap().alter_config(&readings, &larger).unwrap();
    let mut feed = Feed::new(&world, IDS, 7);
    let mut instance = world.instance("only");
    feed.reference.rows.insert(IDS + 1, Account::default()); // which the feed itself never names
    feed.correct(IDS + 1, "-1.7e308");
    feed.flush();
    world.wait_taken(feed.sent, Duration::from_secs(20));

    let all = all();
    for wrong in &all {
        feed.raw("readings", wrong.partition, wrong.key, wrong.value.as_deref());
        feed.read(7, "2.5"); // behind it in the same partition, mostly
        feed.send(5, Duration::ZERO);
    }
    feed.flush();
    let audit = world.judge(&feed, Duration::from_secs(30));
    assert_eq!(audit.number("dead_letters"), i64::try_from(all.len()).unwrap());

    let dead_letters = until("dead letters", Duration::from_secs(10), || {
        let dead_letters = world.messages("readings-dlt");
        if dead_letters.len() == all.len() { Ok(dead_letters) } else { Err(format!("{} found", dead_letters.len())) }
    });
    for wrong in &all {
        let is_omitted = wrong.value.as_ref().is_some_and(|value| value.len() > 1 << 20);
        let fits = |found: &&Found| {
            let code = found.header("kafka_dlt-exception-fqcn");
            let value = if is_omitted { found.value.is_none() } else { found.value == wrong.value };
            code == Some(wrong.code) && found.key.as_deref() == wrong.key && value
        };
        let value =
            wrong.value.as_ref().map(|value| String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned());
        let dead_letter = dead_letters.iter().find(fits).unwrap_or_else(|| {
            let codes: Vec<_> = dead_letters
                .iter()
                .map(|l| (l.header("kafka_dlt-exception-fqcn"), l.value.as_ref().map(Vec::len)))
                .collect();
            panic!("no dead letter {} for {:?} {value:?}: {codes:?}", wrong.code, wrong.key)
        });
        assert_eq!(dead_letter.header("kafka_dlt-original-topic"), Some("readings"));
        assert_eq!(dead_letter.header("kafka_dlt-original-consumer-group"), Some("scoring"));
        assert_eq!(i32::from_be_bytes(number(dead_letter, "kafka_dlt-original-partition")), dead_letter.partition);
        let offset = i64::from_be_bytes(number(dead_letter, "kafka_dlt-original-offset"));
        let id = format!("scoring/readings/{}/{offset}/0", dead_letter.partition);
        assert_eq!(dead_letter.header("tg_id"), Some(id.as_str()));
        assert!(!dead_letter.header("kafka_dlt-exception-message").unwrap().is_empty());
        assert_eq!(dead_letter.header("tg_value_omitted_bytes").is_some(), is_omitted, "{:?}", dead_letter.headers);
    }
    assert!(instance.is_running());
}

/// The broker refuses a message that is decided and committed already: the topic's owner has lowered its limit
/// meanwhile.
#[test]
fn notices_that_their_topic_refuses_after_the_commit_become_dead_letters_and_no_partition_halts() {
    let Some(world) = World::new("refused", IDS) else { return };
    let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
    let limit = |bytes: i32| {
        let change = BTreeMap::from([("max.message.bytes".to_owned(), bytes.to_string())]);
        admin.alter_config(&TopicName::parse("large-changes").unwrap(), &change).unwrap();
    };
    let mut feed = Feed::new(&world, IDS, 8);
    let mut instance = world.instance("first");
    (1..=20).for_each(|id| feed.read(id, "100.0"));
    feed.flush();
    world.judge(&feed, Duration::from_secs(20));

    limit(200);
    (21..=60).for_each(|id| feed.read(id, "100.0"));
    feed.flush();
    world.wait_taken(feed.sent, Duration::from_secs(30));
    let dead_letters = until("each becomes a dead letter", Duration::from_secs(60), || {
        let found = world.messages("readings-dlt");
        if found.len() == 40 { Ok(found) } else { Err(format!("{} dead letters\n{}", found.len(), instance.log())) }
    });
    let rows = world.rows();
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
    let mut refused = 0;
    for dead_letter in &dead_letters {
        let id: i64 = text(&dead_letter.key).parse().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text(&dead_letter.value)).unwrap();
        match dead_letter.header("kafka_dlt-exception-fqcn").unwrap() {
            // Its row has changed: the notice is kept as it was decided.
            "refused" => {
                refused += 1;
                assert_eq!((rows[&id].version, dead_letter.header("tg_version")), (1, Some("1")));
                assert_eq!(text(&dead_letter.value), feed.reference.notices[&id][0].value);
                let cause = dead_letter.header("kafka_dlt-exception-message").unwrap();
                assert!(cause.starts_with("large-changes: "), "{cause}");
            }
            // The limit was known by then: the record is rejected, and its row is as it was.
            "too-large" => {
                assert_eq!((rows[&id], &value["value"]), (Account::default(), &100.0.into()));
                feed.reference.rows.insert(id, Account::default());
                feed.reference.notices.remove(&id);
            }
            other => panic!("{other}: {dead_letter:?}"),
        }
    }
    world.note(&format!("{refused} of 40 notices were refused after their commit"));
    assert!(refused > 0);
    assert!(instance.terminate(Duration::from_secs(10)).0.success());

    limit(1_048_588);
    let _instance = world.instance("second");
    (61..=80).for_each(|id| feed.read(id, "100.0"));
    feed.flush();
    assert_eq!(world.judge_with_dead_letters(&feed, Duration::from_secs(20)).1, refused);
}
