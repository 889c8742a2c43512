//! Obstacles on real servers: each is told with its cause and the next command while nothing is halted, and is over when its
//! cause is. The matrix plays them under load (`matrix::obstacles`).

use crate::rig::{Feed, Instance, OpenTransaction, Quota, Session, Stranger, Telling, World, assert_tells};
use std::time::Duration;
use tidegate::ports::obstacle::ObstacleKind;

const IDS: i64 = 100;
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

fn assert_ready(instance: &Instance, parts: &[&str]) {
    assert_tells(&instance.readiness().unwrap(), parts);
}

#[test]
fn a_group_that_does_not_take_us_in_and_a_quota_are_told_with_cause_and_next_command() {
    let Some(world) = World::new("admitted", IDS) else { return };
    let stranger = Stranger::join(&world, "scoring", "readings", "range");
    let telling = Telling::of_next(ObstacleKind::NotAdmitted, &world, "only");
    let mut instance = world.instance("only");
    let line = telling.demand_of(&instance);
    assert_tells(&line, &["the group does not take this instance in", "speaks another protocol", "--members"]);
    let said = String::from_utf8_lossy(&world.run(&["halted"]).stdout).into_owned();
    let parts = ["obstacle  client another-program", "has 12 of its partitions", "--group scoring --members"];
    assert_tells(&said, &parts);
    assert_ready(&instance, &["503", "speaks another protocol than cooperative-sticky"]);
    drop(stranger);
    instance.wait_log("all 12 partitions of this instance run", HALF_A_MINUTE);
    instance.wait_rid_of(ObstacleKind::NotAdmitted, HALF_A_MINUTE);

    let quota = Quota::set(&world, "consumer_byte_rate", 500);
    let telling = Telling::of(ObstacleKind::Throttled, &instance);
    let mut feed = Feed::new(&world, IDS, 41);
    feed.send(3_000, Duration::from_secs(5));
    let line = telling.demand_of(&instance);
    let parts = ["the brokers slow this instance down", "broker 1", "consumer_byte_rate", "kafka-configs.sh"];
    assert_tells(&line, &parts);
    assert_ready(&instance, &["200"]);
    let said = world.ok(&["halted"]);
    assert_tells(&said, &["obstacle  broker 1  the brokers slow this instance down", "  next  "]);
    quota.lift();
    world.judge(&feed, Duration::from_secs(60));
}

#[test]
fn an_open_transaction_a_locked_row_and_a_source_of_nonsense_are_told_and_pass() {
    let Some(world) = World::new("obstacles", IDS) else { return };
    let mut instance = world.instance("only");
    let mut feed = Feed::new(&world, IDS, 42);
    feed.send(200, Duration::ZERO);
    world.wait_taken(feed.sent, HALF_A_MINUTE);

    let session = Session::begin(&world.postgres.url, "SELECT FROM accounts WHERE id = 7 FOR UPDATE");
    let telling = |kind| Telling::of(kind, &instance);
    let (rejected, still) = (telling(ObstacleKind::AllRejected), telling(ObstacleKind::StandsStill));
    feed.read(7, "3.5");
    for _ in 0..12 {
        feed.raw("corrections", None, Some(b"8"), Some(b"nonsense"));
    }
    feed.flush();
    let hidden = telling(ObstacleKind::OpenTransaction);
    let transaction = OpenTransaction::record(&world, "readings", 5);

    let line = rejected.demand_of(&instance);
    assert_tells(&line, &["every record of a source becomes a dead letter", "corrections-dlt"]);
    let line = still.demand_of(&instance);
    assert_tells(&line, &["partitions have records to take and do not move", "readings ", "lock"]);
    let line = hidden.demand_of(&instance);
    assert_tells(&line, &["readings-5", "kafka-transactions.sh", "--topic readings --partition 5"]);
    let said = world.ok(&["halted"]);
    assert_tells(&said, &["obstacle  readings-5  records are not shown", "obstacle  corrections  every record"]);
    session.rollback();
    transaction.abort();
    for id in (1..IDS).step_by(2) {
        feed.read(id, "2.25"); // behind the transaction's end, in every partition
    }
    feed.flush();
    world.judge(&feed, Duration::from_secs(60));
    assert!(instance.is_running());
}

#[test]
fn a_full_group_is_told_by_the_instance_that_it_does_not_take_in() {
    let Some(world) = World::with_kafka("full", &[("KAFKA_MORE", "group.max.size=1")]) else { return };
    world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
    let world = world.with_accounts(IDS);
    let mut first = world.instance("first");
    first.wait_log("all 12 partitions of this instance run", HALF_A_MINUTE);
    let telling = Telling::of_next(ObstacleKind::NotAdmitted, &world, "second");
    let mut second = world.instance("second");
    let line = telling.demand_of(&second);
    assert_tells(&line, &["as many members as the broker's group.max.size allows", "run fewer instances"]);
    assert_ready(&second, &["503", "group.max.size"]);
    assert!(second.terminate(HALF_A_MINUTE).0.success());

    assert!(first.is_running());
}

/// So low that transactions run into their time: the producers are replaced, and the quota is told all the same.
#[test]
fn a_quota_on_what_is_written_is_told_although_its_producers_are_replaced() {
    let Some(world) = World::new("written", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 44);
    feed.send(1_000, Duration::ZERO);
    let quota = Quota::set(&world, "producer_byte_rate", 200); // of each client, and an instance has several producers
    let telling = Telling::of_next(ObstacleKind::Throttled, &world, "only");
    let instance = world.instance("only");
    let line = telling.demand_of(&instance);
    assert_tells(&line, &["the brokers slow this instance down", "producer scoring-", "producer_byte_rate"]);
    quota.lift();
    world.judge(&feed, Duration::from_secs(90));
}
