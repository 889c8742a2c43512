//! A pooler that lends a server connection to one client after the other. Statements are prepared, and a COMMIT is settled,
//! by session: such a pooler would let them meet another session than ours.

use crate::ports::fault::Fault;
use std::collections::BTreeSet;

/// What to do about it.
const WAY_OUT: &str =
    "set pool_mode = session for this database in its ini, or let database.url lead to PostgreSQL itself";

/// Refuses connections that are open at the same time and have the same process of the server, as `backends` names it.
pub(in crate::adapters::postgres) fn refuse_lent(backends: &[&str]) -> Result<(), Fault> {
    let all: BTreeSet<&str> = backends.iter().copied().collect();
    if all.len() == backends.len() { Ok(()) } else { Err(lent()) }
}

/// The fault of a connection whose transaction began in another process of the server than the one that it was made to.
pub(super) fn lent() -> Fault {
    Fault::fatal(format!(
        "a pooler lends the server's connections to one client after the other (PgBouncer: pool_mode = transaction or \
         statement), and sessions would be mixed up: {WAY_OUT}"
    ))
}

/// The cause of a SQLSTATE that only such a pooler brings about: a prepared statement is there already, or is not there.
pub(super) fn hint(sqlstate: &str) -> Option<String> {
    let is_its = sqlstate == "42P05" || sqlstate.starts_with("26");
    is_its.then(|| format!("a pooler has swapped the session (PgBouncer in transaction mode): {WAY_OUT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_open_at_once_have_processes_of_their_own() {
        assert!(refuse_lent(&[]).is_ok() && refuse_lent(&["a"]).is_ok() && refuse_lent(&["a", "b"]).is_ok());
        let told = refuse_lent(&["a", "b", "a"]).unwrap_err().to_string();
        assert!(told.contains("PgBouncer") && told.contains("pool_mode = session"), "{told}");
    }

    #[test]
    fn a_statement_that_is_missing_or_there_twice_is_told_as_the_poolers() {
        assert!(hint("42P05").is_some() && hint("26000").is_some_and(|told| told.contains("pool_mode = session")));
        assert_eq!(hint("42P01"), None);
    }
}
