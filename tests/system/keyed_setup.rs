//! A set-up of keyed state that cannot work ends at once, with one message that names the fix, and no group is joined.

use crate::rig::World;
use crate::setup::Servers;
use crate::wrong::failures;
use crate::wrong::row::row;
#[cfg(not(feature = "rocksdb"))]
use crate::wrong::row::with_environment;

/// A build that cannot keep state says so before it talks to anybody.
#[cfg(not(feature = "rocksdb"))]
#[test]
fn a_store_in_a_build_without_rocksdb_is_one_message() {
    let Some(world) = World::example("featureless", "usage") else { return };
    let refused = row(
        "a store in a build without rocksdb",
        &["run"],
        78,
        &[
            "pipeline usage keeps state (usage), and this build has no RocksDB adapter: build it with --features rocksdb, in a crate of your own with features = [\"rocksdb\"] for tidegate in Cargo.toml",
        ],
    );
    let refused = with_environment(&[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")], refused);
    assert_eq!(failures(&Servers::new(&world), &[refused]), [""; 0]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn unequal_counts_are_one_message_each() {
    use crate::rig::until;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use tidegate::adapters::kafka::{KafkaAdmin, TopicSpec};
    use tidegate::flow::record::TopicName;

    const RUN: &[&str] = &["--set", "state.dir={folder}", "run"];

    let Some(mut world) = World::example("keyed-setup", "sessions") else { return };
    world.settings.retain(|(name, _)| name != "TIDEGATE_DATABASE__URL");
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
    let ground = Servers::new(&world);
    create(&[
        ("clicks-dlt", 12, "delete"),
        ("session-ends", 12, "delete"),
        ("sessions-sessions-changelog", 6, "compact"),
    ]);
    create(&[("clicks", 6, "delete")]);
    wait_count("clicks", 6);
    let declared = row(
        "declared with another count",
        RUN,
        78,
        &["…topic clicks has 6 partitions, and the pipeline declares 12: correct the count in declared()…"],
    );
    assert_eq!(failures(&ground, &[declared]), [""; 0]);
    admin.create_partitions(&TopicName::parse("clicks").unwrap(), 12).unwrap();
    wait_count("clicks", 12);
    let changelog = row(
        "changelog with another count",
        RUN,
        78,
        &[
            "…topic sessions-sessions-changelog has 6 partitions, and store sessions lies beside clicks with 12: make them \
         equal; an empty changelog can be deleted and made again by `… topics apply`…",
        ],
    );
    assert_eq!(failures(&ground, &[changelog]), [""; 0]);
    let groups = world.kafka.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &["--list"]);
    assert_eq!(groups.trim(), "", "no group was joined");
}
