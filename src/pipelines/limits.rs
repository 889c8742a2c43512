//! Lets the limits of accounts follow a table of another database: change data capture from Debezium's JSON into rows.
//!
//! Topics `risk.public.limits`, which Debezium's connector for `PostgreSQL` writes, and `lowered-limits`, described in the folder
//! `topics/limits`. The keys are JSON, `{"account_id":1042}`, with a schema beside them or without; so are the values, envelopes
//! with the row before and after. A snapshot's rows are handled like changes. A deleted limit closes its account, and the tombstone
//! that Debezium writes behind it is skipped. The table, whose rows whoever opens an account makes:
//!
//! ```sql
//! create table accounts (
//!     id bigint primary key,
//!     limit_cents bigint not null,
//!     is_open boolean not null,
//!     version bigint not null
//! );
//! ```

use crate::flow::{Algorithm, Change, Context, KeyType, Operation, Reject, Table, Tombstones, Topology};
use serde::{Deserialize, Serialize};

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("limits");
    let accounts = Table::new("accounts").key("id", KeyType::Field("account_id"));
    topology.source("risk.public.limits").tombstones(Tombstones::Skip).update(accounts, Follow).to("lowered-limits");
    topology
}

/// A row of the other database. Further columns are ignored, so that some can be added there first.
#[derive(Deserialize)]
struct Limit {
    limit_cents: i64,
}

/// The columns read and written back.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Account {
    limit_cents: i64,
    is_open: bool,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct Lowered {
    from_cents: i64,
    to_cents: i64,
    /// When the other database lowered it, in milliseconds since 1970.
    at_ms: Option<i64>,
}

/// Takes the limit over, and tells of one that is lower than before.
struct Follow;

impl Algorithm for Follow {
    type Event = Change<Limit>;
    type Row = Account;
    type Notices = Option<Lowered>;

    fn apply(
        &self,
        change: Change<Limit>,
        account: &mut Account,
        _: &mut Context<'_>,
    ) -> Result<Option<Lowered>, Reject> {
        if change.operation == Operation::Message {
            return Err(Reject::skip("message")); // it is about no row, and no limit is gone
        }
        let from_cents = account.limit_cents;
        account.limit_cents = change.after.as_ref().map_or(0, |limit| limit.limit_cents);
        account.is_open = change.after.is_some();
        let (to_cents, at_ms) = (account.limit_cents, change.source_ms);
        Ok((to_cents < from_cents).then_some(Lowered { from_cents, to_cents, at_ms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    /// A change between two limits, as Debezium writes it.
    fn change(op: &str, before: Option<i64>, after: Option<i64>) -> Change<Limit> {
        let row = |limit: Option<i64>| limit.map(|limit| serde_json::json!({"account_id": 7, "limit_cents": limit}));
        let envelope = serde_json::json!({
            "before": row(before), "after": row(after), "source": {"ts_ms": 1_767_225_600_000_i64}, "op": op,
        });
        serde_json::from_str(&envelope.to_string()).unwrap()
    }

    fn applied(account: &mut Account, change: Change<Limit>) -> Option<Lowered> {
        let (topic, key) = (TopicName::parse("risk.public.limits").unwrap(), Key::from(7));
        Follow.apply(change, account, &mut Context::example(&topic, &key)).unwrap()
    }

    #[test]
    fn the_account_follows_and_a_lower_limit_is_told() {
        let mut account = Account { limit_cents: 0, is_open: false };
        assert_eq!(applied(&mut account, change("r", None, Some(500))), None);
        assert_eq!(account, Account { limit_cents: 500, is_open: true });
        let told = applied(&mut account, change("u", Some(500), Some(300))).unwrap();
        assert_eq!(told, Lowered { from_cents: 500, to_cents: 300, at_ms: Some(1_767_225_600_000) });
        assert_eq!(applied(&mut account, change("u", None, Some(300))), None);
        assert_eq!(applied(&mut account, change("d", Some(300), None)).unwrap().to_cents, 0);
        assert_eq!(account, Account { limit_cents: 0, is_open: false });
        assert_eq!(applied(&mut account, change("c", None, Some(1))), None);
        assert_eq!(account, Account { limit_cents: 1, is_open: true });
    }

    #[test]
    fn a_message_of_the_other_databases_log_closes_no_account() {
        let (topic, key) = (TopicName::parse("risk.public.limits").unwrap(), Key::from(7));
        let mut account = Account { limit_cents: 500, is_open: true };
        let said = Follow.apply(change("m", None, None), &mut account, &mut Context::example(&topic, &key));
        assert_eq!((said, account), (Err(Reject::skip("message")), Account { limit_cents: 500, is_open: true }));
    }

    #[test]
    fn the_topology_is_sound() {
        assert_eq!(topology().validate(), Ok(()));
    }
}
