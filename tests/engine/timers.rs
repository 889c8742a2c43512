//! Timers: in order, once, moved and taken back; what fails; clocks; bounds; and crashes at every commit step.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert_eq, proptest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tidegate::adapters::memory::SinkFault;
use tidegate::flow::record::TopicName;
use tidegate::flow::{Algorithm, At, Context, EVERY, Reject, Store, Topology};
use tidegate::ports::history::Found;
use tidegate::testing::{Sent, TestDriver};

#[derive(Deserialize)]
struct Order {
    /// The timer, and the time that it is set for; none takes it back.
    #[serde(default)]
    timer: Option<String>,
    #[serde(default)]
    at: Option<i64>,
    #[serde(default)]
    refused: bool,
    /// By the wall clock, so many milliseconds behind the record's own time.
    #[serde(default)]
    wall_in: Option<i64>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Clone)]
struct Fired {
    name: String,
    at: i64,
    /// How many timers of the key have fired.
    count: u64,
}

/// Sets timers as it is told, and counts those that fire. A name tells what the timer does.
struct Alarm;

impl Alarm {
    fn set(order: &Order, context: &mut Context<'_>) -> Result<(), Reject> {
        match (&order.timer, order.at) {
            (Some(name), None) if order.wall_in.is_some() => {
                let at = context.event_time_ms() + order.wall_in.unwrap_or(0);
                context.set_timer(name, At::Wall(at))?;
            }
            (Some(name), Some(at)) => context.set_timer(name, At::Event(at))?,
            (Some(name), None) => context.cancel_timer(name)?,
            (None, _) => {}
        }
        if order.refused { Err(Reject::new("told to")) } else { Ok(()) }
    }

    fn fire(name: &str, count: &mut u64, context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        *count += 1;
        // Which time that is depends on the run, where it goes by the wall clock.
        let at = if name.starts_with("wall") { 0 } else { context.event_time_ms() };
        let fired = Fired { name: name.into(), at, count: *count };
        match name {
            "panic" => panic!("told to"),
            "refuse" => return Err(Reject::new("told to")),
            "retry" => return Err(Reject::retry("again", "told to")),
            "skip" => return Err(Reject::skip("told-to")),
            "again" => context.set_timer("again", At::Event(at + 100))?,
            "next" => context.set_timer("last", At::Event(at))?,
            "itself" => context.set_timer("itself", At::Event(at))?,
            "before" => context.set_timer("before", At::Event(0))?,
            "ping" => context.set_timer("pong", At::Event(at))?,
            "pong" => context.set_timer("ping", At::Event(at))?,
            "wall itself" if *count < 3 => context.set_timer("wall itself", At::Wall(0))?,
            "take back" => context.cancel_timer("z")?,
            "wide" => return Ok(vec![Fired { name: "x".repeat(1 << 19), ..fired }]),
            "many" => return Ok(vec![fired; 400]),
            _ => {}
        }
        Ok(vec![fired])
    }
}

impl Algorithm for Alarm {
    type Event = Order;
    type Row = u64;
    type Notices = Vec<Fired>;

    fn apply(&self, order: Order, _: &mut u64, context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        Self::set(&order, context).map(|()| Vec::new())
    }

    fn timer(&self, name: &str, count: &mut u64, context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        Self::fire(name, count, context)
    }
}

/// The same without a value under each key.
struct Passing;

impl Algorithm for Passing {
    type Event = Order;
    type Row = ();
    type Notices = Vec<Fired>;

    fn apply(&self, order: Order, (): &mut (), context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        Alarm::set(&order, context).map(|()| Vec::new())
    }

    fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
        Alarm::fire(name, &mut 0, context)
    }
}

fn topology() -> Topology {
    let mut topology = Topology::new("p");
    topology.source("orders").aggregate("counts", Alarm).with_wall_timers("alarms").to("fired");
    topology
}

fn driver() -> TestDriver {
    TestDriver::new(topology())
}

fn send(driver: &mut TestDriver, key: &str, at: i64, value: &serde_json::Value) {
    let (key, value) = (Some(key.as_bytes().to_vec()), Some(value.to_string().into_bytes()));
    driver.send_record("orders", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

fn set(driver: &mut TestDriver, key: &str, at: i64, name: &str, due: i64) {
    send(driver, key, at, &json!({"timer": name, "at": due}));
}

/// Moves the clock.
fn pass(driver: &mut TestDriver, at: i64) {
    send(driver, "clock", at, &json!({}));
}

/// The notices in their order: key, name, time.
fn fired(driver: &mut TestDriver) -> Vec<(String, String, i64)> {
    let read = |Found { key, value, .. }: Found| {
        let fired: Fired = serde_json::from_slice(&value.unwrap()).unwrap();
        (String::from_utf8(key.unwrap()).unwrap(), fired.name, fired.at)
    };
    driver.read_raw("fired").into_iter().map(read).collect()
}

fn header(found: &Found, name: &str) -> Option<String> {
    let header = found.headers.iter().rev().find(|header| header.name == name)?;
    header.value.clone().map(|value| String::from_utf8(value).unwrap())
}

fn all(names: &[(&str, &str, i64)]) -> Vec<(String, String, i64)> {
    names.iter().map(|(key, name, at)| ((*key).to_owned(), (*name).to_owned(), *at)).collect()
}

#[test]
fn a_timer_fires_once_with_the_record_that_moves_the_clock_to_it_whichever_key_that_has() {
    let mut driver = driver();
    set(&mut driver, "a", 1_000, "silent", 2_000);
    pass(&mut driver, 1_999);
    assert_eq!(fired(&mut driver), []);
    pass(&mut driver, 2_000);
    pass(&mut driver, 9_000);
    assert_eq!(fired(&mut driver), all(&[("a", "silent", 2_000)]));
    let found = driver.read_raw("fired");
    assert_eq!(header(&found[0], "tg_id").as_deref(), Some("p/orders/0/2/0"));
    driver.crash_everywhere();
}

#[test]
fn a_timer_that_is_set_again_is_moved_and_one_that_is_taken_back_never_fires() {
    let mut driver = driver();
    set(&mut driver, "a", 1_000, "x", 2_000);
    set(&mut driver, "a", 1_000, "x", 5_000);
    set(&mut driver, "a", 1_000, "y", 2_000);
    set(&mut driver, "b", 1_000, "x", 3_000);
    send(&mut driver, "a", 1_000, &json!({"timer": "y"}));
    send(&mut driver, "a", 1_000, &json!({"timer": "never set"}));
    pass(&mut driver, 4_000);
    assert_eq!(fired(&mut driver), all(&[("b", "x", 3_000)]));
    pass(&mut driver, 5_000);
    assert_eq!(fired(&mut driver), all(&[("b", "x", 3_000), ("a", "x", 5_000)]));
    driver.crash_everywhere();
}

#[test]
fn no_timer_fires_behind_32_mib_of_what_others_have_led_to() {
    let mut driver = driver();
    for n in 10..90 {
        set(&mut driver, &n.to_string(), 1, "wide", 5); // half a MiB each
    }
    pass(&mut driver, 5);
    assert_eq!(driver.read_raw("fired").len(), 64);
    pass(&mut driver, 5);
    assert_eq!(driver.read_raw("fired").len(), 80);
}

#[test]
fn timers_fire_in_the_order_of_time_key_and_name() {
    let mut driver = driver();
    let due = [("b", "y", 5), ("b", "x", 5), ("a", "z", 5), ("aa", "a", 5), ("c", "a", 4), ("a\u{1}", "b", 5)];
    for (key, name, at) in due {
        set(&mut driver, key, 1, name, at);
    }
    pass(&mut driver, 10);
    let expected = [("c", "a", 4), ("a", "z", 5), ("a\u{1}", "b", 5), ("aa", "a", 5), ("b", "x", 5), ("b", "y", 5)];
    assert_eq!(fired(&mut driver), all(&expected));
    let ids: Vec<_> = driver.read_raw("fired").iter().filter_map(|found| header(found, "tg_id")).collect();
    assert_eq!(ids, (0..6).map(|seq| format!("p/orders/0/6/{seq}")).collect::<Vec<_>>());
}

#[test]
fn a_timer_of_the_past_fires_with_the_record_that_sets_it_and_one_may_set_another() {
    let mut driver = driver();
    set(&mut driver, "a", 5_000, "next", 4_000);
    assert_eq!(fired(&mut driver), all(&[("a", "next", 4_000)]));
    set(&mut driver, "b", 5_000, "again", 5_050);
    set(&mut driver, "c", 5_000, "x", 5_200);
    pass(&mut driver, 5_250);
    let expected =
        [("a", "last", 5_001), ("b", "again", 5_050), ("b", "again", 5_150), ("c", "x", 5_200), ("b", "again", 5_250)];
    assert_eq!(fired(&mut driver)[1..], all(&expected));
    driver.crash_everywhere();
}

#[test]
fn a_timer_that_sets_itself_for_its_own_time_or_an_earlier_one_fires_once_more_when_the_clock_goes_on_and_starves_none()
{
    let mut driver = driver();
    for (key, name) in [("a", "itself"), ("b", "before"), ("c", "ping"), ("d", "x")] {
        set(&mut driver, key, 50, name, if name == "x" { 200 } else { 100 });
    }
    let told =
        |found: Vec<(String, String, i64)>| found.into_iter().map(|(_, name, at)| (name, at)).collect::<Vec<_>>();
    let due = |names: &[(&str, i64)]| names.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect::<Vec<_>>();
    pass(&mut driver, 300);
    pass(&mut driver, 300);
    let first = [("itself", 100), ("before", 100), ("ping", 100), ("x", 200)];
    assert_eq!(told(fired(&mut driver)), due(&first), "once each, and the later one behind them");
    set(&mut driver, "d", 300, "x", 500);
    pass(&mut driver, 400);
    let again = [("itself", 301), ("before", 301), ("pong", 301)];
    assert_eq!(told(fired(&mut driver)[4..].to_vec()), due(&again), "once for each record that takes the clock on");
    pass(&mut driver, 500);
    let last = [("itself", 401), ("before", 401), ("ping", 401), ("x", 500)];
    assert_eq!(told(fired(&mut driver)[7..].to_vec()), due(&last));
    driver.crash_everywhere();
}

#[test]
fn a_timer_by_the_wall_clock_that_sets_itself_for_a_time_that_has_passed_fires_in_the_next_turn() {
    let mut driver = driver();
    wall(&mut driver, "a", "wall itself", 1_000);
    wall(&mut driver, "b", "wall", 2_000);
    driver.run();
    for turn in 1..=4_usize {
        driver.advance(Duration::from_secs(4));
        assert_eq!(fired(&mut driver).len(), 1 + turn.min(3), "once in each turn, beside the other one");
    }
    let (mut found, mut due) = (fired(&mut driver), all(&[("a", "wall itself", 0); 3]));
    due.push(("b".to_owned(), "wall".to_owned(), 0));
    found.sort();
    assert_eq!(found, due);
    driver.crash_everywhere();
}

#[test]
fn a_timer_of_a_time_before_1970_is_a_dead_letter_of_the_record_that_sets_it() {
    for at in [-1, i64::MIN] {
        let mut driver = driver();
        set(&mut driver, "a", 5_000, "x", at);
        set(&mut driver, "a", 5_000, "y", 0);
        pass(&mut driver, 6_000);
        assert_eq!(fired(&mut driver), all(&[("a", "y", 0)]), "the first of all times is one");
        let letters = driver.read_raw("orders-dlt");
        assert_eq!((letters.len(), header(&letters[0], "kafka_dlt-exception-fqcn").as_deref()), (1, Some("bad-timer")));
        let message = header(&letters[0], "kafka_dlt-exception-message").unwrap();
        assert!(message.starts_with(&format!("the timer \"x\" is set for {at}, before 1970: ")), "{message}");
        driver.crash_everywhere();
    }
}

#[test]
fn a_timer_may_take_back_the_next_one() {
    let mut driver = driver();
    set(&mut driver, "a", 1, "take back", 5);
    set(&mut driver, "a", 1, "z", 5);
    set(&mut driver, "b", 1, "z", 5);
    pass(&mut driver, 10);
    assert_eq!(fired(&mut driver), all(&[("a", "take back", 5), ("b", "z", 5)]));
}

#[test]
fn what_a_refused_record_set_is_not_set_and_what_it_took_back_is() {
    let mut driver = driver();
    set(&mut driver, "a", 1, "x", 5);
    send(&mut driver, "a", 2, &json!({"timer": "x", "refused": true}));
    send(&mut driver, "a", 2, &json!({"timer": "y", "at": 4, "refused": true}));
    pass(&mut driver, 10);
    assert_eq!(fired(&mut driver), all(&[("a", "x", 5)]));
}

#[test]
fn a_refused_record_moves_the_clock_and_its_dead_letter_comes_before_the_timers() {
    let mut driver = driver();
    set(&mut driver, "a", 1, "x", 5);
    send(&mut driver, "b", 9, &json!({"refused": true}));
    assert_eq!(fired(&mut driver), all(&[("a", "x", 5)]));
    let found = driver.read_raw("fired");
    assert_eq!(header(&found[0], "tg_id").as_deref(), Some("p/orders/0/1/1"));
    assert_eq!(header(&driver.read_raw("orders-dlt")[0], "tg_id").as_deref(), Some("p/orders/0/1/0"));
    driver.crash_everywhere();
}

#[test]
fn a_timer_that_fails_is_a_dead_letter_of_its_own_and_harms_neither_the_record_nor_other_timers() {
    let mut driver = driver();
    for (name, due) in [("panic", 2), ("refuse", 3), ("retry", 4), ("skip", 5), ("x", 6)] {
        set(&mut driver, "a", 1, name, due);
    }
    set(&mut driver, "b", 7, "y", 7);
    let found = driver.read_raw("fired");
    let counts: Vec<u64> = found
        .iter()
        .map(|found| serde_json::from_slice::<Fired>(found.value.as_deref().unwrap()).unwrap().count)
        .collect();
    assert_eq!(counts, [1, 1], "what a timer that failed had counted is undone");
    assert_eq!(fired(&mut driver), all(&[("a", "x", 6), ("b", "y", 7)]));
    let letters = driver.read_raw("orders-dlt");
    let told: Vec<_> = letters
        .iter()
        .map(|letter| {
            assert!(letter.value.is_none() && letter.key.as_deref() == Some(b"a"));
            assert_eq!(header(letter, "kafka_dlt-original-topic").as_deref(), Some("orders"));
            (header(letter, "tg_timer").unwrap(), header(letter, "kafka_dlt-exception-fqcn").unwrap())
        })
        .collect();
    let expected = [("panic", "panic"), ("refuse", "rejected"), ("retry", "again")];
    assert_eq!(told, expected.map(|(name, code)| (name.to_owned(), code.to_owned())));
    let ids: Vec<_> = letters.iter().chain(&found).filter_map(|found| header(found, "tg_id")).collect();
    assert_eq!(ids, (0..5).map(|seq| format!("p/orders/0/5/{seq}")).collect::<Vec<_>>());
    driver.crash_everywhere();
}

#[test]
fn a_record_of_the_future_fires_nothing() {
    let mut driver = driver();
    set(&mut driver, "a", 1, "x", 5_000);
    pass(&mut driver, 4_000_000_000_000);
    assert_eq!(fired(&mut driver), []);
    let code = header(&driver.read_raw("orders-dlt")[0], "kafka_dlt-exception-fqcn");
    assert_eq!(code.as_deref(), Some("event-time-ahead"));
}

#[test]
fn at_most_a_thousand_fire_behind_one_record_and_the_others_behind_the_next() {
    let mut driver = driver();
    for n in 0..2_500 {
        set(&mut driver, &format!("{n:04}"), 1, "x", 5);
    }
    for n in 1..=3 {
        pass(&mut driver, 10);
        assert_eq!(fired(&mut driver).len(), (1_000 * n).min(2_500));
    }
    let keys: Vec<String> = fired(&mut driver).into_iter().map(|(key, ..)| key).collect();
    assert!(keys.is_sorted());
    for n in 0..4 {
        set(&mut driver, &format!("{n}"), 10, "many", 15);
    }
    pass(&mut driver, 20);
    assert_eq!(fired(&mut driver).len(), 2_500 + 1_200, "the one that reaches the bound is the last");
    pass(&mut driver, 20);
    assert_eq!(fired(&mut driver).len(), 2_500 + 1_600);
}

#[test]
fn timers_and_their_clock_outlive_instances_and_disks() {
    let mut driver = driver().partitions(2).instances(2);
    for n in 0..20 {
        set(&mut driver, &n.to_string(), 1_000, "x", 2_000 + n);
    }
    for n in 0..20 {
        send(&mut driver, &n.to_string(), 2_010, &json!({}));
    }
    // Late, and due all the same: the clock has come to it.
    set(&mut driver, "late", 5, "x", 10);
    let due: BTreeSet<_> = fired(&mut driver).into_iter().collect();
    assert_eq!(due.len(), 12);
    driver.crash_everywhere();
}

#[test]
fn a_process_step_has_timers_too_and_they_need_a_key() {
    let mut topology = Topology::new("p");
    topology.source("orders").process(Passing).with_timers("alarms").to("fired");
    let mut driver = TestDriver::new(topology);
    set(&mut driver, "a", 1, "x", 5);
    driver.send_raw("orders", None, Some(br#"{"timer": "x", "at": 5}"#));
    assert_eq!(fired(&mut driver), all(&[("a", "x", 5)]));
    let letter = driver.read_raw("orders-dlt").remove(0);
    assert_eq!(header(&letter, "kafka_dlt-exception-fqcn").as_deref(), Some("null-key"));
    driver.crash_everywhere();
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let mut driver = driver();
    set(&mut driver, "a", 1, &"x".repeat(128), 5);
    set(&mut driver, "a", 1, &"x".repeat(129), 5);
    pass(&mut driver, 10);
    assert_eq!(fired(&mut driver).len(), 1);
    let letter = driver.read_raw("orders-dlt").remove(0);
    assert_eq!(header(&letter, "kafka_dlt-exception-fqcn").as_deref(), Some("bad-timer"));
}

#[test]
fn a_step_that_was_given_no_timers_halts_where_one_is_set() {
    let mut topology = Topology::new("p");
    topology.source("orders").aggregate("counts", Alarm).to("fired");
    let mut driver = TestDriver::new(topology);
    set(&mut driver, "a", 1, "x", 5);
    let halts = driver.halts();
    assert!(halts.len() == 1 && halts[0].detail.contains("add `with_timers`"), "{halts:?}");
}

#[test]
fn a_step_whose_timers_go_by_event_time_halts_where_one_is_set_by_the_wall_clock() {
    let mut topology = Topology::new("p");
    topology.source("orders").aggregate("counts", Alarm).with_timers("alarms").to("fired");
    let mut driver = TestDriver::new(topology);
    wall(&mut driver, "a", "wall", 10);
    let halts = driver.halts();
    assert!(halts.len() == 1 && halts[0].detail.contains("may have `with_wall_timers`"), "{halts:?}");
}

#[test]
fn timers_where_they_cannot_be_are_refused_before_the_start() {
    struct Rows;
    #[derive(Serialize, Deserialize)]
    struct Row {
        n: i64,
    }
    impl Algorithm for Rows {
        type Event = Order;
        type Row = Row;
        type Notices = Vec<Fired>;

        fn apply(&self, _: Order, _: &mut Row, _: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
            Ok(Vec::new())
        }
    }
    let errors = |build: &dyn Fn(&mut Topology)| {
        let mut topology = Topology::new("p");
        build(&mut topology);
        topology.validate().unwrap_err().join("; ")
    };
    let rows = errors(&|topology| topology.source("orders").update("t", Rows).with_wall_timers("alarms").done());
    assert!(rows.contains("timers alarms: the step that updates t commits through the database"), "{rows}");
    let twice = errors(&|topology| {
        topology.source("orders").aggregate("counts", Alarm).with_timers("a").with_timers("b").done();
    });
    assert!(twice.contains("timers b: a step has its timers in one store"), "{twice}");
    let same = errors(&|topology| {
        topology.source("orders").aggregate("counts", Alarm).with_timers("counts").done();
    });
    assert!(same.contains("store counts: belongs to two steps"), "{same}");
}

fn ticking() -> TestDriver {
    TestDriver::new(ticking_every(100))
}

fn ticking_every(ms: u64) -> Topology {
    let mut topology = Topology::new("p");
    topology.source("orders").process(Passing).with_timers("alarms").every(Duration::from_millis(ms)).to("fired");
    topology
}

/// The times of the ticks, which have no key.
fn ticks(driver: &mut TestDriver) -> Vec<i64> {
    let keyless = driver.read_raw("fired").into_iter().filter(|found| found.key.is_none());
    let read = |found: Found| serde_json::from_slice::<Fired>(&found.value.unwrap()).unwrap();
    keyless.map(read).filter(|fired| fired.name == EVERY).map(|fired| fired.at).collect()
}

#[test]
fn a_step_ticks_once_a_period_of_its_clock_and_once_for_a_pause() {
    let mut driver = ticking();
    pass(&mut driver, 50);
    assert!(ticks(&mut driver).is_empty());
    pass(&mut driver, 99);
    pass(&mut driver, 100);
    pass(&mut driver, 199);
    pass(&mut driver, 20); // late
    assert_eq!(ticks(&mut driver), [100]);
    pass(&mut driver, 1_250);
    pass(&mut driver, 1_299);
    assert_eq!(ticks(&mut driver), [100, 200]);
    pass(&mut driver, 1_300);
    assert_eq!(ticks(&mut driver), [100, 200, 1_300]);
    driver.crash_everywhere();
}

#[test]
fn ticks_and_timers_fire_in_the_order_of_their_times() {
    let mut driver = ticking();
    set(&mut driver, "a", 1, "x", 90);
    set(&mut driver, "a", 1, "y", 110);
    pass(&mut driver, 150);
    let found = driver.read_raw("fired");
    let told = |found: &Found| serde_json::from_slice::<Fired>(found.value.as_deref().unwrap()).unwrap();
    let told: Vec<_> = found.iter().map(|found| (told(found).at, header(found, "tg_id").unwrap())).collect();
    let due = [90, 100, 110];
    let mut expected: Vec<_> = (0..3).map(|seq| (due[seq], format!("p/orders/0/2/{seq}"))).collect();
    expected.sort();
    let mut told = told;
    told.sort();
    assert_eq!(told, expected);
    driver.crash_everywhere();
}

#[test]
fn ticks_that_cannot_be_are_refused_before_the_start() {
    let errors = |period: u64, has_timers: bool| {
        let mut topology = Topology::new("p");
        let step = topology.source("orders").process(Passing).every(Duration::from_millis(period));
        if has_timers {
            step.with_timers("alarms").done()
        } else {
            step.done()
        }
        topology.validate().unwrap_err().join("; ")
    };
    let without = errors(10, false);
    assert!(
        without.contains("every(): the clock of its ticks is kept with timers, and the step has none"),
        "{without}"
    );
    let never = errors(0, true);
    assert!(never.contains("every(): its period is less than a millisecond"), "{never}");
    let mut topology = Topology::new("p");
    topology.source("orders").aggregate("counts", Passing).with_timers("a").every(Duration::from_millis(10)).done();
    let by_key = topology.validate().unwrap_err().join("; ");
    let told = "every(): it runs a process step for its whole partition, and this step works by key; remove it, and give each key a timer";
    assert!(by_key.contains(told), "{by_key}");
}

/// A longer one would let the next tick wait for a day.
#[test]
fn a_period_that_a_release_makes_shorter_counts_from_its_first_record_on() {
    let mut driver = TestDriver::new(ticking_every(86_400_000));
    pass(&mut driver, 50);
    driver.run();
    driver.stop(0);
    driver.release(ticking_every(100));
    driver.start(0);
    pass(&mut driver, 60);
    pass(&mut driver, 120);
    assert_eq!(ticks(&mut driver), [100]);
    driver.stop(0);
    driver.release(ticking_every(1_000));
    driver.start(0);
    pass(&mut driver, 250);
    pass(&mut driver, 999);
    pass(&mut driver, 1_000);
    assert_eq!(ticks(&mut driver), [100, 200, 1_000], "the one that was set stays");
}

/// A release without `every()` finds the tick of the one before.
#[test]
fn a_tick_of_a_release_before_runs_nothing() {
    let mut driver = ticking();
    pass(&mut driver, 50);
    driver.run();
    driver.stop(0);
    let mut topology = Topology::new("p");
    topology.source("orders").process(Passing).with_timers("alarms").to("fired");
    driver.release(topology);
    driver.start(0);
    pass(&mut driver, 1_000);
    assert!(ticks(&mut driver).is_empty());
    assert!(driver.read_raw("fired").iter().all(|found| found.key.is_some()));
}

/// The step's store of timers is nobody else's.
#[test]
fn an_algorithm_cannot_open_the_store_of_its_timers() {
    struct Opens;
    impl Algorithm for Opens {
        type Event = Order;
        type Row = ();
        type Notices = Vec<Fired>;

        fn apply(&self, _: Order, (): &mut (), context: &mut Context<'_>) -> Result<Vec<Fired>, Reject> {
            context.store(&Store::<i64>::new("alarms"))?.put("k", &1)?;
            Ok(Vec::new())
        }
    }
    let mut topology = Topology::new("p");
    topology.source("orders").process(Opens).with_timers("alarms").done();
    let mut driver = TestDriver::new(topology);
    pass(&mut driver, 1);
    let halts = driver.halts();
    assert!(halts.len() == 1 && halts[0].detail.contains("opens the store alarms"), "{halts:?}");
}

/// The time at which a test driver's clock begins.
const START_MS: i64 = 1_767_225_600_000;

/// Sets a timer by the wall clock, so long behind the beginning.
fn wall(driver: &mut TestDriver, key: &str, name: &str, ms: i64) {
    send(driver, key, START_MS, &json!({"timer": name, "wall_in": ms}));
}

#[test]
fn a_timer_by_the_wall_clock_fires_once_without_a_record() {
    let mut driver = driver();
    wall(&mut driver, "a", "wall", 60_000);
    driver.advance(Duration::from_secs(50));
    assert_eq!(fired(&mut driver), []);
    driver.advance(Duration::from_secs(11));
    assert_eq!(fired(&mut driver), all(&[("a", "wall", 0)]));
    driver.advance(Duration::from_secs(600));
    send(&mut driver, "a", START_MS, &json!({}));
    driver.advance(Duration::from_secs(600));
    assert_eq!(fired(&mut driver), all(&[("a", "wall", 0)]));
    let id = header(&driver.read_raw("fired")[0], "tg_id");
    assert_eq!(id, Some(format!("p/orders/0/1/{}", i32::MIN)), "in front of the record that comes next");
    driver.crash_everywhere();
}

#[test]
fn timers_by_the_wall_clock_are_moved_and_taken_back_and_are_in_order() {
    let mut driver = driver();
    wall(&mut driver, "a", "wall x", 10_000);
    wall(&mut driver, "a", "wall x", 30_000);
    wall(&mut driver, "b", "wall y", 10_000);
    wall(&mut driver, "b", "wall z", 20_000);
    wall(&mut driver, "c", "wall z", 10_000);
    send(&mut driver, "c", START_MS, &json!({"timer": "wall z"}));
    driver.advance(Duration::from_secs(90));
    assert_eq!(fired(&mut driver), all(&[("b", "wall y", 0), ("b", "wall z", 0), ("a", "wall x", 0)]));
    driver.crash_everywhere();
}

#[test]
fn each_message_of_a_timer_by_the_wall_clock_has_an_id_of_its_own_and_one_that_fails_is_a_dead_letter() {
    let mut driver = driver();
    for (n, name) in (0..).zip(["panic", "wall a", "skip", "refuse", "wall b"]) {
        wall(&mut driver, "a", name, 10_000 + n);
    }
    wall(&mut driver, "a", "wall later", 60_000);
    driver.advance(Duration::from_secs(30));
    driver.advance(Duration::from_secs(60));
    let mut all = driver.read_raw("orders-dlt");
    assert_eq!(header(&all[0], "tg_timer").as_deref(), Some("panic"));
    all.extend(driver.read_raw("fired"));
    let mut ids: Vec<_> = all.iter().filter_map(|found| header(found, "tg_id")).collect();
    ids.sort();
    let mut expected: Vec<_> = (0..5).map(|n| format!("p/orders/0/6/{}", i32::MIN + n)).collect();
    expected.sort();
    assert_eq!(ids, expected);
    driver.advance(Duration::from_secs(60)); // for one that crashed meanwhile
    driver.crash_everywhere();
}

#[test]
fn timers_by_the_wall_clock_that_were_due_while_nobody_was_there_fire_with_the_next_owner() {
    let mut driver = driver().partitions(2).instances(2);
    for n in 0..10 {
        wall(&mut driver, &n.to_string(), "wall", 20_000);
    }
    driver.run();
    (0..2).for_each(|instance| driver.kill(instance));
    driver.pass(Duration::from_secs(60));
    driver.start(0);
    let due: BTreeSet<_> = fired(&mut driver).into_iter().collect();
    assert_eq!((due.len(), fired(&mut driver).len()), (10, 10));
}

#[test]
fn timers_by_the_wall_clock_that_are_more_than_one_turn_takes_fire_in_turns_behind_each_other() {
    let mut driver = driver();
    for n in 0..1_100 {
        wall(&mut driver, &n.to_string(), "wall", 20_000);
    }
    driver.advance(Duration::from_secs(60));
    assert_eq!(fired(&mut driver).len(), 1_100);
}

/// As after a weekend. A transaction has a turn at most, and a turn a thousand timers.
#[test]
fn a_hundred_thousand_timers_that_were_due_during_an_outage_fire_once_each_in_the_order_of_their_times() {
    const KEYS: i64 = 100;
    const EACH: i64 = 1_000;
    /// A time for each timer, in no order of keys or names, and each for one alone.
    const fn due(number: i64) -> i64 {
        START_MS + 60_000 + (number * 7_919) % (KEYS * EACH)
    }
    struct Many;
    impl Algorithm for Many {
        type Event = i64;
        type Row = ();
        type Notices = Option<i64>;

        fn apply(&self, first: i64, (): &mut (), context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            for number in first..first + EACH {
                context.set_timer(&number.to_string(), At::Wall(due(number)))?;
            }
            Ok(None)
        }

        fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            assert_eq!(due(name.parse().unwrap()), context.event_time_ms());
            Ok(Some(context.event_time_ms()))
        }
    }
    let mut topology = Topology::new("p");
    topology.source("orders").process(Many).with_wall_timers("alarms").to("fired");
    let mut driver = TestDriver::new(topology);
    for key in 0..KEYS {
        driver.send("orders", &*key.to_string(), key * EACH);
    }
    driver.run();
    driver.kill(0);
    driver.pass(Duration::from_secs(3_600));
    driver.start(0);
    // The number of messages in each transaction: its end takes an offset, too.
    let fired = TopicName::parse("fired").unwrap();
    let look = |driver: &mut TestDriver| {
        let (mut times, mut sizes, mut next) = (Vec::new(), Vec::new(), -1);
        driver.log().each_record(&fired, &mut |_, record| {
            times.push(serde_json::from_slice::<i64>(record.value.unwrap()).unwrap());
            if record.offset.0 != next {
                sizes.push(0);
            }
            *sizes.last_mut().unwrap() += 1;
            next = record.offset.0 + 1;
        });
        (times, sizes)
    };
    let total = usize::try_from(KEYS * EACH).unwrap();
    for _ in 0..60 {
        driver.advance(Duration::from_secs(1));
        if look(&mut driver).0.len() >= total {
            break;
        }
    }
    driver.advance(Duration::from_secs(3_600));
    let (times, sizes) = look(&mut driver);
    let first = START_MS + 60_000;
    assert_eq!((times.first(), times.len()), (Some(&first), total));
    assert!(times.iter().is_sorted_by(|one, next| one < next), "in order, and once each");
    assert_eq!(sizes, vec![1_000; total / 1_000]);
    assert!(driver.read_raw("orders-dlt").is_empty());
}

/// Whether a transaction without an offset of its own was committed cannot be seen at K: the changelog tells.
#[test]
fn a_turn_whose_commit_has_no_answer_is_not_told_twice() {
    for failure in [SinkFault::Commit { is_applied: true }, SinkFault::Commit { is_applied: false }, SinkFault::Flush] {
        let mut driver = driver();
        wall(&mut driver, "a", "wall", 10_000);
        driver.run();
        driver.log().fail_next(failure);
        driver.advance(Duration::from_secs(11));
        driver.advance(Duration::from_secs(60));
        assert_eq!(fired(&mut driver), all(&[("a", "wall", 0)]), "{failure:?}");
    }
}

/// A record as drawn: key, time, name of a timer, and the time that it is set for.
type Drawn = (u8, i64, u8, Option<i64>);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let at = 0..60_i64;
    vec((0..3_u8, at.clone(), 0..2_u8, proptest::option::weighted(0.8, at)), 1..60)
        .prop_flat_map(|records| (proptest::strategy::Just(records), any::<bool>()))
        .prop_map(|(mut records, is_in_order)| {
            if is_in_order {
                records.sort_by_key(|record| record.1);
            }
            records
        })
}

/// The timers that fire, computed over a list.
fn naive(records: &[Drawn]) -> Vec<(String, String, i64)> {
    let (mut live, mut clock, mut out) = (BTreeMap::new(), i64::MIN, Vec::new());
    for (key, at, name, due) in records {
        match due {
            Some(due) => drop(live.insert((key, name), *due)),
            None => drop(live.remove(&(key, name))),
        }
        clock = clock.max(*at);
        let mut over: Vec<_> = live.iter().filter(|(_, due)| **due <= clock).map(|(of, due)| (*due, *of)).collect();
        over.sort_unstable();
        for (due, of) in over {
            live.remove(&of);
            out.push((of.0.to_string(), of.1.to_string(), due));
        }
    }
    out
}

proptest! {
    #[test]
    fn timers_are_those_of_a_naive_computation(records in drawn()) {
        let mut driver = driver();
        for (key, at, name, due) in &records {
            send(&mut driver, &key.to_string(), 1 + at, &json!({"timer": name.to_string(), "at": due.map(|due| 1 + due)}));
        }
        let expected: Vec<_> = naive(&records).into_iter().map(|(key, name, at)| (key, name, 1 + at)).collect();
        prop_assert_eq!(fired(&mut driver), expected);
    }
}

/// Nothing of it was committed then: the message is found, as behind a record, and told by a dead letter.
#[test]
fn a_message_of_a_turn_that_its_topic_refuses_for_good_is_a_dead_letter() {
    let mut driver = driver();
    wall(&mut driver, "a", "wide", 10_000);
    wall(&mut driver, "b", "wall", 10_000);
    driver.run();
    driver.log().limit_messages(&TopicName::parse("fired").unwrap(), 100_000);
    driver.advance(Duration::from_secs(11));
    driver.advance(Duration::from_secs(60));
    assert_eq!(fired(&mut driver), all(&[("b", "wall", 0)]));
    assert_eq!(driver.read_raw("orders-dlt").len(), 1);
    assert!(driver.halts().is_empty());
}
