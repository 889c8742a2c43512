//! The rights of our role on Tidegate's own tables, asked for at the start: what is missing would show hours later, when the
//! next partition of the outbox is due.

use super::connection::Server;
use crate::ports::fault::Fault;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// The tables with the rights that `run` makes use of, and whether it has to own the table: only an owner makes and drops
/// partitions.
const WANTED: &str = "('migration', false, '{SELECT}'), ('position', false, '{SELECT,INSERT,UPDATE}'), \
     ('outbox', true, '{SELECT,INSERT,UPDATE,DELETE}'), ('verdict', true, '{SELECT,INSERT,DELETE}'), \
     ('baseline', false, '{SELECT,INSERT}'), ('slot', false, '{SELECT,INSERT,UPDATE,DELETE}')";

/// The right to act as a role: PostgreSQL 16 grants membership without it (`WITH SET FALSE`), and knows it by a name of its own.
pub(super) const ACT_AS: &str =
    "CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END";

/// What our role lacks of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lack {
    table: String,
    owner: String,
    /// It would have to own it, and does not.
    is_to_be_owned: bool,
    rights: Vec<String>,
}

/// Refuses a role that could not do all that `run` does.
pub(super) fn check(server: &mut Server) -> Result<(), Fault> {
    let schema = server.schema.to_string();
    let ask = server.statement(&format!(
        "SELECT c.relname::text, pg_get_userbyid(c.relowner)::text, w.is_to_be_owned AND NOT \
         (pg_has_role(c.relowner, 'USAGE') AND pg_has_role(c.relowner, {ACT_AS})), \
         ARRAY(SELECT r FROM unnest(w.rights) AS r WHERE NOT has_table_privilege(c.oid, r)) \
         FROM (VALUES {WANTED}) AS v(name, is_to_be_owned, listed) \
         CROSS JOIN LATERAL (SELECT v.name, v.is_to_be_owned, v.listed::text[] AS rights) AS w \
         JOIN pg_class AS c ON c.relname = w.name AND c.relnamespace = to_regnamespace($1) ORDER BY 1"
    ));
    let (role, may_create, lacks) = server.transaction("look at the rights", async |c| {
        let of_schema = sqlx::query("SELECT current_user::text, has_schema_privilege(to_regnamespace($1), 'CREATE')");
        let row = of_schema.bind(&schema).persistent(false).fetch_one(&mut *c).await?;
        let rows = sqlx::query(ask.sql()).bind(&schema).persistent(false).fetch_all(c).await?;
        let lacks = rows.iter().map(lack_of).collect::<Result<Vec<_>, sqlx::Error>>()?;
        Ok((row.try_get::<String, _>(0)?, row.try_get::<bool, _>(1)?, lacks))
    })?;
    sentence(&role, &schema, may_create, &lacks).map_or(Ok(()), |told| Err(Fault::fatal(told)))
}

fn lack_of(row: &PgRow) -> Result<Lack, sqlx::Error> {
    Ok(Lack {
        table: row.try_get(0)?,
        owner: row.try_get(1)?,
        is_to_be_owned: row.try_get(2)?,
        rights: row.try_get(3)?,
    })
}

/// What is missing, and the statements that grant it; nothing where nothing is.
fn sentence(role: &str, schema: &str, may_create: bool, lacks: &[Lack]) -> Option<String> {
    let owned: Vec<&Lack> = lacks.iter().filter(|lack| lack.is_to_be_owned).collect();
    let mut told = Vec::new();
    if let Some(lack) = owned.first() {
        let names: Vec<&str> = owned.iter().map(|lack| lack.table.as_str()).collect();
        told.push(format!(
            "it does not own {}, of which `run` makes and drops partitions: GRANT \"{owner}\" TO \"{role}\", so that it \
             inherits ownership and every other right (where it is a member already: ALTER ROLE \"{role}\" INHERIT, and from \
             PostgreSQL 16 on GRANT \"{owner}\" TO \"{role}\" WITH INHERIT TRUE, SET TRUE), or connect as {owner}",
            names.join(" and "),
            owner = lack.owner
        ));
    } else {
        for lack in lacks.iter().filter(|lack| !lack.rights.is_empty()) {
            let (rights, table) = (lack.rights.join(", "), &lack.table);
            told.push(format!("GRANT {rights} ON {schema}.{table} TO \"{role}\""));
        }
        if !may_create {
            told.push(format!(
                "GRANT USAGE, CREATE ON SCHEMA {schema} TO \"{role}\", since `run` makes partitions there"
            ));
        }
    }
    (!told.is_empty()).then(|| {
        format!(
            "role {role} lacks rights on schema {schema} (docs/operations.md, Database roles):\n  {}",
            told.join("\n  ")
        )
    })
}

/// The same fault; where it is about missing rights to read our schema, with the statements that grant them.
pub(super) fn explain(fault: Fault, schema: &str) -> Fault {
    if !fault.to_string().contains("SQLSTATE 42501") {
        return fault;
    }
    Fault::fatal(format!(
        "the role of database.url may not read schema {schema}: grant it the role that ran `tidegate migrate`; for `audit` and \
         `halted`, USAGE on the schema and SELECT on its tables do (docs/operations.md, Database roles)"
    ))
    .because(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(table: &str, is_to_be_owned: bool, rights: &[&str]) -> Lack {
        let rights = rights.iter().map(ToString::to_string).collect();
        Lack { table: table.into(), owner: "tg_owner".into(), is_to_be_owned, rights }
    }

    #[test]
    fn the_statement_that_grants_what_is_missing_is_told_and_nothing_where_nothing_is() {
        let told = |may_create, lacks: &[Lack]| sentence("tg_app", "\"tidegate\"", may_create, lacks);
        assert_eq!(told(true, &[lack("slot", false, &[])]), None);
        let owned = told(
            false,
            &[lack("outbox", true, &["DELETE"]), lack("slot", false, &["DELETE"]), lack("verdict", true, &[])],
        );
        let owned = owned.unwrap();
        assert!(
            owned.contains("does not own outbox and verdict") && owned.contains("GRANT \"tg_owner\" TO \"tg_app\"")
        );
        assert_eq!(owned.lines().count(), 2, "all else comes with it: {owned}");
        let some =
            told(false, &[lack("position", false, &["UPDATE"]), lack("slot", false, &["INSERT", "DELETE"])]).unwrap();
        for part in [
            "role tg_app lacks rights on schema \"tidegate\"",
            "GRANT UPDATE ON \"tidegate\".position TO \"tg_app\"",
            "GRANT INSERT, DELETE ON \"tidegate\".slot TO \"tg_app\"",
            "GRANT USAGE, CREATE ON SCHEMA \"tidegate\" TO \"tg_app\"",
        ] {
            assert!(some.contains(part), "no {part:?} in {some}");
        }
    }
}
