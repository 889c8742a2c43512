//! One job: the tables, fresh before each run and as settled as `VACUUM` and `CHECKPOINT` make them.

use crate::Outcome;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// A connection that a plain thread can use.
pub struct Connection {
    runtime: Runtime,
    pub client: Client,
}

impl Connection {
    pub fn open(database: &str) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, connection) = runtime.block_on(tokio_postgres::connect(database, NoTls))?;
        runtime.spawn(connection);
        Ok(Self { runtime, client })
    }

    /// Waits for an answer.
    pub fn wait<T>(&self, question: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Outcome<T> {
        self.runtime.block_on(question).map_err(|error| {
            let detail = error.as_db_error().map(ToString::to_string);
            detail.unwrap_or_else(|| error.to_string()).into()
        })
    }

    pub fn run(&self, sql: &str) -> Outcome {
        self.wait(self.client.batch_execute(sql))
    }
}

/// A new table of `rows` rows, and empty tables of the hand-written program.
pub fn reset(database: &str, rows: i64) -> Outcome {
    let connection = Connection::open(database)?;
    connection.run(&format!(
        "DROP TABLE IF EXISTS bench_rows, bench_outbox, bench_positions;
         CREATE TABLE bench_rows (id bigint NOT NULL, v float8 NOT NULL, n bigint NOT NULL, version bigint NOT NULL,
             payload text NOT NULL) WITH (fillfactor = 85);
         INSERT INTO bench_rows SELECT id, (id % 1000)::float8, 0, 0, left(repeat(md5(id::text), 4), 100)
             FROM generate_series(1, {rows}) id;
         ALTER TABLE bench_rows ADD PRIMARY KEY (id);
         CREATE TABLE bench_outbox (partition int, source_offset bigint, key bytea NOT NULL, value bytea NOT NULL,
             PRIMARY KEY (partition, source_offset));
         CREATE TABLE bench_positions (partition int PRIMARY KEY, next_offset bigint NOT NULL);
         INSERT INTO bench_positions SELECT partition, 0 FROM generate_series(0, 7) partition;"
    ))?;
    connection.run("VACUUM (FREEZE, ANALYZE) bench_rows")?;
    connection.run("CHECKPOINT")
}
