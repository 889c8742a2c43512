//! PostgreSQL under the suite.

use crate::rollups::RollUpsBench;
use crate::rows::{Column, RowsBench};
use crate::suite::{rollups_suite, rows_suite};
use crate::{servers, sql, unique};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use std::time::Duration;
use tidegate::adapters::postgres::{
    OutboxSettings, PostgresHistory, PostgresRollUps, PostgresRows, PostgresSchema, PostgresSettings,
};
use tidegate::flow::Table;
use tidegate::ports::history::RowHistory;
use tidegate::ports::rollups::RollUpTables;
use tidegate::ports::rows::{RowRead, Rows};
use tidegate::ports::schema::Schema;

rows_suite!(postgres_rows, super::Server::open());
rollups_suite!(postgres_rollups, super::Server::open());

/// One test's schema in the shared server. User tables lie in `public`, under unique names.
pub struct Server {
    settings: PostgresSettings,
}

impl Server {
    pub fn open() -> Option<Self> {
        servers::is_wanted("PostgreSQL").then(|| {
            let url = servers::postgres();
            let schema = unique("tidegate").replace('-', "_");
            let server = Self { settings: PostgresSettings { schema, ..PostgresSettings::new(url) } };
            assert!(!server.schema("any", Duration::ZERO).migrate().unwrap().is_empty());
            server
        })
    }

    fn run(&self, statement: String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(self.settings.url.expose()).await.unwrap();
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
            connection.close().await.unwrap();
        });
    }
}

impl RowsBench for Server {
    fn create_table(&self, table: &Table, columns: &[Column<'_>], smallest: Option<&str>) {
        self.run(sql::create_table(table, columns, smallest));
    }

    fn insert(&self, table: &Table, columns: &[Column<'_>], row: &RowRead) {
        self.run(sql::insert(table, columns, row, "\\x"));
    }

    fn insert_all(&self, table: &Table, columns: &[Column<'_>], rows: &[RowRead]) {
        let statements: Vec<String> = rows.iter().map(|row| sql::insert(table, columns, row, "\\x")).collect();
        self.run(statements.join("; "));
    }

    fn rows(&self, pipeline: &str) -> Box<dyn Rows> {
        Box::new(PostgresRows::new(&self.settings, pipeline, pipeline).unwrap())
    }

    fn schema(&self, pipeline: &str, retention: Duration) -> Box<dyn Schema> {
        let hours = u32::try_from(retention.as_secs() / 3600).unwrap().max(1);
        let outbox = OutboxSettings { retention_hours: hours, ..OutboxSettings::default() };
        Box::new(PostgresSchema::new(&self.settings, outbox, pipeline).unwrap())
    }

    fn history(&self, pipeline: &str) -> Box<dyn RowHistory> {
        Box::new(PostgresHistory::new(&self.settings, pipeline).unwrap())
    }
}

impl RollUpsBench for Server {
    fn tables(&self) -> Box<dyn RollUpTables> {
        Box::new(PostgresRollUps::new(&self.settings).unwrap())
    }

    fn insert(&self, table: &str, device: &str, metric: &str, start_ms: i64) {
        self.run(format!("INSERT INTO {table} VALUES ('{device}', '{metric}', {start_ms}, 1, '\\x07')"));
    }
}
