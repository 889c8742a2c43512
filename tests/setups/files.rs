//! What lies in files and on the command line: secrets, certificates, logins.

use super::row::{Row, environment, file, mistakes, row, with_environment, with_file, with_files};

const SHOW: &[&str] = &["config", "show"];
const RUN: &[&str] = &["run"];
/// Servers that nobody is asked for.
const KAFKA: (&str, &str) = ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1");
const DATABASE: (&str, &str) = ("TIDEGATE_DATABASE__URL", "postgres://tidegate@127.0.0.1:1/tidegate");

pub const ROWS: &[Row] = &[
    // Files and secrets that cannot be read.
    file(
        "a bracket that is not closed",
        "engine: {workers: 2\nlog: x",
        &[
            "file: the settings file is not YAML: while parsing a flow mapping, did not find expected ',' or '}' ({file}:2)",
        ],
    ),
    file(
        "a key twice",
        "engine:\n  workers: 2\n  workers: 3",
        &["file: the settings file is not YAML: workers: the key is there twice ({file}:3)"],
    ),
    file(
        "an anchor",
        "a: &a 1",
        &[
            "file: the settings file is not YAML: anchors and aliases are not supported: write the value out at each place ({file}:1)",
        ],
    ),
    file(
        "a list for the whole file",
        "- engine",
        &[
            "file: the settings file is no mapping of sections: write `engine:`, or another one, and its keys below it ({file}:1)",
        ],
    ),
    file(
        "a number for a section",
        "engine: 5",
        &["engine: expected a mapping: this is a section; write its keys below it, indented ({file}:1)"],
    ),
    environment(
        "a secret's file that is not there",
        &[("TIDEGATE_DATABASE__URL_FILE", "/nonexistent/url")],
        &[
            "database.url: the file cannot be read: No such file or directory (os error 2) (environment TIDEGATE_DATABASE__URL_FILE, file /nonexistent/url)",
        ],
    ),
    environment(
        "a secret and its file",
        &[("TIDEGATE_DATABASE__URL_FILE", "/x"), ("TIDEGATE_DATABASE__URL", "postgres://h/d")],
        &[
            "database.url: set TIDEGATE_DATABASE__URL or TIDEGATE_DATABASE__URL_FILE, not both (environment TIDEGATE_DATABASE__URL_FILE)",
        ],
    ),
    environment(
        "a file for what is no secret",
        &[("TIDEGATE_HTTP__ADDRESS_FILE", "/x")],
        &["http.address_file: unknown key; did you mean http.address? (environment TIDEGATE_HTTP__ADDRESS_FILE)"],
    ),
    // A settings file, whole.
    row(
        "a settings file that is not there",
        &["--config", "/nonexistent/tidegate.yaml", "run"],
        78,
        &[
            "configuration: 1 mistake",
            "  file: the settings file cannot be read: No such file or directory (os error 2); --config or TIDEGATE_CONFIG names it (/nonexistent/tidegate.yaml)",
        ],
    ),
    row(
        "a folder for a settings file",
        &["--config", "{folder}", "run"],
        78,
        &[
            "configuration: 1 mistake",
            "  file: the settings file cannot be read: Is a directory (os error 21); --config or TIDEGATE_CONFIG names it ({folder})",
        ],
    ),
    with_file(
        b"\xff\xfee\0n\0",
        mistakes(
            "a settings file in UTF-16",
            SHOW,
            &["file: the settings file is UTF-16, by the byte order mark in front: save it as UTF-8 ({file})"],
        ),
    ),
    with_file(
        b"engine:\n  workers: \xe9\n",
        mistakes(
            "bytes that are no text",
            SHOW,
            &["file: the settings file is not UTF-8 from byte 19 on: save it as UTF-8 ({file})"],
        ),
    ),
    with_files(
        &[("secret", "\n")],
        with_environment(
            &[("TIDEGATE_DATABASE__URL_FILE", "{folder}/secret")],
            mistakes(
                "a secret's file that is empty",
                SHOW,
                &[
                    "database.url: the file is empty: write the secret into it (environment TIDEGATE_DATABASE__URL_FILE, file {folder}/secret)",
                ],
            ),
        ),
    ),
    // Certificates.
    with_environment(
        &[
            KAFKA,
            DATABASE,
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION", "/nonexistent/ca.pem"),
        ],
        mistakes(
            "a CA of Kafka's that is not there",
            RUN,
            &[
                "kafka.properties.ssl.ca.location: \"/nonexistent/ca.pem\": cannot be read: No such file or directory (os error 2) (environment TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION)",
            ],
        ),
    ),
    with_files(
        &[("ca.pem", "no certificate\n")],
        with_environment(
            &[
                KAFKA,
                DATABASE,
                ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
                ("TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION", "{folder}/ca.pem"),
            ],
            mistakes(
                "a CA of Kafka's that holds no certificate",
                RUN,
                &[
                    "kafka.properties.ssl.ca.location: \"{folder}/ca.pem\": holds no certificate in PEM (-----BEGIN CERTIFICATE-----) (environment TIDEGATE_KAFKA__PROPERTIES__SSL_CA_LOCATION)",
                ],
            ),
        ),
    ),
    with_files(
        &[("c", "no certificate\n"), ("k", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n")],
        with_environment(
            &[
                KAFKA,
                (
                    "TIDEGATE_DATABASE__URL",
                    "postgres://h/db?sslrootcert=/nonexistent/ca.pem&sslcert={folder}/c&sslkey={folder}/k",
                ),
            ],
            mistakes(
                "certificates of the database that are not there or hold something else",
                RUN,
                &[
                    "database.url: sslrootcert: /nonexistent/ca.pem cannot be read: No such file or directory (os error 2) (environment TIDEGATE_DATABASE__URL)",
                    "database.url: sslcert: {folder}/c holds no certificate in PEM (-----BEGIN CERTIFICATE-----) (environment TIDEGATE_DATABASE__URL)",
                    "database.url: sslkey: {folder}/k is encrypted, and the driver takes keys without a password: `openssl pkey -in FILE -out OTHER` writes one (environment TIDEGATE_DATABASE__URL)",
                ],
            ),
        ),
    ),
    // A command that needs more than it was given.
    mistakes(
        "neither servers nor a database",
        RUN,
        &[
            "kafka.bootstrap_servers: is not set; set it in the file, or TIDEGATE_KAFKA__BOOTSTRAP_SERVERS, for example to localhost:9092 (built-in default)",
            "database.url: is not set; set it in the file, or TIDEGATE_DATABASE__URL, for example to postgres://user:password@host/db (built-in default)",
        ],
    ),
    mistakes(
        "no servers for the topics",
        &["topics", "plan"],
        &[
            "kafka.bootstrap_servers: is not set; set it in the file, or TIDEGATE_KAFKA__BOOTSTRAP_SERVERS, for example to localhost:9092 (built-in default)",
        ],
    ),
    mistakes(
        "no database to migrate",
        &["migrate"],
        &[
            "database.url: is not set; set it in the file, or TIDEGATE_DATABASE__URL, for example to postgres://user:password@host/db (built-in default)",
        ],
    ),
    with_environment(
        &[KAFKA, DATABASE, ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "u")],
        mistakes(
            "a login without a protocol",
            RUN,
            &[
                "kafka.properties.security.protocol: is not set, so that the connection is plain and sasl.username is without effect: set SASL_SSL, SSL or SASL_PLAINTEXT (built-in default)",
            ],
        ),
    ),
    with_environment(
        &[
            KAFKA,
            DATABASE,
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "u"),
        ],
        mistakes(
            "a login without a mechanism",
            RUN,
            &[
                "kafka.properties.sasl.mechanism: is not set, and SASL_SSL needs it: set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 (librdkafka's default is GSSAPI, Kerberos) (built-in default)",
            ],
        ),
    ),
    with_environment(
        &[
            KAFKA,
            DATABASE,
            ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN"),
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "u"),
        ],
        mistakes(
            "a login without a password",
            RUN,
            &[
                "kafka.properties.sasl.password: is not set, and sasl.mechanism PLAIN needs it: set it, or TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD (built-in default)",
            ],
        ),
    ),
    with_environment(
        &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "SSL://h:1"), DATABASE],
        mistakes(
            "servers with another protocol",
            RUN,
            &[
                "kafka.bootstrap_servers: \"SSL://h:1\": differs from kafka.properties.security.protocol, which is plaintext (environment TIDEGATE_KAFKA__BOOTSTRAP_SERVERS)",
            ],
        ),
    ),
    // The command line.
    row(
        "a command that nobody knows",
        &["destroy"],
        2,
        &[
            "error: unrecognized subcommand 'destroy'…",
            "",
            "Usage: tidegate [OPTIONS] <COMMAND>",
            "",
            "For more information, try '--help'.",
        ],
    ),
    row(
        "a partition without the way to adopt it",
        &["adopt", "readings-3"],
        2,
        &[
            "error: the following required arguments were not provided:",
            "  <--from-group|--from-database>",
            "",
            "Usage: tidegate adopt <--from-group|--from-database> <PARTITION>...",
            "",
            "For more information, try '--help'.",
        ],
    ),
    row(
        "an offset that is a word",
        &["reset", "readings-3", "--to", "yesterday"],
        2,
        &[
            "error: invalid value 'yesterday' for '--to <OFFSET>': expected an offset, `start` or `end`",
            "",
            "For more information, try '--help'.",
        ],
    ),
    row(
        "a demo of no time",
        &["demo", "--seconds", "0"],
        2,
        &[
            "error: invalid value '0' for '--seconds <N>': 0 is not in 1..18446744073709551615",
            "",
            "For more information, try '--help'.",
        ],
    ),
    row(
        "a format that nobody writes",
        &["describe", "-o", "yaml"],
        2,
        &[
            "error: invalid value 'yaml' for '--output <OUTPUT>'",
            "  [possible values: table, json]",
            "",
            "For more information, try '--help'.",
        ],
    ),
    row(
        "a folder of the demo that is not there",
        &["demo", "--seconds", "1", "--db-filename", "/nonexistent/demo.db"],
        1,
        &[
            "cannot open /nonexistent/demo.db.log, there is no folder /nonexistent: make it: error returned from database: (code: 14) unable to open database file",
        ],
    ),
    row(
        "an instance that does not answer",
        &["state", "--address", "127.0.0.1:1", "size"],
        1,
        &[
            "state: no instance answers at 127.0.0.1:1 (Connection refused (os error 111), --address); name one that runs with --address, as it prints it at its start (page  http://…)",
        ],
    ),
    row(
        "an address without a port",
        &["state", "--address", "nowhere", "size"],
        1,
        &["state: \"nowhere\" (--address): expected host:port, as an instance prints it at its start (page  http://…)"],
    ),
    // Several at once.
    with_environment(
        &[KAFKA, DATABASE, ("TIDEGATE_RETRY__ATTEMPTS", "0"), ("TIDEGATE_NOTHING", "1")],
        with_file(
            b"engine: {workers: 0}\nlog: {level: loud}\ncolour: blue\n",
            mistakes(
                "mistakes in the file, a variable and a flag",
                &["--set", "outbox.retention_hours=x", "run"],
                &[
                    "engine.workers: \"0\": expected a whole number from 1 to 64 ({file}:1)",
                    "log.level: \"loud\": expected one of error, warn, info, debug, trace ({file}:2)",
                    "colour: unknown key: remove it, or write one of those that `tidegate config show` lists ({file}:3)",
                    "nothing: unknown key; every variable that begins with TIDEGATE_ is taken for a setting: give it another name (environment TIDEGATE_NOTHING)",
                    "retry.attempts: \"0\": expected a whole number from 1 to 1000 (environment TIDEGATE_RETRY__ATTEMPTS)",
                    "outbox.retention_hours: \"x\": expected a whole number from 1 to 8760 (flag --set)",
                ],
            ),
        ),
    ),
    with_environment(
        &[
            KAFKA,
            DATABASE,
            ("TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG", "PlainLoginModule required password=\"x\";"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_LOCATION", "/etc/trust.jks"),
            ("TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD", "x"),
            ("TIDEGATE_KAFKA__PROPERTIES__MAX_REQUEST_SIZE", "1048576"),
            ("TIDEGATE_KAFKA__PROPERTIES__LINGER_MSS", "5"),
        ],
        mistakes(
            "a client of Java's settings",
            RUN,
            &[
                "kafka.properties.linger.mss: librdkafka has no such property; did you mean linger.ms? (environment TIDEGATE_KAFKA__PROPERTIES__LINGER_MSS)",
                "kafka.properties.max.request.size: is Java's name; librdkafka's is message.max.bytes (environment TIDEGATE_KAFKA__PROPERTIES__MAX_REQUEST_SIZE)",
                "kafka.properties.sasl.jaas.config: is Java's: give its username and password as sasl.username and sasl.password, and the module's kind as sasl.mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) (environment TIDEGATE_KAFKA__PROPERTIES__SASL_JAAS_CONFIG)",
                "kafka.properties.ssl.truststore.location: is Java's: name a PEM file of the CA as ssl.ca.location (`keytool -exportcert -rfc -keystore FILE -alias CA` writes one) (environment TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_LOCATION)",
                "kafka.properties.ssl.truststore.password: is Java's: ssl.ca.location is a PEM file, which has none; remove it (environment TIDEGATE_KAFKA__PROPERTIES__SSL_TRUSTSTORE_PASSWORD)",
            ],
        ),
    ),
];
