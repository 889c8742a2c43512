//! Which of Tidegate's statements a text is.

use super::message::{Exchange, Purpose};
use Statement::{
    Advance, AdvanceAgain, Append, Begin, Claim, Commit, CommitClaim, CommitCreate, Connect, Create, Facts, Lock, Read,
    Record, Renew, Rests, Rollback, Savepoint, Settle, Undo, Write,
};
use std::fmt;

/// Declares the statements once, as an enum and as the list of all of them.
macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// The effect of an exchange on the database, named as people would.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Statement {
            $($(#[$meta])* $name,)*
        }

        impl Statement {
            pub const ALL: &[Self] = &[$(Statement::$name,)*];
        }
    };
}

statements! {
    /// A position is inserted at a pipeline's first start.
    Create,
    CommitCreate,
    /// A batch, in its order.
    Begin,
    Advance,
    Read,
    Savepoint,
    Write,
    /// Back to the savepoint, where the database has refused a row.
    Undo,
    Append,
    Record,
    AdvanceAgain,
    Commit,
    Rollback,
    /// A look at the position, where the answer to a COMMIT was lost.
    Settle,
    /// A takeover.
    Lock,
    Claim,
    CommitClaim,
    /// The unpublished outbox rows of an earlier owner are read.
    Rests,
    /// A connection, and the properties of its server.
    Connect,
    Facts,
    /// The lease of an instance's slot.
    Renew,
}

impl Statement {
    /// Parts of their texts. The first that fits counts.
    const TEXTS: [(&'static str, Self); 16] = [
        ("BEGIN ISOLATION LEVEL", Begin),
        ("ROLLBACK TO SAVEPOINT", Undo),
        ("SAVEPOINT", Savepoint),
        ("ROLLBACK", Rollback),
        ("SET next_offset = m.next_offset", Advance),
        ("FOR NO KEY UPDATE", Read),
        (r#"."accounts" AS t SET"#, Write),
        (r#"INSERT INTO "tidegate".outbox"#, Append),
        (r#"INSERT INTO "tidegate".verdict"#, Record),
        (r#"INSERT INTO "tidegate".position"#, Create),
        ("SELECT epoch, next_offset FROM", Settle),
        ("SELECT topic, partition, generation FROM", Lock),
        ("SET epoch = p.epoch + 1", Claim),
        (r#"FROM "tidegate".outbox AS o"#, Rests),
        (r#"UPDATE "tidegate".slot SET expires_at"#, Renew),
        ("current_setting('server_version_num')", Facts),
    ];

    /// Nothing for statements that no test asks about.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let has_run = |statement| exchange.earlier.iter().any(|sql| Self::of_text(sql) == Some(statement));
        match exchange.purpose {
            Purpose::Connect => Some(Connect),
            Purpose::Prepare | Purpose::Other => None,
            Purpose::Run if exchange.sql.ends_with("; COMMIT") => {
                let commits = [(Advance, Commit), (Claim, CommitClaim), (Create, CommitCreate)];
                commits.into_iter().find(|(statement, _)| has_run(*statement)).map(|(_, commit)| commit)
            }
            Purpose::Run => match Self::of_text(&exchange.sql) {
                Some(Advance) if has_run(Advance) => Some(AdvanceAgain),
                found => found,
            },
        }
    }

    fn of_text(sql: &str) -> Option<Self> {
        Self::TEXTS.into_iter().find(|(part, _)| sql.contains(part)).map(|(_, statement)| statement)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Create => "create a position",
            CommitCreate => "COMMIT of a new position",
            Begin => "BEGIN",
            Advance => "move positions",
            Read => "read rows",
            Savepoint => "SAVEPOINT",
            Write => "write rows",
            Undo => "ROLLBACK TO SAVEPOINT",
            Append => "append to the outbox",
            Record => "record verdicts",
            AdvanceAgain => "move positions again",
            Commit => "COMMIT",
            Rollback => "ROLLBACK",
            Settle => "settle a COMMIT",
            Lock => "lock positions",
            Claim => "claim positions",
            CommitClaim => "COMMIT of a claim",
            Rests => "read the outbox",
            Connect => "connect",
            Facts => "ask the server's settings",
            Renew => "renew a slot",
        })
    }
}
