//! PostgreSQL through sqlx.
