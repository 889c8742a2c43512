//! Folders of topics, right and wrong.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::flow::{Algorithm, Context, Declared, Reject, TableTopic, Topology};
use tidegate::pipelines::{
    attribution, charges, home, limits, orders, parcels, payments, scoring, sessions, usage, views,
};
use tidegate::topics::{compare, read, validate};

/// A folder of its own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    /// The shipped folder of `scoring` with `from` replaced by `to` in one file, which must contain it.
    fn with(file: &str, from: &str, to: &str) -> Self {
        Self::of(&shipped(), file, from, to)
    }

    fn of(folder: &Path, file: &str, from: &str, to: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-topics-{}-{number}", std::process::id()));
        copy(folder, &path);
        let text = std::fs::read_to_string(path.join(file)).unwrap();
        assert!(text.contains(from), "{file} does not contain {from}");
        std::fs::write(path.join(file), text.replace(from, to)).unwrap();
        Self(path)
    }

    /// Everything that is found, the folder's path cut off.
    fn findings(&self, environment: Option<&str>) -> Vec<String> {
        self.findings_of(&scoring::topology(), environment)
    }

    fn findings_of(&self, topology: &Topology, environment: Option<&str>) -> Vec<String> {
        let findings = match read(&self.0, environment) {
            Err(findings) => findings,
            Ok(topics) => {
                let mut findings = validate(&topics);
                findings.extend(compare(topology, &topics, &self.0));
                findings
            }
        };
        let prefix = self.0.display().to_string();
        findings.iter().map(|f| f.to_string().replace(&format!("{prefix}/"), "").replace(&prefix, "FOLDER")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("topics")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn every_shipped_folder_is_sound_and_is_what_its_pipeline_derives() {
    let folders = [
        (shipped(), scoring::topology(), 5),
        (shipped().join("usage"), usage::topology(), 6),
        (shipped().join("sessions"), sessions::topology(), 4),
        (shipped().join("orders"), orders::topology(), 6),
        (shipped().join("parcels"), parcels::topology(), 5),
        (shipped().join("limits"), limits::topology(), 3),
        (shipped().join("payments"), payments::topology(), 5),
        (shipped().join("attribution"), attribution::topology(), 7),
        (shipped().join("charges"), charges::topology(), 9),
        (shipped().join("views"), views::topology(), 5),
        (shipped().join("home"), home::topology(), 13),
    ];
    for (folder, topology, count) in folders {
        for environment in [None, Some("dev"), Some("prod")] {
            let topics = read(&folder, environment).unwrap();
            assert_eq!(validate(&topics), []);
            assert_eq!(compare(&topology, &topics, &folder), []);
            assert_eq!(topics.len(), count);
            let read_or_written = topology.outputs().len() + topology.sub_topologies().len();
            let internal_leads = topology.sub_topologies().iter().filter(|sub| topology.outputs().contains(&sub.lead));
            let companions: usize = topology.sub_topologies().iter().map(|sub| sub.companions.len()).sum();
            assert_eq!(count, read_or_written + companions - internal_leads.count(), "no file is without use");
        }
    }
}

/// Each internal topic that is missing or otherwise than the pipeline needs it.
#[test]
fn internal_topics_are_demanded() {
    let of_usage: &[(&str, &str, &str, &str)] = &[
        (
            "usage-by-user-repartition.yaml",
            "spec:\n",
            "spec:\n  topicName: other\n",
            "FOLDER: usage-by-user-repartition: no file, but it is where key_by \"by-user\" sends the records of events",
        ),
        (
            "usage-by-user-repartition.yaml",
            "role: repartition",
            "role: input",
            "usage-by-user-repartition: its role is input, but it is where key_by \"by-user\" sends the records of events: expected repartition",
        ),
        (
            "usage-by-user-repartition.yaml",
            "cleanup.policy: delete",
            "cleanup.policy: compact",
            "is a repartition topic: cleanup.policy must be delete, found compact",
        ),
        (
            "usage-by-user-repartition.yaml",
            "retention.ms: -1",
            "retention.ms: 604800000",
            "is a repartition topic: retention.ms must be -1, found 604800000",
        ),
        (
            "usage-by-user-repartition.yaml",
            "cleanup.policy: delete",
            "message.timestamp.type: LogAppendTime",
            "is a repartition topic: message.timestamp.type must be CreateTime, found LogAppendTime",
        ),
        (
            "usage-usage-changelog.yaml",
            "spec:\n",
            "spec:\n  topicName: other\n",
            "FOLDER: usage-usage-changelog: no file, but it is the changelog of store usage in pipeline usage",
        ),
        (
            "usage-usage-changelog.yaml",
            "role: changelog",
            "role: output",
            "its role is output, but it is the changelog of store usage in pipeline usage: expected changelog",
        ),
        (
            "usage-usage-changelog.yaml",
            "partitions: 12",
            "partitions: 6",
            "usage-usage-changelog: has 6 partitions, but it is the changelog of store usage in pipeline usage, and usage-by-user-repartition has 12",
        ),
        (
            "usage-usage-changelog.yaml",
            "cleanup.policy: compact",
            "cleanup.policy: compact,delete",
            "is a changelog: cleanup.policy must be compact, found compact,delete",
        ),
        (
            "usage-usage-changelog.yaml",
            "delete.retention.ms: 86400000",
            "delete.retention.ms: 1000",
            "is a changelog: delete.retention.ms must be 82800000 or more, found 1000",
        ),
    ];
    for (file, from, to, expected) in of_usage {
        let findings = Folder::of(&shipped().join("usage"), file, from, to).findings_of(&usage::topology(), None);
        assert!(
            findings.iter().any(|f| f.contains(expected)),
            "{file}: {to}\nexpected {expected}\nfound {findings:#?}"
        );
    }
    let fewer = Folder::of(&shipped().join("sessions"), "clicks.yaml", "partitions: 12", "partitions: 6");
    let findings = fewer.findings_of(&sessions::topology(), None);
    let expected = "clicks: has 6 partitions, but pipeline sessions declares 12: make them equal";
    assert!(findings.iter().any(|finding| finding.contains(expected)), "{findings:#?}");
}

struct Pass;

impl Algorithm for Pass {
    type Event = i64;
    type Row = ();
    type Notices = Option<i64>;

    fn apply(&self, event: i64, (): &mut (), _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        Ok(Some(event))
    }
}

#[test]
fn each_topic_of_a_route_and_of_a_chain_is_demanded() {
    let folder = Folder::of(&shipped().join("parcels"), "losses.yaml", "role: output", "role: dlt");
    let findings = folder.findings_of(&parcels::topology(), None);
    let expected = "losses: its role is dlt, but it is a destination of scans in pipeline parcels";
    assert!(findings.iter().any(|finding| finding.contains(expected)), "{findings:#?}");
    let mut chained = Topology::new("parcels");
    let source = chained.source("scans");
    source.chain("one", |scans| scans.process(Pass).done()).chain("two", |scans| scans.process(Pass).done());
    let findings = folder.findings_of(&chained, None);
    for chain in ["one", "two"] {
        let expected = format!(
            "parcels-{chain}-repartition: no file, but it is where chain \"{chain}\" reads the records of scans"
        );
        assert!(findings.iter().any(|finding| finding.contains(&expected)), "{findings:#?}");
    }
}

/// A table must be where the keys of its stream are, also behind a change of key.
#[test]
fn a_table_topic_is_demanded_beside_its_stream() {
    let of_orders: &[(&str, &str, &str, &str)] = &[
        (
            "users.yaml",
            "spec:\n",
            "spec:\n  topicName: other\n",
            "FOLDER: users: no file, but it is the table joined with orders in pipeline orders",
        ),
        (
            "users.yaml",
            "partitions: 12",
            "partitions: 6",
            "users: has 6 partitions, but orders of co-partition group users has 12: make them equal",
        ),
        (
            "users.yaml",
            "copartition: users",
            "copartition: others",
            "users: is the table joined with orders: set tidegate.io/copartition to users on both",
        ),
        (
            "users.yaml",
            "role: input",
            "role: output",
            "users: its role is output, but it is the table joined with orders in pipeline orders: expected input or repartition",
        ),
        ("orders-users-changelog.yaml", "role: changelog", "role: output", "expected changelog"),
    ];
    for (file, from, to, expected) in of_orders {
        let findings = Folder::of(&shipped().join("orders"), file, from, to).findings_of(&orders::topology(), None);
        assert!(
            findings.iter().any(|f| f.contains(expected)),
            "{file}: {to}\nexpected {expected}\nfound {findings:#?}"
        );
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct User {}
    let by_user = |event: &serde_json::Value| event["userId"].to_string();
    let mut topology = Topology::new("usage");
    let users = TableTopic::<User>::new("users").declared(Declared::murmur2(6));
    topology.source("events").key_by("by-user", by_user).join(users).process(Known).to("usage-updates");
    let folder = Folder::of(&shipped().join("usage"), "events.yaml", "partitions: 12", "partitions: 5");
    let users = std::fs::read_to_string(shipped().join("orders/users.yaml")).unwrap();
    std::fs::write(folder.0.join("users.yaml"), users).unwrap();
    let schema = shipped().join("orders/schemas/user.json");
    std::fs::copy(schema, folder.0.join("schemas/user.json")).unwrap();
    let findings = folder.findings_of(&topology, None);
    let expected = "users: has 12 partitions, but pipeline usage declares 6: make them equal";
    assert!(findings.iter().any(|finding| finding.contains(expected)), "{findings:#?}");
    let is_apart =
        |finding: &String| finding.contains("usage-by-user-repartition has") || finding.contains("events has");
    assert!(!findings.iter().any(is_apart), "the stream is counted behind its change of key: {findings:#?}");
    let fewer =
        std::fs::read_to_string(folder.0.join("users.yaml")).unwrap().replace("partitions: 12", "partitions: 6");
    std::fs::write(folder.0.join("users.yaml"), fewer).unwrap();
    let findings = folder.findings_of(&topology, None);
    let expected =
        "users: has 6 partitions, but usage-by-user-repartition of co-partition group users has 12: make them equal";
    assert!(findings.iter().any(|finding| finding.contains(expected)), "{findings:#?}");

    struct Known;
    impl Algorithm for Known {
        type Event = (serde_json::Value, User);
        type Row = ();
        type Notices = Option<User>;
        fn apply(
            &self,
            (_, user): (serde_json::Value, User),
            (): &mut (),
            _: &mut Context<'_>,
        ) -> Result<Option<User>, Reject> {
            Ok(Some(user))
        }
    }
}

#[test]
fn an_overlay_lies_over_every_topic_and_its_own_entries_over_that() {
    let folder = Folder::with(
        "env/dev.yaml",
        "topics: {}",
        "topics: {large-changes: {partitions: 3, config: {retention.ms: 5}}}",
    );
    let topics = read(&folder.0, Some("dev")).unwrap();
    let find = |name: &str| topics.iter().find(|topic| topic.name.as_str() == name).unwrap();
    assert_eq!((find("readings").partitions, find("readings").replicas), (12, 1));
    assert_eq!(find("readings").config["min.insync.replicas"], "1");
    assert_eq!((find("large-changes").partitions, find("large-changes").replicas), (3, 1));
    assert_eq!(find("large-changes").config["retention.ms"], "5");
    assert_eq!(find("readings").config["retention.ms"], "604800000");
}

#[test]
fn a_byte_order_mark_in_front_of_a_topic_is_no_mistake() {
    for mark in ["\u{feff}", "\u{feff}---\n"] {
        let folder = Folder::with("readings.yaml", "", "");
        let file = folder.0.join("readings.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{mark}{text}")).unwrap();
        assert_eq!(folder.findings(None), Vec::<String>::new());
    }
}

#[test]
fn each_wrong_folder_is_told_what_is_wrong_with_it() {
    let wrong: &[(&str, &str, &str, &str)] = &[
        // One file.
        (
            "readings.yaml",
            "retention.ms",
            "retention.mss",
            "readings.yaml:26: config.retention.mss: unknown configuration key; did you mean retention.ms?",
        ),
        (
            "readings.yaml",
            "retention.ms: 604800000",
            "retention.ms: 6.048e+08",
            "readings.yaml:26: config.retention.ms: expected a whole number of at least -1, found \"6.048e+08\"; did you mean 604800000?",
        ),
        (
            "readings.yaml",
            "min.insync.replicas: 2",
            "min.insync.replicas: two",
            "readings.yaml:27: config.min.insync.replicas: expected a whole number from 1 to 2147483647, found \"two\"",
        ),
        (
            "readings.yaml",
            "cleanup.policy: delete",
            "cleanup.policy: compacted",
            "readings.yaml:24: config.cleanup.policy: expected compact or delete, or both with a comma between, found \"compacted\"; did you mean compact?",
        ),
        (
            "readings.yaml",
            "max.message.bytes: 1048588",
            "max.message.bytes: 1Mi",
            "readings.yaml:29: config.max.message.bytes: expected a whole number from 0 to 2147483647, found \"1Mi\"; did you mean 1048576?",
        ),
        ("readings.yaml", "cleanup.policy: delete", "cleanup.policy:", "config.cleanup.policy: expected a value"),
        // A shape that would count for nothing.
        ("readings.yaml", "  config:\n", "  config: retention.ms=5\n  conf:\n", "config: expected a mapping"),
        ("env/dev.yaml", "topics: {}", "topics: [{name: readings, partitions: 24}]", "topics: expected a mapping"),
        ("env/dev.yaml", "topics: {}", "topics: {readings: [24]}", "expected a mapping"),
        ("readings.yaml", "partitions: 12", "partition: 12", "partition: unknown key; did you mean partitions?"),
        (
            "readings.yaml",
            "partitions: 12",
            "partitions: 0",
            "partitions: expected a whole number from 1 to 100000, found \"0\"",
        ),
        ("readings.yaml", "  replicas: 3\n", "", "spec: partitions and replicas must be given"),
        (
            "readings.yaml",
            "kind: KafkaTopic",
            "kind: KafkaUser",
            "expected kind KafkaTopic of apiVersion kafka.strimzi.io/v1, found \"KafkaUser\"",
        ),
        (
            "readings.yaml",
            "name: readings",
            "name: reading",
            "metadata.name is \"reading\": the file must be called reading.yaml",
        ),
        (
            "readings.yaml",
            "role: input",
            "role: inputs",
            "tidegate.io/role: \"inputs\" is no role; expected one of input, output, repartition, changelog, reference, dlt",
        ),
        (
            "readings.yaml",
            "    tidegate.io/role: input\n",
            "",
            "the annotation tidegate.io/role is missing: one of input, output,",
        ),
        (
            "readings.yaml",
            "tidegate.io/owner",
            "tidegate.io/ownr",
            "tidegate.io/ownr: unknown annotation; did you mean owner?",
        ),
        (
            "readings.yaml",
            "schemas/reading.json",
            "schemas/readings.json",
            "tidegate.io/schema: there is no file schemas/readings.json in the folder of topics",
        ),
        (
            "readings.yaml",
            "lead: \"true\"",
            "lead: \"yes\"",
            "tidegate.io/lead: expected \"true\" or \"false\", found \"yes\"",
        ),
        (
            "readings.yaml",
            "lead: \"true\"",
            "lead: true",
            "tidegate.io/lead: true stands without quotes, and Kubernetes takes texts only: write \"true\"",
        ),
        ("readings.yaml", "spec:", "spec: [", "readings.yaml:22: not YAML: "),
        // Files against each other.
        (
            "corrections.yaml",
            "partitions: 12",
            "partitions: 6",
            "corrections.yaml:18: corrections: has 6 partitions, but readings of co-partition group accounts has 12: make them equal",
        ),
        (
            "corrections.yaml",
            "lead: \"false\"",
            "lead: \"true\"",
            "co-partition group accounts has a second lead beside corrections: allowed is one",
        ),
        (
            "readings.yaml",
            "lead: \"true\"",
            "lead: \"false\"",
            "co-partition group accounts has no lead: exactly one topic needs tidegate.io/lead",
        ),
        (
            "corrections.yaml",
            "key: accounts.id (bigint as text)",
            "key: accounts.name",
            "corrections: is keyed by accounts.name, but readings of co-partition group accounts by accounts.id (bigint as text)",
        ),
        (
            "readings-dlt.yaml",
            "partitions: 12",
            "partitions: 3",
            "readings-dlt: has 3 partitions, but readings has 12: a dead letter keeps its partition number",
        ),
        (
            "readings-dlt.yaml",
            "1114124",
            "1000",
            "readings-dlt: max.message.bytes is 1000, but readings allows 1048588",
        ),
        (
            "large-changes.yaml",
            "replicas: 3",
            "replicas: 1",
            "large-changes: min.insync.replicas is 2, and the topic has 1 replicas: Kafka from 3.7 on acknowledges what 1 have, and an older one refuses every write: lower it to 1, or set replicas to 2",
        ),
        (
            "large-changes.yaml",
            "role: output",
            "role: changelog",
            "large-changes: is a changelog: cleanup.policy must be compact, found delete",
        ),
        ("large-changes.yaml", "spec:\n", "spec:\n  topicName: readings\n", "describes the same topic"),
        // Files against the pipeline.
        (
            "large-changes.yaml",
            "spec:\n",
            "spec:\n  topicName: other\n",
            "FOLDER: large-changes: no file, but it is the destination of readings in pipeline scoring",
        ),
        (
            "large-changes.yaml",
            "role: output",
            "role: reference",
            "large-changes: its role is reference, but it is the destination of readings in pipeline scoring: expected output or input or repartition",
        ),
        (
            "corrections.yaml",
            "copartition: accounts",
            "copartition: others",
            "corrections: is a companion of readings: set tidegate.io/copartition to accounts on both",
        ),
        (
            "corrections-dlt.yaml",
            "role: dlt",
            "role: output",
            "corrections-dlt: its role is output, but it is the dead-letter topic of corrections: expected dlt",
        ),
        // Overlays.
        (
            "env/dev.yaml",
            "topics: {}",
            "topics: {reading: {partitions: 1}}",
            "env/dev.yaml:6: topics.reading: there is no such topic; did you mean readings?",
        ),
        ("env/dev.yaml", "spec:", "specs:", "specs: unknown key; did you mean spec?"),
        ("env/dev.yaml", "min.insync.replicas", "min.isr", "config.min.isr: unknown configuration key"),
    ];
    for (file, from, to, expected) in wrong {
        let findings = Folder::with(file, from, to).findings(file.starts_with("env/").then_some("dev"));
        let is_found = findings.iter().any(|finding| finding.contains(expected));
        assert!(is_found, "{file}: {from} -> {to}\nexpected {expected}\nfound {findings:#?}");
    }
}

#[test]
fn a_companion_of_another_group_with_another_count_is_told_both_at_once() {
    let folder = Folder::with("corrections.yaml", "copartition: accounts", "copartition: others");
    let file = folder.0.join("corrections.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("partitions: 12", "partitions: 6")).unwrap();
    let found = folder.findings(None);
    for words in
        ["set tidegate.io/copartition to accounts on both", "has 6 partitions, but readings has 12: make them equal"]
    {
        assert!(found.iter().any(|finding| finding.contains(words)), "{words}: {found:?}");
    }
}

#[test]
fn names_that_differ_by_dot_and_underscore_are_refused() {
    let folder = Folder::with("large-changes.yaml", "spec:\n", "spec:\n  topicName: a.b\n");
    let second = std::fs::read_to_string(folder.0.join("large-changes.yaml")).unwrap();
    let second = second.replace("name: large-changes", "name: second").replace("topicName: a.b", "topicName: a_b");
    std::fs::write(folder.0.join("second.yaml"), second).unwrap();
    let findings = folder.findings(None);
    let expected = "a_b: differs from a.b by '.' and '_' only, which Kafka's metrics do not tell apart";
    assert!(findings.iter().any(|finding| finding.contains(expected)), "{findings:#?}");
}

/// Files as other tools write them: kubectl, a repository with several topics in one file.
#[test]
fn every_document_of_a_file_is_read_and_each_topic_wants_a_file_of_its_own() {
    let readings = std::fs::read_to_string(shipped().join("readings.yaml")).unwrap();
    let with = |text: String| {
        let folder = Folder::with("readings.yaml", "spec:", "spec:");
        std::fs::write(folder.0.join("readings.yaml"), text).unwrap();
        folder.findings(None)
    };
    assert_eq!(with(format!("---\n{readings}---\n")), [""; 0]);
    assert_eq!(with(format!("{readings}status:\n  conditions: []\n  observedGeneration: 1\n")), [""; 0]);
    let second =
        readings.replace("name: readings", "name: clicks").replace("retention.ms: 604800000", "retention.ms: 7d");
    let found = with(format!("{}---\n{second}", readings.replace("partitions: 12", "partitions: 0")));
    for expected in [
        "partitions: expected a whole number from 1 to 100000",
        "clicks: a second topic in one file: move it into a file of its own, clicks.yaml",
        "config.retention.ms: expected a whole number of at least -1, found \"7d\"; did you mean 604800000?",
    ] {
        assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn an_empty_or_missing_folder_or_environment_is_a_finding() {
    let missing = read(Path::new("/nonexistent"), Some("dev")).unwrap_err();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].message.contains("cannot be read") && missing[0].message.contains("--dir"), "{missing:?}");
    let nowhere = read(&shipped(), Some("nowhere")).unwrap_err();
    assert_eq!(nowhere[0].message, "there is no environment nowhere: env/ has dev, prod");
    let empty = shipped().join("env").join("nothing");
    assert!(read(&empty, None).is_err());
}
