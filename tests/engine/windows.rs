//! Windows: each kind against a naive computation, late events, clocks, and crashes at every commit step.

use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_oneof};
use proptest::{prop_assert_eq, proptest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tidegate::engine::status::Counter;
use tidegate::flow::record::Header;
use tidegate::flow::row::Value;
use tidegate::flow::window::{Emit, Hopping, Late, Merge, Pane, Session, Tumbling, Window, Windowed};
use tidegate::flow::{Algorithm, Context, KeyType, Reject, Store, Table, Topology};
use tidegate::ports::history::Found;
use tidegate::testing::TestDriver;

#[derive(Deserialize)]
struct Reading {
    at: i64,
    n: u64,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Clone, Debug)]
struct Told {
    start: i64,
    end: i64,
    pane: String,
    numbers: BTreeSet<u64>,
}

/// Gathers the numbers of its readings: what is lost or taken twice shows.
struct Gather;

impl Windowed for Gather {
    type Event = Reading;
    type Value = (u64, BTreeSet<u64>);
    type Notices = Option<Told>;

    fn event_time_ms(&self, reading: &Reading, _: &Context<'_>) -> i64 {
        reading.at
    }

    fn add(
        &self,
        reading: &Reading,
        (count, numbers): &mut (u64, BTreeSet<u64>),
        context: &mut Context<'_>,
    ) -> Result<(), Reject> {
        assert_eq!(context.event_time_ms(), reading.at, "the event's own time");
        if reading.n == 13 {
            return Err(Reject::new("thirteen"));
        }
        *count += 1;
        numbers.insert(reading.n);
        Ok(())
    }

    fn emit(&self, (count, numbers): &(u64, BTreeSet<u64>), window: &Window<'_>) -> Option<Told> {
        assert_eq!(*count, numbers.len() as u64, "each reading was added once");
        let pane = match window.pane {
            Pane::Early => "early".into(),
            Pane::Final => "final".into(),
            Pane::Correction(n) => format!("correction {n}"),
            Pane::Retraction => "retraction".into(),
            Pane::Withdrawal => "withdrawal".into(),
        };
        Some(Told { start: window.start_ms, end: window.end_ms, pane, numbers: numbers.clone() })
    }
}

impl Merge for Gather {
    fn merge(&self, (count, numbers): &mut (u64, BTreeSet<u64>), later: (u64, BTreeSet<u64>)) {
        *count += later.0;
        numbers.extend(later.1);
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tumbling(u64),
    Hopping(u64, u64),
    Session(u64),
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    grace: u64,
    corrections: u64,
    emit: Emit,
    late: Late,
}

impl Plan {
    const fn tumbling(size: u64, grace: u64) -> Self {
        let (emit, late) = (Emit::OnClose, Late::DeadLetter);
        Self { kind: Kind::Tumbling(size), grace, corrections: 0, emit, late }
    }

    fn topology(self) -> Topology {
        let mut topology = Topology::new("p");
        let source = topology.source("readings");
        macro_rules! end {
            ($kind:expr) => {
                source
                    .window($kind.grace(ms(self.grace)))
                    .corrections_for(ms(self.corrections))
                    .emit(self.emit)
                    .late(self.late)
                    .aggregate("spans", Gather)
                    .to("told")
            };
        }
        match self.kind {
            Kind::Tumbling(size) => end!(Tumbling::of(ms(size))),
            Kind::Hopping(size, every) => end!(Hopping::of(ms(size)).every(ms(every))),
            Kind::Session(gap) => end!(Session::gap(ms(gap))),
        }
        topology
    }

    fn driver(self) -> TestDriver {
        TestDriver::new(self.topology()).partitions(2)
    }
}

/// Every notice of each key, in order.
fn told(driver: &mut TestDriver) -> BTreeMap<String, Vec<Told>> {
    let mut out: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for Found { key, value, .. } in driver.read_raw("told") {
        let key = String::from_utf8(key.unwrap()).unwrap();
        out.entry(key).or_default().push(serde_json::from_slice(&value.unwrap()).unwrap());
    }
    out
}

fn send(driver: &mut TestDriver, key: &str, at: i64, n: u64) {
    driver.send("readings", key, json!({"at": at, "n": n}));
}

/// One window of the naive computation: the readings that belong to it, and what was said of it.
#[derive(Clone, Default, Debug)]
struct Naive {
    readings: Vec<(i64, u64)>,
    emitted: u32,
    is_due: bool,
    /// While it is open: when it was told last, or began, whether it ever was, and whether there is more to tell.
    early: Option<(i64, bool, bool)>,
}

/// Windows kept as lists of readings, of one key. For sessions the span of a window follows from its readings.
fn naively(plan: Plan, readings: &[(i64, u64)]) -> (Vec<Told>, Vec<u64>) {
    let (grace, kept_for) = (plan.grace as i64, (plan.grace + plan.corrections) as i64);
    let (mut windows, mut out, mut late): (BTreeMap<i64, (i64, Naive)>, Vec<Told>, Vec<u64>) = Default::default();
    let mut clock = i64::MIN;
    let say = |start: i64, end: i64, window: &Naive, pane: String| Told {
        start,
        end,
        pane,
        numbers: window.readings.iter().map(|(_, n)| *n).collect(),
    };
    for &(at, n) in readings {
        let clock_then = clock.max(at);
        let mut changed: Vec<i64> = Vec::new();
        match plan.kind {
            Kind::Tumbling(size) | Kind::Hopping(size, _) => {
                let every = if let Kind::Hopping(_, every) = plan.kind { every } else { size } as i64;
                let size = size as i64;
                for start in (at - size + 1..=at).filter(|start| start.rem_euclid(every) == 0) {
                    if start + size + kept_for > clock_then {
                        windows.entry(start).or_insert((start + size, Naive::default())).1.readings.push((at, n));
                        changed.push(start);
                    }
                }
            }
            Kind::Session(gap) => {
                let gap = gap as i64;
                let touched: Vec<i64> = windows
                    .iter()
                    .filter(|(_, (_, window))| window.readings.iter().any(|(other, _)| (other - at).abs() <= gap))
                    .map(|(start, _)| *start)
                    .collect();
                if !touched.is_empty() || at + gap + 1 + kept_for > clock_then {
                    let mut all: Vec<(i64, (i64, Naive))> =
                        touched.iter().map(|start| (*start, windows.remove(start).unwrap())).collect();
                    let start = all.iter().map(|(start, _)| *start).fold(at, i64::min);
                    let end = all.iter().map(|(_, (end, _))| *end).fold(at + gap + 1, i64::max);
                    let (is_open, is_early) = (end + grace > clock_then, plan.emit == Emit::OnUpdate);
                    let mut one = Naive::default();
                    for (was, (end, window)) in all.drain(..) {
                        if window.emitted > 0 && (was != start || is_open) {
                            out.push(say(was, end, &window, "retraction".into()));
                        } else if (is_early || window.early.is_some_and(|(_, is_told, _)| is_told)) && was != start {
                            out.push(say(was, end, &window, "withdrawal".into()));
                        } else if was == start {
                            one.emitted = window.emitted;
                        }
                        if let Some((since, is_told, _)) = window.early {
                            let (since_one, is_one_told, _) = one.early.unwrap_or((since, false, false));
                            one.early = Some((since.max(since_one), is_one_told || (is_told && was == start), true));
                        }
                        one.readings.extend(window.readings);
                    }
                    one.readings.push((at, n));
                    windows.insert(start, (end, one));
                    changed.push(start);
                }
            }
        }
        if changed.is_empty() {
            late.push(n);
            continue;
        }
        clock = clock_then;
        for start in &changed {
            windows.get_mut(start).unwrap().1.is_due = true;
        }
        for (start, (end, window)) in &mut windows {
            if window.is_due && *end + grace <= clock {
                let pane = if window.emitted == 0 { "final".into() } else { format!("correction {}", window.emitted) };
                out.push(say(*start, *end, window, pane));
                (window.emitted, window.is_due, window.early) = (window.emitted + 1, false, None);
                continue;
            }
            let is_changed = changed.contains(start);
            let is_open = *end + grace > clock;
            let is_told = match plan.emit {
                Emit::OnClose => false,
                Emit::OnUpdate => is_changed,
                Emit::Every(every) => {
                    if is_changed && is_open {
                        let (since, is_told, _) = window.early.unwrap_or((clock, false, true));
                        window.early = Some((since, is_told, true));
                    }
                    window
                        .early
                        .is_some_and(|(since, _, has_news)| has_news && since + every.as_millis() as i64 <= clock)
                }
            };
            if is_told {
                out.push(say(*start, *end, window, "early".into()));
                window.early = window.early.map(|_| (clock, true, false));
            }
        }
        windows.retain(|_, (end, _)| *end + kept_for > clock);
    }
    (out, late)
}

/// Looks at what was given out alone: a final value stands, a correction takes its place, a retraction takes it off; an early
/// value stands for nothing, and a withdrawal takes off that alone. No event counts in two windows that stand, unless they hop.
fn adds_up(plan: Plan, given_out: &[Told]) -> Result<(), String> {
    let (mut standing, mut early) = (BTreeMap::new(), BTreeMap::new());
    for told in given_out {
        let is_it = |before: Option<&Told>| {
            before.is_some_and(|before| (before.end, &before.numbers) == (told.end, &told.numbers))
        };
        let is_right = match told.pane.as_str() {
            "early" => {
                early.insert(told.start, told);
                true
            }
            // It may have grown since it was told.
            "withdrawal" if matches!(plan.emit, Emit::Every(_)) => early.remove(&told.start).is_some(),
            "withdrawal" => is_it(early.remove(&told.start)),
            "retraction" => is_it(standing.remove(&told.start)),
            "final" => {
                early.remove(&told.start);
                standing.insert(told.start, told).is_none()
            }
            _ => standing.insert(told.start, told).is_some(),
        };
        if !is_right {
            return Err(format!("{told:?} is told of {standing:?} and {early:?}"));
        }
    }
    let all: Vec<u64> = standing.values().flat_map(|told| told.numbers.iter().copied()).collect();
    let once: BTreeSet<u64> = all.iter().copied().collect();
    if matches!(plan.kind, Kind::Hopping(..)) || once.len() == all.len() {
        Ok(())
    } else {
        Err(format!("an event counts twice in {standing:?}"))
    }
}

#[test]
fn an_early_session_that_becomes_part_of_another_one_is_withdrawn_and_takes_nothing_off() {
    let mut driver = Plan { emit: Emit::OnUpdate, kind: Kind::Session(10), ..Plan::tumbling(10, 30) }.driver();
    for (n, at) in [(1, 0), (2, 20), (3, 10), (4, 80)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let all = told(&mut driver).remove("a").unwrap();
    let panes: Vec<(i64, &str, usize)> =
        all.iter().map(|told| (told.start, told.pane.as_str(), told.numbers.len())).collect();
    let due =
        [(0, "early", 1), (20, "early", 1), (20, "withdrawal", 1), (0, "early", 3), (0, "final", 3), (80, "early", 1)];
    assert_eq!(panes, due);
}

#[test]
fn a_window_is_told_every_so_often_while_it_is_open() {
    let emit = Emit::Every(ms(100));
    let mut driver = Plan { emit, ..Plan::tumbling(1_000, 0) }.driver();
    // Nothing new at 250: told at 100 and 300, and at the end.
    for (n, at) in [(1, 0), (2, 99), (3, 100), (4, 150), (5, 199), (6, 300), (7, 350), (8, 1_000)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let all = told(&mut driver).remove("a").unwrap();
    let panes: Vec<(&str, usize)> = all.iter().map(|told| (told.pane.as_str(), told.numbers.len())).collect();
    assert_eq!(panes, [("early", 3), ("early", 6), ("final", 7)]);
    driver.crash_everywhere();
}

fn plans() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        (1..40_u64).prop_map(Kind::Tumbling),
        (1..40_u64, 1..40_u64).prop_map(|(a, b)| Kind::Hopping(a.max(b), a.min(b))),
        (1..15_u64).prop_map(Kind::Session),
    ];
    let emit = prop_oneof![
        proptest::strategy::Just(Emit::OnClose),
        proptest::strategy::Just(Emit::OnUpdate),
        (1..50_u64).prop_map(|every| Emit::Every(ms(every))),
    ];
    (kind, 0..20_u64, prop_oneof![proptest::strategy::Just(0), 1..40_u64], emit)
        .prop_map(|(kind, grace, corrections, emit)| Plan { kind, grace, corrections, emit, late: Late::DeadLetter })
}

/// Of `PROPTEST_CASES`, or few enough for every run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(50)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(cases()))]
    #[test]
    fn windows_of_every_kind_are_those_of_a_naive_computation(
        plan in plans(),
        readings in vec((0..3_usize, 0..250_i64), 1..40),
    ) {
        let mut driver = plan.driver();
        let mut by_key: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
        for (n, (key, at)) in (100..).zip(readings) {
            let key = format!("k{key}");
            send(&mut driver, &key, at, n);
            by_key.entry(key).or_default().push((at, n));
        }
        driver.run();
        let found = told(&mut driver);
        let mut late = 0;
        for (key, readings) in &by_key {
            let (due, too_late) = naively(plan, readings);
            let given_out = found.get(key).cloned().unwrap_or_default();
            prop_assert_eq!(adds_up(plan, &given_out), Ok(()), "{} of {:?}", key, readings);
            prop_assert_eq!(given_out, due, "{} of {:?}", key, readings);
            late += too_late.len();
        }
        prop_assert_eq!(driver.read_raw("readings-dlt").len(), late);
    }
}

#[test]
fn a_window_is_given_out_once_its_key_has_come_past_its_end_and_its_grace() {
    let mut driver = Plan::tumbling(60_000, 30_000).driver();
    for (n, at) in [(1, 0), (2, 59_999), (3, 60_000), (4, 89_999)] {
        send(&mut driver, "a", at, n);
    }
    send(&mut driver, "b", 1_000_000, 5);
    driver.run();
    assert!(told(&mut driver).is_empty(), "no clock has come to 90,000, and b's is its own");
    send(&mut driver, "a", 90_000, 6);
    driver.run();
    let first = Told { start: 0, end: 60_000, pane: "final".into(), numbers: [1, 2].into() };
    assert_eq!(told(&mut driver), BTreeMap::from([("a".into(), vec![first])]));
    let kept = driver.store("spans", "a").unwrap();
    assert_eq!(kept["clock_ms"], json!(90_000));
    assert_eq!(kept["windows"].as_array().map(Vec::len), Some(1), "{kept}");
}

/// The codes of the dead letters, in their order.
fn dead_letter_codes(driver: &mut TestDriver) -> Vec<String> {
    let code = |found: Found| {
        let code = found.headers.into_iter().find(|header| header.name == "kafka_dlt-exception-fqcn");
        String::from_utf8(code.unwrap().value.unwrap()).unwrap()
    };
    driver.read_raw("readings-dlt").into_iter().map(code).collect()
}

#[test]
fn an_event_that_is_too_late_is_a_dead_letter_or_skipped_and_one_that_is_rejected_changes_no_window() {
    for late in [Late::DeadLetter, Late::Skip] {
        let mut driver = Plan { late, ..Plan::tumbling(10, 5) }.driver();
        send(&mut driver, "a", 100, 1);
        send(&mut driver, "a", 84, 2); // its window ended at 90, with grace at 95
        send(&mut driver, "a", 91, 3);
        send(&mut driver, "a", 92, 13);
        send(&mut driver, "a", 115, 4);
        driver.run();
        let all = told(&mut driver).remove("a").unwrap();
        let numbers: Vec<Vec<u64>> = all.iter().map(|told| told.numbers.iter().copied().collect()).collect();
        assert_eq!(numbers, [vec![3], vec![1]]);
        let expected: &[&str] = if late == Late::Skip { &["rejected"] } else { &["late", "rejected"] };
        assert_eq!(dead_letter_codes(&mut driver), expected);
    }
}

#[test]
fn an_event_before_1970_or_from_the_future_is_a_dead_letter_and_moves_no_clock() {
    let mut driver = Plan::tumbling(10, 0).driver();
    send(&mut driver, "a", -1, 3); // before anything that it could be late for
    send(&mut driver, "a", 100, 1);
    send(&mut driver, "a", 4_300_000_000_000, 2); // in 2106
    send(&mut driver, "a", 101, 4);
    send(&mut driver, "a", 110, 5);
    driver.run();
    let all = told(&mut driver).remove("a").unwrap();
    assert_eq!(all, [Told { start: 100, end: 110, pane: "final".into(), numbers: [1, 4].into() }]);
    assert_eq!(dead_letter_codes(&mut driver), ["event-time-missing", "event-time-ahead"]);
}

#[test]
fn a_late_event_corrects_its_window_with_the_whole_value_each_time() {
    let mut driver = Plan { corrections: 100, ..Plan::tumbling(10, 0) }.driver();
    for (n, at) in [(1, 5), (2, 12), (3, 6), (4, 7), (5, 111), (6, 8)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let all: Vec<(String, usize)> =
        told(&mut driver).remove("a").unwrap().into_iter().map(|told| (told.pane, told.numbers.len())).collect();
    let due = [("final", 1), ("correction 1", 2), ("correction 2", 3), ("final", 1)];
    assert_eq!(all, due.map(|(pane, count)| (pane.to_owned(), count)));
    assert_eq!(driver.read_raw("readings-dlt").len(), 1, "the last one is too late for corrections");
}

#[test]
fn sessions_that_a_late_event_bridges_are_one_corrected_and_one_retracted() {
    let plan = Plan { kind: Kind::Session(10), corrections: 1_000, ..Plan::tumbling(1, 0) };
    let mut driver = plan.driver();
    for (n, at) in [(1, 100), (2, 120), (3, 300), (4, 110)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let told_of = |start, end, pane: &str, numbers: &[u64]| Told {
        start,
        end,
        pane: pane.into(),
        numbers: numbers.iter().copied().collect(),
    };
    assert_eq!(
        told(&mut driver).remove("a").unwrap(),
        [
            told_of(100, 111, "final", &[1]),
            told_of(120, 131, "final", &[2]),
            told_of(120, 131, "retraction", &[2]),
            told_of(100, 131, "correction 1", &[1, 2, 4]),
        ]
    );
}

/// Its value as it was given out is taken back, not the one that it has come to since.
#[test]
fn a_closed_session_that_opens_again_is_retracted_and_given_out_once_more() {
    let plan = Plan { kind: Kind::Session(10), corrections: 1_000, ..Plan::tumbling(1, 0) };
    let mut driver = plan.driver();
    for (n, at) in [(1, 100), (2, 115), (3, 108), (4, 95), (5, 200)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let all: Vec<(i64, i64, String, usize)> = told(&mut driver)
        .remove("a")
        .unwrap()
        .into_iter()
        .map(|told| (told.start, told.end, told.pane, told.numbers.len()))
        .collect();
    let due = [(100, 111, "final", 1), (100, 111, "retraction", 1), (95, 126, "final", 4)];
    assert_eq!(all, due.map(|(start, end, pane, count)| (start, end, pane.to_owned(), count)));
}

/// A release with windows of another kind cannot go on with those that it finds.
#[test]
fn windows_of_an_earlier_kind_are_given_out_as_they_are() {
    let mut driver = Plan::tumbling(30, 0).driver();
    send(&mut driver, "a", 5, 1);
    driver.run();
    driver.stop(0);
    driver.release(Plan::tumbling(60, 0).topology());
    driver.start(0);
    for (n, at) in [(2, 45), (3, 60)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let told_of = |start, end, n| Told { start, end, pane: "final".into(), numbers: [n].into() };
    assert_eq!(told(&mut driver).remove("a").unwrap(), [told_of(0, 30, 1), told_of(0, 60, 2)]);
}

#[test]
fn a_day_that_one_device_uploads_at_once_closes_its_own_windows_and_nobody_elses() {
    let mut driver = Plan::tumbling(60_000, 0).driver();
    send(&mut driver, "other", 30_000, 9_999);
    for minute in 0..1_440 {
        send(&mut driver, "device", minute * 60_000 + 5_000, 100 + minute as u64);
    }
    send(&mut driver, "device", 1_440 * 60_000, 5_000);
    driver.run();
    let mut found = told(&mut driver);
    let own = found.remove("device").unwrap();
    assert_eq!(own.len(), 1_440);
    assert!(own.iter().all(|told| told.pane == "final" && told.numbers.len() == 1));
    assert!(found.is_empty(), "{found:?}");
}

/// Neither a crash at any commit step nor a rebalance decides what is late.
#[test]
fn windows_are_the_same_after_a_crash_at_any_commit_step() {
    let kinds = [Kind::Tumbling(20), Kind::Hopping(20, 10), Kind::Session(7)];
    for kind in kinds {
        let plan = Plan { kind, corrections: 30, emit: Emit::OnUpdate, ..Plan::tumbling(1, 5) };
        let mut driver = plan.driver().instances(2);
        for (n, (key, at)) in (100..).zip([("a", 5), ("b", 7), ("a", 31), ("a", 12), ("b", 60), ("b", 8), ("a", 90)]) {
            send(&mut driver, key, at, n);
            driver.run();
        }
        driver.crash_everywhere();
    }
}

#[test]
fn windows_that_cannot_be_are_named_with_the_reason() {
    let errors = |build: &dyn Fn(&mut Topology)| {
        let mut topology = Topology::new("p");
        build(&mut topology);
        topology.validate().unwrap_err().join("; ")
    };
    let hopping = |size, every| {
        errors(&move |topology: &mut Topology| {
            let windows = Hopping::of(ms(size)).every(ms(every)).grace(ms(0));
            topology.source("readings").window(windows).aggregate("spans", Gather).to("told");
        })
    };
    assert!(hopping(10, 20).contains("leave gaps"), "{}", hopping(10, 20));
    assert!(hopping(0, 0).contains("at least 1 ms"), "{}", hopping(0, 0));
    assert!(hopping(10_000, 1).contains("would fall into 10000"), "{}", hopping(10_000, 1));
    assert!(hopping(2_001, 2).contains("would fall into 1001"), "{}", hopping(2_001, 2));
    let expiring = errors(&|topology: &mut Topology| {
        let store = Store::new("spans").time_to_live(ms(1));
        topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(0))).aggregate(store, Gather).to("told");
    });
    assert!(expiring.contains("remove its time_to_live()"), "{expiring}");
    let each = errors(&|topology: &mut Topology| {
        let windows = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(0)));
        windows.emit(Emit::Every(ms(0))).aggregate("spans", Gather).to("told");
    });
    assert!(each.contains("Emit::OnUpdate tells of each event"), "{each}");
    let late_to = |late: &'static str| {
        errors(&move |topology: &mut Topology| {
            let windows = topology.source("readings").window(Tumbling::of(ms(10)).grace(ms(0)));
            windows.late_to(late).aggregate("spans", Gather).to("told");
        })
    };
    assert!(late_to("told").contains("give late_to() another topic"), "{}", late_to("told"));
    assert!(late_to("readings").contains("comes back to it"), "{}", late_to("readings"));
    assert!(late_to("readings-dlt").contains("written to by late_to()"), "{}", late_to("readings-dlt"));
    let gap = errors(&|topology: &mut Topology| {
        topology.source("readings").window(Session::gap(ms(0)).grace(ms(0))).aggregate("spans", Gather).to("told");
    });
    assert!(gap.contains("gap is at least 1 ms"), "{gap}");
}

#[test]
fn a_late_record_goes_as_it_came_to_the_topic_of_such_records_and_is_counted() {
    let mut topology = Topology::new("p");
    topology
        .source("readings")
        .window(Tumbling::of(ms(10)).grace(ms(0)))
        .late_to("too-late")
        .aggregate("spans", Gather)
        .filter(|_| false)
        .to("told");
    let mut driver = TestDriver::new(topology).partitions(2);
    for (n, at) in [(1, 0), (2, 30), (13, 8), (3, 31)] {
        let headers = [("trace", "x"), ("tg_id", "y")];
        driver.send_with("readings", "a", json!({"at": at, "n": n}), &headers);
    }
    driver.run();
    let late = driver.read_raw("too-late");
    assert_eq!(late.len(), 1, "13 is refused by add(), which is not asked");
    let Found { key, value, headers, .. } = &late[0];
    let value: serde_json::Value = serde_json::from_slice(value.as_deref().unwrap()).unwrap();
    assert_eq!((key.as_deref(), value), (Some(&b"a"[..]), json!({"at": 8, "n": 13})));
    let named = |name: &str| headers.iter().filter(|header| header.name == name).collect::<Vec<&Header>>();
    assert_eq!(named("trace"), [&Header::new("trace", *b"x")]);
    let ids = named("tg_id");
    assert!(ids.len() == 1 && ids[0].value.as_deref().unwrap().ends_with(b"/2/0"), "{ids:?}");
    assert_eq!(driver.status(0).value(Counter::Late), 1);
    assert_eq!(driver.read_raw("readings-dlt").len(), 0);
    driver.crash_everywhere();
}

/// The row of a key: how many windows were closed, and the readings in them.
#[derive(Serialize, Deserialize)]
struct Closed {
    windows: i64,
    readings: i64,
}

/// Adds closed windows up in a row.
struct Close;

impl Algorithm for Close {
    type Event = Told;
    type Row = Closed;
    type Notices = Option<i64>;

    fn apply(&self, told: Told, row: &mut Closed, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        row.windows += 1;
        row.readings += told.numbers.len() as i64;
        Ok(Some(row.readings))
    }
}

/// Each in its own commit: the windows through the log, the rows through the database.
#[test]
fn a_closed_window_updates_a_row_once_whatever_crashes() {
    let mut topology = Topology::new("p");
    let windows = Tumbling::of(ms(10)).grace(ms(0));
    topology.source("readings").window(windows).aggregate("spans", Gather).to("told");
    topology.source("told").update(Table::new("closed").key("id", KeyType::Text), Close).to("sums");
    let mut driver = TestDriver::new(topology).partitions(2).instances(2);
    for key in ["a", "b"] {
        driver.row("closed", key, Closed { windows: 0, readings: 0 });
    }
    for (n, (key, at)) in (100..).zip([("a", 1), ("a", 2), ("b", 3), ("a", 10), ("b", 25), ("a", 20), ("a", 21)]) {
        send(&mut driver, key, at, n);
        driver.run();
    }
    for (key, windows, readings) in [("a", 2, 3), ("b", 1, 1)] {
        assert_eq!(driver.row_of("closed", key).unwrap().values, [Value::I64(windows), Value::I64(readings)], "{key}");
    }
    let sums: Vec<_> = driver.read_raw("sums").into_iter().map(|found| found.value.unwrap()).collect();
    assert_eq!(sums.len(), 3);
    driver.crash_everywhere();
}

#[test]
fn late_records_are_counted_whatever_comes_of_them() {
    for late in [Late::Skip, Late::DeadLetter] {
        let mut driver = Plan { late, ..Plan::tumbling(10, 0) }.driver();
        for (n, at) in [(1, 0), (2, 30), (3, 8), (4, 9)] {
            send(&mut driver, "a", at, n);
        }
        driver.run();
        assert_eq!(driver.status(0).value(Counter::Late), 2, "{late:?}");
    }
}

/// The value of a window is one of its key: a filter sees its notices, and a query the windows themselves.
#[test]
fn a_filter_sees_what_a_window_gives_out() {
    let mut topology = Topology::new("p");
    topology
        .source("readings")
        .window(Tumbling::of(ms(10)).grace(ms(0)))
        .aggregate("spans", Gather)
        .filter(|told: &Told| told.numbers.len() > 1)
        .to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    for (n, at) in [(1, 0), (2, 10), (3, 11), (4, 20)] {
        send(&mut driver, "a", at, n);
    }
    driver.run();
    let all = told(&mut driver).remove("a").unwrap();
    assert_eq!(all.iter().map(|told| told.numbers.clone()).collect::<Vec<_>>(), [BTreeSet::from([2, 3])]);
}
