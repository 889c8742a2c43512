//! The commands that halts print, over the models: their writes and messages, and a crash between any two writes.

use crate::pipeline::{driver, topology};
use crate::rowstate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::memory::{SinkFault, Snapshot};
use tidegate::engine::audit::{AuditReport, audit};
use tidegate::engine::protocol::decision::{DataLossPolicy, HaltReason};
use tidegate::engine::protocol::order::Step as CommitStep;
use tidegate::engine::repair::plan::{Action, Outputs, Plan, Target};
use tidegate::engine::repair::{Repair, Step, Tools, rebuild};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{NextOffset, Partition, Record, Timestamp, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Declared, Reject, Topology};
use tidegate::ports::Fault;
use tidegate::ports::repair::Positions as _;
use tidegate::ports::rows::{NoRows, Position, Rows};
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Committed, Listener, Membership, Source as _, Subscription, TaskId};
use tidegate::ports::store::StoreId;
use tidegate::testing::TestDriver;

const ID: i64 = 3;

fn victim() -> i32 {
    partition_for(ID.to_string().as_bytes(), 4)
}

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(partition))
}

fn readings() -> TopicPartition {
    place("readings", victim())
}

fn offset(n: i64) -> Target {
    Target::Offset(NextOffset(n))
}

fn tools(driver: &mut TestDriver, topology: &Topology) -> Tools {
    let (log, name) = (driver.log().clone(), topology.name().to_owned());
    let has_rows = !topology.tables().is_empty();
    let database = driver.database().clone();
    let rows: Box<dyn Rows> = if has_rows { Box::new(database.rows(&name)) } else { Box::new(NoRows) };
    Tools {
        positions: has_rows.then(|| Box::new(database.positions(&name)) as _),
        rows,
        group: log.group(&name),
        offsets: Box::new(log.offsets(&name)),
        history: Box::new(log.history(&name)),
        sink: Box::new(move || Ok(Box::new(log.sink("repair")))),
    }
}

fn repairer(driver: &mut TestDriver, topology: &Topology) -> Repair {
    let tools = tools(driver, topology);
    Repair::new(topology.clone(), "ada@test".into(), tools)
}

/// Shows and carries out. The refusal, or the fault.
fn try_repair(driver: &mut TestDriver, source: &TopicPartition, action: Action) -> Result<Plan, String> {
    let mut repair = repairer(driver, &topology());
    let plan = repair.plan(source, action).unwrap()?;
    repair.carry_out(source, action, &plan, &mut |_| Ok(())).map_err(|fault| fault.to_string())?;
    Ok(plan)
}

fn repair(driver: &mut TestDriver, action: Action) {
    let plan = try_repair(driver, &readings(), action).unwrap_or_else(|why| panic!("{action}: {why}"));
    assert!(!plan.is_done, "{action} had nothing to do");
    let before = numbers(driver);
    let again = try_repair(driver, &readings(), action).unwrap_or_else(|why| panic!("{action}, again: {why}"));
    assert!(again.is_done, "{action} has something to do twice: {again:?}");
    assert_eq!(numbers(driver), before);
}

fn numbers(driver: &mut TestDriver) -> (Option<Position>, Option<Committed>) {
    let committed = driver.log().committed("scoring", &readings());
    (driver.position("readings", victim()), committed)
}

fn send(driver: &mut TestDriver, count: i64) {
    for n in 0..count {
        // Each one moves the score by far more than the threshold.
        driver.send("readings", ID, json!({"value": 100.0 * (n + 1) as f64}));
    }
}

fn version(driver: &mut TestDriver) -> i64 {
    driver.row_of("accounts", ID).unwrap().version
}

/// Times that each id stands in the topic, of the victim's partition.
fn announced(driver: &mut TestDriver) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for found in driver.read_raw("large-changes") {
        *out.entry(found.header("tg_id").unwrap().to_owned()).or_default() += 1;
    }
    out
}

fn clean_audit(driver: &mut TestDriver) -> AuditReport {
    let (mut rows, mut log) = (driver.database().history("scoring"), driver.log().history("scoring"));
    let report = audit(&topology(), &mut rows, &mut log).unwrap();
    assert!(report.is_clean(), "{report:?}");
    report
}

/// The one halt there is, whose last choice is a command.
fn halted(driver: &mut TestDriver, reason: HaltReason, command: &str) {
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [reason], "{halts:?}");
    let commands: Vec<&str> = halts[0].choices.iter().filter_map(|choice| choice.command.as_deref()).collect();
    assert!(commands.contains(&command), "{command} is not among {commands:?}");
}

/// Five records taken, a backup, five more; then the database is as it was in the backup.
fn went_back() -> TestDriver {
    let mut driver = driver(4);
    send(&mut driver, 5);
    driver.run();
    let backup: Snapshot = driver.database().snapshot();
    send(&mut driver, 5);
    driver.run();
    driver.stop(0);
    driver.database().restore(&backup);
    driver
}

#[test]
fn after_the_database_went_back_rows_are_recomputed_and_nothing_is_announced_twice() {
    let mut driver = went_back();
    let before = announced(&mut driver);
    assert_eq!(before.len(), 10);
    driver.start(0);
    let command = format!("tidegate replay {} --suppress-output", readings());
    halted(&mut driver, HaltReason::DatabaseWentBack, &command);
    driver.stop(0);
    repair(&mut driver, Action::Replay { outputs: Outputs::Suppress });
    driver.start(0);
    driver.run();
    assert_eq!((version(&mut driver), announced(&mut driver)), (10, before));
    send(&mut driver, 3);
    driver.run();
    let after = announced(&mut driver);
    assert_eq!((version(&mut driver), after.len()), (13, 13), "what comes after is announced");
    assert!(after.values().all(|count| *count == 1));
    let report = clean_audit(&mut driver);
    assert_eq!(report.repairs.len(), 1);
    let told = &report.repairs[0];
    assert_eq!((told.who.as_str(), told.command.as_str()), ("ada@test", "replay --suppress-output"));
}

#[test]
fn a_replay_that_is_cut_short_goes_on_under_the_next_owner() {
    for step in [CommitStep::CommitDatabase, CommitStep::SendOffsets, CommitStep::CommitKafka] {
        let mut driver = went_back();
        repair(&mut driver, Action::Replay { outputs: Outputs::Suppress });
        send(&mut driver, 2); // the batch that catches up goes beyond what was published
        driver.crash_at(step, 1);
        driver.start(0);
        driver.run();
        assert_eq!(driver.crashes(), 1, "{step:?}");
        let found = announced(&mut driver);
        assert_eq!((version(&mut driver), found.len()), (12, 12), "{step:?}");
        assert!(found.values().all(|count| *count == 1), "{step:?}: {found:?}");
        clean_audit(&mut driver);
    }
}

#[test]
fn a_replay_whose_committed_offset_is_lost_halts_instead_of_announcing_twice() {
    let mut driver = went_back();
    repair(&mut driver, Action::Replay { outputs: Outputs::Suppress });
    driver.log().set_committed("scoring", &readings(), None).unwrap();
    driver.start(0);
    halted(&mut driver, HaltReason::DatabaseWentBack, &format!("tidegate replay {} --suppress-output", readings()));
    driver.stop(0);
    repair(&mut driver, Action::Replay { outputs: Outputs::Suppress });
    driver.start(0);
    driver.run();
    let found = announced(&mut driver);
    assert!(found.len() == 10 && found.values().all(|count| *count == 1), "{found:?}");
}

#[test]
fn after_the_database_went_back_rows_are_recomputed_and_announced_again_under_the_same_ids() {
    let mut driver = went_back();
    let before = announced(&mut driver);
    repair(&mut driver, Action::Replay { outputs: Outputs::Emit });
    driver.start(0);
    driver.run();
    let after = announced(&mut driver);
    assert_eq!((version(&mut driver), after.len()), (10, before.len()));
    assert_eq!(after.values().filter(|count| **count == 2).count(), 5, "{after:?}");
    let why = "five twice, the first of each with another ce_time, and all but the last of them behind later ones";
    assert_eq!(clean_audit(&mut driver).repaired, 5 + 5 + 4, "{why}");
}

#[test]
fn after_the_database_went_back_the_rows_may_stay_as_they_are() {
    let mut driver = went_back();
    let k = driver.log().committed("scoring", &readings()).unwrap().next_offset;
    repair(&mut driver, Action::Skip { to: Target::Offset(k) });
    driver.start(0);
    send(&mut driver, 1);
    driver.run();
    assert_eq!((version(&mut driver), announced(&mut driver).len()), (6, 11));
    assert_eq!(clean_audit(&mut driver).repaired, 5, "announced, and in no outbox any more");
}

/// Killed between the database's commit and the publication; then an operator resets the group.
fn reset_by_hand(to: i64) -> TestDriver {
    let mut driver = driver(4);
    send(&mut driver, 5);
    driver.run();
    driver.leave_dead();
    driver.crash_at(CommitStep::CommitDatabase, 1);
    send(&mut driver, 3);
    for _ in 0..200 {
        driver.step();
        driver.pass(std::time::Duration::from_millis(50));
    }
    assert_eq!(driver.crashes(), 1);
    assert_eq!(driver.position("readings", victim()).unwrap().next_offset, NextOffset(8));
    let foreign = Committed { next_offset: NextOffset(to), metadata: String::new() };
    driver.log().set_committed("scoring", &readings(), Some(foreign)).unwrap();
    driver
}

#[test]
fn a_reset_group_is_set_right_and_what_was_decided_is_announced_once() {
    for to in [0, 2, 5, 8] {
        let mut driver = reset_by_hand(to);
        driver.start(0);
        halted(&mut driver, HaltReason::GroupReset, &format!("tidegate adopt {} --from-database", readings()));
        driver.stop(0);
        repair(&mut driver, Action::AdoptDatabase);
        driver.start(0);
        driver.run();
        let found = announced(&mut driver);
        assert_eq!((version(&mut driver), found.len()), (8, 8), "reset to {to}");
        assert!(found.values().all(|count| *count == 1), "reset to {to}: {found:?}");
        clean_audit(&mut driver);
    }
}

/// Something happens while a publication is on its way to the brokers, acknowledged and not committed.
struct Watched {
    inner: Box<dyn Sink>,
    on_flush: Box<dyn FnMut() + Send>,
}

impl Sink for Watched {
    fn begin(&mut self) -> Result<(), Fault> {
        self.inner.begin()
    }
    fn send(&mut self, message: &Message<'_>) -> Result<(), Fault> {
        self.inner.send(message)
    }
    fn flush(&mut self) -> Result<(), Fault> {
        (self.on_flush)();
        self.inner.flush()
    }
    fn ends(&self) -> Vec<(TopicPartition, NextOffset)> {
        self.inner.ends()
    }
    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], member: &Membership) -> Result<(), Fault> {
        self.inner.send_offsets(offsets, member)
    }
    fn commit(&mut self) -> Result<(), Fault> {
        self.inner.commit()
    }
    fn taint(&self) -> Option<String> {
        self.inner.taint()
    }
    fn is_fenced(&self) -> bool {
        self.inner.is_fenced()
    }
    fn renew(&mut self) -> Result<(), Fault> {
        self.inner.renew()
    }
    fn close(&mut self) {
        self.inner.close();
    }
    fn transactional_id(&self) -> &str {
        self.inner.transactional_id()
    }
    fn partition_count(&mut self, destination: &TopicName) -> Result<i32, Fault> {
        self.inner.partition_count(destination)
    }
    fn message_bytes_max(&mut self, destination: &TopicName) -> Result<tidegate::ports::sink::SizeLimit, Fault> {
        self.inner.message_bytes_max(destination)
    }
}

/// A database that was claimed, or a group that was joined, while the repair published the rest.
#[test]
fn a_repair_announces_nothing_once_an_instance_has_started() {
    for is_claimed in [false, true] {
        let mut driver = reset_by_hand(5);
        driver.start(0);
        halted(&mut driver, HaltReason::GroupReset, &format!("tidegate adopt {} --from-database", readings()));
        driver.stop(0);
        let (database, log) = (driver.database().clone(), driver.log().clone());
        let mut tools = tools(&mut driver, &topology());
        tools.sink = Box::new(move || {
            let (database, log) = (database.clone(), log.clone());
            let inner = Box::new(log.sink("repair"));
            let on_flush = Box::new(move || {
                if is_claimed {
                    database.positions("scoring").fence(&readings(), "somebody").unwrap();
                } else {
                    let mut member = log.source(Subscription::of(&topology()));
                    member.poll(Duration::ZERO, 1, &mut Deaf).unwrap();
                    std::mem::forget(member); // it stays
                }
            });
            Ok(Box::new(Watched { inner, on_flush }))
        });
        let mut repair = Repair::new(topology(), "ada@test".into(), tools);
        let plan = repair.plan(&readings(), Action::AdoptDatabase).unwrap().unwrap();
        let refused = repair.carry_out(&readings(), Action::AdoptDatabase, &plan, &mut |_| Ok(())).unwrap_err();
        let expected = if is_claimed { "an instance has claimed it meanwhile" } else { "has members" };
        assert!(refused.is_fenced() && refused.to_string().contains(expected), "{refused}");
        assert_eq!(driver.log().read(&TopicName::parse("large-changes").unwrap()).len(), 5, "{refused}");
    }
}

/// The first of two transactions was ended by a request that the client repeated in silence.
#[test]
fn a_repair_replaces_a_producer_that_must_not_be_used_again() {
    let mut driver = driver(4);
    send(&mut driver, 10_050);
    driver.run();
    driver.stop(0);
    // The position says that nothing of it is published, and the topic has lost it.
    driver.log().delete_topic(&TopicName::parse("large-changes").unwrap());
    driver.log().create_topic("large-changes", 4).unwrap();
    let foreign = Committed { next_offset: NextOffset(0), metadata: String::new() };
    driver.log().set_committed("scoring", &readings(), Some(foreign)).unwrap();
    driver.database().edit_position("scoring", &readings(), |position| position.published = NextOffset(0));
    driver.log().fail_next(SinkFault::Taint);
    try_repair(&mut driver, &readings(), Action::AdoptDatabase).unwrap();
    let found = announced(&mut driver);
    assert_eq!(found.len(), 10_050);
    assert!(found.values().all(|count| *count == 1));
}

/// Hears of everything, and does nothing.
struct Deaf;

impl Listener for Deaf {
    fn assigned(&mut self, _: &[TaskId], _: Membership) {}
    fn revoked(&mut self, _: &[TaskId]) {}
    fn lost(&mut self, _: &[TaskId]) {}
    fn record(&mut self, _: TaskId, _: usize, _: Record<'_>) {}
    fn out_of_range(&mut self, _: TaskId, _: usize, _: &str) {}
}

#[test]
fn going_back_must_say_what_becomes_of_the_announcements() {
    let mut driver = reset_by_hand(2);
    let back = |outputs| Action::Reset { to: offset(2), outputs };
    let before = numbers(&mut driver);
    let refused = try_repair(&mut driver, &readings(), back(None)).unwrap_err();
    assert!(refused.contains("--emit or --suppress-output"), "{refused}");
    assert_eq!(numbers(&mut driver), before);

    repair(&mut driver, back(Some(Outputs::Emit)));
    driver.start(0);
    driver.run();
    let found = announced(&mut driver);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
    assert_eq!((version(&mut driver), found.len()), (14, 14), "eight, and six of them again under new ids");
    assert_eq!(found.keys().filter(|id| id.ends_with("/0/1")).count(), 6);
    clean_audit(&mut driver);

    let mut driver = reset_by_hand(2);
    repair(&mut driver, back(Some(Outputs::Suppress)));
    driver.start(0);
    send(&mut driver, 1);
    driver.run();
    let found = announced(&mut driver);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
    assert_eq!((version(&mut driver), found.len()), (15, 9), "six rows changed again, one notice is new");
    clean_audit(&mut driver);
}

#[test]
fn a_skipped_record_has_no_effect() {
    let mut driver = driver(4);
    send(&mut driver, 5);
    driver.run();
    driver.stop(0);
    send(&mut driver, 5);
    repair(&mut driver, Action::Skip { to: offset(7) });
    driver.start(0);
    driver.run();
    assert_eq!((version(&mut driver), announced(&mut driver).len()), (8, 8));
    driver.stop(0);
    let refused = try_repair(&mut driver, &readings(), Action::Skip { to: offset(1) }).unwrap_err();
    assert!(refused.contains("`reset --to 1`"), "{refused}");
    let refused = try_repair(&mut driver, &readings(), Action::Skip { to: offset(99) }).unwrap_err();
    assert!(refused.contains("beyond the log's end"), "{refused}");
    clean_audit(&mut driver);
}

#[test]
fn inputs_that_were_deleted_are_passed_over() {
    let mut driver = driver(4);
    send(&mut driver, 2);
    driver.run();
    driver.stop(0);
    send(&mut driver, 5);
    driver.log().truncate_before(&readings(), NextOffset(4));
    driver.start(0);
    halted(&mut driver, HaltReason::InputsDeleted, &format!("tidegate skip {} --to start", readings()));
    driver.stop(0);
    repair(&mut driver, Action::Skip { to: Target::Start });
    driver.start(0);
    driver.run();
    assert_eq!((version(&mut driver), announced(&mut driver).len()), (5, 5));
}

#[test]
fn a_lost_database_goes_on_where_the_group_is() {
    let mut driver = driver(4);
    let empty = driver.database().snapshot();
    send(&mut driver, 5);
    driver.run();
    driver.stop(0);
    driver.database().restore(&empty);
    send(&mut driver, 2);
    // The halt of the other partitions is of no interest here: they have no past in the group either way.
    driver.start(0);
    let halts = driver.halts();
    let halt = halts.iter().find(|halt| halt.source == readings()).unwrap();
    assert_eq!(halt.reason, HaltReason::DatabaseLost);
    driver.stop(0);
    for number in 0..4 {
        for topic in ["readings", "corrections"] {
            try_repair(&mut driver, &place(topic, number), Action::AdoptGroup).unwrap();
        }
    }
    driver.start(0);
    driver.run();
    assert!(driver.halts().is_empty());
    assert_eq!((version(&mut driver), announced(&mut driver).len()), (2, 7), "the rows are as the restore left them");
    clean_audit(&mut driver);
}

#[test]
fn a_topic_made_anew_begins_anew_under_new_ids() {
    let mut driver = driver(4);
    send(&mut driver, 5);
    driver.run();
    driver.stop(0);
    driver.log().delete_topic(&TopicName::parse("readings").unwrap());
    driver.log().create_topic("readings", 4).unwrap();
    send(&mut driver, 2);
    driver.start(0);
    assert!(driver.halts().iter().all(|halt| halt.reason == HaltReason::TopicRecreated));
    driver.stop(0);
    for number in 0..4 {
        try_repair(&mut driver, &place("readings", number), Action::Reset { to: Target::Start, outputs: None })
            .unwrap();
    }
    driver.start(0);
    driver.run();
    assert!(driver.halts().is_empty());
    let found = announced(&mut driver);
    assert_eq!((version(&mut driver), found.len()), (7, 7));
    assert_eq!(found.keys().filter(|id| id.ends_with("/0/1")).count(), 2, "{found:?}");
    clean_audit(&mut driver);
}

#[test]
fn another_cluster_is_adopted_where_it_is_a_copy() {
    let mut driver = driver(4);
    send(&mut driver, 5);
    driver.run();
    driver.stop(0);
    driver.log().set_cluster_id("elsewhere");
    send(&mut driver, 1);
    driver.start(0);
    let halts = driver.halts();
    assert!(halts.iter().all(|halt| halt.reason == HaltReason::ClusterChanged) && halts.len() == 4, "{halts:?}");
    driver.stop(0);
    for number in 0..4 {
        for topic in ["readings", "corrections"] {
            try_repair(&mut driver, &place(topic, number), Action::AdoptDatabase).unwrap();
        }
    }
    driver.start(0);
    driver.run();
    assert!(driver.halts().is_empty());
    assert_eq!((version(&mut driver), announced(&mut driver).len()), (6, 6));
    clean_audit(&mut driver);
}

#[test]
fn a_group_with_members_is_refused_before_anything_is_written() {
    let mut driver = went_back();
    driver.start(0);
    driver.run();
    let before = numbers(&mut driver);
    let refused = try_repair(&mut driver, &readings(), Action::Replay { outputs: Outputs::Suppress }).unwrap_err();
    assert!(refused.contains("stop all instances of scoring"), "{refused}");
    assert_eq!(numbers(&mut driver), before);
}

#[test]
fn a_batch_from_before_the_repair_is_fenced() {
    let mut driver = went_back();
    let before = driver.position("readings", victim()).unwrap();
    repair(&mut driver, Action::Replay { outputs: Outputs::Emit });
    assert!(driver.position("readings", victim()).unwrap().epoch > before.epoch);
}

/// A repair under test: its world, its action, and the expected state after the instance ran again.
type Case = (fn() -> TestDriver, Action);

#[test]
fn a_crash_after_any_write_is_mended_by_running_the_command_again() {
    let cases: [Case; 8] = [
        (went_back, Action::Replay { outputs: Outputs::Suppress }),
        (went_back, Action::Replay { outputs: Outputs::Emit }),
        (went_back, Action::Skip { to: offset(10) }),
        (|| reset_by_hand(2), Action::AdoptDatabase),
        (|| reset_by_hand(2), Action::Reset { to: offset(2), outputs: Some(Outputs::Emit) }),
        (|| reset_by_hand(2), Action::Reset { to: offset(2), outputs: Some(Outputs::Suppress) }),
        (|| reset_by_hand(8), Action::Reset { to: offset(1), outputs: Some(Outputs::Suppress) }),
        (|| reset_by_hand(0), Action::Skip { to: offset(8) }),
    ];
    for (world, action) in cases {
        let expected = {
            let mut driver = world();
            repair(&mut driver, action);
            outcome(&mut driver)
        };
        for step in [Step::Fence, Step::Publish, Step::WritePosition, Step::CommitOffset] {
            let mut driver = world();
            let mut repair_once = repairer(&mut driver, &topology());
            let plan = repair_once.plan(&readings(), action).unwrap().unwrap();
            let mut stop = |done| if done == step { Err(Fault::fatal("killed, as the test asked")) } else { Ok(()) };
            let killed = repair_once.carry_out(&readings(), action, &plan, &mut stop).is_err();
            assert!(killed || step == Step::Publish, "{action}: {step:?} was not reached");
            drop(repair_once);
            try_repair(&mut driver, &readings(), action).unwrap_or_else(|why| panic!("{action} after {step:?}: {why}"));
            assert_eq!(outcome(&mut driver), expected, "{action}, killed after {step:?}");
        }
    }
}

/// Version, notices and D once the instance has run again and taken one record more. The audit must be clean.
fn outcome(driver: &mut TestDriver) -> (i64, BTreeMap<String, usize>, Option<NextOffset>) {
    driver.start(0);
    send(driver, 1);
    driver.run();
    assert!(driver.halts().is_empty(), "{:?}", driver.halts());
    clean_audit(driver);
    let d = driver.position("readings", victim()).map(|position| position.next_offset);
    (version(driver), announced(driver), d)
}

/// A crash between the writes and no second run: the partition halts, or all is as the command would have left it.
#[test]
fn half_a_repair_never_goes_on_with_wrong_numbers() {
    let cases: [Case; 5] = [
        (went_back, Action::Replay { outputs: Outputs::Emit }),
        (went_back, Action::Skip { to: offset(10) }),
        (|| reset_by_hand(2), Action::AdoptDatabase),
        (|| reset_by_hand(2), Action::Reset { to: offset(2), outputs: Some(Outputs::Emit) }),
        (|| reset_by_hand(2), Action::Reset { to: offset(2), outputs: Some(Outputs::Suppress) }),
    ];
    for (world, action) in cases {
        for step in [Step::Fence, Step::WritePosition, Step::CommitOffset] {
            let mut driver = world();
            let mut once = repairer(&mut driver, &topology());
            let plan = once.plan(&readings(), action).unwrap().unwrap();
            let mut stop = |done| if done == step { Err(Fault::fatal("killed")) } else { Ok(()) };
            assert!(once.carry_out(&readings(), action, &plan, &mut stop).is_err());
            driver.start(0);
            driver.run();
            if driver.halts().is_empty() {
                let found = announced(&mut driver);
                let is_twice_allowed = action == Action::Replay { outputs: Outputs::Emit };
                assert!(is_twice_allowed || found.values().all(|count| *count == 1), "{action} after {step:?}");
                clean_audit(&mut driver);
            }
        }
    }
}

// === Steps without rows ===

#[derive(Deserialize)]
struct Click {
    #[serde(default)]
    units: i64,
}

#[derive(Serialize, Deserialize, Default)]
struct Total {
    count: i64,
    units: i64,
}

struct Sum;

impl Algorithm for Sum {
    type Event = Click;
    type Row = Option<Total>;
    type Notices = Option<Total>;

    fn apply(&self, click: Click, total: &mut Option<Total>, _: &mut Context<'_>) -> Result<Option<Total>, Reject> {
        let mut next = total.take().unwrap_or_default();
        next.count += 1;
        next.units += click.units;
        *total = Some(next);
        Ok(None)
    }
}

fn clicks() -> Topology {
    let mut topology = Topology::new("clicks");
    topology.source("clicks").declared(Declared::murmur2(4)).aggregate("totals", Sum).to("told");
    topology
}

fn keyed_repair(driver: &mut TestDriver, source: &TopicPartition, action: Action) -> Plan {
    let mut repair = repairer(driver, &clicks());
    let plan = repair.plan(source, action).unwrap().unwrap_or_else(|why| panic!("{action}: {why}"));
    repair.carry_out(source, action, &plan, &mut |_| Ok(())).unwrap();
    assert!(repair.plan(source, action).unwrap().unwrap().is_done);
    plan
}

fn click(driver: &mut TestDriver, user: &str, times: usize) {
    for _ in 0..times {
        driver.send("clicks", user, json!({"units": 1}));
    }
    driver.run();
}

fn count(driver: &mut TestDriver, user: &str) -> serde_json::Value {
    driver.store("totals", user).map_or(json!(null), |total| total["count"].clone())
}

fn home(user: &str) -> i32 {
    partition_for(user.as_bytes(), 4)
}

#[test]
fn a_record_in_the_wrong_partition_is_passed_over() {
    let mut driver = TestDriver::new(clicks()).partitions(4);
    click(&mut driver, "ada", 3);
    let wrong = (home("astray") + 1) % 4;
    let neighbour = (0..100).map(|n| format!("n{n}")).find(|user| home(user) == wrong).unwrap();
    driver.send_to("clicks", wrong, Some(b"astray"), Some(br#"{"units":1}"#));
    click(&mut driver, &neighbour, 2);
    let halts = driver.halts();
    let command = halts[0].choices.last().unwrap().command.clone().unwrap();
    let source = place("clicks", wrong);
    let to = driver.log().committed("clicks", &source).map_or(1, |k| k.next_offset.0 + 1);
    assert_eq!(command, format!("tidegate skip {source} --to {to}"));
    driver.stop(0);
    keyed_repair(&mut driver, &source, Action::Skip { to: offset(to) });
    driver.start(0);
    driver.run();
    assert!(driver.halts().is_empty());
    assert_eq!((count(&mut driver, &neighbour), count(&mut driver, "astray")), (json!(2), json!(null)));
}

#[test]
fn a_lost_or_reset_offset_goes_back_to_where_the_stores_stand() {
    for foreign in [None, Some(Committed { next_offset: NextOffset(1), metadata: String::new() })] {
        let mut driver = TestDriver::new(clicks()).partitions(4);
        click(&mut driver, "ada", 5);
        driver.stop(0);
        let source = place("clicks", home("ada"));
        driver.log().set_committed("clicks", &source, foreign.clone()).unwrap();
        driver.start(0);
        let halts = driver.halts();
        let expected = if foreign.is_none() { HaltReason::OffsetsLost } else { HaltReason::GroupReset };
        assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [expected]);
        let command = halts[0].choices.last().unwrap().command.clone().unwrap();
        assert_eq!(command, format!("tidegate reset {source} --to 5"));
        driver.stop(0);
        keyed_repair(&mut driver, &source, Action::Reset { to: offset(5), outputs: None });
        driver.start(0);
        click(&mut driver, "ada", 1);
        assert!(driver.halts().is_empty());
        assert_eq!(count(&mut driver, "ada"), json!(6));
    }
}

#[test]
fn a_step_without_rows_goes_back_only_when_it_is_told_to_announce_again() {
    let mut driver = TestDriver::new(clicks()).partitions(4);
    click(&mut driver, "ada", 5);
    driver.stop(0);
    let source = place("clicks", home("ada"));
    let mut repair = repairer(&mut driver, &clicks());
    let mut refusal = |action| repair.plan(&source, action).unwrap().unwrap_err();
    assert!(refusal(Action::Reset { to: offset(2), outputs: None }).contains("--emit"));
    assert!(refusal(Action::Reset { to: offset(2), outputs: Some(Outputs::Suppress) }).contains("--emit"));
    assert!(refusal(Action::Replay { outputs: Outputs::Emit }).contains("no rows"));
    assert!(refusal(Action::AdoptDatabase).contains("no rows"));
    assert!(refusal(Action::Skip { to: offset(2) }).contains("`reset --to 2`"));
    keyed_repair(&mut driver, &source, Action::Reset { to: offset(2), outputs: Some(Outputs::Emit) });
    driver.start(0);
    driver.run();
    assert_eq!(count(&mut driver, "ada"), json!(8), "three are counted again, as was said");
}

fn rebuild_store(driver: &mut TestDriver, number: i32) -> NextOffset {
    let log = driver.log().clone();
    let (disk, group) = (driver.disk(0), log.group("clicks"));
    let begun =
        rebuild(&clicks(), &place("clicks", number), &disk, &*group, &mut log.changelog(), Timestamp(0)).unwrap();
    assert_eq!(begun.len(), 1);
    begun[0].1
}

#[test]
fn a_store_begins_anew_where_its_changelog_was_cut_or_its_disk_is_damaged() {
    let number = home("ada");
    let changelog = place("clicks-totals-changelog", number);
    let command = format!("tidegate state rebuild clicks-{number}");
    // Cut: deleted records are lost, the last value is not.
    let mut driver = TestDriver::new(clicks()).partitions(4);
    for _ in 0..3 {
        click(&mut driver, "ada", 1);
    }
    driver.stop(0);
    driver.disk(0).lose();
    let end = driver.log().bounds(&changelog).unwrap().end;
    driver.log().truncate_before(&changelog, NextOffset(end.0 - 2));
    driver.start(0);
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::ChangelogTruncated]);
    assert_eq!(halts[0].choices.last().unwrap().command.as_deref(), Some(command.as_str()));
    driver.stop(0);
    assert_eq!(rebuild_store(&mut driver, number), NextOffset(end.0 - 2));
    driver.start(0);
    click(&mut driver, "ada", 1);
    assert!(driver.halts().is_empty());
    assert_eq!(count(&mut driver, "ada"), json!(4));

    // Damaged: the changelog has everything.
    driver.stop(0);
    let id = StoreId { name: "totals".into(), partition: Partition(number) };
    driver.disk(0).corrupt(&id, b"ada", b"\x01\x09{}");
    driver.start(0);
    click(&mut driver, "ada", 1);
    assert_eq!(driver.halts().first().map(|halt| halt.reason), Some(HaltReason::StoreUnreadable));
    driver.stop(0);
    rebuild_store(&mut driver, number);
    driver.start(0);
    driver.run();
    assert!(driver.halts().is_empty());
    assert_eq!(count(&mut driver, "ada"), json!(5));

    // The changelog is created again, and empty: so is the store.
    driver.stop(0);
    driver.log().delete_topic(&changelog.topic);
    driver.log().create_topic("clicks-totals-changelog", 4).unwrap();
    driver.start(0);
    let halts = driver.halts();
    assert!(halts.iter().any(|halt| halt.reason == HaltReason::ChangelogRecreated), "{halts:?}");
    driver.stop(0);
    for number in 0..4 {
        rebuild_store(&mut driver, number);
    }
    driver.start(0);
    click(&mut driver, "ada", 1);
    assert!(driver.halts().is_empty());
    assert_eq!(count(&mut driver, "ada"), json!(1));
}

// === Rows with stores ===

/// Five records, a backup, five more; the database is as it was before all of them, or in the backup. Then the command
/// of the halt.
fn mended_with_stores(is_lost: bool, action: Action, command: &str) -> (i64, i64) {
    let readings = place("readings", 0);
    let mut driver = rowstate::fill(TestDriver::new(rowstate::tally()).partitions(1), 1);
    let mut backup = driver.database().snapshot();
    for _ in 0..2 {
        if !is_lost {
            backup = driver.database().snapshot();
        }
        (0..5).for_each(|_| rowstate::send(&mut driver, "readings", 0, 1.0, ""));
        driver.run();
    }
    driver.stop(0);
    driver.database().restore(&backup);
    driver.start(0);
    let halts = driver.halts();
    let commands: Vec<&str> = halts[0].choices.iter().filter_map(|choice| choice.command.as_deref()).collect();
    assert_eq!(commands, [command], "{halts:?}");
    driver.stop(0);
    let mut repair = repairer(&mut driver, &rowstate::tally());
    let others = if is_lost { vec![place("corrections", 0)] } else { Vec::new() };
    // All are shown before one is carried out, as by a command that names several.
    let sources: Vec<_> = std::iter::once(readings).chain(others).collect();
    let plans: Vec<_> = sources.iter().map(|source| repair.plan(source, action).unwrap().unwrap()).collect();
    for (source, plan) in sources.into_iter().zip(plans) {
        repair.carry_out(&source, action, &plan, &mut |_| Ok(())).unwrap();
        assert!(repair.plan(&source, action).unwrap().unwrap().is_done);
    }
    drop(repair);
    driver.start(0);
    rowstate::send(&mut driver, "readings", 0, 1.0, "");
    driver.run();
    assert!(driver.halts().is_empty(), "{:?}", driver.halts());
    (driver.row_of("accounts", 0).unwrap().version, rowstate::number(&mut driver, "all"))
}

#[test]
fn stores_go_on_with_what_was_committed_where_their_rows_went_back() {
    let skip = Action::Skip { to: offset(10) };
    assert_eq!(mended_with_stores(false, skip, "tidegate skip readings-0 --to 10"), (5 + 1, 11));
}

#[test]
fn stores_go_on_with_what_was_committed_where_the_positions_are_lost() {
    let line = "tidegate adopt readings-0 --from-group";
    assert_eq!(mended_with_stores(true, Action::AdoptGroup, line), (1, 11), "the rows are as the restore left them");
}

/// Killed between the two commits; then the offset of one input expires, and retention passes the other one. Moved on by hand,
/// that one would prove that everything before it was published.
#[test]
fn an_input_is_not_moved_on_while_changelog_records_of_its_task_are_not_published() {
    let (readings, corrections) = (place("readings", 0), place("corrections", 0));
    for is_skipped in [false, true] {
        let on_loss = if is_skipped { DataLossPolicy::Skip } else { DataLossPolicy::default() };
        let driver =
            TestDriver::new(rowstate::tally()).partitions(1).settings(|settings| settings.on_data_loss = on_loss);
        let mut driver = rowstate::fill(driver, 6);
        driver.run();
        driver.leave_dead();
        driver.crash_at(CommitStep::CommitDatabase, 1);
        rowstate::send(&mut driver, "readings", 0, 1.0, "");
        (1..4).for_each(|id| rowstate::send(&mut driver, "corrections", id, 1.0, "")); // none is told
        driver.run();
        assert_eq!(driver.crashes(), 1);
        let changed =
            |driver: &mut TestDriver| -> i64 { (0..6).map(|id| driver.row_of("accounts", id).unwrap().version).sum() };
        assert!(changed(&mut driver) > 0);
        (4..6).for_each(|id| rowstate::send(&mut driver, "corrections", id, 1.0, ""));
        driver.log().set_committed("tally", &readings, None).unwrap();
        driver.log().truncate_before(&corrections, NextOffset(5));
        if is_skipped {
            // Neither has an offset, and the first instance that skips dies before it has published the rest.
            driver.log().set_committed("tally", &corrections, None).unwrap();
            driver.crash_at(CommitStep::PublishRemainder, 1);
            driver.start(0);
            driver.run();
            assert_eq!(driver.crashes(), 2);
        }
        driver.start(0);
        driver.run();
        if is_skipped {
            assert_eq!(driver.halts(), []);
            assert_eq!(rowstate::number(&mut driver, "all"), changed(&mut driver), "rows and store agree");
            continue;
        }
        assert_eq!(driver.halts().iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::InputsDeleted]);
        driver.stop(0);
        let skip = Action::Skip { to: Target::Start };
        let refused = repairer(&mut driver, &rowstate::tally()).plan(&corrections, skip).unwrap().unwrap_err();
        assert!(refused.contains("changelog records") && refused.contains("on_data_loss: skip"), "{refused}");
    }
}

/// It sleeps with a batch of another input in hand, and goes on once the repair has fenced the one that it moves.
#[test]
fn an_instance_that_slept_decides_no_other_input_of_a_task_that_is_being_repaired() {
    let (readings, corrections) = (place("readings", 0), place("corrections", 0));
    let mut driver = rowstate::fill(TestDriver::new(rowstate::tally()).partitions(1), 6);
    driver.run();
    rowstate::send(&mut driver, "corrections", 1, 1.0, "");
    driver.step(); // it is fetched, and waits for its batch
    driver.freeze(0);
    driver.pass(Duration::from_secs(10));
    (0..2).for_each(|id| rowstate::send(&mut driver, "readings", id, 1.0, ""));
    let mut repair = repairer(&mut driver, &rowstate::tally());
    let skip = Action::Skip { to: offset(2) };
    let plan = repair.plan(&readings, skip).unwrap().unwrap();
    repair
        .carry_out(&readings, skip, &plan, &mut |step| {
            for _ in 0..if step == Step::Fence { 10 } else { 0 } {
                driver.step_workers(0);
                driver.pass(Duration::from_millis(50));
            }
            Ok(())
        })
        .unwrap();
    driver.log().set_committed("tally", &corrections, None).unwrap();
    driver.thaw(0);
    driver.kill(0);
    driver.start(0);
    driver.run();
    assert_eq!(driver.halts(), []);
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 1);
    assert_eq!(rowstate::number(&mut driver, "all"), 1, "the store has what the row has");
}

#[test]
fn two_inputs_of_a_task_are_moved_by_one_command() {
    let mut driver = rowstate::fill(TestDriver::new(rowstate::tally()).partitions(1), 1);
    driver.run();
    driver.stop(0);
    let sources = [place("readings", 0), place("corrections", 0)];
    sources.iter().for_each(|source| rowstate::send(&mut driver, source.topic.as_str(), 0, 1.0, ""));
    let mut repair = repairer(&mut driver, &rowstate::tally());
    let skip = Action::Skip { to: offset(1) };
    let plans = sources.each_ref().map(|source| repair.plan(source, skip).unwrap().unwrap());
    for (source, plan) in sources.iter().zip(&plans) {
        repair.carry_out(source, skip, plan, &mut |_| Ok(())).unwrap();
    }
    driver.start(0);
    driver.run();
    assert_eq!((driver.halts(), rowstate::number(&mut driver, "all")), (Vec::new(), 0));
}
