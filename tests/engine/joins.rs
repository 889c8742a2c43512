//! Joins: a stream with a table topic, and streams with each other, through crashes and rebalances, against a naive
//! program that reads the same records in the order of time.

use crate::pipeline::strike;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::engine::protocol::decision::{DataLossPolicy, HaltReason, StartPolicy};
use tidegate::engine::protocol::order::THROUGH_LOG;
use tidegate::engine::status::{Counter, State};
use tidegate::flow::key::partition_for;
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Declared, KeyHash, OnViolation, Reject, Store, TableTopic, Topology};
use tidegate::ports::store::StoreId;
use tidegate::testing::{Random, TestDriver};

#[derive(Deserialize)]
struct Order {
    n: u64,
}

#[derive(Serialize, Deserialize)]
struct User {
    version: u64,
}

/// Which version of its user an order met; `None` where it met none.
#[derive(Serialize)]
struct Met {
    n: u64,
    version: Option<u64>,
}

struct Inner;

impl Algorithm for Inner {
    type Event = (Order, User);
    type Row = ();
    type Notices = Option<Met>;

    fn apply(&self, (order, user): (Order, User), (): &mut (), _: &mut Context<'_>) -> Result<Option<Met>, Reject> {
        Ok(Some(Met { n: order.n, version: Some(user.version) }))
    }
}

struct Left;

impl Algorithm for Left {
    type Event = (Order, Option<User>);
    type Row = ();
    type Notices = Option<Met>;

    fn apply(
        &self,
        (order, user): (Order, Option<User>),
        (): &mut (),
        _: &mut Context<'_>,
    ) -> Result<Option<Met>, Reject> {
        Ok(Some(Met { n: order.n, version: user.map(|user| user.version) }))
    }
}

fn inner() -> Topology {
    let mut topology = Topology::new("shop");
    topology.source("orders").join("users").process(Inner).to("met");
    topology
}

fn left() -> Topology {
    let mut topology = Topology::new("shop");
    topology.source("orders").left_join("users").process(Left).to("met");
    topology
}

fn order(driver: &mut TestDriver, user: &str, n: u64) {
    driver.send("orders", user, json!({"n": n}));
}

fn user(driver: &mut TestDriver, user: &str, version: Option<u64>) {
    match version {
        Some(version) => driver.send("users", user, json!({"version": version})),
        None => driver.send_raw("users", Some(user.as_bytes()), None),
    }
}

/// The partners that each user's orders met, in the order of their notices.
fn met(driver: &mut TestDriver) -> BTreeMap<String, Vec<(u64, Option<u64>)>> {
    let mut met: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for found in driver.read_raw("met") {
        let value: Value = serde_json::from_slice(found.value.as_deref().unwrap()).unwrap();
        let user = String::from_utf8(found.key.unwrap()).unwrap();
        met.entry(user).or_default().push((value["n"].as_u64().unwrap(), value["version"].as_u64()));
    }
    met
}

fn met_by(driver: &mut TestDriver, user: &str) -> Vec<(u64, Option<u64>)> {
    met(driver).remove(user).unwrap_or_default()
}

fn dead(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    found.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

// === The meaning of a join with a table ===

#[test]
fn an_order_meets_what_the_table_says_when_it_is_handled() {
    let mut driver = TestDriver::new(inner()).partitions(3);
    order(&mut driver, "ada", 1);
    driver.run();
    user(&mut driver, "ada", Some(1));
    driver.run();
    assert_eq!(met(&mut driver), BTreeMap::new(), "no match is skipped, and a change of the table alone tells nothing");
    order(&mut driver, "ada", 2);
    order(&mut driver, "bob", 3);
    driver.run();
    user(&mut driver, "ada", Some(2));
    driver.run();
    order(&mut driver, "ada", 4);
    driver.run();
    user(&mut driver, "ada", None);
    driver.run();
    order(&mut driver, "ada", 5);
    assert_eq!(met(&mut driver), BTreeMap::from([("ada".into(), vec![(2, Some(1)), (4, Some(2))])]));
    assert_eq!(driver.status(0).value(Counter::Skipped), 3, "orders 1, 3 and 5");
    assert_eq!(driver.store("users", "ada"), None, "a tombstone deletes");
}

#[test]
fn a_left_join_tells_of_orders_without_a_user_too() {
    let mut driver = TestDriver::new(left()).partitions(2);
    order(&mut driver, "ada", 1);
    driver.run();
    user(&mut driver, "ada", Some(7));
    driver.run();
    order(&mut driver, "ada", 2);
    driver.run();
    user(&mut driver, "ada", None);
    driver.run();
    order(&mut driver, "ada", 3);
    assert_eq!(met_by(&mut driver, "ada"), [(1, None), (2, Some(7)), (3, None)]);
}

#[test]
fn records_without_a_key_and_table_values_that_do_not_decode_are_dead_letters() {
    let mut driver = TestDriver::new(left()).partitions(1);
    user(&mut driver, "ada", Some(1));
    driver.send_raw("users", Some(b"ada"), Some(b"{\"version\": \"two\"}"));
    driver.send_raw("users", Some(b"ada"), Some(b""));
    driver.send_raw("users", None, Some(b"{\"version\": 3}"));
    driver.send_raw("orders", None, Some(b"{\"n\": 1}"));
    order(&mut driver, "ada", 2);
    assert_eq!(met_by(&mut driver, "ada"), [(2, Some(1))], "the key keeps the value it had");
    assert_eq!(dead(&mut driver, "users-dlt"), ["bad-json", "empty-value", "null-key"]);
    assert_eq!(dead(&mut driver, "orders-dlt"), ["null-key"]);
}

// === In which order ===

#[test]
fn the_table_is_read_to_its_end_before_the_stream_begins() {
    let mut driver = TestDriver::new(inner()).partitions(2);
    order(&mut driver, "ada", 1);
    driver.pass(Duration::from_millis(10));
    user(&mut driver, "ada", Some(1)); // later, and yet first
    assert_eq!(met_by(&mut driver, "ada"), [(1, Some(1))]);
    driver.stop(0);
    order(&mut driver, "ada", 2);
    driver.pass(Duration::from_millis(10));
    user(&mut driver, "ada", Some(2));
    driver.start(0);
    assert_eq!(met_by(&mut driver, "ada"), [(1, Some(1)), (2, Some(2))]);
}

#[test]
fn what_comes_later_is_taken_in_the_order_of_time_and_the_table_first_at_the_same_time() {
    let mut driver = TestDriver::new(inner()).partitions(1);
    user(&mut driver, "ada", Some(1));
    driver.run();
    order(&mut driver, "ada", 1);
    driver.pass(Duration::from_millis(1));
    order(&mut driver, "ada", 2);
    user(&mut driver, "ada", Some(2));
    driver.pass(Duration::from_millis(1));
    order(&mut driver, "ada", 3);
    assert_eq!(met_by(&mut driver, "ada"), [(1, Some(1)), (2, Some(2)), (3, Some(2))]);
}

#[test]
fn a_table_begins_at_its_beginning_wherever_the_stream_does() {
    let mut driver = TestDriver::new(left()).partitions(1).settings(|settings| settings.start = StartPolicy::Latest);
    user(&mut driver, "ada", Some(1));
    order(&mut driver, "ada", 1);
    driver.run();
    order(&mut driver, "ada", 2);
    assert_eq!(met_by(&mut driver, "ada"), [(2, Some(1))]);
}

/// Behind the last record of a partition that is written in transactions lies a marker that no reader is shown.
#[test]
fn a_table_that_another_step_writes_is_read_to_its_end_too() {
    struct Pass;
    impl Algorithm for Pass {
        type Event = User;
        type Row = ();
        type Notices = Option<User>;
        fn apply(&self, user: User, (): &mut (), _: &mut Context<'_>) -> Result<Option<User>, Reject> {
            Ok(Some(user))
        }
    }
    let mut topology = Topology::new("shop");
    topology.source("signups").process(Pass).to("users");
    topology.source("orders").join("users").process(Inner).to("met");
    let mut driver = TestDriver::new(topology).partitions(2);
    for version in 1..=3 {
        driver.send("signups", "ada", json!({"version": version}));
        driver.run();
        driver.stop(0);
        order(&mut driver, "ada", version);
        driver.start(0);
    }
    assert_eq!(met_by(&mut driver, "ada"), [(1, Some(1)), (2, Some(2)), (3, Some(3))]);
}

/// More than one slice of the reader, so that the stream would come in between.
#[test]
fn a_long_backlog_of_the_table_is_decided_before_the_stream_begins() {
    let mut driver = TestDriver::new(inner()).partitions(1);
    order(&mut driver, "ada", 1);
    driver.pass(Duration::from_millis(10));
    for n in 0..6_000 {
        user(&mut driver, &format!("u{n}"), Some(n));
    }
    user(&mut driver, "ada", Some(1));
    assert_eq!(met_by(&mut driver, "ada"), [(1, Some(1))]);
}

/// Its start passes the reader: that is data loss like any other, and no matter of the database.
#[test]
fn a_table_that_is_cut_while_it_is_read_halts_as_deleted_or_goes_on_as_the_settings_say() {
    for policy in [DataLossPolicy::Halt, DataLossPolicy::Skip] {
        let driver = TestDriver::new(inner()).settings(|settings| settings.on_data_loss = policy);
        let mut driver = driver.partitions(1);
        for n in 0..12_000 {
            user(&mut driver, &format!("u{n}"), Some(n));
        }
        let place = TopicPartition::new(TopicName::parse("users").unwrap(), Partition(0));
        let is_reading =
            |driver: &mut TestDriver| driver.status(0).tasks().values().any(|task| task.state == State::CatchingUp);
        for _ in 0..1_000 {
            driver.step();
            driver.pass(Duration::from_millis(1));
            if is_reading(&mut driver) {
                break;
            }
        }
        driver.step(); // begins to read
        driver.step();
        assert!(is_reading(&mut driver), "the table is cut under the reader");
        driver.log().truncate_before(&place, NextOffset(11_999));
        order(&mut driver, "u11999", 1);
        let halts: Vec<_> = driver.halts().iter().map(|halt| (halt.reason, halt.source.clone())).collect();
        match policy {
            DataLossPolicy::Halt => assert_eq!(halts, [(HaltReason::InputsDeleted, place)]),
            DataLossPolicy::Skip => {
                assert_eq!(halts, []);
                assert_eq!(met_by(&mut driver, "u11999"), [(1, Some(11_999))]);
            }
        }
    }
}

// === Through crashes and rebalances ===

#[test]
fn a_crash_at_any_step_changes_neither_what_is_told_nor_the_table() {
    let mut driver = TestDriver::new(inner()).partitions(3).instances(2).settings(|settings| {
        settings.store_flush = Duration::ZERO; // so that stores are written between the crashes
    });
    for round in 0..3 {
        for number in 0..4 {
            let name = format!("u{number}");
            user(&mut driver, &name, (number + round != 3).then_some(round));
            order(&mut driver, &name, round);
        }
        driver.send_raw("users", Some(b"u1"), Some(b"not json"));
        driver.run();
    }
    driver.crash_everywhere();
}

/// The same records read one by one, in the order of time, the table's first at the same time.
#[derive(Default)]
struct Naive {
    users: BTreeMap<String, u64>,
    met: BTreeMap<String, Vec<(u64, Option<u64>)>>,
    /// The records of this window: when, whether it is an order, whose, the order's number or the user's version.
    waiting: Vec<(u64, bool, String, Option<u64>)>,
}

impl Naive {
    fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|(at, is_order, ..)| (*at, *is_order)); // stable: as sent otherwise
        for (_, is_order, name, number) in waiting {
            match (is_order, number) {
                (true, n) => {
                    let version = self.users.get(&name).copied();
                    self.met.entry(name).or_default().push((n.unwrap(), version));
                }
                (false, Some(version)) => {
                    self.users.insert(name, version);
                }
                (false, None) => {
                    self.users.remove(&name);
                }
            }
        }
    }
}

/// Random records in windows; within a window time passes where no instance fails, and between windows instances come and
/// go where it does not.
fn against_the_naive_program(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let fails = seed.is_multiple_of(2);
    let mut driver = TestDriver::new(left()).partitions(4).instances(2);
    driver.run();
    let mut naive = Naive::default();
    let mut at = 0;
    for n in 0..120 {
        let name = format!("u{}", random.below(9));
        match random.below(8) {
            0..4 => {
                order(&mut driver, &name, n);
                naive.waiting.push((at, true, name, Some(n)));
            }
            4..7 => {
                user(&mut driver, &name, Some(n));
                naive.waiting.push((at, false, name, Some(n)));
            }
            _ => {
                user(&mut driver, &name, None);
                naive.waiting.push((at, false, name, None));
            }
        }
        if !fails && random.below(2) == 0 {
            driver.pass(Duration::from_millis(1));
            at += 1;
        }
        if random.below(10) > 0 {
            continue;
        }
        driver.run();
        naive.settle();
        if fails {
            strike(&mut driver, &mut random, &THROUGH_LOG[..6]);
        }
    }
    driver.run();
    naive.settle();
    assert_eq!(met(&mut driver), naive.met, "seed {seed}");
    for number in 0..9 {
        let name = format!("u{number}");
        let version = driver.store("users", &name).map(|user| user["version"].as_u64().unwrap());
        assert_eq!(version, naive.users.get(&name).copied(), "seed {seed}: {name}");
    }
    driver.crashes()
}

#[test]
fn random_interleavings_come_out_as_a_naive_program_has_them() {
    let crashes: usize = (0..60).map(against_the_naive_program).sum();
    assert!(crashes >= 30, "{crashes} crashes are too few to tell");
}

// === After a change of key, and with an aggregate ===

#[derive(Deserialize)]
struct Sale {
    user: String,
    n: u64,
}

#[derive(Serialize, Deserialize, Default)]
struct Total {
    n: u64,
}

struct Sum;

impl Algorithm for Sum {
    type Event = (Sale, User);
    type Row = Total;
    type Notices = Option<Met>;

    fn apply(&self, (sale, user): (Sale, User), total: &mut Total, _: &mut Context<'_>) -> Result<Option<Met>, Reject> {
        total.n += sale.n;
        Ok(Some(Met { n: total.n, version: Some(user.version) }))
    }
}

fn totals() -> Topology {
    let mut topology = Topology::new("shop");
    topology
        .source("sales")
        .key_by("by-user", |sale: &Sale| sale.user.clone())
        .join("users")
        .aggregate("totals", Sum)
        .to("met");
    topology
}

#[test]
fn a_re_keyed_stream_meets_its_table_in_the_partition_of_the_new_key() {
    let mut driver = TestDriver::new(totals()).partitions(4).instances(2);
    for name in ["ada", "bob", "cyn", "dan", "eve"] {
        user(&mut driver, name, Some(1));
    }
    driver.run();
    for n in 0..20 {
        let name = ["ada", "bob", "cyn", "dan", "eve"][n % 5];
        driver.send("sales", format!("k{n}").as_str(), json!({"user": name, "n": 1}));
    }
    driver.run();
    for (name, met) in met(&mut driver) {
        assert_eq!(met, [(1, Some(1)), (2, Some(1)), (3, Some(1)), (4, Some(1))], "{name}");
        assert_eq!(driver.store("totals", &name), Some(json!({"n": 4})));
    }
    driver.crash_everywhere();
}

// === Streams with each other ===

#[derive(Deserialize)]
struct Payment {
    cents: i64,
}

enum Movement {
    Ordered(Order),
    Paid(Payment),
}

/// An order that waits for its payment, or a payment for its order.
#[derive(Serialize, Deserialize, Default)]
struct Open {
    orders: Vec<u64>,
    payments: Vec<i64>,
}

#[derive(Serialize)]
struct Pair {
    n: u64,
    cents: i64,
}

struct Pairs;

impl Algorithm for Pairs {
    type Event = Movement;
    type Row = Open;
    type Notices = Option<Pair>;

    fn apply(&self, movement: Movement, open: &mut Open, _: &mut Context<'_>) -> Result<Option<Pair>, Reject> {
        match movement {
            Movement::Ordered(order) => open.orders.push(order.n),
            Movement::Paid(payment) => open.payments.push(payment.cents),
        }
        if open.orders.is_empty() || open.payments.is_empty() {
            return Ok(None);
        }
        Ok(Some(Pair { n: open.orders.remove(0), cents: open.payments.remove(0) }))
    }
}

fn pairs() -> Topology {
    let mut topology = Topology::new("shop");
    topology
        .source("orders")
        .events(Movement::Ordered)
        .and("payments", Movement::Paid)
        .aggregate("open", Pairs)
        .to("paid");
    topology
}

#[test]
fn two_streams_meet_under_their_key_each_read_as_its_own_type() {
    let mut driver = TestDriver::new(pairs()).partitions(3).instances(2);
    let names = ["ada", "bob", "cyn"];
    for (n, name) in names.iter().enumerate() {
        order(&mut driver, name, n as u64);
    }
    driver.run();
    for (n, name) in names.iter().enumerate().rev() {
        driver.send("payments", *name, json!({"cents": 100 + n}));
    }
    driver.send("payments", "dan", json!({"cents": 7}));
    driver.send("payments", "dan", json!({"n": 7}));
    driver.run();
    let mut found: Vec<Value> = driver
        .read_raw("paid")
        .iter()
        .map(|found| serde_json::from_slice(found.value.as_deref().unwrap()).unwrap())
        .collect();
    found.sort_by_key(|pair| pair["n"].as_u64());
    assert_eq!(found, (0..3).map(|n| json!({"n": n, "cents": 100 + n})).collect::<Vec<_>>());
    assert_eq!(driver.store("open", "dan"), Some(json!({"orders": [], "payments": [7]})));
    assert_eq!(dead(&mut driver, "payments-dlt"), ["bad-json"], "an order in the topic of payments");
    driver.crash_everywhere();
}

#[test]
fn two_streams_are_joined_with_two_tables() {
    struct All;
    #[derive(Serialize)]
    struct Told {
        what: String,
        user: u64,
        limit: Option<u64>,
    }
    impl Algorithm for All {
        type Event = ((Movement, User), Option<User>);
        type Row = ();
        type Notices = Option<Told>;
        fn apply(
            &self,
            ((movement, user), limit): ((Movement, User), Option<User>),
            (): &mut (),
            _: &mut Context<'_>,
        ) -> Result<Option<Told>, Reject> {
            let what = match movement {
                Movement::Ordered(order) => format!("order {}", order.n),
                Movement::Paid(payment) => format!("paid {}", payment.cents),
            };
            Ok(Some(Told { what, user: user.version, limit: limit.map(|limit| limit.version) }))
        }
    }
    let mut topology = Topology::new("shop");
    topology
        .source("orders")
        .events(Movement::Ordered)
        .and("payments", Movement::Paid)
        .join("users")
        .left_join(TableTopic::new("limits").kept_in("credit"))
        .process(All)
        .to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    user(&mut driver, "ada", Some(1));
    order(&mut driver, "ada", 1);
    driver.run();
    driver.send("limits", "ada", json!({"version": 9}));
    driver.send("payments", "ada", json!({"cents": 5}));
    let found = driver.read_raw("told");
    let told: Vec<Value> =
        found.iter().map(|found| serde_json::from_slice(found.value.as_deref().unwrap()).unwrap()).collect();
    assert_eq!(
        told,
        [json!({"what": "order 1", "user": 1, "limit": null}), json!({"what": "paid 5", "user": 1, "limit": 9})]
    );
    assert_eq!(driver.store("credit", "ada"), Some(json!({"version": 9})));
}

// === Keys that cannot meet ===

fn joined(stream: Option<Declared>, table: TableTopic<User>) -> Topology {
    let mut topology = Topology::new("shop");
    let mut source = topology.source("orders");
    if let Some(declared) = stream {
        source = source.declared(declared);
    }
    source.join(table).process(Inner).to("met");
    topology
}

#[test]
fn a_join_whose_keys_cannot_meet_is_refused_with_cause_and_fix() {
    let users = || TableTopic::<User>::new("users");
    let reversed = KeyHash::Custom("reversed", std::sync::Arc::new(|key, count| count - 1 - partition_for(key, count)));
    let mut twice = inner();
    twice.source("returns").join("users").process(Inner).to("met");
    let mut one_store = Topology::new("shop");
    one_store.source("orders").join(users().kept_in("open")).aggregate("open", JoinedPairs).done();
    let mut rekeyed = Topology::new("shop");
    rekeyed
        .source("sales")
        .key_by("by-user", |sale: &Sale| sale.user.clone())
        .join(users().declared(Declared::crc32(4)))
        .process(Inner)
        .to("met");
    let cases: Vec<(&str, Topology, &[&str])> = vec![
        (
            "unequal counts",
            joined(Some(Declared::murmur2(12)), users().declared(Declared::murmur2(6))),
            &["table users", "6 partitions", "orders", "12", "key_by()"],
        ),
        (
            "unequal hashes",
            joined(Some(Declared::murmur2(4)), users().declared(Declared::new(reversed, 4))),
            &["table users", "reversed", "murmur2", "one partitioner"],
        ),
        ("a re-keyed stream is murmur2", rekeyed, &["table users", "crc32", "by-user-repartition", "murmur2"]),
        (
            "a table's records are not sent on",
            joined(None, users().declared(Declared::murmur2(4).on_violation(OnViolation::Repartition))),
            &["table users", "OnViolation::Stop"],
        ),
        ("a table joined twice", twice, &["topic users", "twice", "events() and and()"]),
        ("one store for a table and an aggregate", one_store, &["store open", "name another"]),
        ("an illegal name", joined(None, TableTopic::new("us ers")), &["us ers", "use 1 to 249 characters"]),
    ];
    for (name, topology, words) in cases {
        let errors = topology.validate().expect_err(name);
        let is_said = |error: &String| words.iter().all(|word| error.contains(word));
        assert!(errors.iter().any(is_said), "{name}: {words:?} in {errors:?}");
    }
    let fitting = joined(Some(Declared::murmur2(4)), users().declared(Declared::murmur2(4)));
    assert_eq!(fitting.validate(), Ok(()));
}

struct JoinedPairs;

impl Algorithm for JoinedPairs {
    type Event = (Order, User);
    type Row = Total;
    type Notices = Option<Met>;

    fn apply(&self, _: (Order, User), _: &mut Total, _: &mut Context<'_>) -> Result<Option<Met>, Reject> {
        Ok(None)
    }
}

#[test]
fn a_table_with_another_partition_count_halts_with_both_counts() {
    let mut driver = TestDriver::new(inner()).partitions(2);
    driver.log().add_partitions(&TopicName::parse("users").unwrap(), 4);
    let halts = driver.halts();
    assert_eq!(halts.len(), 2);
    for halt in halts {
        assert_eq!((halt.reason, halt.source.topic.as_str()), (HaltReason::PartitionCountChanged, "users"));
        assert_eq!(halt.detail, "orders has 2 partitions and users, which is read with it, 4: equal keys do not meet");
    }
}

#[test]
fn a_table_record_in_the_wrong_partition_stops_it_before_it_has_an_effect() {
    let table = TableTopic::new("users").declared(Declared::murmur2(4));
    let mut driver = TestDriver::new(joined(None, table)).partitions(4);
    user(&mut driver, "ada", Some(1));
    let right = partition_for(b"ada", 4);
    let wrong = (right + 1) % 4;
    driver.send_to("users", wrong, Some(b"ada"), Some(b"{\"version\": 2}"));
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::WronglyKeyed]);
    assert!(halts[0].detail.contains(&format!("partition {right}")), "{}", halts[0].detail);
    order(&mut driver, "ada", 1);
    assert_eq!(met_by(&mut driver, "ada"), [(1, Some(1))], "the others go on");
}

#[test]
fn a_table_is_kept_as_any_store_is() {
    let version = |version: u8| {
        Store::new("accounts").version(version, |_, json| {
            let old: u64 = serde_json::from_slice(json).map_err(|error| error.to_string())?;
            Ok(User { version: old })
        })
    };
    let mut driver = TestDriver::new(joined(None, TableTopic::new("users").kept_in(version(3)))).partitions(1);
    user(&mut driver, "ada", Some(1));
    driver.run();
    let changelog = driver.read_raw("shop-accounts-changelog");
    assert_eq!(changelog[0].value.as_deref(), Some(&b"\x01\x03{\"version\":1}"[..]), "under its own name and version");
    driver.stop(0);
    let id = StoreId { name: "accounts".into(), partition: Partition(0) };
    driver.disk(0).corrupt(&id, b"bob", b"\x01\x027");
    driver.start(0);
    order(&mut driver, "bob", 1);
    assert_eq!(met_by(&mut driver, "bob"), [(1, Some(7))], "a value of an earlier version is upgraded");
}

#[test]
fn what_a_join_with_a_quiet_table_looked_up_does_not_stay_in_memory() {
    let mut driver = TestDriver::new(inner()).partitions(1).settings(|settings| settings.cache_bytes = 10_000);
    driver.run();
    let looked_up = |driver: &mut TestDriver, keys: std::ops::Range<u64>| {
        keys.for_each(|n| order(driver, &format!("u{n}"), n));
        driver.run();
        driver.disk(0).reads()
    };
    let first = looked_up(&mut driver, 0..1_000);
    let again = looked_up(&mut driver, 0..1_000);
    assert!(again > first + 900, "{again} reads, {first} of them the first time: few are still known");
}

/// A topic is read by one source: of two steps that are joined with one table each has a copy of it.
#[test]
fn one_table_of_two_steps_is_copied_by_chains() {
    let mut topology = Topology::new("shop");
    topology.source("users").chain("for-orders", |_| ()).chain("for-returns", |_| ());
    topology.source("orders").join("shop-for-orders-repartition").process(Inner).to("met");
    topology.source("returns").left_join("shop-for-returns-repartition").process(Left).to("returned");
    assert_eq!(topology.validate(), Ok(()));
    let mut driver = TestDriver::new(topology).partitions(3);
    for version in [1, 2] {
        for user in ["ada", "bob"] {
            driver.send("users", user, json!({ "version": version }));
        }
    }
    driver.run();
    for n in [1, 3] {
        driver.send("orders", "ada", json!({ "n": n }));
        driver.send("returns", "ada", json!({ "n": n + 1 }));
        driver.run();
        driver.send_raw("users", Some(b"ada"), None);
        driver.run();
    }
    assert_eq!(driver.read_keyed("met"), [("ada".into(), json!({ "n": 1, "version": 2 }))]);
    let returned =
        [json!({ "n": 2, "version": 2 }), json!({ "n": 4, "version": null })].map(|told| ("ada".into(), told));
    assert_eq!(driver.read_keyed("returned"), returned);
    driver.crash_everywhere();
}
