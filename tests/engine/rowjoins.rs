//! Joins in front of a step with rows: a stream with table topics, and several streams, through crashes and rebalances,
//! against a naive program that reads the same records in the order of time.

use crate::pipeline::{make_a_zombie, strike};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::order::THROUGH_DATABASE;
use tidegate::engine::status::{Counter, State};
use tidegate::flow::key::crc32_partition_for;
use tidegate::flow::record::{Partition, TopicName};
use tidegate::flow::row::Value as Cell;
use tidegate::flow::{Algorithm, Context, KeyType, Notice, OnUnreadable, Reject, Store, Table, TableTopic, Topology};
use tidegate::ports::sink::{Message, Sink};
use tidegate::testing::{Random, TestDriver};

#[derive(Deserialize)]
struct Order {
    n: i64,
    #[serde(default)]
    word: String,
}

#[derive(Serialize, Deserialize)]
struct User {
    version: i64,
}

/// A user's orders; `met` is the version of the user that the last one met.
#[derive(Serialize, Deserialize, Clone)]
struct Account {
    orders: i64,
    met: i64,
}

#[derive(Serialize)]
struct Met {
    n: i64,
    version: i64,
}

/// What a join makes of an order whose user is missing.
const NOBODY: i64 = -1;

fn book(order: &Order, version: i64, account: &mut Account) -> Result<Option<Met>, Reject> {
    match order.word.as_str() {
        "reject" => return Err(Reject::new("as the order says")),
        "retry" => return Err(Reject::retry("told-to-retry", "as the order says")),
        _ => {}
    }
    account.orders += 1;
    account.met = version;
    Ok(Some(Met { n: order.n, version }))
}

struct Inner;

impl Algorithm for Inner {
    type Event = (Order, User);
    type Row = Account;
    type Notices = Option<Met>;

    fn apply(
        &self,
        (order, user): (Order, User),
        account: &mut Account,
        _: &mut Context<'_>,
    ) -> Result<Option<Met>, Reject> {
        book(&order, user.version, account)
    }
}

struct Left;

impl Algorithm for Left {
    type Event = (Order, Option<User>);
    type Row = Account;
    type Notices = Option<Met>;

    fn apply(
        &self,
        (order, user): (Order, Option<User>),
        account: &mut Account,
        _: &mut Context<'_>,
    ) -> Result<Option<Met>, Reject> {
        book(&order, user.map_or(NOBODY, |user| user.version), account)
    }
}

fn inner() -> Topology {
    let mut topology = Topology::new("shop");
    topology.source("orders").join("users").update("accounts", Inner).to("met");
    topology
}

fn left() -> Topology {
    let mut topology = Topology::new("shop");
    topology.source("orders").left_join("users").update("accounts", Left).to("met");
    topology
}

fn filled(mut driver: TestDriver) -> TestDriver {
    for id in 0..9 {
        driver.row("accounts", id, Account { orders: 0, met: 0 });
    }
    driver
}

fn order(driver: &mut TestDriver, id: i64, n: i64) {
    driver.send("orders", id, json!({"n": n}));
}

fn user(driver: &mut TestDriver, id: i64, version: Option<i64>) {
    match version {
        Some(version) => driver.send("users", id, json!({"version": version})),
        None => driver.send_raw("users", Some(id.to_string().as_bytes()), None),
    }
}

/// The versions that each user's orders met, in the order of their notices.
fn met(driver: &mut TestDriver) -> BTreeMap<i64, Vec<(i64, i64)>> {
    let mut met: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for found in driver.read_raw("met") {
        let value: Value = serde_json::from_slice(found.value.as_deref().unwrap()).unwrap();
        let id = String::from_utf8(found.key.unwrap()).unwrap().parse().unwrap();
        met.entry(id).or_default().push((value["n"].as_i64().unwrap(), value["version"].as_i64().unwrap()));
    }
    met
}

fn met_by(driver: &mut TestDriver, id: i64) -> Vec<(i64, i64)> {
    met(driver).remove(&id).unwrap_or_default()
}

fn account(driver: &mut TestDriver, id: i64) -> (i64, i64) {
    match driver.row_of("accounts", id).unwrap().values[..] {
        [Cell::I64(orders), Cell::I64(met)] => (orders, met),
        ref other => panic!("{other:?}"),
    }
}

fn dead(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    found.iter().map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned()).collect()
}

// === The meaning ===

#[test]
fn an_order_changes_its_row_by_what_the_table_says_when_it_is_handled() {
    let mut driver = filled(TestDriver::new(inner()).partitions(3));
    order(&mut driver, 1, 1);
    driver.run();
    user(&mut driver, 1, Some(7));
    driver.run();
    assert_eq!(
        (account(&mut driver, 1), met(&mut driver)),
        ((0, 0), BTreeMap::new()),
        "no match is skipped, and a table's record touches no row"
    );
    order(&mut driver, 1, 2);
    order(&mut driver, 2, 3);
    driver.run();
    assert_eq!((account(&mut driver, 1), account(&mut driver, 2)), ((1, 7), (0, 0)));
    user(&mut driver, 1, None);
    driver.run();
    order(&mut driver, 1, 4);
    assert_eq!(met(&mut driver), BTreeMap::from([(1, vec![(2, 7)])]));
    assert_eq!(driver.status(0).value(Counter::Skipped), 3, "orders 1, 3 and 4");
    assert_eq!(driver.store("users", "1"), None, "a tombstone deletes");
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 1);
}

#[test]
fn a_left_join_changes_rows_without_a_partner_too() {
    let mut driver = filled(TestDriver::new(left()).partitions(2));
    order(&mut driver, 1, 1);
    driver.run();
    assert_eq!(account(&mut driver, 1), (1, NOBODY));
    user(&mut driver, 1, Some(7));
    driver.run();
    order(&mut driver, 1, 2);
    assert_eq!(met_by(&mut driver, 1), [(1, NOBODY), (2, 7)]);
}

/// The value of the table goes through the outbox, with the rows.
#[test]
fn the_tables_store_is_what_its_changelog_says_and_a_row_may_be_missing() {
    let mut driver = filled(TestDriver::new(left()).partitions(1));
    user(&mut driver, 1, Some(1));
    user(&mut driver, 2, Some(2));
    user(&mut driver, 1, None);
    user(&mut driver, 77, Some(3)); // no row
    order(&mut driver, 77, 1);
    assert_eq!(dead(&mut driver, "orders-dlt"), ["missing-row"]);
    assert_eq!(driver.store("users", "77"), Some(json!({"version": 3})));
    assert_eq!(driver.store("users", "1"), None);
    let changelog = driver.read_raw("shop-users-changelog");
    let last: BTreeMap<_, _> =
        changelog.into_iter().map(|record| (record.key.unwrap(), record.value.is_some())).collect();
    assert_eq!(last, BTreeMap::from([(b"1".to_vec(), false), (b"2".to_vec(), true), (b"77".to_vec(), true)]));
}

#[test]
fn records_of_a_table_that_cannot_be_kept_are_dead_letters_of_its_own() {
    let mut driver = filled(TestDriver::new(left()).partitions(1));
    user(&mut driver, 1, Some(1));
    driver.send_raw("users", Some(b"1"), Some(b"{\"version\": \"two\"}"));
    driver.send_raw("users", Some(b"1"), Some(b""));
    driver.send_raw("users", None, Some(b"{\"version\": 3}"));
    driver.send_raw("users", Some(b"ada"), Some(b"{\"version\": 3}"));
    driver.send_raw("orders", None, Some(b"{\"n\": 1}"));
    order(&mut driver, 1, 2);
    assert_eq!(met_by(&mut driver, 1), [(2, 1)], "the key keeps the value it had");
    assert_eq!(dead(&mut driver, "users-dlt"), ["bad-json", "empty-value", "null-key", "bad-key"]);
    assert_eq!(dead(&mut driver, "orders-dlt"), ["null-key"]);
}

#[test]
fn a_table_that_cannot_be_read_halts_its_task_where_it_says_so_and_the_row_is_untouched() {
    let mut topology = Topology::new("shop");
    let users = TableTopic::<User>::new("users").on_unreadable(OnUnreadable::Halt);
    topology.source("orders").left_join(users).update("accounts", Left).to("met");
    let mut driver = filled(TestDriver::new(topology).partitions(1));
    driver.run();
    driver.send_raw("users", Some(b"1"), Some(b"not json"));
    driver.pass(Duration::from_millis(5));
    order(&mut driver, 1, 1);
    let halts: Vec<_> = driver.halts().iter().map(|halt| (halt.reason, halt.source.to_string())).collect();
    assert_eq!(halts, [(HaltReason::Unreadable, "users-0".to_owned())]);
    // The order came later, and must not meet the value from before the one that stands still.
    assert_eq!(driver.row_of("accounts", 1).unwrap().version, 0);
    assert_eq!(met_by(&mut driver, 1), []);
}

#[test]
fn a_step_joined_with_two_tables_reads_both() {
    struct Both;
    impl Algorithm for Both {
        type Event = ((Order, User), Option<User>);
        type Row = Account;
        type Notices = Option<Met>;
        fn apply(
            &self,
            ((order, user), team): ((Order, User), Option<User>),
            account: &mut Account,
            _: &mut Context<'_>,
        ) -> Result<Option<Met>, Reject> {
            book(&order, 10 * user.version + team.map_or(0, |team| team.version), account)
        }
    }
    let mut topology = Topology::new("shop");
    topology.source("orders").join("users").left_join("teams").update("accounts", Both).to("met");
    let mut driver = filled(TestDriver::new(topology).partitions(2));
    user(&mut driver, 1, Some(4));
    order(&mut driver, 1, 1);
    driver.run();
    driver.send("teams", 1, json!({"version": 2}));
    order(&mut driver, 1, 2);
    assert_eq!(met_by(&mut driver, 1), [(1, 40), (2, 42)]);
}

/// Keys that are fields of JSON are kept by the id alone, whatever stands beside it.
#[test]
fn a_table_is_found_by_the_id_of_its_key_however_the_rest_of_the_key_is_spelt() {
    let mut topology = Topology::new("shop");
    let table = Table::new("accounts").key("id", KeyType::Field("id"));
    topology.source("orders").join("users").update(table, Inner).to("met");
    let mut driver = filled(TestDriver::new(topology).partitions(1));
    driver.send_raw("users", Some(b"{\"id\": 1}"), Some(b"{\"version\": 5}"));
    driver.run();
    driver.send_raw("orders", Some(b"{\"schema\": {}, \"payload\": {\"id\": 1}}"), Some(b"{\"n\": 1}"));
    driver.run();
    assert_eq!(account(&mut driver, 1), (1, 5));
}

#[test]
fn several_streams_of_their_own_types_change_one_row_in_the_order_of_time() {
    #[derive(Deserialize)]
    struct Payment {
        cents: i64,
    }
    enum Movement {
        Ordered(Order),
        Paid(Payment),
    }
    struct Balance;
    impl Algorithm for Balance {
        type Event = (Movement, Option<User>);
        type Row = Account;
        type Notices = Option<Met>;
        fn apply(
            &self,
            (movement, user): (Movement, Option<User>),
            account: &mut Account,
            _: &mut Context<'_>,
        ) -> Result<Option<Met>, Reject> {
            let n = match movement {
                Movement::Ordered(order) => order.n,
                Movement::Paid(payment) => -payment.cents,
            };
            book(&Order { n, word: String::new() }, user.map_or(NOBODY, |user| user.version), account)
        }
    }
    let mut topology = Topology::new("shop");
    let source = topology.source("orders").events(Movement::Ordered).and("payments", Movement::Paid);
    source.left_join("users").update("accounts", Balance).to("met");
    let mut driver = filled(TestDriver::new(topology).partitions(1));
    driver.run();
    driver.send("payments", 1, json!({"cents": 1}));
    driver.pass(Duration::from_millis(1));
    order(&mut driver, 1, 2);
    driver.pass(Duration::from_millis(1));
    driver.send("payments", 1, json!({"cents": 3}));
    user(&mut driver, 1, Some(9));
    driver.pass(Duration::from_millis(1));
    order(&mut driver, 1, 4);
    assert_eq!(met_by(&mut driver, 1), [(-1, NOBODY), (2, NOBODY), (-3, 9), (4, 9)]);
    assert_eq!(account(&mut driver, 1), (4, 9));
}

/// A lookup by a key that only the event has: there under that key, and back under the first one.
#[test]
fn an_order_finds_its_product_by_another_key_and_changes_the_row_of_its_own() {
    #[derive(Serialize, Deserialize)]
    struct Bought {
        id: i64,
        product: String,
        units: i64,
    }
    #[derive(Serialize, Deserialize)]
    struct Product {
        cents: i64,
    }
    #[derive(Serialize, Deserialize)]
    struct Priced {
        cents: i64,
    }
    struct Price;
    impl Algorithm for Price {
        type Event = (Bought, Product);
        type Row = ();
        type Notices = Option<Notice<Priced>>;
        fn apply(
            &self,
            (bought, product): (Bought, Product),
            (): &mut (),
            _: &mut Context<'_>,
        ) -> Result<Option<Notice<Priced>>, Reject> {
            let cents = bought.units * product.cents;
            Ok(Some(Notice::new(Priced { cents }).key(bought.id)))
        }
    }
    #[derive(Serialize, Deserialize)]
    struct Sum {
        cents: i64,
    }
    struct Charge;
    impl Algorithm for Charge {
        type Event = Priced;
        type Row = Sum;
        type Notices = Option<i64>;
        fn apply(&self, priced: Priced, sum: &mut Sum, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            sum.cents += priced.cents;
            Ok(None)
        }
    }
    let mut topology = Topology::new("shop");
    topology
        .source("bought")
        .key_by("by-product", |bought: &Bought| bought.product.clone())
        .join("products")
        .process(Price)
        .to("priced");
    topology.source("priced").update("sums", Charge).done();
    let mut driver = TestDriver::new(topology).partitions(3).instances(2);
    for id in 0..4 {
        driver.row("sums", id, Sum { cents: 0 });
    }
    for (name, cents) in [("tea", 3), ("jam", 5)] {
        driver.send("products", name, json!({"cents": cents}));
    }
    driver.run();
    for id in 0..4 {
        let product = ["tea", "jam", "tea", "salt"][usize::try_from(id).unwrap()];
        driver.send("bought", id, json!({"id": id, "product": product, "units": 2}));
    }
    driver.run();
    let cents = |driver: &mut TestDriver, id: i64| driver.row_of("sums", id).unwrap().values;
    assert_eq!((0..4).map(|id| cents(&mut driver, id)).collect::<Vec<_>>(), [6, 10, 6, 0].map(|n| vec![Cell::I64(n)]));
    driver.crash_everywhere();
}

/// Otherwise a join would miss them in silence.
#[test]
fn keys_that_another_partitioner_has_placed_are_counted() {
    let mut driver = filled(TestDriver::new(inner()).partitions(4));
    for id in 0..9 {
        user(&mut driver, id, Some(1));
        let place = crc32_partition_for(id.to_string().as_bytes(), 4);
        driver.send_to("orders", place, Some(id.to_string().as_bytes()), Some(b"{\"n\": 1}"));
    }
    driver.run();
    let told = driver.status(0).undeclared.sources();
    let of = |topic: &str| &told[&TopicName::parse(topic).unwrap()];
    assert_eq!((of("users").checked, of("users").elsewhere), (9, 0));
    assert_eq!((of("orders").checked, of("orders").by_crc32), (9, of("orders").elsewhere));
    assert!(of("orders").elsewhere > 0);
}

// === In which order ===

#[test]
fn the_table_is_read_to_its_end_before_the_stream_begins() {
    let mut driver = filled(TestDriver::new(inner()).partitions(2));
    order(&mut driver, 1, 1);
    driver.pass(Duration::from_millis(10));
    user(&mut driver, 1, Some(1)); // later, and yet first
    assert_eq!(met_by(&mut driver, 1), [(1, 1)]);
    driver.stop(0);
    order(&mut driver, 1, 2);
    driver.pass(Duration::from_millis(10));
    user(&mut driver, 1, Some(2));
    driver.start(0);
    assert_eq!(met_by(&mut driver, 1), [(1, 1), (2, 2)]);
}

/// More than one slice of the reader, and than one batch.
#[test]
fn a_long_backlog_of_the_table_is_decided_before_the_stream_begins() {
    let mut driver = filled(TestDriver::new(inner()).partitions(1));
    order(&mut driver, 1, 1);
    driver.pass(Duration::from_millis(10));
    for n in 0..6_000 {
        user(&mut driver, 100 + n, Some(n));
    }
    user(&mut driver, 1, Some(1));
    assert_eq!(met_by(&mut driver, 1), [(1, 1)]);
}

#[test]
fn within_a_batch_a_record_meets_what_the_table_had_at_its_time_and_the_table_is_first_at_the_same_time() {
    let mut driver = filled(TestDriver::new(inner()).partitions(1));
    user(&mut driver, 1, Some(1));
    driver.run();
    order(&mut driver, 1, 1);
    driver.pass(Duration::from_millis(1));
    order(&mut driver, 1, 2);
    user(&mut driver, 1, Some(2));
    driver.pass(Duration::from_millis(1));
    order(&mut driver, 1, 3);
    user(&mut driver, 2, Some(3));
    driver.pass(Duration::from_millis(1));
    user(&mut driver, 1, Some(4));
    order(&mut driver, 2, 4);
    let commits = driver.status(0).value(Counter::DatabaseCommits);
    assert_eq!(met_by(&mut driver, 1), [(1, 1), (2, 2), (3, 2)]);
    assert_eq!(met_by(&mut driver, 2), [(4, 3)]);
    assert_eq!(driver.status(0).value(Counter::DatabaseCommits), commits + 1, "one transaction");
}

/// Each input has one record more at the broker than one poll brings.
#[test]
fn a_backlog_is_taken_in_the_order_of_time_whichever_input_comes_first() {
    let run = |queued: usize, wait: u64| {
        let mut topology = Topology::new("shop");
        topology.source("orders").left_join("users").update("accounts", Left).to("met");
        let mut driver = filled(TestDriver::new(topology).partitions(1).settings(move |settings| {
            (settings.queued_records, settings.batch_rows) = (queued, queued);
            settings.merge_wait = Duration::from_millis(wait);
        }));
        driver.run();
        // Read to here before delivery begins, and later records wait for their turn.
        for n in 0..40 {
            user(&mut driver, 1, Some(n));
            driver.pass(Duration::from_millis(1));
            order(&mut driver, 1, n);
            driver.pass(Duration::from_millis(1));
        }
        met_by(&mut driver, 1)
    };
    let all: Vec<_> = (0..40).map(|n| (n, n)).collect();
    assert_eq!(run(2, 500), all);
    assert_eq!(run(1_000, 500), all);
}

/// What lies at the broker of the other topic is the end of a transaction that was aborted: no record of it ever comes.
#[test]
fn a_record_waits_for_those_of_another_input_that_never_come_for_its_bound_and_is_decided_then() {
    struct Either;
    impl Algorithm for Either {
        type Event = Order;
        type Row = Account;
        type Notices = Option<Met>;
        fn apply(&self, order: Order, row: &mut Account, _: &mut Context<'_>) -> Result<Option<Met>, Reject> {
            book(&order, 0, row)
        }
    }
    let decided_after = |wait: u64| {
        let mut topology = Topology::new("shop");
        let source = topology.source("orders").events(|order: Order| order).and("refunds", |refund: Order| refund);
        source.update("accounts", Either).to("met");
        let driver = TestDriver::new(topology).partitions(1);
        let mut driver = filled(driver.settings(move |settings| settings.merge_wait = Duration::from_millis(wait)));
        let refunds = TopicName::parse("refunds").unwrap();
        let mut other = driver.log().sink("a stranger");
        other.begin().unwrap();
        let (key, value, headers) = (Some(&b"1"[..]), Some(&b"{\"n\": 9}"[..]), &[]);
        let (destination, partition) = (&refunds, Some(Partition(0)));
        let message = Message { destination, partition, key, value, headers, timestamp: None, is_tracked: false };
        other.send(&message).unwrap();
        other.renew().unwrap(); // aborts it
        order(&mut driver, 1, 1);
        let mut waited = 0;
        while driver.records_committed() == 0 {
            assert!(waited < 10_000, "it waits for ever");
            driver.pass(Duration::from_millis(10));
            driver.step();
            waited += 10;
        }
        // Nothing was lost: what does come later is decided behind it.
        driver.send("refunds", 1, json!({"n": 2}));
        assert_eq!(met_by(&mut driver, 1), [(1, 0), (2, 0)]);
        waited
    };
    let at_once = decided_after(0);
    for wait in [200, 500, 3_000] {
        let waited = decided_after(wait);
        let bound = wait + at_once;
        assert!((wait..=bound + 50).contains(&waited), "{waited} ms of {wait}, and {at_once} without a wait");
    }
}

#[test]
fn a_record_that_is_offered_again_does_not_hold_up_its_table() {
    let mut driver = filled(TestDriver::new(inner()).partitions(1).settings(|settings| settings.retry_attempts = 3));
    user(&mut driver, 1, Some(1));
    driver.run();
    driver.send("orders", 1, json!({"n": 1, "word": "retry"}));
    driver.pass(Duration::from_millis(1));
    user(&mut driver, 1, Some(2));
    order(&mut driver, 1, 2);
    assert_eq!(met_by(&mut driver, 1), [(2, 2)]);
    assert_eq!(dead(&mut driver, "orders-dlt"), ["told-to-retry"]);
}

// === Through crashes and rebalances ===

#[test]
fn a_crash_at_any_step_changes_neither_rows_nor_the_table_nor_messages() {
    let mut driver = filled(TestDriver::new(inner()).partitions(3).instances(2).settings(|settings| {
        settings.store_flush = Duration::ZERO; // so that stores are written between the crashes
    }));
    for round in 0..3 {
        for id in 0..4 {
            user(&mut driver, id, (id + round != 3).then_some(round));
            order(&mut driver, id, round);
        }
        driver.send_raw("users", Some(b"1"), Some(b"not json"));
        driver.send("orders", 2, json!({"n": 1, "word": "reject"}));
        order(&mut driver, 99, 1);
        driver.run();
    }
    driver.crash_everywhere();
}

/// The table and the rows go on from one database transaction: nothing of a zombie's is left in either.
#[test]
fn a_zombie_changes_neither_rows_nor_the_table() {
    let mut driver = filled(TestDriver::new(inner()).partitions(1).instances(2));
    driver.run();
    user(&mut driver, 1, Some(1));
    order(&mut driver, 1, 1);
    driver.run();
    user(&mut driver, 1, Some(2));
    driver.pass(Duration::from_millis(1));
    order(&mut driver, 1, 2);
    make_a_zombie(&mut driver);
    assert_eq!(met_by(&mut driver, 1), [(1, 1), (2, 2)]);
    assert_eq!((account(&mut driver, 1), driver.store("users", "1")), ((2, 2), Some(json!({"version": 2}))));
}

#[test]
fn a_table_that_is_lost_from_the_disk_is_read_again_from_its_changelog() {
    let mut driver = filled(TestDriver::new(inner()).partitions(2));
    user(&mut driver, 1, Some(1));
    driver.run();
    driver.stop(0);
    driver.disk(0).lose();
    driver.start(0);
    order(&mut driver, 1, 1);
    assert_eq!(met_by(&mut driver, 1), [(1, 1)]);
}

/// The same records read one by one, in the order of time, the table's first at the same time.
#[derive(Default)]
struct Naive {
    users: BTreeMap<i64, i64>,
    accounts: BTreeMap<i64, (i64, i64)>,
    met: BTreeMap<i64, Vec<(i64, i64)>>,
    /// The records of this window: when, whether it is an order, whose, the order's number or the user's version.
    waiting: Vec<(u64, bool, i64, Option<i64>)>,
}

impl Naive {
    fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|(at, is_order, ..)| (*at, *is_order)); // stable: as sent otherwise
        for (_, is_order, id, number) in waiting {
            match (is_order, number) {
                (true, n) => {
                    let version = self.users.get(&id).copied().unwrap_or(NOBODY);
                    self.met.entry(id).or_default().push((n.unwrap(), version));
                    let account = self.accounts.entry(id).or_default();
                    *account = (account.0 + 1, version);
                }
                (false, Some(version)) => drop(self.users.insert(id, version)),
                (false, None) => drop(self.users.remove(&id)),
            }
        }
    }
}

/// Random records in windows; within a window time passes where no instance fails, and between windows instances come and
/// go where it does not.
fn against_the_naive_program(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let fails = seed.is_multiple_of(2);
    let small = seed.is_multiple_of(3);
    let driver = TestDriver::new(left()).partitions(4).instances(2).settings(move |settings| {
        if small {
            (settings.batch_rows, settings.queued_records) = (3, 6);
        }
    });
    let mut driver = filled(driver);
    driver.run();
    let mut naive = Naive::default();
    let mut at = 0;
    for n in 0..120 {
        let id = i64::try_from(random.below(9)).unwrap();
        match random.below(8) {
            0..4 => {
                order(&mut driver, id, n);
                naive.waiting.push((at, true, id, Some(n)));
            }
            4..7 => {
                user(&mut driver, id, Some(n));
                naive.waiting.push((at, false, id, Some(n)));
            }
            _ => {
                user(&mut driver, id, None);
                naive.waiting.push((at, false, id, None));
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
            strike(&mut driver, &mut random, &THROUGH_DATABASE);
        }
    }
    driver.run();
    naive.settle();
    assert_eq!(met(&mut driver), naive.met, "seed {seed}");
    for id in 0..9 {
        let version = driver.store("users", &id.to_string()).map(|user| user["version"].as_i64().unwrap());
        assert_eq!(version, naive.users.get(&id).copied(), "seed {seed}: {id}");
        let expected = naive.accounts.get(&id).copied().unwrap_or_default();
        assert_eq!(account(&mut driver, id), expected, "seed {seed}: {id}");
    }
    driver.crashes()
}

#[test]
fn random_interleavings_come_out_as_a_naive_program_has_them() {
    let crashes: usize = (0..60).map(against_the_naive_program).sum();
    assert!(crashes >= 30, "{crashes} crashes are too few to tell");
}

/// A step's own store beside the table's, and a table that expires with the stream's time.
#[test]
fn a_table_stands_beside_stores_of_the_steps_own_and_may_expire() {
    struct Counted(Store<i64>);
    impl Algorithm for Counted {
        type Event = (Order, Option<User>);
        type Row = Account;
        type Notices = Option<Met>;
        fn apply(
            &self,
            (order, user): (Order, Option<User>),
            account: &mut Account,
            context: &mut Context<'_>,
        ) -> Result<Option<Met>, Reject> {
            let count = context.store(&self.0)?.add("all", 1)?;
            book(&Order { n: count, ..order }, user.map_or(NOBODY, |user| user.version), account)
        }
    }
    let (seen, users) = (Store::new("seen"), Store::new("users").time_to_live(Duration::from_secs(60)));
    let mut topology = Topology::new("shop");
    let table = TableTopic::<User>::new("users").kept_in(users);
    topology.source("orders").left_join(table).update("accounts", Counted(seen.clone())).with_store(&seen).to("met");
    let mut driver = filled(TestDriver::new(topology).partitions(1));
    user(&mut driver, 1, Some(1));
    order(&mut driver, 1, 0);
    driver.run();
    driver.advance(Duration::from_secs(90));
    order(&mut driver, 2, 0); // moves the time
    driver.run();
    order(&mut driver, 1, 0);
    assert_eq!(met_by(&mut driver, 1), [(1, 1), (3, NOBODY)]);
    assert!(driver.status(0).tasks().values().all(|task| task.state == State::Running));
}
