//! Where the database is and how long it may take.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// The database that holds the rows. Each limit is in milliseconds, and 0 is refused: it would mean "for ever".
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`. No default: rows lie where you say.
    pub url: SecretUrl,
    /// The schema of Tidegate's own tables. `tidegate`, so that a DBA sees whose they are.
    pub schema: String,
    /// Longest single statement. 30 s: a batch takes some 40 ms, so a statement that takes this long is stuck.
    pub statement_timeout_ms: u32,
    /// Longest wait for a row lock. 5 s: far above a batch, below the time after which a frozen holder is ended.
    pub lock_timeout_ms: u32,
    /// Time for which the server keeps the locks of a client stopped in mid-transaction. 10 s: within a rebalance.
    pub idle_in_transaction_timeout_ms: u32,
    /// Prepared statements kept for each connection. 100; 0 behind a `PgBouncer` older than 1.21
    /// (docs/traps.md#a-pooler-in-between).
    pub statement_cache: usize,
    /// Longest wait for a new connection. 5 s: a host that drops packets must not hold a worker for minutes.
    pub connect_timeout_ms: u32,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            schema: "tidegate".into(),
            statement_timeout_ms: 30_000,
            lock_timeout_ms: 5_000,
            idle_in_transaction_timeout_ms: 10_000,
            statement_cache: 100,
            connect_timeout_ms: 5_000,
        }
    }
}

impl PostgresSettings {
    /// The defaults, for the database at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: SecretUrl::new(url), ..Self::default() }
    }
}

/// The partitions of the outbox and the time for which they are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxSettings {
    /// Length of one table partition. 60: an hour of a busy pipeline is some 30 million rows, dropped in one stroke.
    pub partition_minutes: u32,
    /// Time for which published rows are kept, for the audit to compare with the topics. 24, a day.
    pub retention_hours: u32,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self { partition_minutes: 60, retention_hours: 24 }
    }
}

/// A connection URL with its password: it prints as `***`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self(url.into())
    }

    /// The URL itself, for connecting and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_never_prints() {
        let settings = PostgresSettings::new("postgres://app:hunter2@db/app");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&settings).unwrap().contains("hunter2"));
        assert_eq!(settings.url.expose(), "postgres://app:hunter2@db/app");
    }

    #[test]
    fn settings_are_read_over_their_defaults_and_unknown_ones_are_refused() {
        let settings: PostgresSettings = serde_json::from_str(r#"{"url":"postgres://db","schema":"tg"}"#).unwrap();
        assert_eq!((settings.schema.as_str(), settings.lock_timeout_ms), ("tg", 5_000));
        assert!(serde_json::from_str::<PostgresSettings>(r#"{"lock_timeout":1}"#).is_err());
        assert_eq!(serde_json::from_str::<OutboxSettings>("{}").unwrap().retention_hours, 24);
    }
}
