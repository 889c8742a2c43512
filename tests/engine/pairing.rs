//! Pairs of events of two streams against a naive computation, late events, failures of the user's code, and crashes.

use proptest::collection::vec;
use proptest::{prop_assert_eq, proptest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::engine::status::Counter;
use tidegate::flow::pairing::{Pair, Paired, Waiting, Within};
use tidegate::flow::record::TopicName;
use tidegate::flow::window::{Clock, Late, Tumbling};
use tidegate::flow::{Context, Reject, Store, TableTopic, Topology};
use tidegate::testing::{Sent, TestDriver};

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Clone, Debug)]
struct Told {
    left: Option<(i64, u64)>,
    right: Option<(i64, u64)>,
}

/// Tells of pairs and of what stayed alone. A thirteen is unlucky where it stays alone, a fourteen where it is paired.
struct Match;

impl Paired for Match {
    type Left = u64;
    type Right = u64;
    type Notices = Option<Told>;

    fn pair(&self, left: &u64, right: &u64, pair: &Pair<'_>) -> Option<Told> {
        assert!(*left != 14 && *right != 14, "fourteen");
        Some(Told { left: Some((pair.left_ms.unwrap(), *left)), right: Some((pair.right_ms.unwrap(), *right)) })
    }

    fn left_alone(&self, left: &u64, pair: &Pair<'_>) -> Option<Told> {
        assert!(*left != 13, "thirteen");
        Some(Told { left: Some((pair.left_ms.unwrap(), *left)), right: None })
    }

    fn right_alone(&self, right: &u64, pair: &Pair<'_>) -> Option<Told> {
        Some(Told { left: None, right: Some((pair.right_ms.unwrap(), *right)) })
    }
}

const fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    before: i64,
    after: i64,
    grace: i64,
}

const TENS: Plan = Plan { before: 10, after: 10, grace: 0 };

impl Plan {
    fn topology(self) -> Topology {
        let mut topology = Topology::new("p");
        let within = Within::between(ms(self.before), ms(self.after)).grace(ms(self.grace));
        topology.source("orders").join_within("payments", within).aggregate("waiting", Match).to("told");
        topology
    }

    fn driver(self) -> TestDriver {
        TestDriver::new(self.topology()).partitions(1)
    }
}

/// A record: whether it is of the left stream, its key, its time and its number.
type Sending = (bool, u8, i64, u64);

fn send(driver: &mut TestDriver, (is_left, key, at, n): Sending) {
    let (key, value) = (Some(vec![b'a' + key]), Some(json!(n).to_string().into_bytes()));
    let topic = if is_left { "orders" } else { "payments" };
    driver.send_record(topic, Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

/// Every notice of each key, in order.
fn told(driver: &mut TestDriver) -> BTreeMap<u8, Vec<Told>> {
    let mut out: BTreeMap<u8, Vec<Told>> = BTreeMap::new();
    for found in driver.read_raw("told") {
        out.entry(found.key.unwrap()[0] - b'a')
            .or_default()
            .push(serde_json::from_slice(&found.value.unwrap()).unwrap());
    }
    out
}

/// Nothing is ever forgotten: each record that is taken is compared with all that were taken before, and what has no pair is told
/// once nothing could come for it.
fn naively(plan: Plan, records: &[Sending]) -> (BTreeMap<u8, Vec<Told>>, usize) {
    let (mut out, mut late): (BTreeMap<u8, Vec<Told>>, usize) = Default::default();
    // A record, whether it has a pair, and whether it was told that it has none.
    let mut taken: Vec<(Sending, bool, bool)> = Vec::new();
    let mut clock = i64::MIN;
    for &record in records {
        let (is_left, key, at, n) = record;
        clock = clock.max(at);
        // The earliest time at which a record of the other stream would be neither too late nor too far away.
        let is_over = |(is_left, _, at, _): Sending| {
            let last = at + if is_left { plan.after } else { plan.before };
            last + plan.grace < clock
        };
        let is_late = at + plan.grace < clock;
        late += usize::from(is_late);
        let is_other = |((left, of, ..), ..): &&mut (Sending, bool, bool)| !is_late && *left != is_left && *of == key;
        let mut others: Vec<_> = taken.iter_mut().filter(is_other).collect();
        others.sort_by_key(|((_, _, at, _), ..)| *at);
        let mut is_paired = false;
        for ((_, _, other, m), other_is_paired, is_told) in others {
            let (left, right) = if is_left { ((at, n), (*other, *m)) } else { ((*other, *m), (at, n)) };
            if left.0 - plan.before <= right.0 && right.0 <= left.0 + plan.after {
                assert!(!*is_told, "{record:?}: its pair was told to be alone");
                out.entry(key).or_default().push(Told { left: Some(left), right: Some(right) });
                (is_paired, *other_is_paired) = (true, true);
            }
        }
        taken.extend((!is_late).then_some((record, is_paired, false)));
        let mut over: Vec<_> =
            taken.iter_mut().filter(|(one, is_paired, is_told)| !is_paired && !is_told && is_over(*one)).collect();
        let last = |(is_left, _, at, _): Sending| at + if is_left { plan.after } else { plan.before };
        over.sort_by_key(|(one, ..)| (last(*one), one.2, !one.0));
        for ((is_left, key, at, n), _, is_told) in over {
            let (one, none) = (Some((*at, *n)), None);
            let told = if *is_left { Told { left: one, right: none } } else { Told { left: none, right: one } };
            out.entry(*key).or_default().push(told);
            *is_told = true;
        }
    }
    (out, late)
}

fn check(plan: Plan, records: &[Sending]) -> Result<(), proptest::test_runner::TestCaseError> {
    let mut driver = plan.driver();
    for record in records {
        send(&mut driver, *record);
        driver.run();
    }
    let (expected, late) = naively(plan, records);
    prop_assert_eq!(told(&mut driver), expected);
    prop_assert_eq!(driver.read_raw("orders-dlt").len() + driver.read_raw("payments-dlt").len(), late);
    Ok(())
}

/// The others would move the clock meanwhile, and all that comes behind it would be late.
#[test]
fn a_record_that_waits_for_the_limit_of_a_topic_makes_none_behind_it_late() {
    let mut topology = Topology::new("p");
    let within = Within::of(ms(10)).grace(ms(0));
    topology.source("orders").join_within("payments", within).aggregate("waiting", Echo).to("told");
    let mut driver = TestDriver::new(topology).partitions(1).limit("p-waiting-changelog", 2_000);
    driver.run();
    driver.advance(Duration::from_secs(6));
    let sent = |key: &str, at: i64, value: serde_json::Value| Sent {
        key: Some(key.into()),
        value: Some(value.to_string().into_bytes()),
        timestamp_ms: Some(at),
        ..Sent::default()
    };
    driver.send_record("orders", sent("a", 1, json!("x".repeat(3_000))));
    driver.send_record("orders", sent("b", 2, json!("left")));
    driver.send_record("payments", sent("b", 2, json!("right")));
    driver.send_record("payments", sent("c", 60_000, json!("much later")));
    driver.run();
    let codes = driver
        .read_raw("orders-dlt")
        .into_iter()
        .map(|found| found.header("kafka_dlt-exception-fqcn").map(str::to_owned));
    assert_eq!(codes.collect::<Vec<_>>(), [Some("too-large".to_owned())]);
    assert_eq!(driver.read_raw("told").len(), 1);
    assert_eq!(driver.read_raw("payments-dlt").len(), 0);
}

/// Tells of pairs, whatever they are.
struct Echo;

impl Paired for Echo {
    type Left = serde_json::Value;
    type Right = serde_json::Value;
    type Notices = Option<bool>;

    fn pair(&self, _: &serde_json::Value, _: &serde_json::Value, _: &Pair<'_>) -> Option<bool> {
        Some(true)
    }
}

/// A value that could not be read again would stand in front of all records of its key.
#[test]
fn an_event_that_is_nested_too_deeply_to_be_kept_is_a_dead_letter_and_no_other_record_is() {
    let mut topology = Topology::new("p");
    let within = Within::of(ms(10)).grace(ms(0));
    topology.source("orders").join_within("payments", within).aggregate("waiting", Echo).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
    for (levels, at) in [(124, 1), (125, 1), (127, 1), (1, 2)] {
        let (key, value) = (Some(b"a".to_vec()), Some(nested(levels)));
        driver.send_record("orders", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
    }
    driver.run();
    send(&mut driver, (false, 0, 3, 1));
    send(&mut driver, (false, 1, 99, 1));
    driver.run();
    assert!(driver.halts().is_empty(), "{:?}", driver.halts());
    let codes = driver
        .read_raw("orders-dlt")
        .into_iter()
        .map(|found| found.header("kafka_dlt-exception-fqcn").map(str::to_owned));
    assert_eq!(codes.collect::<Vec<_>>(), vec![Some("too-deep".to_owned()); 2]);
    assert_eq!(driver.read_raw("told").len(), 2);
}

/// Whatever has moved the clock, and however far.
#[test]
fn an_event_that_stayed_alone_is_told_with_the_time_at_which_it_was_over() {
    let mut driver = TENS.driver();
    for record in [(true, 0, 0, 1), (true, 1, 3, 2), (true, 0, 5, 3), (false, 2, 99_999, 4)] {
        send(&mut driver, record);
    }
    driver.run();
    let mut found = Vec::new();
    driver.log().each_record(&TopicName::parse("told").unwrap(), &mut |_, record| {
        found.push((record.key.unwrap()[0], record.timestamp.0));
    });
    assert_eq!(found, [(b'a', 11), (b'b', 14), (b'a', 16)]);
}

proptest! {
    #[test]
    fn pairs_equal_those_of_a_naive_computation(
        before in 0..12_i64,
        after in 0..12_i64,
        grace in 0..12_i64,
        records in vec((proptest::bool::ANY, 0..2_u8, 0..60_i64), 1..40),
    ) {
        // No number is one of the unlucky ones.
        let records: Vec<Sending> = records.into_iter().zip(20..).map(|((is_left, key, at), n)| (is_left, key, at, n)).collect();
        check(Plan { before, after, grace }, &records)?;
    }
}

const fn pair(left: (i64, u64), right: (i64, u64)) -> Told {
    Told { left: Some(left), right: Some(right) }
}

const fn left(left: (i64, u64)) -> Told {
    Told { left: Some(left), right: None }
}

#[test]
fn events_exactly_so_far_apart_are_a_pair_and_a_millisecond_further_they_are_none() {
    let mut driver = Plan { before: 3, after: 10, grace: 0 }.driver();
    for record in [(false, 0, 97, 2), (true, 0, 100, 1), (false, 0, 110, 3)] {
        send(&mut driver, record);
    }
    assert_eq!(told(&mut driver)[&0], [pair((100, 1), (97, 2)), pair((100, 1), (110, 3))]);
    let mut driver = Plan { before: 3, after: 10, grace: 100 }.driver();
    for record in [(false, 0, 96, 2), (true, 0, 100, 1), (false, 0, 111, 3)] {
        send(&mut driver, record);
    }
    assert_eq!(told(&mut driver), BTreeMap::new());
}

#[test]
fn what_stayed_alone_is_told_with_any_record_that_moves_the_clock_on_and_nothing_is_left_of_it() {
    let mut driver = TENS.driver();
    send(&mut driver, (true, 0, 100, 1));
    send(&mut driver, (true, 1, 110, 2));
    assert_eq!(told(&mut driver), BTreeMap::new(), "the last millisecond still waits");
    send(&mut driver, (true, 1, 111, 3));
    assert_eq!(told(&mut driver), BTreeMap::from([(0, vec![left((100, 1))])]));
    assert_eq!(driver.store("waiting", "a"), None);
    let waiting: Waiting<u64, u64> = serde_json::from_value(driver.store("waiting", "b").unwrap()).unwrap();
    assert_eq!((waiting.left.len(), waiting.right.len()), (2, 0));
}

#[test]
fn a_record_that_is_too_late_is_a_dead_letter_or_skipped_or_published_as_it_came() {
    let topology = |late: Late, late_to: Option<&str>| {
        let mut topology = Topology::new("p");
        let source = topology.source("orders").join_within("payments", Within::of(ms(10)).grace(ms(5))).late(late);
        let source = if let Some(topic) = late_to { source.late_to(topic) } else { source };
        source.aggregate("waiting", Match).to("told");
        topology
    };
    for (late, late_to, letters, published) in
        [(Late::DeadLetter, None, 1, 0), (Late::Skip, None, 0, 0), (Late::DeadLetter, Some("late"), 0, 1)]
    {
        let mut driver = TestDriver::new(topology(late, late_to)).partitions(1);
        for record in [(true, 0, 100, 1), (false, 1, 94, 2), (false, 0, 95, 3)] {
            send(&mut driver, record);
            driver.run(); // those that lie there together are taken by their times
        }
        assert_eq!(told(&mut driver), BTreeMap::from([(0, vec![pair((100, 1), (95, 3))])]));
        let found = driver.read_raw("payments-dlt");
        assert_eq!(found.len(), letters);
        for letter in found {
            let code = letter
                .headers
                .iter()
                .find(|header| header.name == "kafka_dlt-exception-fqcn")
                .and_then(|header| header.value.clone());
            assert_eq!(code.as_deref(), Some(&b"late"[..]));
        }
        assert_eq!(late_to.map_or(0, |topic| driver.read_raw(topic).len()), published);
        assert_eq!(driver.status(0).value(Counter::Late), 1);
    }
}

#[test]
fn a_pair_or_an_event_that_cannot_be_told_is_a_dead_letter_of_its_own() {
    let mut driver = TENS.driver();
    for record in [(true, 0, 100, 1), (true, 0, 101, 14), (false, 0, 102, 2), (true, 1, 103, 13), (true, 1, 200, 3)] {
        send(&mut driver, record);
    }
    driver.run();
    assert_eq!(told(&mut driver), BTreeMap::from([(0, vec![pair((100, 1), (102, 2))])]), "the rest goes on");
    let mut spans = Vec::new();
    for letter in [driver.read_raw("payments-dlt"), driver.read_raw("orders-dlt")].concat() {
        let header =
            letter.headers.iter().find(|header| header.name == "tg_window").and_then(|header| header.value.clone());
        spans.push(String::from_utf8(header.unwrap()).unwrap());
    }
    assert_eq!(spans, ["101/103", "103/104"], "of the pair, and of the event that stayed alone");
    assert_eq!(driver.halts().len(), 0);
}

/// What is taken meets everything in reach that was taken, however late both are.
#[test]
fn an_event_that_is_late_and_taken_finds_its_pair() {
    for (plan, first, other) in
        [(Plan { before: 0, after: 10, grace: 8 }, 105, 108), (Plan { grace: 11, ..TENS }, 100, 111)]
    {
        let mut driver = plan.driver();
        for record in [(false, 0, first, 21), (false, 1, other, 22), (true, 0, 100, 23)] {
            send(&mut driver, record);
            driver.run();
        }
        assert_eq!(told(&mut driver)[&0], [pair((100, 23), (first, 21))]);
    }
}

#[test]
fn pairs_are_told_once_whatever_crashes() {
    let topology = Plan { before: 10, after: 10, grace: 5 }.topology();
    let mut driver = TestDriver::new(topology).partitions(2).instances(2);
    for (n, at) in [100, 104, 96, 130, 120, 118, 161, 150].into_iter().enumerate() {
        let n = n as u64;
        send(&mut driver, (n.is_multiple_of(2), (n % 3) as u8, at, 20 + n));
    }
    driver.run();
    assert!(!told(&mut driver).is_empty());
    driver.crash_everywhere();
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let mut topology = Topology::new("p");
    let store: Store<Option<Waiting<u64, u64>>> = Store::new("waiting").time_to_live(ms(5));
    topology
        .source("orders")
        .join_within("payments", Within::of(ms(10)).grace(ms(0)))
        .aggregate(store, Match)
        .to("told");
    let errors = topology.validate().unwrap_err();
    assert!(errors.iter().any(|error| error.contains("remove its time_to_live()")), "{errors:?}");
    let mut topology = Topology::new("p");
    topology
        .source("orders")
        .join_within("orders", Within::of(ms(10)).grace(ms(0)))
        .aggregate("waiting", Match)
        .to("told");
    assert!(topology.validate().is_err(), "a topic cannot be joined with itself");
}

/// A table moves no clock, and its record may be what a waiting one waits for.
#[test]
fn a_table_goes_on_while_a_record_of_its_stream_is_to_be_offered_again() {
    struct Awaits;
    impl tidegate::flow::window::Windowed for Awaits {
        type Event = (u64, Option<u64>);
        type Value = u64;
        type Notices = Option<u64>;

        fn add(&self, (_, found): &(u64, Option<u64>), sum: &mut u64, _: &mut Context<'_>) -> Result<(), Reject> {
            *sum += found.ok_or_else(|| Reject::retry("not-there", "no partner yet"))?;
            Ok(())
        }

        fn emit(&self, sum: &u64, _: &tidegate::flow::window::Window<'_>) -> Option<u64> {
            Some(*sum)
        }
    }
    let mut topology = Topology::new("p");
    let joined = topology.source("orders").left_join(TableTopic::<u64>::new("payments"));
    let windows = joined.window(Tumbling::of(ms(10)).grace(ms(0))).clock(Clock::PerPartition);
    windows.aggregate("sums", Awaits).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    send(&mut driver, (true, 0, 10, 1));
    driver.step();
    send(&mut driver, (false, 0, 11, 7));
    driver.run();
    assert_eq!(driver.read_raw("orders-dlt").len(), 0);
    assert_eq!(driver.store("sums", "a").unwrap()["windows"][0]["value"], json!(7));
}
