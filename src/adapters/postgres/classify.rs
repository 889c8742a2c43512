//! SQLSTATE → what the caller does next. Total: every class of the Postgres appendix "Error Codes" has a row, and an
//! unknown one has a documented default.

use Consequence::{Corrupt, Reconnect, Reject, Retry};

/// The consequence of a server's error for the batch that met it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Consequence {
    /// The rows are to blame: a dead letter with this code. Only writes can answer so; elsewhere it is `Corrupt`.
    Reject(&'static str),
    /// It passes: roll back, wait, offer the same batch again.
    Retry,
    /// The same as `Retry`, on a new connection: this one is dead, or leads to the wrong server.
    Reconnect,
    /// Statement and schema do not fit each other: halt the partition and report it to a person, instead of dead-lettering
    /// every record (docs/traps.md#a-table-that-changes).
    Corrupt,
}

/// The default for a code that is not in the tables: a trigger's own SQLSTATE. An error of a class newer than this release
/// is distinguished by a write of no row, which would meet it too.
const UNKNOWN: Consequence = Reject("trigger");

/// The places in the server that raise the errors of a schema owner's rules, with any SQLSTATE: RAISE in PL/pgSQL, and a row
/// that a policy does not let pass.
const RULES: &[&str] = &["exec_stmt_raise", "ExecWithCheckOptions"];

/// The code of an index row that is too wide, and of a server that has no ids left.
const PROGRAM_LIMIT: &str = "54000";

/// By class, the first two characters. Source: Postgres 18, appendix A.
const CLASSES: &[(&str, Consequence)] = &[
    ("00", Corrupt),              // successful completion: cannot be an error
    ("01", Corrupt),              // warning
    ("02", Corrupt),              // no data
    ("03", Corrupt),              // SQL statement not yet complete
    ("08", Reconnect),            // connection exception
    ("09", Reject("trigger")),    // triggered action exception
    ("0A", Corrupt),              // feature not supported; also "cached plan must not change result type": retyped live
    ("0B", Corrupt),              // invalid transaction initiation
    ("0F", Corrupt),              // locator exception
    ("0L", Corrupt),              // invalid grantor
    ("0P", Corrupt),              // invalid role specification
    ("0Z", Corrupt),              // diagnostics exception
    ("10", Reject("bad-value")),  // XQuery error
    ("20", Reject("trigger")),    // case not found, in a trigger
    ("21", Reject("bad-value")),  // cardinality violation
    ("22", Reject("bad-value")),  // data exception: overflow, malformed text, NUL in JSON
    ("23", Reject("constraint")), // integrity constraint violation
    ("24", Corrupt),              // invalid cursor state
    ("25", Corrupt),              // invalid transaction state
    ("26", Reconnect),            // invalid SQL statement name: our prepared statement is not on this backend
    ("27", Reject("trigger")),    // triggered data change violation
    ("28", Reconnect),            // invalid authorization: the password may be rotating
    ("2B", Corrupt),              // dependent privilege descriptors still exist
    ("2D", Corrupt),              // invalid transaction termination
    ("2F", Reject("trigger")),    // SQL routine exception
    ("34", Corrupt),              // invalid cursor name
    ("38", Reject("trigger")),    // external routine exception
    ("39", Reject("trigger")),    // external routine invocation exception
    ("3B", Corrupt),              // savepoint exception
    ("3D", Reconnect),            // invalid catalog name: the database is being replaced
    ("3F", Corrupt),              // invalid schema name
    ("40", Retry),                // transaction rollback: serialization, deadlock
    ("42", Corrupt),              // syntax error or access rule violation: schema drift, missing grant
    ("44", Reject("constraint")), // WITH CHECK OPTION violation
    ("53", Retry),                // insufficient resources: disk full, too many connections
    ("54", Reject("too-large")),  // program limit exceeded: an index row too wide
    ("55", Corrupt),              // object not in prerequisite state
    ("57", Reconnect),            // operator intervention: shutdown, starting up
    ("58", Retry),                // system error outside PostgreSQL
    ("72", Retry),                // snapshot too old
    ("F0", Retry),                // configuration file error
    ("HV", Corrupt),              // foreign data wrapper error
    ("P0", Reject("trigger")),    // PL/pgSQL error: RAISE in a trigger
    ("XX", Corrupt),              // internal error: data or index corrupted
];

/// Codes that differ from their class.
const CODES: &[(&str, Consequence)] = &[
    ("25006", Reconnect), // read-only transaction: a standby, or a primary that became one
    ("25P02", Retry),     // in failed transaction: an earlier error was answered already
    ("25P03", Reconnect), // idle in transaction for too long: the server has ended the connection
    ("25P04", Reconnect), // transaction timeout, likewise
    ("54001", Retry),     // statement too complex: stack depth, the server's limit
    ("54011", Corrupt),   // too many columns
    ("54023", Corrupt),   // too many arguments
    ("55006", Retry),     // object in use
    ("55P03", Retry),     // lock not available: lock timeout
    ("57000", Retry),     // operator intervention, unspecified
    ("57014", Retry),     // query cancelled: statement timeout
    ("HV00L", Retry),     // foreign server: unable to create execution
    ("HV00N", Retry),     // foreign server: unable to establish connection
    ("XX000", Retry),     // internal error: mostly a race with DDL ("tuple concurrently updated")
    ("42P05", Reconnect), // duplicate prepared statement: a pooler in between
];

/// The consequence of a SQLSTATE. Total over all texts.
pub(super) fn consequence(sqlstate: &str) -> Consequence {
    let find = |table: &[(&str, Consequence)], key: &str| table.iter().find(|(name, _)| *name == key).map(|(_, c)| *c);
    find(CODES, sqlstate).or_else(|| sqlstate.get(..2).and_then(|class| find(CLASSES, class))).unwrap_or(UNKNOWN)
}

/// The same as [`consequence`], for an error whose place in the server is known. A rule that says what the server says of
/// itself (a lost connection, a dropped column) says it of the row all the same, unless it asks to be repeated. A full disk or a
/// failing one (53, 58) does ask: a rule that passes on what it caught says it too, and then of every row.
pub(super) fn consequence_at(sqlstate: &str, routine: Option<&str>) -> Consequence {
    if is_servers_limit(sqlstate, routine) {
        return Retry;
    }
    let asks_again = ["40", "53", "58"].iter().any(|class| sqlstate.starts_with(class)) || sqlstate == "55P03";
    match consequence(sqlstate) {
        Reject(code) => Reject(code),
        _ if !asks_again && routine.is_some_and(|routine| RULES.contains(&routine)) => UNKNOWN,
        found => found,
    }
}

/// Whether a limit of the whole server was met: its ids of transactions or of shared row locks are used up, until VACUUM has
/// frozen old rows. Whatever the row, and a write of no row needs none of these ids.
fn is_servers_limit(sqlstate: &str, routine: Option<&str>) -> bool {
    sqlstate == PROGRAM_LIMIT && routine.is_some_and(|routine| routine.starts_with("GetNew"))
}

/// Whether a program limit was met and nothing tells if the row is to blame: no table or index is named, and no rule of the
/// schema's owner speaks. At a write of one row the row is, if a write of no row passes; elsewhere it passes with time.
pub(super) fn is_limit_of_nobody(sqlstate: &str, routine: Option<&str>, names_table: bool) -> bool {
    sqlstate == PROGRAM_LIMIT && !names_table && !routine.is_some_and(|routine| RULES.contains(&routine))
}

/// Whether a lock of others was waited for in vain: a lock timeout, or a statement timeout that came before it, where
/// holders of a lock are known.
pub(super) fn is_lock_wait(sqlstate: &str, has_holders: bool) -> bool {
    sqlstate == "55P03" || (sqlstate == "57014" && has_holders)
}

/// Whether a COMMIT that was answered with this SQLSTATE may have been carried out all the same: the connection or the
/// server broke off, which can happen after the commit record was written (a wait for a synchronous standby). A rule that says
/// so speaks before the commit, on a connection that stands: nothing was carried out.
pub(super) fn leaves_commit_open(sqlstate: &str, routine: Option<&str>) -> bool {
    let is_of_a_rule = routine.is_some_and(|routine| RULES.contains(&routine));
    !is_of_a_rule && (sqlstate.starts_with("08") || sqlstate.starts_with("57P") || sqlstate == "40003")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::documented;
    use proptest::prelude::*;

    /// Every class of appendix A, in its order.
    const APPENDIX: &str = "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 \
                            42 44 53 54 55 57 58 72 F0 HV P0 XX";

    #[test]
    fn every_class_of_the_appendix_has_exactly_one_row() {
        let rows: Vec<_> = CLASSES.iter().map(|(class, _)| *class).collect();
        assert_eq!(rows, APPENDIX.split_whitespace().collect::<Vec<_>>());
        assert!(CODES.iter().all(|(code, _)| code.len() == 5 && rows.contains(&&code[..2])));
    }

    #[test]
    fn a_code_of_its_own_differs_from_its_class() {
        for (code, own) in CODES {
            let class = CLASSES.iter().find(|(class, _)| *class == &code[..2]).unwrap().1;
            assert_ne!(*own, class, "{code}: the row is not needed");
        }
    }

    /// The document's entry for a code: the action, and the outcome at COMMIT.
    fn told_of(code: &str) -> [String; 2] {
        let found = consequence(code);
        let action = match found {
            Reject(letter) => format!("dead letter `{letter}`"),
            Retry => "again".into(),
            Reconnect => "again, connected anew".into(),
            Corrupt => "halt".into(),
        };
        let is_open = found == Reconnect || leaves_commit_open(code, None);
        [action, if is_open { "unknown" } else { "not done" }.into()]
    }

    #[test]
    fn every_class_and_every_code_that_differs_stands_once_in_the_document_with_its_action() {
        let mut rows = documented::rows("SQLSTATE");
        let mut take = |cell: &str| rows.remove(cell).map(|row| [row[1].clone(), row[2].clone()]);
        assert_eq!(take("any other"), Some(told_of("ZZZZZ")));
        for class in APPENDIX.split_whitespace() {
            // No code of the server ends so: the class alone decides.
            assert_eq!(take(&format!("`{class}`")), Some(told_of(&format!("{class}ZZZ"))), "class {class}");
        }
        // One differs from its class at COMMIT alone.
        for code in CODES.iter().map(|(code, _)| *code).chain(["40003"]) {
            assert_eq!(take(&format!("`{code}`")), Some(told_of(code)), "code {code}");
        }
        assert!(rows.is_empty(), "rows that are not needed: {rows:?}");
    }

    #[test]
    fn the_codes_that_decide_a_batch() {
        for (code, expected) in [
            ("23505", Reject("constraint")),
            ("23514", Reject("constraint")),
            ("22003", Reject("bad-value")),
            ("22P02", Reject("bad-value")),
            ("22P05", Reject("bad-value")),
            ("P0001", Reject("trigger")),
            ("40001", Retry),
            ("40P01", Retry),
            ("55P03", Retry),
            ("57014", Retry),
            ("53100", Retry),
            ("53300", Retry),
            ("58030", Retry),
            ("57P01", Reconnect),
            ("57P02", Reconnect),
            ("57P03", Reconnect),
            ("25006", Reconnect),
            ("25P03", Reconnect),
            ("08006", Reconnect),
            ("42703", Corrupt),
            ("42P01", Corrupt),
            ("42501", Corrupt),
            ("0A000", Corrupt),
            ("XX001", Corrupt),
            ("ABC01", UNKNOWN),
            ("", UNKNOWN),
            ("é", UNKNOWN),
        ] {
            assert_eq!(consequence(code), expected, "{code}");
        }
    }

    #[test]
    fn a_limit_of_the_server_passes_and_one_of_a_row_blames_it() {
        for routine in ["GetNewTransactionId", "GetNewMultiXactId"] {
            assert_eq!(consequence_at("54000", Some(routine)), Retry, "{routine}");
        }
        for routine in [None, Some("index_form_tuple"), Some("_bt_check_third_page"), Some("exec_stmt_raise")] {
            assert_eq!(consequence_at("54000", routine), Reject("too-large"), "{routine:?}: of a write");
        }
        assert!(
            is_limit_of_nobody("54000", None, false) && is_limit_of_nobody("54000", Some("index_form_tuple"), false)
        );
        assert!(!is_limit_of_nobody("54000", Some("_bt_check_third_page"), true), "an index is named");
        assert!(!is_limit_of_nobody("54000", Some("exec_stmt_raise"), false), "a trigger says it");
        assert!(!is_limit_of_nobody("22003", None, false) && !is_limit_of_nobody("54011", None, false));
    }

    #[test]
    fn what_a_trigger_raises_or_a_policy_refuses_blames_the_row_whatever_its_code() {
        for code in ["42501", "55000", "XX001", "02000", "45010", "08006", "57P01", "XX000", "57014", "25006", "28000"]
        {
            assert_eq!(consequence_at(code, Some("exec_stmt_raise")), Reject("trigger"), "{code}");
        }
        assert_eq!(consequence_at("42501", Some("ExecWithCheckOptions")), Reject("trigger"));
        assert_eq!(consequence_at("42501", Some("aclcheck_error")), Corrupt, "a grant is missing");
        assert_eq!(consequence_at("55000", Some("CheckCmdReplicaIdentity")), Corrupt);
        for code in ["40001", "40P01", "55P03", "53100", "53200", "58030"] {
            assert_eq!(consequence_at(code, Some("exec_stmt_raise")), Retry, "{code} asks to be repeated");
        }
        assert_eq!(consequence_at("23514", Some("exec_stmt_raise")), Reject("constraint"));
        assert_eq!(consequence_at("57P01", Some("ProcessInterrupts")), Reconnect, "the server's own word");
        for code in ["08006", "57P01", "40003"] {
            assert!(leaves_commit_open(code, None) && leaves_commit_open(code, Some("ProcessInterrupts")), "{code}");
            assert!(!leaves_commit_open(code, Some("exec_stmt_raise")), "{code}: the connection stands");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_consequence_and_its_class_decides(code in "[0-9A-Z]{5}", noise in ".{0,8}") {
            let found = consequence(&code);
            if CODES.iter().all(|(own, _)| *own != code) {
                let class = CLASSES.iter().find(|(class, _)| *class == &code[..2]);
                prop_assert_eq!(found, class.map_or(UNKNOWN, |(_, c)| *c));
            }
            let _ = consequence(&noise);
        }
    }
}
