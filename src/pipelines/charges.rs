//! Charges payments to accounts, by what two tables say of the customer: enrichment in front of a row update.
//!
//! Topics `payments`, `customers` and `credit-limits` (compacted topics that other systems write, keyed by account like the
//! payments), the changelogs of the two tables and `exceeded-limits`, described in the folder `topics/charges`. What is known of
//! customers and limits lies in stores beside the partition, and changes in the transaction that commits the rows: each payment
//! changes its row once, by the customer and the limit of its time. A payment of a customer who is not known is skipped and
//! counted; one without a limit is charged all the same. The table, whose rows whoever opens an account makes:
//!
//! ```sql
//! create table accounts (
//!     id bigint primary key,
//!     spent_cents bigint not null,
//!     bonus_cents bigint not null,
//!     version bigint not null
//! );
//! ```

use crate::flow::{Algorithm, Context, Reject, Topology};
use serde::{Deserialize, Serialize};

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("charges");
    topology
        .source("payments")
        .join("customers")
        .left_join("credit-limits")
        .update("accounts", Charge)
        .to("exceeded-limits");
    topology
}

/// The event. Further fields are ignored, so that producers can add some first; so are those of the tables.
#[derive(Deserialize)]
struct Payment {
    cents: i64,
}

/// What the one table has for each account.
#[derive(Serialize, Deserialize)]
struct Customer {
    bonus_percent: i64,
}

/// What the other table has for some.
#[derive(Serialize, Deserialize)]
struct CreditLimit {
    limit_cents: i64,
}

/// The columns read and written back.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Account {
    spent_cents: i64,
    bonus_cents: i64,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct Exceeded {
    spent_cents: i64,
    limit_cents: i64,
}

/// Adds a payment and its bonus up, and tells of the payment that goes beyond the limit.
struct Charge;

impl Algorithm for Charge {
    type Event = ((Payment, Customer), Option<CreditLimit>);
    type Row = Account;
    type Notices = Option<Exceeded>;

    fn apply(
        &self,
        ((payment, customer), limit): Self::Event,
        account: &mut Account,
        _: &mut Context<'_>,
    ) -> Result<Option<Exceeded>, Reject> {
        let before_cents = account.spent_cents;
        account.spent_cents += payment.cents;
        account.bonus_cents += payment.cents * customer.bonus_percent / 100;
        let spent_cents = account.spent_cents;
        let exceeded = limit.filter(|limit| before_cents <= limit.limit_cents && spent_cents > limit.limit_cents);
        Ok(exceeded.map(|CreditLimit { limit_cents }| Exceeded { spent_cents, limit_cents }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    fn applied(account: &mut Account, cents: i64, limit: Option<i64>) -> Option<Exceeded> {
        let (topic, key) = (TopicName::parse("payments").unwrap(), Key::from(7));
        let limit = limit.map(|limit_cents| CreditLimit { limit_cents });
        let event = ((Payment { cents }, Customer { bonus_percent: 5 }), limit);
        Charge.apply(event, account, &mut Context::example(&topic, &key)).unwrap()
    }

    #[test]
    fn the_payment_that_goes_beyond_the_limit_is_told_once() {
        let mut account = Account { spent_cents: 0, bonus_cents: 0 };
        assert_eq!(applied(&mut account, 600, Some(1_000)), None);
        assert_eq!(applied(&mut account, 600, None), None, "no limit is known");
        assert_eq!(applied(&mut account, 0, Some(1_500)), None);
        let told = applied(&mut account, 400, Some(1_500)).unwrap();
        assert_eq!(told, Exceeded { spent_cents: 1_600, limit_cents: 1_500 });
        assert_eq!(applied(&mut account, 1, Some(1_500)), None);
        assert_eq!(account, Account { spent_cents: 1_601, bonus_cents: 80 });
    }

    #[test]
    fn the_topology_is_sound_and_nothing_is_shuffled() {
        let topology = topology();
        assert_eq!(topology.validate(), Ok(()));
        assert_eq!(topology.internal_topics().len(), 0);
    }
}
