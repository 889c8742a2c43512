//! State in a step with rows: each deposit changes its account's row and the counts in a store beside the partition, and
//! every tenth deposit of an account is published. Rows, store and notices agree whatever dies in between; the system
//! tests kill this one.

use serde::{Deserialize, Serialize};
use tidegate::flow::{Algorithm, Context, Reject, Store, Topology};

#[derive(Deserialize)]
struct Deposit {
    amount: i64,
}

#[derive(Serialize, Deserialize)]
struct Account {
    balance: i64,
}

#[derive(Serialize)]
struct Milestone {
    deposits: i64,
    balance: i64,
}

/// Counts the deposits of each account under its id, and those of each partition under `all`.
struct Tally {
    deposits: Store<i64>,
}

impl Algorithm for Tally {
    type Event = Deposit;
    type Row = Account;
    type Notices = Option<Milestone>;

    fn apply(
        &self,
        deposit: Deposit,
        account: &mut Account,
        context: &mut Context<'_>,
    ) -> Result<Option<Milestone>, Reject> {
        let key = context.key().to_string();
        let mut counts = context.store(&self.deposits)?;
        counts.add("all", 1)?;
        let deposits = counts.add(key, 1)?;
        account.balance += deposit.amount;
        Ok((deposits % 10 == 0).then_some(Milestone { deposits, balance: account.balance }))
    }
}

fn main() -> tidegate::Exit {
    let deposits = Store::new("deposits");
    let mut topology = Topology::new("tally");
    topology
        .source("deposits")
        .update("accounts", Tally { deposits: deposits.clone() })
        .with_store(&deposits)
        .to("milestones");
    tidegate::run(topology)
}
