//! SQLite through sqlx: rows for the embedded edition, and the journal of the in-process log.
