//! Changes of topics, and the broker's own words where it refuses them.

use crate::cluster::{Broker, new_topic, shared, topic, unique, wanted};
use std::collections::BTreeMap;
use tidegate::adapters::kafka::{KafkaAdmin, TopicSpec, look};
use tidegate::ports::fault::Fault;
use tidegate::ports::topics::TopicAdmin;

fn config(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_setting_that_the_broker_refuses_is_an_error_in_its_own_words_and_nothing_is_changed() {
    let Some(settings) = shared("a_setting_that_the_broker_refuses") else { return };
    let admin = KafkaAdmin::connect(&settings).unwrap();
    let name = new_topic(&settings, "refused", 1);
    let refused: &[(&str, &str, &str)] = &[
        ("cleanup.policy", "compacted", "Invalid value compacted for configuration cleanup.policy"),
        ("max.message.bytes", "1Mi", "Invalid value 1Mi for configuration max.message.bytes"),
        ("retention.ms", "6.048e+08", "Invalid value 6.048e+08 for configuration retention.ms"),
        ("retention.mss", "5", "retention.mss"),
    ];
    for (setting, value, words) in refused {
        let good = ("segment.ms", "7000");
        let fault = admin.alter_config(&name, &config(&[(setting, value), good])).unwrap_err();
        assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().contains(words), "{fault}");
        assert_eq!(admin.current(&name).unwrap().unwrap().config, BTreeMap::new(), "all or none");

        let spec = TopicSpec {
            name: topic(&format!("new-{}", unique())),
            partitions: 1,
            replicas: 1,
            config: config(&[(setting, value)]),
        };
        let fault = admin.create(&[spec]).unwrap_err();
        assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().contains(words), "{fault}");
    }
}

#[test]
fn a_topic_that_the_broker_refuses_is_an_error_in_its_own_words() {
    let Some(settings) = shared("a_topic_that_the_broker_refuses") else { return };
    let admin = KafkaAdmin::connect(&settings).unwrap();
    let spec = |replicas| TopicSpec {
        name: topic(&format!("copies-{}", unique())),
        partitions: 1,
        replicas,
        config: BTreeMap::new(),
    };
    let fault = admin.create(&[spec(3)]).unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    assert!(fault.to_string().contains("only 1 broker(s) are registered"), "{fault}");

    let name = new_topic(&settings, "grown", 3);
    let fault = admin.create_partitions(&name, 2).unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().contains('3'), "{fault}");
    let gone = topic(&format!("gone-{}", unique()));
    assert!(admin.delete(std::slice::from_ref(&gone)).unwrap_err().to_string().contains(gone.as_str()));
}

/// The names and values that `topics validate` accepts are those of this Kafka.
#[test]
fn every_setting_that_the_broker_has_is_known_and_its_own_values_are_accepted() {
    let Some(settings) = shared("every_setting_that_the_broker_has") else { return };
    let name = new_topic(&settings, "settings", 1);
    let mut admin = KafkaAdmin::connect(&settings).unwrap();
    let found = TopicAdmin::describe(&mut admin, std::slice::from_ref(&name)).unwrap();
    let mut config = found.into_iter().next().unwrap().unwrap().config;
    config.retain(|setting, _| !setting.starts_with("internal."));
    assert_eq!(config.len(), 33, "{config:#?}");
    let folder = std::env::temp_dir().join(format!("tidegate-settings-{}", unique()));
    std::fs::create_dir_all(&folder).unwrap();
    let lines: String = config.iter().map(|(setting, value)| format!("    {setting}: \"{value}\"\n")).collect();
    let text = format!(
        "apiVersion: kafka.strimzi.io/v1\nkind: KafkaTopic\nmetadata:\n  name: {name}\n  annotations:\n    \
         tidegate.io/role: input\nspec:\n  partitions: 1\n  replicas: 1\n  config:\n{lines}"
    );
    std::fs::write(folder.join(format!("{name}.yaml")), text).unwrap();
    let read = tidegate::topics::read(&folder, None).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let plan = tidegate::topics::plan(&read, &mut admin, false).unwrap();
    assert_eq!(plan.changes, [], "equal values are equal");
    // Values that a person writes otherwise than the broker answers them.
    let mut wanted = read.into_iter().next().unwrap();
    for (setting, value) in [
        ("cleanup.policy", "delete,compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("preallocate", "FALSE"),
        ("retention.ms", "0604800000"),
    ] {
        wanted.config.insert(setting.into(), value.into());
    }
    admin.alter_config(&name, &wanted.config).unwrap();
    let until = std::time::Instant::now() + crate::cluster::WAIT;
    loop {
        let plan = tidegate::topics::plan(std::slice::from_ref(&wanted), &mut admin, false).unwrap();
        if plan.changes.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < until, "{plan:?}");
    }
}

/// The client sends what is to be changed and no more: it needs to know no other setting of the topic, nor the right to
/// read them.
#[test]
fn a_changed_setting_takes_no_other_along_whatever_the_user_may_read() {
    if !wanted("a_changed_setting_takes_no_other_along") {
        return;
    }
    let broker = Broker::start_with(&[("KAFKA_SECURED", "1")]);
    let (all, restricted) = (broker.settings(), broker.restricted());
    let name = new_topic(&all, "changed", 1);
    let owner = KafkaAdmin::connect(&all).unwrap();
    owner.alter_config(&name, &config(&[("segment.ms", "7000"), ("flush.ms", "9")])).unwrap();

    let user = KafkaAdmin::connect(&restricted).unwrap();
    let retention = config(&[("retention.ms", "60000")]);
    broker.allow(&["--add", "--operation", "Describe", "--topic", name.as_str()]);
    let denied = user.alter_config(&name, &retention).unwrap_err();
    let words = "no right AlterConfigs on topic";
    assert!(matches!(denied, Fault::Fatal(_)) && denied.to_string().contains(words), "{denied}");
    let unread = user.topic_config(&name, "retention.ms").unwrap_err();
    let words = "no right DescribeConfigs on topic";
    assert!(matches!(unread, Fault::Fatal(_)) && unread.to_string().contains(words), "{unread}");
    assert!(user.current(&name).is_err(), "settings that could not be read are not no settings");

    broker.allow(&["--add", "--operation", "AlterConfigs", "--topic", name.as_str()]);
    user.alter_config(&name, &retention).unwrap();
    let found = owner.current(&name).unwrap().unwrap().config;
    assert_eq!(found, config(&[("segment.ms", "7000"), ("flush.ms", "9"), ("retention.ms", "60000")]));
}

#[test]
fn a_broker_that_sends_its_clients_to_a_name_that_nobody_knows_is_told_with_that_name() {
    if !wanted("a_broker_that_sends_its_clients_to_a_name") {
        return;
    }
    let nowhere = "advertised.listeners=CLIENT://kafka-nowhere.invalid:19092";
    let broker = Broker::start_with(&[("KAFKA_MORE", nowhere)]);
    let settings = broker.settings();
    let cause = look(&settings).cause().unwrap();
    let servers = &settings.bootstrap_servers;
    let words =
        format!("{servers} answered, and sends its clients on to kafka-nowhere.invalid:19092, which does not resolve");
    assert!(cause.starts_with(&words) && cause.contains("advertised.listeners"), "{cause}");
    broker.act("pause");
    let cause = look(&settings).cause().unwrap();
    assert!(cause.contains("takes connections and answers no question"), "{cause}");
}

#[test]
fn a_single_broker_with_the_defaults_of_kafka_is_told_the_settings_that_help() {
    if !wanted("a_single_broker_with_the_defaults_of_kafka") {
        return;
    }
    let defaults = "transaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\n\
                    offsets.topic.replication.factor=3";
    let broker = Broker::start_with(&[("KAFKA_MORE", defaults)]);
    let admin = KafkaAdmin::connect(&broker.settings()).unwrap();
    let mistakes = admin.internal_mistakes().unwrap();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    for (mistake, setting) in
        mistakes.iter().zip(["transaction.state.log.replication.factor", "offsets.topic.replication.factor"])
    {
        assert!(mistake.contains("the cluster has 1 broker") && mistake.contains(setting), "{mistake}");
    }
    assert_eq!(look(&broker.settings()).cause(), Some(mistakes.join("; ")));
}

#[test]
fn a_refused_login_is_told_as_one_and_a_sound_cluster_has_no_trouble() {
    if !wanted("a_refused_login_is_told_as_one") {
        return;
    }
    let broker = Broker::start_with(&[("KAFKA_SECURED", "1")]);
    assert_eq!(look(&broker.settings()).cause(), None);
    let mut settings = broker.restricted();
    assert_eq!(look(&settings).cause(), None);
    settings.properties.insert("sasl.password".into(), "wrong".into());
    let cause = look(&settings).cause().unwrap();
    assert!(cause.contains("refuses the login") && cause.contains("sasl.password"), "{cause}");
    settings.properties.insert("security.protocol".into(), "plaintext".into());
    let cause = look(&settings).cause().unwrap();
    assert!(cause.contains("expects another security.protocol"), "{cause}");
}
