//! One source that feeds several chains, each with a copy of its own, and several sources that feed one step.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::flow::record::{Header, TopicName};
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::testing::{Sent, TestDriver};

#[derive(Serialize, Deserialize, Clone)]
struct Order {
    customer: String,
    cents: i64,
}

#[derive(Serialize, Deserialize, Default)]
struct Sum {
    cents: i64,
}

/// Adds up orders, and refuses those of a customer.
struct Add {
    refuses: &'static str,
}

impl Algorithm for Add {
    type Event = Order;
    type Row = Sum;
    type Notices = Option<i64>;

    fn apply(&self, order: Order, sum: &mut Sum, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        if order.customer == self.refuses {
            return Err(Reject::new("as the test asked"));
        }
        sum.cents += order.cents;
        Ok(Some(sum.cents))
    }
}

fn order(customer: &str, cents: i64) -> serde_json::Value {
    json!({"customer": customer, "cents": cents})
}

/// The sums that a topic tells of under a key.
fn told(driver: &mut TestDriver, topic: &str, key: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    let of_key = found.into_iter().filter(|found| found.key.as_deref() == Some(key.as_bytes()));
    of_key.map(|found| String::from_utf8(found.value.unwrap()).unwrap()).collect()
}

fn chained() -> TestDriver {
    let mut topology = Topology::new("shop");
    topology
        .source("orders")
        .chain("accounts", |orders| orders.update("accounts", Add { refuses: "eve" }).to("balances"))
        .chain("turnover", |orders| orders.aggregate("turnover", Add { refuses: "bob" }).to("turnovers"))
        .chain("customers", |orders| {
            orders
                .key_by("by-customer", |order: &Order| order.customer.clone())
                .aggregate("spent", Add { refuses: "" })
                .done();
        });
    let mut driver = TestDriver::new(topology).partitions(3).instances(2);
    for id in 0..4_i64 {
        driver.row("accounts", id, Sum { cents: 0 });
    }
    driver
}

#[test]
fn each_chain_of_a_source_sees_every_record_and_goes_its_own_way() {
    let mut driver = chained();
    for (id, customer, cents) in [("1", "ada", 3), ("1", "bob", 4), ("2", "ada", 5), ("1", "eve", 6), ("1", "ada", 7)] {
        driver.send_raw("orders", Some(id.as_bytes()), Some(order(customer, cents).to_string().as_bytes()));
    }
    assert_eq!(told(&mut driver, "balances", "1"), ["3", "7", "14"], "what eve ordered is refused here");
    assert_eq!(told(&mut driver, "turnovers", "1"), ["3", "9", "16"], "and what bob ordered there");
    assert_eq!(told(&mut driver, "turnovers", "2"), ["5"]);
    assert_eq!(driver.store("spent", "ada"), Some(json!({"cents": 15})));
    assert_eq!(driver.store("spent", "eve"), Some(json!({"cents": 6})));
    let dead = |driver: &mut TestDriver, chain: &str| driver.read_raw(&format!("shop-{chain}-repartition-dlt")).len();
    assert_eq!(
        [dead(&mut driver, "accounts"), dead(&mut driver, "turnover"), dead(&mut driver, "by-customer")],
        [1, 1, 0]
    );
    driver.crash_everywhere();
}

#[test]
fn a_copy_is_the_record_as_it_came() {
    let mut driver = chained();
    let headers = vec![Header::new("trace", *b"t1"), Header::new("tg_id", *b"foreign")];
    let sent = Sent { key: Some(b"1".into()), headers, timestamp_ms: Some(5), ..Sent::default() };
    driver.send_record("orders", Sent { value: Some(order("ada", 1).to_string().into()), ..sent.clone() });
    driver.send_record("orders", sent); // a tombstone
    for chain in ["accounts", "turnover"] {
        let copies = driver.read_raw(&format!("shop-{chain}-repartition"));
        assert_eq!(copies.len(), 2);
        assert_eq!((copies[0].key.as_deref(), copies[1].value.as_deref()), (Some(&b"1"[..]), None));
        assert!(copies.iter().all(|copy| copy.header("trace") == Some("t1") && copy.header("tg_id").is_none()));
        let dead = driver.read_raw(&format!("shop-{chain}-repartition-dlt"));
        assert_eq!(
            dead[0].header("kafka_dlt-exception-fqcn"),
            Some("empty-value"),
            "the chain judges it, not the copy"
        );
    }
}

#[test]
fn a_chain_that_stands_still_holds_up_no_other() {
    let mut driver = chained();
    driver.send_raw("orders", Some(b"1"), Some(order("ada", 1).to_string().as_bytes()));
    driver.run();
    driver.database().set_down(true);
    driver.send_raw("orders", Some(b"1"), Some(order("ada", 2).to_string().as_bytes()));
    for _ in 0..200 {
        driver.step();
        driver.pass(std::time::Duration::from_millis(20));
    }
    let turnovers = driver.log().read(&TopicName::parse("turnovers").unwrap());
    assert_eq!(turnovers.last().unwrap().value.as_deref(), Some(&b"3"[..]));
    driver.database().set_down(false);
    assert_eq!(told(&mut driver, "balances", "1"), ["1", "3"]);
}

#[test]
fn merged_sources_meet_in_one_step_under_one_key() {
    let mut topology = Topology::new("spent");
    let by_customer = |order: &Order| order.customer.clone();
    topology
        .source("orders")
        .key_by("orders-by-customer", by_customer)
        .merge("subscriptions", |topic| topic.key_by("subscriptions-by-customer", by_customer))
        .merge("refunds", |topic| topic)
        .aggregate("spent", Add { refuses: "" })
        .to("told");
    let mut driver = TestDriver::new(topology).partitions(3).instances(2);
    for (topic, key, cents) in
        [("orders", "x", 5), ("subscriptions", "y", 6), ("orders", "z", 7), ("refunds", "ada", -1)]
    {
        driver.send_raw(topic, Some(key.as_bytes()), Some(order("ada", cents).to_string().as_bytes()));
        driver.run();
    }
    assert_eq!(told(&mut driver, "told", "ada"), ["5", "11", "18", "17"]);
    driver.crash_everywhere();
}
