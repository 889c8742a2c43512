//! A record whose algorithm aborts the process: two instances, started again each time they die, as a pod's container is.

use crate::rig::{Instance, World, say, until};
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::record::TopicName;

const IDS: i64 = 200;
const RECORDS: i64 = 2_000;

/// Starts an instance, with a folder that outlives it.
fn start(world: &World, name: &str) -> Instance {
    let folder = format!("state.dir={}", world.folder().join(format!("state-{name}")).display());
    world.instance_with(name, &["--set", &folder])
}

#[test]
fn a_record_that_aborts_its_process_becomes_a_dead_letter_and_every_other_one_has_its_effect() {
    let Some(mut world) = World::load("deaths") else { return };
    world.settings.push(("TIDEGATE_RETRY__DEATHS".into(), "2".into()));
    let topic = TopicName::parse("load-readings").unwrap();
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    for number in 0..RECORDS {
        let value: &[u8] = if number == 777 { br#"{"poison": "abort"}"# } else { b"{}" };
        let key = (1 + number % IDS).to_string();
        feed.send(&topic, None, Some(key.as_bytes()), Some(value), &[]).unwrap();
    }
    feed.flush().unwrap();

    let mut instances = ["first", "second"].map(|name| start(&world, name));
    let (mut deaths, began) = (0, Instant::now());
    until("every record is taken", Duration::from_secs(120), || {
        for instance in &mut instances {
            if !instance.is_running() {
                deaths += 1;
                *instance = start(&world, &instance.name.clone());
            }
        }
        let taken = world.taken();
        if taken == RECORDS { Ok(()) } else { Err(format!("{taken} taken, {deaths} deaths")) }
    });
    say(&format!("deaths: {deaths} deaths, all taken after {:.1} s", began.elapsed().as_secs_f64()));
    assert!((2..=4).contains(&deaths), "{deaths}: two in one instance, at most two in the other");

    let dead_letters = until("the dead letter", Duration::from_secs(30), || {
        let dead_letters = world.messages("load-readings-dlt");
        if dead_letters.is_empty() { Err("none".into()) } else { Ok(dead_letters) }
    });
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(dead_letters[0].header("kafka_dlt-exception-fqcn"), Some("kills-the-process"));
    assert_eq!(dead_letters[0].value.as_deref(), Some(&br#"{"poison": "abort"}"#[..]));
    assert_eq!(world.number("SELECT sum(links)::bigint FROM things"), RECORDS - 1, "each once");
    let told = world.number("SELECT count(*) FROM tidegate.outbox WHERE destination = 'load-changes'");
    until("all is announced", Duration::from_secs(30), || {
        let found = i64::try_from(world.messages("load-changes").len()).unwrap();
        if found == told { Ok(()) } else { Err(format!("{found} of {told}")) }
    });
    assert!(instances.iter_mut().all(Instance::is_running));
}
