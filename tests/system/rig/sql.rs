//! SQL from a test.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// Runs SQL on a new connection.
pub fn try_sql(url: &str, text: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(text.to_owned())).fetch_all(&mut connection).await
    })
}

/// Runs [`try_sql`], which must succeed.
pub fn sql(url: &str, text: &str) -> Vec<PgRow> {
    try_sql(url, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// One number; NULL is -1.
pub fn number(url: &str, text: &str) -> i64 {
    sql(url, text)[0].try_get_unchecked::<Option<i64>, _>(0).unwrap().unwrap_or(-1)
}

/// A session of another program with a transaction open, until it is dropped.
pub struct Session {
    connection: PgConnection,
    runtime: tokio::runtime::Runtime,
}

impl Session {
    /// Begins with the statement `text`.
    pub fn begin(url: &str, text: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let text = AssertSqlSafe(format!("BEGIN; {text}"));
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            connection
        });
        Self { connection, runtime }
    }

    /// Nothing of it was meant.
    pub fn rollback(mut self) {
        self.runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut self.connection)).unwrap();
    }
}
