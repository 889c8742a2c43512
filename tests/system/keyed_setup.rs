//! A set-up of keyed state that cannot work ends at once, with one message that names the fix, and no group is joined.

use crate::rig::World;
use crate::setup::Cases;

/// A build that cannot keep state says so before it talks to anybody.
#[cfg(not(feature = "rocksdb"))]
#[test]
fn a_store_in_a_build_without_rocksdb_is_one_message() {
    let Some(world) = World::example("featureless", "usage") else { return };
    let mut cases = Cases::new(&world);
    let nobody = [("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    cases.expect(
        "store without the feature rocksdb",
        &nobody,
        &[],
        78,
        &["pipeline usage keeps state (usage)", "no RocksDB adapter", "build it with --features rocksdb"],
    );
    cases.judge();
}

#[cfg(feature = "rocksdb")]
#[test]
fn unequal_counts_are_one_message_each() {
    use crate::rig::until;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use tidegate::adapters::kafka::{KafkaAdmin, TopicSpec};
    use tidegate::flow::record::TopicName;

    let Some(mut world) = World::example("keyed-setup", "sessions") else { return };
    world.settings.retain(|(name, _)| name != "TIDEGATE_DATABASE__URL");
    let folder = format!("state.dir={}", world.folder().join("state-only").display());
    let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
    let create = |topics: &[(&str, i32, &str)]| {
        let specs: Vec<TopicSpec> = topics
            .iter()
            .map(|(name, partitions, policy)| TopicSpec {
                name: TopicName::parse(name).unwrap(),
                partitions: *partitions,
                replicas: 1,
                config: BTreeMap::from([("cleanup.policy".into(), (*policy).into())]),
            })
            .collect();
        admin.create(&specs).unwrap();
    };
    let wait_count = |name: &str, partitions: i32| {
        until(&format!("{name} has {partitions} partitions"), Duration::from_secs(10), || {
            let found = admin.current(&TopicName::parse(name).unwrap()).map_err(|fault| fault.to_string())?;
            let count = found.map(|topic| topic.partitions);
            if count == Some(partitions) { Ok(()) } else { Err(format!("{count:?}")) }
        });
    };
    let mut cases = Cases::new(&world);
    let state = ["--set", folder.as_str()];
    create(&[
        ("clicks-dlt", 12, "delete"),
        ("session-ends", 12, "delete"),
        ("sessions-sessions-changelog", 6, "compact"),
    ]);
    create(&[("clicks", 6, "delete")]);
    wait_count("clicks", 6);
    cases.expect(
        "declared with another count",
        &[],
        &state,
        78,
        &["topic clicks has 6 partitions", "declares 12", "correct the count in declared()"],
    );
    admin.create_partitions(&TopicName::parse("clicks").unwrap(), 12).unwrap();
    wait_count("clicks", 12);
    cases.expect(
        "changelog with another count",
        &[],
        &state,
        78,
        &["topic sessions-sessions-changelog has 6 partitions", "clicks with 12", "make them equal"],
    );
    let groups = world.kafka.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &["--list"]);
    assert_eq!(groups.trim(), "", "no group was joined");
    cases.judge();
}
