//! Obstacles on real servers: each is told with its cause and the next command while nothing is halted, and is over when its
//! cause is.

use crate::rig::{Feed, Instance, World, until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const IDS: i64 = 100;
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// The line of a kind, once it is logged.
fn told(instance: &mut Instance, kind: &str, within: Duration) -> String {
    let words = format!("kind=\"{kind}\"");
    instance.wait_log(&words, within);
    let log = instance.log();
    log.lines().find(|line| line.contains(&words)).unwrap().to_owned()
}

fn assert_tells(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}

fn readiness(instance: &Instance) -> String {
    let log = instance.log();
    let page = log.lines().rev().find_map(|line| line.trim().strip_prefix("page  http://")).unwrap();
    let (mut stream, mut answer) = (TcpStream::connect(page).unwrap(), String::new());
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A Java client of the group with its default, which librdkafka calls `range`.
fn in_the_group_by_range(world: &World, act: impl FnOnce()) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.bootstrap)
        .set("group.id", "scoring")
        .set("client.id", "another-program")
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    consumer.subscribe(&["readings"]).unwrap();
    until("the other program is a member", HALF_A_MINUTE, || {
        let _ = consumer.poll(Duration::from_millis(100));
        if consumer.assignment().unwrap().count() > 0 { Ok(()) } else { Err("no partition".into()) }
    });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let _ = consumer.poll(Duration::from_millis(100));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        is_over.store(true, Ordering::Release);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_group_that_does_not_take_us_in_and_a_quota_are_told_with_cause_and_next_command() {
    let Some(world) = World::new("admitted", IDS) else { return };
    let mut instance = None;
    in_the_group_by_range(&world, || {
        let instance = instance.insert(world.instance("only"));
        let line = told(instance, "not-admitted", HALF_A_MINUTE);
        let parts = ["WARN", "the group does not take this instance in", "speaks another protocol", "--members"];
        assert_tells(&line, &parts);
        let said = String::from_utf8_lossy(&world.run(&["halted"]).stdout).into_owned();
        assert_tells(
            &said,
            &["obstacle  client another-program", "has 12 of its partitions", "--group scoring --members"],
        );
        assert_tells(&readiness(instance), &["503", "speaks another protocol than cooperative-sticky"]);
    });
    let mut instance = instance.unwrap();
    instance.wait_log("all 12 partitions of this instance run", HALF_A_MINUTE);
    assert_tells(&readiness(&instance), &["200"]);

    let quota = |change: &[&str]| {
        let all = [&["--alter", "--entity-type", "clients", "--entity-default"], change].concat();
        world.kafka.tool("kafka.admin.ConfigCommand", &all);
    };
    quota(&["--add-config", "consumer_byte_rate=500"]);
    let mut feed = Feed::new(&world, IDS, 41);
    feed.send(3_000, Duration::from_secs(5));
    let line = told(&mut instance, "throttled", HALF_A_MINUTE);
    assert_tells(&line, &["the brokers slow this instance down", "broker 1", "consumer_byte_rate", "kafka-configs.sh"]);
    assert_tells(&readiness(&instance), &["200"]);
    let said = world.ok(&["halted"]);
    assert_tells(&said, &["obstacle  broker 1  the brokers slow this instance down", "  next  "]);
    quota(&["--delete-config", "consumer_byte_rate"]);
    world.judge(&feed, Duration::from_secs(60));
}

#[test]
fn an_open_transaction_a_locked_row_and_a_source_of_nonsense_are_told_and_pass() {
    let Some(world) = World::new("obstacles", IDS) else { return };
    let mut instance = world.instance("only");
    let mut feed = Feed::new(&world, IDS, 42);
    feed.send(200, Duration::ZERO);
    world.wait_taken(feed.sent, HALF_A_MINUTE);

    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.bootstrap)
        .set("transactional.id", "another-program")
        .create()
        .unwrap();
    producer.init_transactions(HALF_A_MINUTE).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| world.sql("BEGIN; SELECT FROM accounts WHERE id = 7 FOR UPDATE; SELECT pg_sleep(32); COMMIT"));
        std::thread::sleep(Duration::from_millis(500)); // the row is locked
        feed.read(7, "3.5");
        for _ in 0..12 {
            feed.raw("corrections", None, Some(b"8"), Some(b"nonsense"));
        }
        feed.flush();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::to("readings").partition(5).key("9").payload("{\"value\": 1.0}");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(HALF_A_MINUTE).unwrap();

        let line = told(&mut instance, "all-rejected", HALF_A_MINUTE);
        assert_tells(&line, &["WARN", "every record of a source becomes a dead letter", "corrections-dlt"]);
        let line = told(&mut instance, "stands-still", HALF_A_MINUTE);
        assert_tells(&line, &["partitions have records to take and do not move", "readings ", "lock"]);
        let line = told(&mut instance, "open-transaction", HALF_A_MINUTE);
        assert_tells(&line, &["readings-5", "kafka-transactions.sh", "--topic readings --partition 5"]);
        let said = world.ok(&["halted"]);
        assert_tells(&said, &["obstacle  readings-5  records are not shown", "obstacle  corrections  every record"]);
    });
    producer.abort_transaction(HALF_A_MINUTE).unwrap();
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
    let mut second = world.instance("second");
    let line = told(&mut second, "not-admitted", HALF_A_MINUTE);
    assert_tells(&line, &["as many members as the broker's group.max.size allows", "run fewer instances"]);
    assert_tells(&readiness(&second), &["503", "group.max.size"]);
    assert!(second.terminate(HALF_A_MINUTE).0.success());

    assert!(first.is_running());
}

/// So low that transactions run into their time: the producers are replaced, and the quota is told all the same.
#[test]
fn a_quota_on_what_is_written_is_told_although_its_producers_are_replaced() {
    let Some(world) = World::new("written", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 44);
    feed.send(1_000, Duration::ZERO);
    let quota = |change: &[&str]| {
        let all = [&["--alter", "--entity-type", "clients", "--entity-default"], change].concat();
        world.kafka.tool("kafka.admin.ConfigCommand", &all);
    };
    quota(&["--add-config", "producer_byte_rate=200"]); // of each client, and an instance has several producers
    let mut instance = world.instance("only");
    let line = told(&mut instance, "throttled", HALF_A_MINUTE);
    assert_tells(&line, &["the brokers slow this instance down", "producer scoring-", "producer_byte_rate"]);
    quota(&["--delete-config", "producer_byte_rate"]);
    world.judge(&feed, Duration::from_secs(90));
}
