//! The pipeline that these tests run: `scoring` of the README, with a few words that provoke trouble.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::engine::protocol::order::Step;
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::testing::{Random, TestDriver};

#[derive(Deserialize)]
pub struct Reading {
    pub value: f64,
    #[serde(default)]
    pub word: String,
}

#[derive(Serialize, Deserialize, Clone)]
pub struct Account {
    pub score: f64,
}

#[derive(Serialize)]
pub struct Change {
    pub magnitude: f64,
    pub score: f64,
}

pub struct Smooth {
    pub calls: Arc<AtomicUsize>,
}

impl Algorithm for Smooth {
    type Event = Reading;
    type Row = Account;
    type Notices = Vec<Change>;

    fn apply(&self, reading: Reading, account: &mut Account, context: &mut Context<'_>) -> Result<Vec<Change>, Reject> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match reading.word.as_str() {
            "panic" => panic!("as the record asked"),
            "nan" => account.score = f64::NAN,
            "skip" => return Err(Reject::skip("asked-to-skip")),
            "retry" => return Err(Reject::retry("not-yet", "try later")),
            "reject" => return Err(Reject::new("asked to reject")),
            "nothing" => return Ok(vec![]),
            _ => {}
        }
        let before = account.score;
        if context.topic() == "corrections" {
            account.score = reading.value;
        } else if reading.word != "nan" {
            account.score += 0.2 * (reading.value - before);
        }
        let change = || Change { magnitude: (account.score - before).abs(), score: account.score };
        let twice = if reading.word == "twice" { 2 } else { 1 };
        Ok((0..twice).map(|_| change()).collect())
    }
}

pub fn topology() -> Topology {
    counted(&Arc::default())
}

pub fn counted(calls: &Arc<AtomicUsize>) -> Topology {
    let mut topology = Topology::new("scoring");
    topology
        .source("readings")
        .with("corrections")
        .update("accounts", Smooth { calls: Arc::clone(calls) })
        .at_least("large-change", 0.5, |change| change.magnitude)
        .to("large-changes");
    topology
}

/// Accounts 0 to `accounts`, all at 0.
pub fn driver(accounts: i64) -> TestDriver {
    fill(TestDriver::new(topology()).partitions(4), accounts)
}

pub fn fill(mut driver: TestDriver, accounts: i64) -> TestDriver {
    for id in 0..accounts {
        driver.row("accounts", id, Account { score: 0.0 });
    }
    driver
}

/// Stops the first of two instances with a batch in hand, lets the other go on to the end, then the first one's workers
/// before its polling thread has heard of anything, and at last all of it.
pub fn make_a_zombie(driver: &mut TestDriver) {
    driver.step(); // both instances have fetched, batches wait for their age
    driver.freeze(0);
    driver.run();
    for _ in 0..10 {
        assert!(driver.step_workers(0).is_none(), "a zombie drops its task, it does not die");
        driver.pass(Duration::from_millis(50));
    }
    driver.thaw(0);
    driver.run();
}

/// One of two instances, drawn at random, is killed, loses its disk or dies at one of these steps; or a session passes.
pub fn strike(driver: &mut TestDriver, random: &mut Random, steps: &[Step]) {
    let instance = usize::try_from(random.below(2)).unwrap();
    match random.below(4) {
        0 => {
            driver.kill(instance);
            driver.start(instance);
        }
        1 => {
            driver.stop(instance);
            driver.disk(instance).lose();
            driver.start(instance);
        }
        2 => {
            let step = usize::try_from(random.below(steps.len() as u64)).unwrap();
            driver.crash_at(steps[step], 1);
        }
        _ => driver.advance(Duration::from_secs(6)),
    }
}

/// The ids of everything published: unique, whatever happened.
pub fn announced_ids(driver: &mut TestDriver) -> Vec<String> {
    let found = driver.read_raw("large-changes");
    assert!(found.iter().all(|found| found.header("ce_id") == found.header("tg_id")), "CloudEvents' id is the same");
    let mut ids: Vec<String> = found.iter().map(|found| found.header("tg_id").expect("an id").to_owned()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id stands twice in the topic");
    ids
}
