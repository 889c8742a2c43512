//! Settings with a mistake: keys, values, what does not go together, what is not seen.

use super::row::{Row, environment, file, flags};

pub const ROWS: &[Row] = &[
    // Keys that nobody knows.
    file(
        "a section with a slip",
        "databse:\n  url: x",
        &["databse.url: unknown key; did you mean database.url? ({file}:2)"],
    ),
    file(
        "a key with a slip",
        "engine: {wrokers: 2}",
        &["engine.wrokers: unknown key; did you mean engine.workers? ({file}:1)"],
    ),
    file(
        "a key without its section",
        "batch_rows: 5",
        &["batch_rows: unknown key; did you mean engine.batch_rows? ({file}:1)"],
    ),
    file(
        "a key that nobody knows",
        "colour: blue",
        &["colour: unknown key: remove it, or write one of those that `tidegate config show` lists ({file}:1)"],
    ),
    file(
        "a section that nobody knows",
        "colour: {}",
        &["colour: unknown key: remove it, or write one of those that `tidegate config show` lists ({file}:1)"],
    ),
    file(
        "a threshold with a slip",
        "pipeline: {thresholds: {large-chnage: 1}}",
        &[
            "pipeline.thresholds.large-chnage: unknown threshold; did you mean large-change?; pipeline scoring has: large-change ({file}:1)",
        ],
    ),
    environment(
        "a variable with a slip",
        &[("TIDEGATE_DATABASE__URI", "x")],
        &["database.uri: unknown key; did you mean database.url? (environment TIDEGATE_DATABASE__URI)"],
    ),
    environment(
        "a variable without its section",
        &[("TIDEGATE_WORKERS", "2")],
        &["workers: unknown key; did you mean TIDEGATE_ENGINE__WORKERS? (environment TIDEGATE_WORKERS)"],
    ),
    flags(
        "a flag with a slip",
        &["--set", "engine.worker=2", "config", "show"],
        &["engine.worker: unknown key; did you mean engine.workers? (flag --set)"],
    ),
    // Values that are no values of their key.
    file(
        "a word for a number",
        "engine:\n  workers: many",
        &["engine.workers: \"many\": expected a whole number from 1 to 64 ({file}:2)"],
    ),
    file(
        "a number too small",
        "engine: {workers: 0}",
        &["engine.workers: \"0\": expected a whole number from 1 to 64 ({file}:1)"],
    ),
    file(
        "a number too large",
        "engine: {workers: 65}",
        &["engine.workers: \"65\": expected a whole number from 1 to 64 ({file}:1)"],
    ),
    file(
        "a fraction",
        "engine: {workers: 2.5}",
        &["engine.workers: \"2.5\": expected a whole number from 1 to 64 ({file}:1)"],
    ),
    file(
        "a null",
        "engine: {workers: null}",
        &["engine.workers: \"null\": expected a whole number from 1 to 64 ({file}:1)"],
    ),
    file(
        "a list for a number",
        "engine: {workers: [1, 2]}",
        &["engine.workers: expected a whole number from 1 to 64, found a list ({file}:1)"],
    ),
    file(
        "a mapping for a number",
        "engine: {workers: {a: 1}}",
        &["engine.workers.a: expected a whole number from 1 to 64, found a mapping ({file}:1)"],
    ),
    file(
        "a number beyond all numbers",
        "engine: {workers: 99999999999999999999}",
        &["engine.workers: \"99999999999999999999\": expected a whole number from 1 to 64 ({file}:1)"],
    ),
    file(
        "a word for a yes or no",
        "pipeline: {verdicts: maybe}",
        &["pipeline.verdicts: \"maybe\": expected true or false ({file}:1)"],
    ),
    file(
        "a missing row to be ignored",
        "pipeline: {missing_row: ignore}",
        &[
            "pipeline.missing_row: \"ignore\": expected one of skip, dead-letter, retry, insert; did you mean skip? ({file}:1)",
        ],
    ),
    file(
        "a start in capitals",
        "pipeline: {start: Latest}",
        &["pipeline.start: \"Latest\": expected one of earliest, latest; did you mean latest? ({file}:1)"],
    ),
    file(
        "a pipeline's name with a space",
        "pipeline: {name: \"a b\"}",
        &["pipeline.name: \"a b\": expected 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-' ({file}:1)"],
    ),
    file(
        "a threshold that is no number in YAML",
        "pipeline: {thresholds: {large-change: .nan}}",
        &["pipeline.thresholds.large-change: \".nan\": expected a finite number ({file}:1)"],
    ),
    file(
        "a threshold that is no number",
        "pipeline: {thresholds: {large-change: NaN}}",
        &["pipeline.thresholds.large-change: \"NaN\": expected a finite number ({file}:1)"],
    ),
    file(
        "a number for thresholds",
        "pipeline: {thresholds: 0.5}",
        &["pipeline.thresholds: expected a mapping of names to a finite number ({file}:1)"],
    ),
    file(
        "a server without its port",
        "kafka: {bootstrap_servers: localhost}",
        &[
            "kafka.bootstrap_servers: \"localhost\": expected host:port, separated by commas; did you mean localhost:9092? ({file}:1)",
        ],
    ),
    file(
        "a session too short",
        "kafka: {session_timeout_ms: 999}",
        &["kafka.session_timeout_ms: \"999\": expected a whole number from 1000 to 300000 ({file}:1)"],
    ),
    file(
        "a time with its unit",
        "kafka: {session_timeout_ms: 10s}",
        &["kafka.session_timeout_ms: \"10s\": expected a whole number from 1000 to 300000; write 10000 ({file}:1)"],
    ),
    file(
        "a transaction too long",
        "kafka: {transaction_timeout_ms: 900001}",
        &["kafka.transaction_timeout_ms: \"900001\": expected a whole number from 1000 to 900000 ({file}:1)"],
    ),
    file(
        "another kind of database",
        "database: {url: \"mysql://h/db\"}",
        &["database.url: \"***\": expected postgres://user:password@host:port/database ({file}:1)"],
    ),
    file(
        "a schema in capitals",
        "database: {schema: My-Schema}",
        &["database.schema: \"My-Schema\": expected 1 to 63 characters of a-z, 0-9 and '_', no digit first ({file}:1)"],
    ),
    file(
        "an address without its port",
        "http: {address: localhost}",
        &["http.address: \"localhost\": expected address:port, for instance 0.0.0.0:8230 ({file}:1)"],
    ),
    file(
        "a slot below none",
        "instance: {slot: -1}",
        &["instance.slot: \"-1\": expected a whole number from 0 to 9999, or null ({file}:1)"],
    ),
    file(
        "an instance's name with a space",
        "instance: {name: \"a b\"}",
        &["instance.name: \"a b\": expected 1 to 255 characters without spaces, or null ({file}:1)"],
    ),
    file(
        "a level that is none",
        "log: {level: verbose}",
        &["log.level: \"verbose\": expected one of error, warn, info, debug, trace ({file}:1)"],
    ),
    environment(
        "a variable that is no number",
        &[("TIDEGATE_ENGINE__WORKERS", "x")],
        &["engine.workers: \"x\": expected a whole number from 1 to 64 (environment TIDEGATE_ENGINE__WORKERS)"],
    ),
    flags(
        "a format that is none",
        &["--set", "log.format=xml", "config", "show"],
        &["log.format: \"xml\": expected one of text, json (flag --set)"],
    ),
    flags(
        "a flag without a value",
        &["--set", "engine.workers", "config", "show"],
        &["engine.workers: expected path=value (flag --set)"],
    ),
    flags(
        "a database's password in a flag",
        &["--set", "database.url=postgres://h/d", "config", "show"],
        &[
            "database.url: a secret does not belong on a command line, which everybody can list; use TIDEGATE_DATABASE__URL or TIDEGATE_DATABASE__URL_FILE (flag --set)",
        ],
    ),
    flags(
        "Kafka's password in a flag",
        &["--set", "kafka.properties.sasl.password=x", "config", "show"],
        &[
            "kafka.properties.sasl.password: a secret does not belong on a command line, which everybody can list; use TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD or TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD_FILE (flag --set)",
        ],
    ),
    // The filter of the log.
    environment(
        "a log filter with a slip behind a module",
        &[("TIDEGATE_LOG", "tidegate=debgu")],
        &[
            "TIDEGATE_LOG: \"tidegate=debgu\": expected a level, or levels by module such as tidegate=debug,info (environment TIDEGATE_LOG)",
        ],
    ),
    environment(
        "a log filter with a slip",
        &[("TIDEGATE_LOG", "debgu")],
        &[
            "TIDEGATE_LOG: \"debgu\": expected a level, or levels by module such as tidegate=debug,info; did you mean debug? (environment TIDEGATE_LOG)",
        ],
    ),
    environment(
        "a variable of somebody else's",
        &[("TIDEGATE_VERSION", "1")],
        &[
            "version: unknown key; every variable that begins with TIDEGATE_ is taken for a setting: give it another name (environment TIDEGATE_VERSION)",
        ],
    ),
    // The URL of the database.
    environment(
        "a hash in a password",
        &[("TIDEGATE_DATABASE__URL", "postgres://app:p#w@h/db")],
        &[
            "database.url: \"***\": the password holds a character at which a URL ends it: in the password write %23 for # (environment TIDEGATE_DATABASE__URL)",
        ],
    ),
    environment(
        "a parameter with a slip in the database's URL",
        &[("TIDEGATE_DATABASE__URL", "postgres://h/db?sslmod=require")],
        &[
            "database.url: \"***\": unknown parameter sslmod; did you mean sslmode? (environment TIDEGATE_DATABASE__URL)",
        ],
    ),
    // Names and lists in another shape.
    environment(
        "one underscore for two",
        &[("TIDEGATE_KAFKA_BOOTSTRAP_SERVERS", "h:1")],
        &[
            "kafka_bootstrap_servers: unknown key; did you mean TIDEGATE_KAFKA__BOOTSTRAP_SERVERS? (environment TIDEGATE_KAFKA_BOOTSTRAP_SERVERS)",
        ],
    ),
    environment(
        "one underscore for two in front of a secret",
        &[("TIDEGATE_KAFKA_PROPERTIES_SASL_PASSWORD", "x")],
        &[
            "kafka_properties_sasl_password: unknown key; did you mean TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD? (environment TIDEGATE_KAFKA_PROPERTIES_SASL_PASSWORD)",
        ],
    ),
    file(
        "a dotted name in the file",
        "engine.workers: 4",
        &["engine.workers: is written as one name; write `engine:` and, indented below it, `workers:` ({file}:1)"],
    ),
    file(
        "a property in sections",
        "kafka: {properties: {security: {protocol: SSL}}}",
        &[
            "kafka.properties.security: expected a text, found a mapping; write the name whole, security.protocol ({file}:1)",
        ],
    ),
    file(
        "servers with a semicolon",
        "kafka: {bootstrap_servers: 'a:1;b:2'}",
        &[
            "kafka.bootstrap_servers: \"a:1;b:2\": expected host:port, separated by commas; did you mean a:1,b:2? ({file}:1)",
        ],
    ),
    file(
        "a name for the address to listen at",
        "http: {address: 'localhost:8230'}",
        &[
            "http.address: \"localhost:8230\": expected address:port, for instance 0.0.0.0:8230; did you mean 127.0.0.1:8230? ({file}:1)",
        ],
    ),
    // Words of others.
    file(
        "rows to be inserted",
        "pipeline: {missing_row: insert}",
        &[
            "pipeline.missing_row: \"insert\": the step on table accounts does not say what a new row holds: add insert_missing(..) to it in the code, or choose skip, dead-letter or retry ({file}:1)",
        ],
    ),
    file(
        "a yes of YAML",
        "pipeline: {verdicts: yes}",
        &["pipeline.verdicts: \"yes\": expected true or false; did you mean true? ({file}:1)"],
    ),
    file(
        "memory with its unit",
        "state: {memory_mib: 2GiB}",
        &["state.memory_mib: \"2GiB\": expected a whole number from 8 to 1048576; write 2048 ({file}:1)"],
    ),
    // Settings that do not go together.
    file(
        "a session's time where the broker sets it",
        "kafka: {group_protocol: consumer, session_timeout_ms: 20000}",
        &[
            "kafka.session_timeout_ms: \"20000\": the broker sets it under kafka.group_protocol consumer; remove it ({file}:1)",
        ],
    ),
    file(
        "a heartbeat where the broker sets it",
        "kafka: {group_protocol: consumer, properties: {heartbeat.interval.ms: 1}}",
        &[
            "kafka.properties.heartbeat.interval.ms: \"1\": the broker sets it under kafka.group_protocol consumer; remove it ({file}:1)",
        ],
    ),
    file(
        "a lock's time above the statement's",
        "database: {lock_timeout_ms: 40000}",
        &[
            "database.lock_timeout_ms: \"40000\": is above database.statement_timeout_ms (30000), which would end the statement first ({file}:1)",
        ],
    ),
    file(
        "a batch larger than what may be unpublished",
        "engine: {batch_rows: 20000}",
        &[
            "engine.unpublished_rows: \"10000\": is below engine.batch_rows (20000): no full batch would fit (built-in default)",
        ],
    ),
    file(
        "outbox partitions wider than what is kept",
        "outbox: {partition_minutes: 120, retention_hours: 1}",
        &["outbox.partition_minutes: \"120\": is wider than outbox.retention_hours (1 h) keeps ({file}:1)"],
    ),
    file(
        "too many outbox partitions",
        "outbox: {partition_minutes: 1, retention_hours: 240}",
        &[
            "outbox.partition_minutes: \"1\": makes 14400 table partitions in outbox.retention_hours; allowed are 1000 ({file}:1)",
        ],
    ),
    // What nobody sees around a value.
    environment(
        "a newline behind the database's URL",
        &[("TIDEGATE_DATABASE__URL", "postgres://h/db\n")],
        &[
            "database.url: \"***\": ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none (environment TIDEGATE_DATABASE__URL)",
        ],
    ),
    environment(
        "a newline behind Kafka's password",
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "secret\r\n")],
        &[
            "kafka.properties.sasl.password: \"***\": ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none (environment TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD)",
        ],
    ),
    environment(
        "a newline behind a name",
        &[("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "app\n")],
        &[
            "kafka.properties.sasl.username: \"app\\n\": ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none (environment TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME)",
        ],
    ),
    environment(
        "a byte order mark in front of the database's URL",
        &[("TIDEGATE_DATABASE__URL", "\u{feff}postgres://h/db")],
        &[
            "database.url: \"***\": begins with a byte order mark (U+FEFF), which is not seen and part of the value; remove it (environment TIDEGATE_DATABASE__URL)",
        ],
    ),
    environment(
        "a space behind the database's URL",
        &[("TIDEGATE_DATABASE__URL", "postgres://u:p@h/db ")],
        &[
            "database.url: \"***\": holds a space or a line break; in a password write %20 for a space (environment TIDEGATE_DATABASE__URL)",
        ],
    ),
    file(
        "a byte order mark within the file",
        "log: {level: info}\n\u{feff}engine: {workers: 2}",
        &[
            "file: the settings file is not YAML: a byte order mark (U+FEFF) is not seen and belongs to no YAML: delete it ({file}:2)",
        ],
    ),
    file(
        "a no-break space",
        "engine:\n\u{a0} workers: 2",
        &[
            "file: the settings file is not YAML: a no-break space (U+00A0) is not seen and belongs to no YAML: delete it ({file}:2)",
        ],
    ),
];
