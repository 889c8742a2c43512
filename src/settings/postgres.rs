//! How `PostgreSQL` is reached, and how long it may take.

use crate::settings::certificates;
use crate::settings::database_url;
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::rule::{Allowed, Rule};
use crate::settings::secret::Secret;
use serde::{Deserialize, Serialize};

/// The database that holds the rows. A time limit of 0 is refused: it would mean "for ever".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`. Secret; `TIDEGATE_DATABASE__URL_FILE` may name a
    /// file that holds it. No default: only you know it.
    #[serde(rename = "database.url")]
    pub url: Secret,
    /// The schema of Tidegate's own tables. Default: `tidegate`, apart from yours, so that a DBA sees whose they are.
    #[serde(rename = "database.schema")]
    pub schema: String,
    /// A statement is ended after this long, in milliseconds. Default: 30 s, since `PostgreSQL`'s own is never; a batch takes
    /// some 40 ms, so whatever takes this long is stuck.
    #[serde(rename = "database.statement_timeout_ms")]
    pub statement_timeout_ms: u32,
    /// Waiting for a row lock is ended after this long, in milliseconds, and the batch offered again. Default: 5 s, above what
    /// a healthy transaction of somebody else takes, below the time after which a frozen holder is ended.
    #[serde(rename = "database.lock_timeout_ms")]
    pub lock_timeout_ms: u32,
    /// An instance that hangs inside a transaction loses it, and its locks, after this long, in milliseconds. Default: 10 s,
    /// like the session timeout, so that its successor need not wait for row locks.
    #[serde(rename = "database.idle_in_transaction_timeout_ms")]
    pub idle_in_transaction_timeout_ms: u32,
    /// Not for users. Prepared statements kept for each connection. 100, more than there are; 0 in a test.
    #[serde(skip)]
    pub statement_cache: usize,
    /// Not for users. Longest wait for a new connection, in milliseconds. 5 s: a host that drops packets must not hold a
    /// worker for minutes.
    #[serde(skip)]
    pub connect_timeout_ms: u32,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: Secret::default(),
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
        Self { url: Secret::from(url.to_owned()), ..Self::default() }
    }

    /// The URL for the driver, without the parameters that the driver would log because it does not know them.
    ///
    /// # Errors
    /// Why it is no URL of a database; no part of the URL is in the sentence.
    #[cfg(feature = "postgres")]
    pub(crate) fn driver_url(&self) -> Result<String, String> {
        database_url::mistake(self.url.expose()).map_or_else(|| Ok(database_url::for_driver(self.url.expose())), Err)
    }

    /// What has no effect, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let names = database_url::without_effect(self.url.expose()).into_iter();
        let notes = names.map(|name| format!("{name} has no effect: the driver does not have it"));
        let unchecked = database_url::unchecked(self.url.expose());
        notes.chain(unchecked).map(|note| format!("database.url: {note}")).collect()
    }

    /// Looks for what a connection needs: the files that the URL names.
    pub(super) fn check_needs(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        for sentence in certificates::mistakes(self.url.expose()) {
            problems.add("database.url", None, sentence, origin("database.url"));
        }
    }

    pub(super) const RULES: &'static [Rule] = &[
        Rule::secret(
            "database",
            "url",
            Allowed::Told { what: "postgres://user:password@host:port/database", mistake: database_url::mistake },
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
        let (lock, statement) = (self.lock_timeout_ms, self.statement_timeout_ms);
        if lock > statement {
            let path = "database.lock_timeout_ms";
            problems.add(
                path,
                Some(lock.to_string()),
                format!("is above database.statement_timeout_ms ({statement}), which would end the statement first"),
                origin(path),
            );
        }
    }
}

fn is_identifier(text: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&text.len()) && text.chars().all(is_legal) && !text.starts_with(|c: char| c.is_ascii_digit())
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
}
