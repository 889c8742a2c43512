//! Databases that are not as the pipeline needs them. The database is looked at first, so that these rows need no topics.

use crate::wrong::row::{Database, Row, row, with_environment};

const RUN: &[&str] = &["run"];
const OWN: &[(&str, &str)] = &[("TIDEGATE_DATABASE__URL", "postgres://tidegate@{server}/{database}")];
const AS_APP: &[(&str, &str)] = &[("TIDEGATE_DATABASE__URL", "postgres://app@{server}/{database}")];
const AS_TELLER: &[(&str, &str)] = &[("TIDEGATE_DATABASE__URL", "postgres://teller:right@{server}/{database}")];
const READ_ONLY: &str = "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL); DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$";
const GOOD: &str =
    "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL)";

/// Makes a row of the pipeline's table, in a database with Tidegate's own.
const fn table(name: &'static str, sql: &'static str, lines: &'static [&'static str]) -> Row {
    Row { database: Some(Database { is_migrated: true, sql }), ..with_environment(OWN, row(name, RUN, 1, lines)) }
}

/// Makes a row of a database without Tidegate's own tables.
const fn bare(name: &'static str, arguments: &'static [&'static str], lines: &'static [&'static str]) -> Row {
    let database = Some(Database { is_migrated: false, sql: GOOD });
    Row { database, ..with_environment(OWN, row(name, arguments, 1, lines)) }
}

/// Makes a row of the database's URL.
const fn url(
    name: &'static str,
    url: &'static [(&'static str, &'static str); 1],
    lines: &'static [&'static str],
) -> Row {
    with_environment(url, row(name, RUN, 1, lines))
}

pub const ROWS: &[Row] = &[
    // No way in.
    url(
        "a database that does not answer",
        &[("TIDEGATE_DATABASE__URL", "postgres://tidegate@127.0.0.1:1/tidegate")],
        &[
            "database: no connection to 127.0.0.1:1: is PostgreSQL running, and reachable from here?: error communicating with database: Connection refused (os error 111)",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "a database's host that does not resolve",
        &[("TIDEGATE_DATABASE__URL", "postgres://tidegate@db-nowhere.invalid/tidegate")],
        &[
            "database: no connection to db-nowhere.invalid:5432: the host of database.url is not known here; correct its name: error communicating with database: failed to lookup address information: Name or service not known",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "a database that is not there",
        &[("TIDEGATE_DATABASE__URL", "postgres://tidegate@{server}/nowhere")],
        &[
            "no connection to {server}: PostgreSQL answered, and has no such database: create it, or correct database.url: error returned from database: database \"nowhere\" does not exist",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "a role that is not there",
        &[("TIDEGATE_DATABASE__URL", "postgres://nobody@{server}/tidegate")],
        &[
            "no connection to {server}: PostgreSQL answered, and lets this user of database.url not in from here: create the role, or admit it in pg_hba.conf: error returned from database: role \"nobody\" does not exist",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "a wrong password",
        &[("TIDEGATE_DATABASE__URL", "postgres://teller:m1staken@{server}/tidegate")],
        &[
            "no connection to {server}: PostgreSQL answered, and user or password of database.url are wrong: error returned from database: password authentication failed for user \"teller\"",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "no password",
        &[("TIDEGATE_DATABASE__URL", "postgres://teller@{server}/tidegate")],
        &[
            "no connection to {server}: PostgreSQL answered, and user or password of database.url are wrong: error returned from database: password authentication failed for user \"teller\"",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "TLS of a server without it",
        &[("TIDEGATE_DATABASE__URL", "postgres://tidegate@{server}/tidegate?sslmode=require")],
        &[
            "database: no connection to {server}: the server answered and has TLS off, which sslmode in database.url asks for: set ssl = on there, or sslmode=prefer: error occurred while attempting to establish a TLS connection: server does not support TLS",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    url(
        "Kafka's port for the database",
        &[("TIDEGATE_DATABASE__URL", "postgres://tidegate@{kafka}/tidegate")],
        &[
            "database: no connection to {kafka}: the address of database.url takes connections and did not answer within 5000 ms; a pooler whose server connections are all in use does that (PgBouncer: raise default_pool_size, an instance takes engine.workers + 2), and so do a server that stands still and another program's port: error communicating with database: timed out",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    // Tidegate's own tables.
    bare(
        "run before migrate",
        RUN,
        &[
            "schema \"tidegate\" of the database {server}/{database} lacks 0001_position, 0002_outbox, 0003_verdict, 0004_baseline_slot, 0005_repair, 0006_event_time; run `{program} migrate` as its owner, or correct database.url",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    bare(
        "audit before migrate",
        &["audit"],
        &[
            "schema \"tidegate\" of the database {server}/{database} lacks 0001_position, 0002_outbox, 0003_verdict, 0004_baseline_slot, 0005_repair, 0006_event_time; run `{program} migrate` as its owner, or correct database.url",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    bare(
        "halted before migrate",
        &["halted"],
        &[
            "unknown  corrections  there is no topic corrections: make it anew (`topics apply` creates what is described), or take it out of the pipeline",
            "unknown  readings  there is no topic readings: make it anew (`topics apply` creates what is described), or take it out of the pipeline",
            "schema \"tidegate\" of the database {server}/{database} lacks 0001_position, 0002_outbox, 0003_verdict, 0004_baseline_slot, 0005_repair, 0006_event_time; run `{program} migrate` as its owner, or correct database.url",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    bare(
        "adopt before migrate",
        &["adopt", "readings-0", "--from-group"],
        &[
            "schema \"tidegate\" of the database {server}/{database} lacks 0001_position, 0002_outbox, 0003_verdict, 0004_baseline_slot, 0005_repair, 0006_event_time; run `{program} migrate` as its owner, or correct database.url",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    bare(
        "reset before migrate",
        &["reset", "readings-0", "--to", "0"],
        &[
            "schema \"tidegate\" of the database {server}/{database} lacks 0001_position, 0002_outbox, 0003_verdict, 0004_baseline_slot, 0005_repair, 0006_event_time; run `{program} migrate` as its owner, or correct database.url",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    with_environment(
        AS_APP,
        bare(
            "migrate by a role that may make no schema",
            &["migrate"],
            &[
                "to the database {server}/{database}, schema \"tidegate\" (database.url: environment TIDEGATE_DATABASE__URL)",
                "cannot migrate: the role of database.url lacks a right; GRANT CREATE ON DATABASE to it for the first time, and run it as the same role later: migration 1 (position): SQLSTATE 42501: error returned from database: permission denied for database {database}",
                "  database.url: environment TIDEGATE_DATABASE__URL",
            ],
        ),
    ),
    with_environment(
        AS_TELLER,
        table(
            "a role that may not read the schema",
            GOOD,
            &[
                "the role of database.url may not read schema \"tidegate\": grant it the role that ran `{program} migrate`; for `audit` and `halted`, USAGE on the schema and SELECT on its tables do (docs/operations.md, Database roles): read the migrations: SQLSTATE 42501: error returned from database: permission denied for schema tidegate",
                "  database.url: environment TIDEGATE_DATABASE__URL",
            ],
        ),
    ),
    // The pipeline's table.
    table(
        "a table that is missing",
        "SELECT 1",
        &[
            "the tables do not fit the structs:",
            "  table accounts: does not exist; create it, or name its schema as in \"schema.accounts\"",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a column that is missing",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column score: missing; expected double precision not null",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a column of another type",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score text NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column score: is text, the struct needs double precision; change one of the two",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a column that may be null",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column score: may be null, the struct's field is not an Option; make it one, or the column not null",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a version that is missing",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column version: missing; expected bigint not null; it is the version column, as Table::version names it",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a version of a smaller type",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version integer NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column version: is integer, the struct needs bigint; ALTER TABLE accounts ALTER version TYPE bigint",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a key of another type",
        "CREATE TABLE public.accounts (id text PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column id: is text, the struct needs bigint; a key column is bigint, integer or smallint (KeyType::I64), uuid (KeyType::Uuid), text, varchar, char, citext or an enum (KeyType::Text), or bytea (KeyType::Bytes)",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a decimal key",
        "CREATE TABLE public.accounts (id numeric PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column id: is numeric, the struct needs bigint; a key column is bigint, integer or smallint (KeyType::I64), uuid (KeyType::Uuid), text, varchar, char, citext or an enum (KeyType::Text), or bytea (KeyType::Bytes)",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a key without an index",
        "CREATE TABLE public.accounts (id bigint NOT NULL, score double precision NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column id: is the key, and has neither a primary key nor a unique index of its own; ALTER TABLE accounts ADD PRIMARY KEY (id)",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a key beside a primary key",
        "CREATE TABLE public.accounts (number bigint PRIMARY KEY, id bigint, score double precision NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column id: may be null, which a key or version may not; ALTER TABLE accounts ALTER id SET NOT NULL",
            "  table accounts, column id: is the key, and has neither a primary key nor a unique index of its own; ALTER TABLE accounts ADD UNIQUE (id), or name the right column in Table::key: the table's primary key is (number)",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a key and a column of other names",
        "CREATE TABLE public.accounts (number bigint PRIMARY KEY, scores double precision NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column id: missing; expected bigint not null; it is the key column, as Table::key names it",
            "  table accounts, column score: missing; expected double precision not null; did you mean scores?",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a table of another schema",
        "CREATE SCHEMA shop; CREATE TABLE shop.accounts (id bigint PRIMARY KEY)",
        &[
            "the tables do not fit the structs:",
            "  table accounts: does not exist under this name; name it with its schema in the pipeline, as \"shop.accounts\"",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a generated version",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL GENERATED ALWAYS AS (id + 1) STORED)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column version: is generated by the database, and the engine must write it; name another version column in Table::version, or none by unversioned()",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "an unlogged table",
        "CREATE UNLOGGED TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts: is unlogged or temporary, so a crash empties it; ALTER TABLE accounts SET LOGGED",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a view",
        "CREATE TABLE public.all_accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL); CREATE VIEW public.accounts AS SELECT * FROM public.all_accounts",
        &[
            "the tables do not fit the structs:",
            "  table accounts: is no table; rows of a view or foreign table cannot be locked and written: name the table that has them",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a day for a score",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score date NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column score: is date, the struct needs double precision; change one of the two",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a list for a score",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision[] NOT NULL, version bigint NOT NULL)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column score: is double precision[], the struct needs double precision; change one of the two",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    table(
        "a server that only reads",
        READ_ONLY,
        &[
            "database: not this server: it is a read-only standby or set so (default_transaction_read_only = on); the url must lead to the primary",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
    with_environment(
        AS_APP,
        table(
            "a table that the role may not change",
            "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL); GRANT SELECT ON public.accounts TO app",
            &[
                "the tables are not all ours to read and write:",
                "  table accounts: role app lacks UPDATE on score, version: GRANT SELECT, UPDATE ON accounts TO \"app\"",
                "  database.url: environment TIDEGATE_DATABASE__URL",
            ],
        ),
    ),
    with_environment(
        AS_APP,
        table(
            "row security",
            "CREATE TABLE public.accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL); GRANT SELECT, UPDATE ON public.accounts TO app; ALTER TABLE public.accounts ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON public.accounts TO app USING (id <= 100)",
            &[
                "the tables are not all ours to read and write:",
                "  table accounts: row security is in force for role app; rows it hides would count as missing: grant BYPASSRLS, or a policy of its own: CREATE POLICY app ON accounts TO app USING (true); policies now: few using ((id <= 100))",
                "  database.url: environment TIDEGATE_DATABASE__URL",
            ],
        ),
    ),
    // Several at once.
    table(
        "a table of which nothing fits",
        "CREATE UNLOGGED TABLE public.accounts (id integer NOT NULL, score text, version integer)",
        &[
            "the tables do not fit the structs:",
            "  table accounts, column version: is integer, the struct needs bigint; ALTER TABLE accounts ALTER version TYPE bigint",
            "  table accounts, column version: may be null, which a key or version may not; ALTER TABLE accounts ALTER version SET NOT NULL",
            "  table accounts, column score: is text, the struct needs double precision; change one of the two",
            "  table accounts, column score: may be null, the struct's field is not an Option; make it one, or the column not null",
            "  table accounts: is unlogged or temporary, so a crash empties it; ALTER TABLE accounts SET LOGGED",
            "  table accounts, column id: is the key, and has neither a primary key nor a unique index of its own; ALTER TABLE accounts ADD PRIMARY KEY (id)",
            "  database.url: environment TIDEGATE_DATABASE__URL",
        ],
    ),
];
