//! Notices with a key, a time and headers of their own, and tombstones: published as they are, whatever dies.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::memory::SinkFault;
use tidegate::engine::audit::audit;
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::flow::record::{Header, NextOffset, Partition, Record, TopicName, TopicPartition};
use tidegate::flow::{Algorithm, Context, Declared, Format, KeyType, Notice, Reject, Topology};
use tidegate::ports::changelog::ChangelogReader as _;
use tidegate::ports::history::Found;
use tidegate::testing::{Sent, TestDriver};

#[derive(Deserialize)]
struct Order {
    customer: Option<String>,
    cents: i64,
    at_ms: Option<i64>,
    header: Option<(String, String)>,
    /// The text by which its notice is partitioned.
    place: Option<String>,
}

#[derive(Serialize, Deserialize, Default)]
struct Book {
    cents: i64,
}

/// Tells each customer what was spent, and takes it back for an order of nothing.
struct Spending;

impl Spending {
    fn notice(order: Order, cents: i64, context: &Context<'_>) -> Notice<i64> {
        let mut notice = if order.cents == 0 { Notice::tombstone() } else { Notice::new(cents) };
        if let Some(customer) = order.customer {
            notice = notice.key(customer);
        }
        if let Some(place) = order.place {
            notice = notice.partition_by(place);
        }
        if let Some(at) = order.at_ms {
            notice = notice.at(at);
        }
        if let Some((name, value)) = order.header {
            notice = notice.header(name, value);
        }
        notice.headers(context.headers())
    }
}

impl Algorithm for Spending {
    type Event = Order;
    type Row = Book;
    type Notices = Option<Notice<i64>>;

    fn apply(&self, order: Order, book: &mut Book, context: &mut Context<'_>) -> Result<Option<Notice<i64>>, Reject> {
        book.cents += order.cents;
        Ok(Some(Self::notice(order, book.cents, context)))
    }
}

fn spending() -> Topology {
    let mut topology = Topology::new("spending");
    topology.source("orders").update("books", Spending).to("spent");
    topology
}

fn with_rows() -> TestDriver {
    let mut driver = TestDriver::new(spending()).partitions(4).instances(2);
    for id in 0..3 {
        driver.row("books", id, Book { cents: 0 });
    }
    driver
}

fn without_rows() -> TestDriver {
    let mut topology = Topology::new("spending");
    topology.source("orders").aggregate("books", Spending).keys(KeyType::I64).to("spent");
    TestDriver::new(topology).partitions(4).instances(2)
}

/// The messages of a topic under a key, in their order.
fn under<'a>(found: &'a [Found], key: &str) -> Vec<&'a Found> {
    found.iter().filter(|found| found.key.as_deref() == Some(key.as_bytes())).collect()
}

fn text(found: &Found) -> Option<&str> {
    found.value.as_deref().map(|value| std::str::from_utf8(value).unwrap())
}

fn names(found: &Found) -> Vec<&str> {
    found.headers.iter().map(|header| &*header.name).collect()
}

/// The times of the messages of a topic under a key.
fn times(driver: &mut TestDriver, topic: &str, key: &str) -> Vec<i64> {
    driver.run();
    let mut found = Vec::new();
    for number in 0..4 {
        let mut reader = driver.log().changelog();
        reader.begin(&TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(number)), NextOffset(0)).unwrap();
        let mut visit = |record: &Record<'_>| {
            found.extend((record.key == Some(key.as_bytes())).then_some(record.timestamp.0));
            true
        };
        reader.read(Duration::ZERO, 1_000, &mut visit).unwrap();
    }
    found
}

fn tell_of_their_own(mut driver: TestDriver) {
    let headers = vec![Header::new("trace", *b"t1"), Header::new("tg_id", *b"foreign"), Header::new("ce_id", *b"f")];
    let value = json!({"customer": "ada", "cents": 3, "at_ms": 5, "header": ["unit", "cent"]});
    let sent = Sent { key: Some(b"1".into()), value: Some(value.to_string().into()), headers, ..Sent::default() };
    driver.send_record("orders", sent);
    driver.send("orders", 1, json!({"customer": "ada", "cents": 4}));
    driver.send("orders", 2, json!({"cents": 9}));
    driver.send("orders", 1, json!({"customer": "ada", "cents": 0}));
    let found = driver.read_raw("spent");
    assert_eq!(under(&found, "ada").into_iter().map(text).collect::<Vec<_>>(), [Some("3"), Some("7"), None]);
    assert_eq!(under(&found, "2").into_iter().map(text).collect::<Vec<_>>(), [Some("9")]);
    assert_eq!(found.len(), 4, "{found:?}");
    let [first, _, gone] = under(&found, "ada")[..] else { panic!("{found:?}") };
    let home = tidegate::flow::key::partition_for(b"ada", 4);
    assert!(under(&found, "ada").iter().all(|found| found.partition == home), "its key decides the partition");
    assert_eq!((first.header("unit"), first.header("trace")), (Some("cent"), Some("t1")));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(
        first.header("ce_id"),
        first.header("tg_id"),
        "a header of our name that came with the record stays behind"
    );
    assert_eq!(names(first).iter().filter(|name| **name == "ce_id").count(), 1);
    assert_eq!(gone.header("content-type"), None, "there is no content");
    assert!(gone.header("tg_id").is_some_and(|id| id.starts_with("spending/orders/")));
    let times = times(&mut driver, "spent", "ada");
    assert_eq!((times.len(), times[0]), (3, 5));
    assert!(times[1] > 1_000_000, "without a time of its own it has its record's: {times:?}");
    driver.crash_everywhere();
}

#[test]
fn notices_of_a_step_with_rows_have_their_own_key_time_and_headers_whatever_dies() {
    tell_of_their_own(with_rows());
}

#[test]
fn notices_of_a_step_without_rows_have_their_own_key_time_and_headers_whatever_dies() {
    tell_of_their_own(without_rows());
}

/// Orders under their own numbers, in the partitions of their customers. `ours`: the number of headers `tg_*` of each.
fn send_by_customer(driver: &mut TestDriver, ours: usize) {
    for (order, customer) in [(0, "ada"), (1, "ada"), (2, "ada"), (0, "bob"), (1, "bob"), (2, "bob")] {
        driver.send("orders", order, json!({"cents": 1, "place": customer}));
    }
    driver.send("orders", 1, json!({"cents": 1}));
    let found = driver.read_raw("spent");
    let home = |text: &str| tidegate::flow::key::partition_for(text.as_bytes(), 4);
    let places = |count: &str| -> BTreeMap<String, i32> {
        let of_count = found.iter().filter(|found| text(found) == Some(count));
        of_count.map(|found| (String::from_utf8(found.key.clone().unwrap()).unwrap(), found.partition)).collect()
    };
    let all_in = |home: i32| ["0", "1", "2"].map(|key| (key.to_owned(), home)).into();
    assert_ne!(home("ada"), home("bob"));
    assert_eq!(
        (places("1"), places("2")),
        (all_in(home("ada")), all_in(home("bob"))),
        "under the keys of their records"
    );
    assert_eq!(places("3"), [("1".to_owned(), home("1"))].into(), "by its key again");
    let count = |found: &Found| names(found).iter().filter(|name| name.starts_with("tg_")).count();
    assert!(found.iter().all(|found| count(found) == ours), "readers are not told of the text: {found:?}");
}

#[test]
fn notices_of_a_step_with_rows_lie_in_the_partition_of_another_text_than_their_key_whatever_dies() {
    let mut driver = with_rows();
    send_by_customer(&mut driver, 2);
    let (mut rows, mut log) = (driver.database().history("spending"), driver.log().history("spending"));
    let report = audit(&spending(), &mut rows, &mut log).unwrap();
    assert!(report.is_clean(), "the audit looks for them there: {report:?}");
    driver.crash_everywhere();
}

#[test]
fn notices_of_a_step_without_rows_lie_in_the_partition_of_another_text_than_their_key_whatever_dies() {
    let mut driver = without_rows();
    send_by_customer(&mut driver, 1);
    driver.crash_everywhere();
}

#[test]
fn what_is_sent_once_more_lies_where_it_was_sent_at_first() {
    let mut driver = with_rows();
    for order in 0..3 {
        driver.send("orders", order, json!({"cents": 1, "place": "ada"}));
    }
    driver.log().fail_next(SinkFault::Send);
    driver.log().fail_next(SinkFault::Commit { is_applied: false });
    let found = driver.read_raw("spent");
    let home = tidegate::flow::key::partition_for(b"ada", 4);
    assert_eq!(found.iter().map(|found| found.partition).collect::<Vec<_>>(), [home; 3], "{found:?}");
    assert_eq!(driver.log().unmet_faults(), [], "it was sent more than once");
}

#[test]
fn a_message_that_has_no_key_lies_in_the_partition_of_its_text() {
    let mut topology = Topology::new("shop");
    topology.source("deliveries").process(Anywhere).to("told");
    let mut driver = TestDriver::new(topology).partitions(4);
    for text in ["ada", "bob", ""] {
        driver.send_raw("deliveries", None, Some(json!(text).to_string().as_bytes()));
    }
    let places: BTreeMap<Vec<u8>, (Option<Vec<u8>>, i32)> =
        driver.read_raw("told").into_iter().map(|found| (found.value.unwrap(), (found.key, found.partition))).collect();
    let due = ["ada", "bob", ""].map(|text| {
        (json!(text).to_string().into_bytes(), (None, tidegate::flow::key::partition_for(text.as_bytes(), 4)))
    });
    assert_eq!(places, due.into());
}

/// Says of a topic that its keys decide the partition, which they do not.
#[test]
fn who_declares_a_topic_that_is_partitioned_by_another_text_halts_in_front_of_its_first_record() {
    let mut topology = spending();
    topology.source("spent").declared(Declared::murmur2(4)).aggregate("known", Counted).done();
    let mut driver = TestDriver::new(topology).partitions(4);
    driver.row("books", 1, Book { cents: 0 });
    let apart = ["ada", "bob", "eve"].into_iter().find(|text| {
        let home = |text: &str| tidegate::flow::key::partition_for(text.as_bytes(), 4);
        home(text) != home("1")
    });
    driver.send("orders", 1, json!({"cents": 1, "place": apart}));
    driver.run();
    let halts = driver.halts();
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [HaltReason::WronglyKeyed], "{halts:?}");
}

/// Tracing: the context of a record goes on in its notices, through a change of keys and whatever dies.
#[test]
fn the_trace_context_of_a_record_goes_on_in_a_notice_that_takes_its_headers() {
    let mut topology = Topology::new("traced");
    let customer = |order: &Order| order.customer.clone().unwrap_or_default();
    topology.source("orders").key_by("by-customer", customer).aggregate("books", Spending).to("spent");
    let mut driver = TestDriver::new(topology).partitions(4).instances(2);
    let headers = vec![
        Header::new("traceparent", *b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        Header::new("tracestate", *b"a=1"),
        Header::new("tracestate", *b"b=2"),
        Header { name: "baggage".into(), value: None },
    ];
    let value = json!({"customer": "ada", "cents": 3}).to_string();
    let sent = Sent { key: Some(b"1".into()), value: Some(value.into()), headers: headers.clone(), ..Sent::default() };
    driver.send_record("orders", sent);
    let found = driver.read_raw("spent");
    let theirs = |found: &Found| {
        let names = ["traceparent", "tracestate", "baggage"];
        let is_theirs = |header: &&Header| names.contains(&&*header.name);
        found.headers.iter().filter(is_theirs).cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        found.iter().map(theirs).collect::<Vec<_>>(),
        [headers],
        "in their order, twice and without a value too"
    );
    driver.crash_everywhere();
}

#[test]
fn a_header_of_our_name_and_a_time_before_1970_are_dead_letters_that_change_nothing() {
    for mut driver in [with_rows(), without_rows()] {
        let all = [
            json!({"cents": 1, "header": ["tg_id", "x"]}),
            json!({"cents": 1, "header": ["kafka_dlt-exception-fqcn", "x"]}),
            json!({"cents": 1, "header": ["content-type", "x"]}),
            json!({"cents": 1, "header": ["ce_type", "x"]}),
            json!({"cents": 1, "header": ["a\0b", "x"]}),
            json!({"cents": 1, "at_ms": -1}),
        ];
        all.iter().for_each(|value| driver.send("orders", 1, value));
        driver.send("orders", 1, json!({"cents": 2, "at_ms": 0}));
        let codes: Vec<String> = driver
            .read_raw("orders-dlt")
            .iter()
            .map(|found| found.header("kafka_dlt-exception-fqcn").unwrap().to_owned())
            .collect();
        assert_eq!(codes, ["bad-notice"; 6]);
        let found = driver.read_raw("spent");
        assert_eq!(found.iter().map(text).collect::<Vec<_>>(), [Some("2")], "the others left no trace in the row");
    }
}

/// Tells a text again, in the partition that it stands for.
struct Anywhere;

impl Algorithm for Anywhere {
    type Event = String;
    type Row = ();
    type Notices = Option<Notice<String>>;

    fn apply(&self, text: String, (): &mut (), _: &mut Context<'_>) -> Result<Option<Notice<String>>, Reject> {
        Ok(Some(Notice::new(text.clone()).partition_by_bytes(text)))
    }
}

/// Counts what was spent.
struct Counted;

impl Algorithm for Counted {
    type Event = i64;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, _: i64, count: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *count += 1;
        Ok(None)
    }
}

/// Tells the stock of an item under its name: none is a tombstone.
struct Stock;

impl Algorithm for Stock {
    type Event = (String, i64);
    type Row = ();
    type Notices = Option<Notice<i64>>;

    fn apply(
        &self,
        (item, count): (String, i64),
        (): &mut (),
        _: &mut Context<'_>,
    ) -> Result<Option<Notice<i64>>, Reject> {
        Ok(Some(if count == 0 { Notice::tombstone() } else { Notice::from(count) }.key(item)))
    }
}

/// An order with the stock of its item.
struct Ordered;

impl Algorithm for Ordered {
    type Event = (i64, Option<i64>);
    type Row = ();
    type Notices = Option<Value>;

    fn apply(
        &self,
        (order, stock): (i64, Option<i64>),
        (): &mut (),
        _: &mut Context<'_>,
    ) -> Result<Option<Value>, Reject> {
        Ok(Some(json!([order, stock])))
    }
}

#[test]
fn a_tombstone_under_an_own_key_deletes_it_in_a_table_that_another_step_reads() {
    let mut topology = Topology::new("shop");
    topology.source("deliveries").process(Stock).to("stock");
    topology.source("orders").left_join::<i64>("stock").process(Ordered).to("ordered");
    let mut driver = TestDriver::new(topology).partitions(3);
    for (order, count) in [(1, 5), (2, 0), (3, 6)] {
        driver.send_raw("deliveries", None, Some(json!(["pear", count]).to_string().as_bytes()));
        driver.run();
        driver.send("orders", "pear", order);
        driver.run();
    }
    let found = driver.read_raw("ordered");
    assert_eq!(found.iter().map(text).collect::<Vec<_>>(), [Some("[1,5]"), Some("[2,null]"), Some("[3,6]")]);
    driver.crash_everywhere();
}

#[test]
fn filters_and_thresholds_see_the_whole_notice() {
    let mut topology = Topology::new("shop");
    topology
        .source("deliveries")
        .process(Stock)
        .filter(|notice| notice.value() != Some(&7))
        .at_least("some", 3.0, |notice| notice.value().map_or(f64::MAX, |count| *count as f64))
        .format(Format::Json)
        .to("stock");
    let mut driver = TestDriver::new(topology);
    for count in [1, 3, 7, 0] {
        driver.send_raw("deliveries", None, Some(json!(["pear", count]).to_string().as_bytes()));
    }
    assert_eq!(driver.read_raw("stock").iter().map(text).collect::<Vec<_>>(), [Some("3"), None]);
}

#[test]
fn whether_the_next_step_can_read_the_keys_is_not_asked_where_they_may_be_a_notices_own() {
    let mut topology = Topology::new("shop");
    topology.source("deliveries").process(Stock).to("stock");
    topology.source("stock").aggregate("kept", Spending).keys(KeyType::I64BigEndian).done();
    assert_eq!(topology.validate(), Ok(()));
}
