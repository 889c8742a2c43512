//! Folders of topics that are wrong by themselves, or that the pipeline cannot use.

use super::row::{Row, row, topics};

pub const ROWS: &[Row] = &[
    row(
        "a folder of topics that is not there",
        &["topics", "--dir", "/nonexistent", "validate"],
        1,
        &[
            "/nonexistent: the folder of topics cannot be read: No such file or directory (os error 2); the working directory is …, and --dir names another folder",
            "1 finding",
        ],
    ),
    row(
        "a folder without topics",
        &["topics", "--dir", "{folder}", "validate"],
        1,
        &[
            "{folder}: the folder has no topic declarations: write a file <name>.yaml for each topic that `describe` lists, or name the folder that has them by --dir",
            "1 finding",
        ],
    ),
    row(
        "an environment that is not there",
        &["topics", "validate", "--env", "staging"],
        1,
        &["topics: there is no environment staging: env/ has dev, prod", "1 finding"],
    ),
    topics(
        "a topic's setting with a slip",
        &[("readings.yaml", "retention.ms", "retention.mss")],
        &[
            "{folder}/topics/readings.yaml:26: config.retention.mss: unknown configuration key; did you mean retention.ms?",
            "1 finding",
        ],
    ),
    topics(
        "a topic's setting by another name",
        &[("readings.yaml", "min.insync.replicas", "min.isr")],
        &[
            "{folder}/topics/readings.yaml:27: config.min.isr: unknown configuration key, which a broker would refuse: remove it",
            "1 finding",
        ],
    ),
    topics(
        "a time as a tool rounds it",
        &[("readings.yaml", "604800000", "6.048e+08")],
        &[
            "{folder}/topics/readings.yaml:26: config.retention.ms: expected a whole number of at least -1, found \"6.048e+08\"; did you mean 604800000?",
            "1 finding",
        ],
    ),
    topics(
        "a policy with a slip",
        &[("readings.yaml", "cleanup.policy: delete", "cleanup.policy: compacted")],
        &[
            "{folder}/topics/readings.yaml:24: config.cleanup.policy: expected compact or delete, or both with a comma between, found \"compacted\"; did you mean compact?",
            "1 finding",
        ],
    ),
    topics(
        "bytes with their unit",
        &[("readings.yaml", "1048588", "1Mi")],
        &[
            "{folder}/topics/readings.yaml:29: config.max.message.bytes: expected a whole number from 0 to 2147483647, found \"1Mi\"; did you mean 1048576?",
            "1 finding",
        ],
    ),
    topics(
        "no partitions",
        &[("readings.yaml", "partitions: 12", "partitions: 0")],
        &[
            "{folder}/topics/readings.yaml:21: partitions: expected a whole number from 1 to 100000, found \"0\"",
            "1 finding",
        ],
    ),
    topics(
        "no number of replicas",
        &[("readings.yaml", "  replicas: 3\n", "")],
        &[
            "{folder}/topics/readings.yaml:19: spec: partitions and replicas must be given: a broker's default is no decision",
            "1 finding",
        ],
    ),
    topics(
        "a file of another kind",
        &[("readings.yaml", "kind: KafkaTopic", "kind: KafkaUser")],
        &[
            "{folder}/topics/readings.yaml:3: expected kind KafkaTopic of apiVersion kafka.strimzi.io/v1, found \"KafkaUser\" of \"kafka.strimzi.io/v1\"",
            "1 finding",
        ],
    ),
    topics(
        "a file under another name",
        &[("large-changes.yaml", "name: large-changes", "name: changes")],
        &[
            "{folder}/topics/large-changes.yaml:5: metadata.name is \"changes\": the file must be called changes.yaml",
            "1 finding",
        ],
    ),
    topics(
        "a role that is none",
        &[("readings.yaml", "role: input", "role: inputs")],
        &[
            "{folder}/topics/readings.yaml:10: tidegate.io/role: \"inputs\" is no role; expected one of input, output, repartition, changelog, reference, dlt",
            "1 finding",
        ],
    ),
    topics(
        "a schema that is not there",
        &[("readings.yaml", "schemas/reading.json", "schemas/readings.json")],
        &[
            "{folder}/topics/readings.yaml:14: tidegate.io/schema: there is no file schemas/readings.json in the folder of topics",
            "1 finding",
        ],
    ),
    topics(
        "a bracket that opens nothing",
        &[("readings.yaml", "spec:", "spec: [")],
        &[
            "{folder}/topics/readings.yaml:22: not YAML: while parsing a flow mapping, did not find expected ',' or '}'",
            "1 finding",
        ],
    ),
    topics(
        "two leads",
        &[("corrections.yaml", "lead: \"false\"", "lead: \"true\"")],
        &[
            "{folder}/topics/readings.yaml:19: readings: co-partition group accounts has a second lead beside corrections: allowed is one",
            "{folder}/topics/corrections.yaml:18: corrections: is a companion of readings in pipeline scoring: set tidegate.io/lead to \"false\"",
            "2 findings",
        ],
    ),
    topics(
        "no lead",
        &[("readings.yaml", "lead: \"true\"", "lead: \"false\"")],
        &[
            "{folder}/topics/corrections.yaml:18: corrections: co-partition group accounts has no lead: exactly one topic needs tidegate.io/lead",
            "{folder}/topics/readings.yaml:19: readings: is a lead topic of pipeline scoring: set tidegate.io/lead to \"true\"",
            "2 findings",
        ],
    ),
    topics(
        "fewer replicas than are to be in sync",
        &[("large-changes.yaml", "replicas: 3", "replicas: 1")],
        &[
            "{folder}/topics/large-changes.yaml:16: large-changes: min.insync.replicas is 2, and the topic has 1 replicas: Kafka from 3.7 on acknowledges what 1 have, and an older one refuses every write: lower it to 1, or set replicas to 2",
            "1 finding",
        ],
    ),
    topics(
        "a topic that the pipeline does not have",
        &[("large-changes.yaml", "spec:\n", "spec:\n  topicName: other\n")],
        &[
            "{folder}/topics: large-changes: no file, but it is the destination of readings in pipeline scoring",
            "1 finding",
        ],
    ),
    topics(
        "a dead-letter topic by another role",
        &[("corrections-dlt.yaml", "role: dlt", "role: output")],
        &[
            "{folder}/topics/corrections-dlt.yaml:17: corrections-dlt: its role is output, but it is the dead-letter topic of corrections: expected dlt",
            "1 finding",
        ],
    ),
    topics(
        "topics that do not fit each other",
        &[
            ("corrections.yaml", "partitions: 12", "partitions: 6"),
            ("corrections.yaml", "accounts.id (bigint as text)", "accounts.name"),
            ("readings-dlt.yaml", "partitions: 12", "partitions: 3"),
            ("readings-dlt.yaml", "1114124", "1000"),
            ("large-changes.yaml", "role: output", "role: changelog"),
        ],
        &[
            "{folder}/topics/corrections.yaml:18: corrections: has 6 partitions, but readings of co-partition group accounts has 12: make them equal",
            "{folder}/topics/corrections.yaml:18: corrections: is keyed by accounts.name, but readings of co-partition group accounts by accounts.id (bigint as text): they must agree",
            "{folder}/topics/large-changes.yaml:16: large-changes: is a changelog: cleanup.policy must be compact, found delete, which would delete what the store holds",
            "{folder}/topics/readings-dlt.yaml:17: readings-dlt: has 3 partitions, but readings has 12: a dead letter keeps its partition number",
            "{folder}/topics/readings-dlt.yaml:17: readings-dlt: max.message.bytes is 1000, but readings allows 1048588: its largest record would not fit",
            "{folder}/topics/large-changes.yaml:16: large-changes: its role is changelog, but it is the destination of readings in pipeline scoring: expected output or input or repartition",
            "6 findings",
        ],
    ),
];
