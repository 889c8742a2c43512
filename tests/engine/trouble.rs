//! A task that cannot publish, while the others of its worker can.

use crate::pipeline::{Account, Smooth};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidegate::adapters::memory::{ManualClock, MemoryDatabase, SinkFault};
use tidegate::engine::audit::{AuditReport, audit};
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::order::Step;
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Reject, Table, Topology};
use tidegate::ports::Clock;
use tidegate::testing::TestDriver;

fn name(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap()
}

/// Two steps, each with topics of its own; each worker has tasks of both.
fn topology() -> Topology {
    let mut topology = Topology::new("two");
    for (topic, table, out) in [("readings", "accounts", "changes"), ("clicks", "users", "moves")] {
        topology.source(topic).update(table, Smooth { calls: Default::default() }).to(out);
    }
    topology
}

fn driver() -> TestDriver {
    let mut driver = TestDriver::new(topology()).partitions(2);
    for id in 0..8 {
        driver.row("accounts", id, Account { score: 0.0 });
        driver.row("users", id, Account { score: 0.0 });
    }
    driver.run();
    driver
}

fn send(driver: &mut TestDriver) {
    for id in 0..8 {
        driver.send("readings", id, json!({"value": 10.0}));
        driver.send("clicks", id, json!({"value": 10.0}));
    }
}

/// Lets so much time pass, and everybody work.
fn work(driver: &mut TestDriver, time: Duration) {
    for _ in 0..time.as_millis() / 50 {
        driver.step();
        driver.pass(Duration::from_millis(50));
    }
}

#[test]
fn a_topic_that_is_gone_holds_up_no_other_task_and_halts_those_that_write_it_in_the_end() {
    let mut driver = driver();
    driver.log().delete_topic(&name("changes"));
    for round in 1..=5 {
        send(&mut driver);
        work(&mut driver, Duration::from_secs(10));
        assert_eq!(driver.log().read(&name("moves")).len(), 8 * round, "the others are told");
    }
    let halts = driver.halts();
    let halted: Vec<_> = halts.iter().map(|halt| halt.source.to_string()).collect();
    assert_eq!(halted, ["readings-0", "readings-1"]);
    for halt in halts {
        assert_eq!(halt.reason, HaltReason::Unpublishable);
        assert!(halt.detail.contains("topic changes is gone"), "{}", halt.detail);
    }
    send(&mut driver);
    work(&mut driver, Duration::from_secs(5));
    assert_eq!(driver.log().read(&name("moves")).len(), 8 * 6);
}

#[test]
fn publishing_goes_on_by_itself_where_the_topic_is_made_anew_in_time() {
    let mut driver = driver();
    driver.log().delete_topic(&name("changes"));
    send(&mut driver);
    work(&mut driver, Duration::from_secs(90));
    driver.log().create_topic("changes", 2).unwrap();
    work(&mut driver, Duration::from_secs(30));
    assert_eq!(driver.log().read(&name("changes")).len(), 8);
    assert!(driver.halts().is_empty());
    send(&mut driver);
    assert_eq!(driver.read_raw("changes").len(), 16);
    assert!(report(&mut driver).is_clean());
}

fn report(driver: &mut TestDriver) -> AuditReport {
    let (mut rows, mut log) = (driver.database().history("two"), driver.log().history("two"));
    audit(&topology(), &mut rows, &mut log).unwrap()
}

/// Messages that a topic cannot hold any more are reported as such: not as missing, as if the pipeline had lost them.
#[test]
fn the_audit_tells_what_went_with_a_topic_or_its_beginning_from_what_is_missing() {
    let mut driver = driver();
    send(&mut driver);
    work(&mut driver, Duration::from_secs(5));
    driver.log().delete_topic(&name("changes"));
    driver.log().create_topic("changes", 2).unwrap();
    send(&mut driver);
    work(&mut driver, Duration::from_secs(30));
    let place = |partition| TopicPartition::new(name("moves"), Partition(partition));
    let moved = driver.log().bounds(&place(0)).unwrap().end;
    driver.log().truncate_before(&place(0), NextOffset(2));
    assert!(moved.0 > 4);
    let told = report(&mut driver);
    assert_eq!((told.missing.count, told.deleted, told.is_clean()), (0, 2, false), "{told:?}");
    let expected = "topic changes: 8 messages were published there, and it holds nothing as old as they are";
    assert!(
        told.contradictions.len() == 1 && told.contradictions[0].starts_with(expected),
        "{:?}",
        told.contradictions
    );
}

#[test]
fn a_dead_letter_topic_that_is_gone_holds_up_the_partitions_alone_that_write_it() {
    let mut driver = driver();
    driver.log().delete_topic(&name("readings-dlt"));
    driver.send_to("readings", 0, Some(b"1"), Some(b"{"));
    for _ in 0..5 {
        send(&mut driver);
        work(&mut driver, Duration::from_secs(10));
    }
    assert_eq!(driver.log().read(&name("moves")).len(), 40);
    let sound = driver.log().read(&name("changes")).iter().filter(|found| found.partition == 1).count();
    assert!(sound > 0 && sound % 5 == 0, "{sound}");
    let halted: Vec<_> = driver.halts().iter().map(|halt| halt.source.to_string()).collect();
    assert_eq!(halted, ["readings-0"]);
}

/// A source that was given more partitions while it was read; its dead-letter topic was forgotten.
#[test]
fn new_partitions_of_a_source_wait_alone_for_a_dead_letter_topic_that_has_fewer() {
    let mut driver = driver();
    driver.log().add_partitions(&name("readings"), 3);
    work(&mut driver, Duration::from_secs(10));
    driver.send_to("readings", 2, Some(b"1"), Some(b"{"));
    for round in 1..=5 {
        for id in 0..8_i32 {
            driver.send_to("readings", id % 2, Some(id.to_string().as_bytes()), Some(br#"{"value": 10.0}"#));
            driver.send("clicks", id, json!({"value": 10.0}));
        }
        work(&mut driver, Duration::from_secs(60));
        let mut told = |topic| driver.log().read(&name(topic)).len();
        assert_eq!((told("moves"), told("changes")), (8 * round, 8 * round), "all others are told");
        assert_eq!(told("readings-dlt"), 0);
    }
    assert!(driver.halts().is_empty(), "it waits for half an hour");
    driver.log().add_partitions(&name("readings-dlt"), 3);
    work(&mut driver, Duration::from_secs(60));
    let dead: Vec<_> = driver.log().read(&name("readings-dlt")).iter().map(|found| found.partition).collect();
    assert_eq!(dead, [2], "without a restart");
}

/// Publications that a dead owner decided are more than one transaction takes.
#[test]
fn a_takeover_publishes_what_was_left_in_transactions_of_bounded_size() {
    let mut driver = TestDriver::new(topology()).settings(|settings| settings.transaction_rows = 3);
    for id in 0..8 {
        driver.row("accounts", id, Account { score: 0.0 });
        driver.row("users", id, Account { score: 0.0 });
    }
    driver.run();
    driver.log().delete_topic(&name("changes"));
    for _ in 0..5 {
        send(&mut driver);
    }
    work(&mut driver, Duration::from_secs(5));
    driver.kill(0);
    driver.log().create_topic("changes", 1).unwrap();
    driver.log().expire_transactions();
    driver.pass(Duration::from_secs(60));
    driver.start(0);
    assert_eq!(driver.read_raw("changes").len(), 40);
    let ids: Vec<_> = driver.read_raw("changes").iter().map(|found| found.id().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..40).map(|offset| format!("two/readings/0/{offset}/0")).collect();
    assert_eq!(ids, expected, "each once and in order");
}

/// Both inputs are offered a piece at a time; the read of the second one's next piece fails, whichever it is.
#[test]
fn a_read_of_the_outbox_that_fails_leaves_no_takeover_waiting_for_what_was_never_handed_over() {
    for nth in 1..=8 {
        let mut topology = Topology::new("both");
        topology.source("a").with("b").update("accounts", Smooth { calls: Default::default() }).to("changes");
        let mut driver = TestDriver::new(topology).settings(|settings| settings.transaction_rows = 1);
        driver.row("accounts", 0, Account { score: 0.0 });
        driver.run();
        driver.crash_at(Step::CommitDatabase, 1);
        driver.database().fail_outbox_read(nth);
        for topic in ["a", "a", "a", "b", "b", "b"] {
            driver.send(topic, 0, json!({"value": 10.0}));
        }
        driver.run();
        let found = driver.read_raw("changes").len();
        assert_eq!((driver.crashes(), found), (1, 6), "read {nth}: {:?}", driver.status(0).tasks());
    }
}

/// Tells of each record.
struct Echo;

impl Algorithm for Echo {
    type Event = Value;
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, event: Value, (): &mut (), _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        Ok(Some(event))
    }
}

/// The database goes away so many steps after a record has come whose COMMIT has no answer.
#[test]
fn a_database_that_does_not_answer_whatever_is_in_doubt_holds_up_no_step_without_rows() {
    for steps in 0..12 {
        let mut topology = Topology::new("both");
        topology.source("readings").update("accounts", Smooth { calls: Default::default() }).to("changes");
        topology.source("clicks").process(Echo).to("moves");
        let mut driver = TestDriver::new(topology).workers(1);
        driver.row("accounts", 0, Account { score: 0.0 });
        driver.run();
        driver.database().fail_next_commit_unknown(steps % 2 == 0);
        driver.send("readings", 0, json!({"value": 10.0}));
        for _ in 0..steps {
            driver.pass(Duration::from_millis(5));
            driver.step();
        }
        driver.database().set_down(true);
        for n in 0..10 {
            driver.send("clicks", n, json!({}));
            work(&mut driver, Duration::from_millis(500));
        }
        assert_eq!(driver.log().read(&name("moves")).len(), 10, "{steps} steps");
        driver.database().set_down(false);
        assert_eq!(driver.read_raw("changes").len(), 1, "{steps} steps");
        assert_eq!(driver.row_of("accounts", 0).unwrap().version, 1);
    }
}

/// Its row cannot be read, so the partition stands still before it; the message that its topic did not take at first is
/// published later.
#[test]
fn what_was_committed_before_a_record_that_halts_is_announced_however_often_its_transaction_fails() {
    for failures in 0..10 {
        let mut driver = TestDriver::new(topology()).settings(|settings| settings.batch_rows = 1);
        for id in 0..2 {
            driver.row("accounts", id, Account { score: 0.0 });
        }
        driver.run();
        driver.database().damage(&Table::new("accounts"), 1);
        for _ in 0..failures {
            driver.log().fail_next(SinkFault::Commit { is_applied: false });
        }
        driver.send("readings", 0, json!({"value": 10.0}));
        driver.send("readings", 1, json!({"value": 10.0}));
        work(&mut driver, Duration::from_secs(120));
        assert_eq!(driver.log().read(&name("changes")).len(), 1, "{failures} failures");
        let halts = driver.halts();
        assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::SchemaChanged]);
    }
}

/// Takes so long over the second record that its transaction is lost meanwhile.
struct Slow {
    takes: Duration,
    world: Arc<OnceLock<(Arc<ManualClock>, MemoryDatabase)>>,
}

impl Algorithm for Slow {
    type Event = Value;
    type Row = Account;
    type Notices = Option<Value>;

    fn apply(&self, event: Value, row: &mut Account, context: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        if let Some((clock, database)) = self.world.get().filter(|_| event["n"] == 1) {
            clock.advance(self.takes);
            database.set_down(true);
            database.set_down(false);
        }
        row.score += context.key().to_string().len() as f64;
        Ok(Some(event))
    }
}

#[test]
fn a_record_whose_step_takes_longer_than_a_transaction_may_idle_is_a_dead_letter_after_three_times() {
    for (takes, is_checked) in [(500, false), (500, true), (300, false)] {
        let world = Arc::new(OnceLock::new());
        let mut topology = Topology::new("slow");
        let step = Slow { takes: Duration::from_millis(takes), world: Arc::clone(&world) };
        topology.source("readings").update("accounts", step).to("changes");
        let mut driver = TestDriver::new(topology);
        driver.row("accounts", 0, Account { score: 0.0 });
        driver.run();
        if is_checked {
            // Rows of such a table are written, and read again, between two records.
            driver.database().check(&Table::new("accounts"), |_| Ok(()));
        }
        driver.database().limit_idle(Some(Duration::from_millis(400)));
        assert!(world.set((driver.clock(), driver.database().clone())).is_ok());
        for n in 0..3 {
            driver.send("readings", 0, json!({ "n": n }));
        }
        work(&mut driver, Duration::from_secs(60));
        let dead_letters = driver.log().read(&name("readings-dlt"));
        let told = driver.log().read(&name("changes")).len();
        let version = driver.database().get(&Table::new("accounts"), 0).unwrap().version;
        let expected = if takes > 400 { (1, 2, 2) } else { (0, 1, 1) };
        assert_eq!((dead_letters.len(), told, version), expected, "{takes} ms, {is_checked}");
        if takes > 400 {
            assert_eq!(driver.read_raw("readings-dlt")[0].header("kafka_dlt-exception-fqcn"), Some("too-slow"));
        }
    }
}

/// Takes its time over each record.
struct Ponderous(Arc<OnceLock<Arc<ManualClock>>>);

impl Algorithm for Ponderous {
    type Event = Value;
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, event: Value, (): &mut (), _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        if let Some(clock) = self.0.get() {
            clock.advance(Duration::from_secs(1));
        }
        Ok(Some(event))
    }
}

#[test]
fn a_slow_step_without_a_row_hands_over_what_it_has_and_keeps_the_others_waiting_for_one_record_only() {
    let clock = Arc::new(OnceLock::new());
    let mut topology = Topology::new("ponderous");
    topology.source("clicks").process(Ponderous(Arc::clone(&clock))).to("seen");
    let mut driver = TestDriver::new(topology).partitions(1);
    driver.run();
    assert!(clock.set(driver.clock()).is_ok());
    for n in 0..40 {
        driver.send("clicks", 0, json!({ "n": n }));
    }
    let mut told = 0;
    while told < 40 {
        let began = driver.clock().elapsed();
        driver.step();
        let took = driver.clock().elapsed() - began;
        assert!(took <= Duration::from_secs(1), "a turn took {took:?}");
        told = driver.log().read(&name("seen")).len();
    }
}
