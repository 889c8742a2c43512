//! How `PostgreSQL` is reached.

use crate::settings::millis;
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::rule::{Allowed, Rule};
use crate::settings::secret::Secret;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseSettings {
    /// `postgres://user:password@host:port/database`. Secret; `TIDEGATE_DATABASE__URL_FILE` may name a file that holds it.
    /// No default: only you know it.
    #[serde(rename = "database.url")]
    pub url: Secret,
    /// The schema of Tidegate's own tables. Default: `tidegate`, apart from yours.
    #[serde(rename = "database.schema")]
    pub schema: String,
    /// A statement is ended after this long. Default: 30 s, since `PostgreSQL`'s own is never.
    #[serde(rename = "database.statement_timeout_ms", with = "millis")]
    pub statement_timeout: Duration,
    /// Waiting for a row lock is ended after this long, and the batch offered again. Default: 5 s, above what a healthy
    /// transaction of somebody else takes.
    #[serde(rename = "database.lock_timeout_ms", with = "millis")]
    pub lock_timeout: Duration,
    /// An instance that hangs inside a transaction loses it after this long. Default: 10 s, like the session timeout, so
    /// that its successor need not wait for row locks.
    #[serde(rename = "database.idle_in_transaction_timeout_ms", with = "millis")]
    pub idle_in_transaction_timeout: Duration,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            schema: "tidegate".into(),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(10),
        }
    }
}

impl DatabaseSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::secret(
            "database",
            "url",
            Allowed::Text { what: "postgres://user:password@host:port/database", fits: is_url },
        ),
        Rule::new(
            "database",
            "schema",
            // PostgreSQL folds and quotes other names; 63 bytes is its limit.
            Allowed::Text { what: "1 to 63 characters of a-z, 0-9 and '_', no digit first", fits: is_identifier },
        ),
        Rule::new("database", "statement_timeout_ms", Allowed::Whole { min: 100, max: 3_600_000 }),
        Rule::new("database", "lock_timeout_ms", Allowed::Whole { min: 10, max: 3_600_000 }),
        Rule::new("database", "idle_in_transaction_timeout_ms", Allowed::Whole { min: 1_000, max: 3_600_000 }),
    ];

    pub(super) fn cross_check(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        if self.lock_timeout > self.statement_timeout {
            let path = "database.lock_timeout_ms";
            let statement = self.statement_timeout.as_millis();
            problems.add(
                path,
                Some(self.lock_timeout.as_millis().to_string()),
                format!("is above database.statement_timeout_ms ({statement}), which would end the statement first"),
                origin(path),
            );
        }
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    text.is_empty() || rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

fn is_identifier(text: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&text.len()) && text.chars().all(is_legal) && !text.starts_with(|c: char| c.is_ascii_digit())
}
