//! Notices of one step that go to several topics, by a route and by branches, whatever dies.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::flow::topology::StepBuilder;
use tidegate::flow::{Algorithm, Context, Format, Notice, Reject, Topology};
use tidegate::testing::TestDriver;

#[derive(Serialize, Deserialize, Clone)]
struct Order {
    cents: i64,
}

#[derive(Serialize, Deserialize, Default)]
struct Book {
    cents: i64,
}

/// Tells each order, twice where it is even.
struct Tell;

impl Algorithm for Tell {
    type Event = Order;
    type Row = Book;
    type Notices = Vec<Order>;

    fn apply(&self, order: Order, book: &mut Book, _: &mut Context<'_>) -> Result<Vec<Order>, Reject> {
        book.cents += order.cents;
        Ok(if order.cents % 2 == 0 { vec![order.clone(), Order { cents: -order.cents }] } else { vec![order] })
    }
}

fn driver(rows: bool, end: impl Fn(StepBuilder<'_, Tell>)) -> TestDriver {
    let mut topology = Topology::new("sizes");
    let source = topology.source("orders");
    if rows {
        end(source.update("books", Tell));
    } else {
        end(source.aggregate("books", Tell));
    }
    let mut driver = TestDriver::new(topology).partitions(2).instances(2);
    for id in 0..3_i64 {
        if rows {
            driver.row("books", id, Book { cents: 0 });
        }
        for cents in [1, 4, 50, 101] {
            let key = id.to_string();
            driver.send_raw("orders", Some(key.as_bytes()), Some(json!({"cents": cents}).to_string().as_bytes()));
        }
    }
    driver
}

/// What the key 1 finds in a topic.
fn told(driver: &mut TestDriver, topic: &str) -> Vec<i64> {
    let found = driver.read(topic);
    found.into_iter().filter(|(key, _)| *key == 1).map(|(_, value)| value["cents"].as_i64().unwrap()).collect()
}

#[test]
fn a_route_names_the_topic_of_each_notice() {
    for rows in [true, false] {
        let mut driver = driver(rows, |step| {
            step.filter(|order| order.cents != 101).route(
                ["small", "large", "refunds"],
                |order, [small, large, refunds]| match order.cents {
                    ..0 => refunds,
                    0..10 => small,
                    _ => large,
                },
            );
        });
        assert_eq!(told(&mut driver, "small"), [1, 4]);
        assert_eq!(told(&mut driver, "large"), [50]);
        assert_eq!(told(&mut driver, "refunds"), [-4, -50]);
        let ids: Vec<String> = ["small", "large", "refunds"]
            .iter()
            .flat_map(|topic| driver.read_raw(topic))
            .map(|found| {
                assert!(found.header("ce_type").is_some_and(|topic| ["small", "large", "refunds"].contains(&topic)));
                found.header("tg_id").unwrap().to_owned()
            })
            .collect();
        let different: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!((ids.len(), different.len()), (15, 15), "an id is a notice's, whatever topic it goes to");
        driver.crash_everywhere();
    }
}

#[test]
fn a_notice_goes_into_the_first_branch_that_takes_it_and_the_rest_as_is_said() {
    for rows in [true, false] {
        let mut with_rest = driver(rows, |step| {
            step.branch("large", |order| order.cents > 10).branch("positive", |order| order.cents > 0).to("rest");
        });
        assert_eq!(told(&mut with_rest, "large"), [50, 101]);
        assert_eq!(told(&mut with_rest, "positive"), [1, 4]);
        assert_eq!(told(&mut with_rest, "rest"), [-4, -50]);
        with_rest.crash_everywhere();
        let mut without = driver(rows, |step| step.branch("large", |order| order.cents > 10).done());
        assert_eq!(told(&mut without, "large"), [50, 101]);
        assert_eq!(
            without.read_raw("orders-dlt").len(),
            0,
            "what no branch takes is dropped, and its record is not to blame"
        );
    }
}

#[test]
fn a_panic_in_a_route_is_a_dead_letter_that_changes_nothing() {
    for rows in [true, false] {
        let mut driver = driver(rows, |step| {
            step.route(["small", "large"], |order, [small, large]| {
                assert!(order.cents != -4, "as the order asked");
                if order.cents < 10 { small } else { large }
            });
        });
        assert_eq!(told(&mut driver, "small"), [1, -50]);
        let letters = driver.read_raw("orders-dlt");
        assert_eq!(letters.len(), 3);
        assert!(letters.iter().all(|letter| letter.header("kafka_dlt-exception-fqcn") == Some("panic")));
        driver.crash_everywhere();
    }
}

/// Words, each under its own first letter.
struct Letters;

impl Algorithm for Letters {
    type Event = String;
    type Row = ();
    type Notices = Vec<Notice<String>>;

    fn apply(&self, line: String, (): &mut (), _: &mut Context<'_>) -> Result<Vec<Notice<String>>, Reject> {
        let word = |word: &str| Notice::new(word.to_owned()).key(word.chars().take(1).collect::<String>());
        Ok(line.split(' ').map(word).collect())
    }
}

#[test]
fn the_topics_of_a_route_are_read_by_further_steps_in_their_format() {
    let mut topology = Topology::new("words");
    topology.source("lines").format(Format::Text).process(Letters).format(Format::Text).route(
        ["short", "long"],
        |word, [short, long]| if word.value().is_some_and(|w| w.len() < 4) { short } else { long },
    );
    topology.source("long").format(Format::Text).process(Letters).format(Format::Text).to("told");
    let mut driver = TestDriver::new(topology);
    driver.send("lines", "x", "a pear or two apples");
    let found = |driver: &mut TestDriver, topic: &str| -> Vec<(String, String)> {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        driver.read_raw(topic).into_iter().map(|found| (text(found.key), text(found.value))).collect()
    };
    let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(key, word)| ((*key).to_owned(), (*word).to_owned())).collect()
    };
    assert_eq!(found(&mut driver, "short"), pairs(&[("a", "a"), ("o", "or"), ("t", "two")]));
    assert_eq!(found(&mut driver, "long"), pairs(&[("p", "pear"), ("a", "apples")]));
    assert_eq!(found(&mut driver, "told"), found(&mut driver, "long"));
    driver.crash_everywhere();
}

#[test]
fn the_shipped_pipeline_sorts_scans_into_three_topics_whatever_dies() {
    let mut driver = TestDriver::new(tidegate::pipelines::parcels::topology()).partitions(3).instances(2);
    let scans =
        [("P1", "Delft", "moved"), ("P2", "Delft", "moved"), ("P1", "Gouda", "delivered"), ("P2", "Gouda", "lost")];
    for (n, (parcel, depot, state)) in scans.into_iter().enumerate() {
        let scan = json!({"parcel": parcel, "depot": depot, "state": state, "taken_ms": n, "battery": 3});
        driver.send_raw("scans", Some(b"scanner-7"), Some(scan.to_string().as_bytes()));
    }
    driver.send_raw("scans", Some(b"scanner-7"), Some(br#"{"parcel": "P3"}"#));
    let mut told = |topic: &str| -> Vec<(String, String)> {
        let told = |found: tidegate::ports::history::Found| {
            let value: serde_json::Value = serde_json::from_slice(&found.value.unwrap()).unwrap();
            (String::from_utf8(found.key.unwrap()).unwrap(), value["parcel"].as_str().unwrap().to_owned())
        };
        driver.read_raw(topic).into_iter().map(told).collect()
    };
    let pair = |key: &str, parcel: &str| (key.to_owned(), parcel.to_owned());
    assert_eq!(told("movements"), [pair("Delft", "P1"), pair("Delft", "P2")]);
    assert_eq!(told("deliveries"), [pair("P1", "P1")]);
    assert_eq!(told("losses"), [pair("P2", "P2")]);
    assert_eq!(driver.read_raw("scans-dlt").len(), 1);
    driver.crash_everywhere();
}
