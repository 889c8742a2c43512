//! Windows that no record of their key closes: those of a key without records, and those that go by the partition's clock.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::flow::record::TopicName;
use tidegate::flow::window::{Clock, Late, Pane, Tumbling, Window, WindowKind, Windowed, WithGrace};
use tidegate::flow::{Algorithm, At, Context, OnUnreadable, Reject, Topology};
use tidegate::ports::Clock as _;
use tidegate::testing::{Sent, TestDriver, die};

/// Counts; a zero waits until it is let pass.
#[derive(Default)]
struct Count {
    is_open: Arc<AtomicBool>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Told {
    key: String,
    start: i64,
    pane: String,
    count: u64,
}

impl Windowed for Count {
    type Event = i64;
    type Value = u64;
    type Notices = Option<Told>;

    fn add(&self, n: &i64, count: &mut u64, _: &mut Context<'_>) -> Result<(), Reject> {
        if *n == 0 && !self.is_open.load(Ordering::Relaxed) {
            return Err(Reject::retry("not-yet", "it is not open yet"));
        }
        *count += 1;
        Ok(())
    }

    fn emit(&self, count: &u64, window: &Window<'_>) -> Option<Told> {
        let pane = match window.pane {
            Pane::Correction(n) => format!("correction {n}"),
            pane => format!("{pane:?}").to_lowercase(),
        };
        Some(Told { key: window.key.to_string(), start: window.start_ms, pane, count: *count })
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn tens(grace: u64) -> WithGrace<Tumbling> {
    Tumbling::of(ms(10)).grace(ms(grace))
}

const IDLE: u64 = 60_000;

/// Windows of ten milliseconds whose keys are idle after a minute.
fn idle(kind: impl WindowKind<Count>, algorithm: Count) -> TestDriver {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(kind).idle_after(ms(IDLE)).corrections_for(ms(5));
    windows.aggregate("counts", algorithm).to("told");
    TestDriver::new(topology).partitions(1)
}

fn send(driver: &mut TestDriver, key: &str, at: i64, n: i64) {
    let (key, value) = (Some(key.into()), Some(json!(n).to_string().into_bytes()));
    driver.send_record("numbers", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
}

/// Key, start, pane and count of each window told so far.
fn told(driver: &mut TestDriver) -> Vec<(String, i64, String, u64)> {
    let all = driver.read_raw("told").into_iter().map(|found| serde_json::from_slice(&found.value.unwrap()).unwrap());
    all.map(|Told { key, start, pane, count }| (key, start, pane, count)).collect()
}

fn of(key: &str, start: i64, pane: &str, count: u64) -> (String, i64, String, u64) {
    (key.into(), start, pane.into(), count)
}

fn late(driver: &mut TestDriver) -> usize {
    driver.read_raw("numbers-dlt").len()
}

#[test]
fn the_windows_of_a_key_without_records_are_closed_once_it_was_idle_for_so_long() {
    let mut driver = idle(tens(3), Count::default());
    driver.run();
    let handled = driver.clock().elapsed();
    send(&mut driver, "a", 5, 1);
    driver.run();
    let rest = ms(IDLE) - (driver.clock().elapsed() - handled);
    driver.advance(rest - ms(1));
    assert_eq!(told(&mut driver), []);
    driver.advance(ms(1));
    assert_eq!(told(&mut driver), [of("a", 0, "final", 1)], "the very millisecond");
    // Closed is closed: an event for the same window corrects it, one for the next opens that.
    send(&mut driver, "a", 6, 2);
    send(&mut driver, "a", 11, 3);
    assert_eq!(told(&mut driver)[1..], [of("a", 0, "correction 1", 2)]);
    driver.advance(ms(10 * IDLE));
    assert_eq!(told(&mut driver)[2..], [of("a", 10, "final", 1)], "and once");
}

#[test]
fn an_idle_key_is_closed_once_whatever_crashes() {
    let mut driver = idle(tens(0), Count::default()).instances(2);
    for (key, at) in [("a", 5), ("a", 13), ("b", 7)] {
        send(&mut driver, key, at, 1);
    }
    // A task that is taken over begins the time anew.
    for _ in 0..3 {
        driver.advance(ms(IDLE));
    }
    assert_eq!(told(&mut driver).len(), 3);
    driver.crash_everywhere();
}

/// The times at which keys are idle are other ones in each run.
#[test]
fn an_idle_key_that_is_still_open_at_the_end_is_no_difference() {
    let mut driver = idle(tens(0), Count::default()).instances(2);
    send(&mut driver, "a", 5, 1);
    driver.crash_everywhere();
}

#[test]
fn each_record_of_its_key_begins_the_time_anew_and_those_of_others_do_not() {
    let mut driver = idle(tens(0), Count::default());
    send(&mut driver, "a", 5, 1);
    send(&mut driver, "b", 5, 1);
    driver.advance(ms(IDLE / 2));
    send(&mut driver, "a", 6, 2);
    driver.advance(ms(IDLE / 2));
    assert_eq!(told(&mut driver), [of("b", 0, "final", 1)]);
    driver.advance(ms(IDLE / 2));
    assert_eq!(told(&mut driver)[1..], [of("a", 0, "final", 2)]);
}

/// What was open when an instance died is closed once, by the next one.
#[test]
fn a_key_that_is_idle_through_a_death_and_a_lost_disk_is_closed_once() {
    let mut driver = idle(tens(0), Count::default());
    send(&mut driver, "a", 5, 1);
    driver.advance(ms(IDLE / 2));
    driver.kill(0);
    driver.disk(0).lose();
    driver.pass(ms(IDLE));
    driver.start(0);
    driver.run();
    assert_eq!(told(&mut driver), [], "the time begins anew with the task: nobody knows yet what had come meanwhile");
    driver.advance(ms(IDLE));
    driver.advance(ms(IDLE));
    assert_eq!(told(&mut driver), [of("a", 0, "final", 1)]);
}

/// Nobody is idle while records wait: they may be anybody's.
#[test]
fn a_key_whose_partition_is_held_back_for_ten_times_as_long_loses_nothing_as_late() {
    let is_open = Arc::new(AtomicBool::new(false));
    let mut driver = idle(tens(0), Count { is_open: Arc::clone(&is_open) });
    driver = driver.settings(|settings| settings.retry_attempts = 10_000);
    send(&mut driver, "a", 5, 1);
    driver.run();
    send(&mut driver, "b", 5, 0);
    send(&mut driver, "a", 6, 2);
    for _ in 0..IDLE / 100 {
        driver.pass(ms(1_000));
        driver.step();
    }
    is_open.store(true, Ordering::Relaxed);
    driver.advance(ms(IDLE / 4));
    assert_eq!((told(&mut driver), late(&mut driver)), (vec![], 0));
    driver.advance(ms(IDLE));
    driver.advance(ms(1));
    let mut found = told(&mut driver);
    found.sort();
    assert_eq!(found, [of("a", 0, "final", 2), of("b", 0, "final", 1)]);
}

/// Windows of ten milliseconds by the clock of the partition.
fn by_partition(grace: u64) -> TestDriver {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(tens(grace)).clock(Clock::PerPartition).late(Late::DeadLetter);
    windows.aggregate("counts", Count { is_open: Arc::new(AtomicBool::new(true)) }).to("told");
    TestDriver::new(topology).partitions(1)
}

#[test]
fn by_the_partitions_clock_any_record_closes_windows_in_the_order_of_their_ends_and_keys() {
    let mut driver = by_partition(5);
    for (key, at) in [("b", 1), ("a", 2), ("c", 14)] {
        send(&mut driver, key, at, 1);
    }
    assert_eq!(told(&mut driver), [], "the grace is not over");
    send(&mut driver, "d", 15, 1);
    assert_eq!(told(&mut driver), [of("a", 0, "final", 1), of("b", 0, "final", 1)]);
    // Too late for a key that was never seen; a record that is refused moves the clock all the same.
    send(&mut driver, "e", 9, 1);
    assert_eq!(late(&mut driver), 1);
    driver.send_record("numbers", Sent { key: Some(b"f".into()), timestamp_ms: Some(25), ..Sent::default() });
    assert_eq!(
        (told(&mut driver)[2..].to_vec(), late(&mut driver)),
        (vec![of("c", 10, "final", 1), of("d", 10, "final", 1)], 2)
    );
    driver.crash_everywhere();
}

/// Neither a death nor a lost disk sets the clock back.
#[test]
fn the_clock_of_the_partition_decides_alike_after_a_restart() {
    let mut driver = by_partition(0);
    send(&mut driver, "a", 31, 1);
    driver.run();
    driver.kill(0);
    driver.disk(0).lose();
    driver.start(0);
    send(&mut driver, "b", 29, 1);
    send(&mut driver, "b", 30, 1);
    assert_eq!((told(&mut driver), late(&mut driver)), (vec![], 1));
    send(&mut driver, "c", 40, 1);
    assert_eq!(told(&mut driver), [of("a", 30, "final", 1), of("b", 30, "final", 1)]);
}

#[test]
fn a_windowed_step_names_the_store_of_its_timers_and_takes_no_others() {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(tens(0)).idle_after(ms(0));
    windows.aggregate("counts", Count::default()).with_timers("mine").to("told");
    let errors = topology.validate().unwrap_err().join("; ");
    assert!(errors.contains("idle_after() is told a time of at least 1 ms"), "{errors}");
    assert!(errors.contains("windows and pairs set their own and have no others"), "{errors}");
    assert!(topology.changelogs().iter().any(|topic| topic.as_str() == "p-counts-timers-changelog"));
}

/// However far one record has moved the clock.
#[test]
fn windows_that_the_partitions_clock_closes_at_once_have_each_the_time_of_its_end_and_are_in_the_order_of_these() {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(tens(30)).clock(Clock::PerPartition);
    windows.aggregate("counts", Count::default()).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    for (key, at) in [("a", 1), ("a", 11), ("b", 2), ("c", 99_999)] {
        send(&mut driver, key, at, 1);
    }
    driver.run();
    let mut all = Vec::new();
    driver.log().each_record(&TopicName::parse("told").unwrap(), &mut |_, record| {
        all.push((record.key.unwrap().to_vec(), record.timestamp.0));
    });
    let of = |key: &str, at| (key.as_bytes().to_vec(), at);
    assert_eq!(all, [of("a", 9), of("b", 9), of("a", 19)]);
}

/// Although its key has no further record.
#[test]
fn windows_that_may_be_corrected_are_forgotten_once_that_is_over() {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(tens(30)).clock(Clock::PerPartition).corrections_for(ms(500));
    windows.aggregate("counts", Count::default()).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    (0..50).for_each(|n| send(&mut driver, "a", 10 * n, 1));
    send(&mut driver, "c", 900, 1);
    assert_eq!(told(&mut driver).len(), 50);
    let left = |driver: &mut TestDriver| driver.store("counts", "a").unwrap()["windows"].as_array().unwrap().len();
    assert!(left(&mut driver) > 0, "a late record may come for them");
    send(&mut driver, "c", 9_999, 1);
    assert_eq!((left(&mut driver), told(&mut driver).len()), (0, 51));
    driver.crash_everywhere();
}

/// Its own windows, too, are told by the times of their ends, and not in front of those of other keys that were over before.
#[test]
fn a_record_closes_windows_of_its_own_key_in_the_order_of_all() {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(tens(0)).clock(Clock::PerPartition);
    windows.aggregate("counts", Count::default()).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    for (key, at) in [("a", 15), ("b", 16), ("b", 7_000)] {
        send(&mut driver, key, at, 1);
    }
    send(&mut driver, "a", 6_995, 1); // too late
    driver.run();
    let mut all = Vec::new();
    driver.log().each_record(&TopicName::parse("told").unwrap(), &mut |_, record| {
        all.push((record.key.unwrap().to_vec(), record.timestamp.0));
    });
    assert_eq!(all, [(b"a".to_vec(), 19), (b"b".to_vec(), 19)]);
    assert_eq!(late(&mut driver), 1);
}

/// Counts, and kills the process with the first windows that it is to tell, so often.
struct Deadly(Arc<AtomicUsize>);

impl Windowed for Deadly {
    type Event = i64;
    type Value = u64;
    type Notices = Option<u64>;

    fn add(&self, _: &i64, count: &mut u64, _: &mut Context<'_>) -> Result<(), Reject> {
        *count += 1;
        Ok(())
    }

    fn emit(&self, count: &u64, _: &Window<'_>) -> Option<u64> {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
            die();
        }
        Some(*count)
    }
}

#[test]
fn a_window_whose_timer_failed_is_closed_behind_the_next_record_of_its_key() {
    let mut topology = Topology::new("p");
    let windows = topology.source("numbers").window(tens(0)).clock(Clock::PerPartition);
    windows.aggregate("counts", Deadly(Arc::new(AtomicUsize::new(3)))).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    send(&mut driver, "a", 5, 1);
    send(&mut driver, "b", 15, 1);
    driver.run();
    let dead = driver.read_raw("numbers-dlt");
    assert_eq!(dead.iter().filter_map(|dead| dead.header("tg_timer")).collect::<Vec<_>>(), ["close"]);
    assert_eq!(driver.read_raw("told").len(), 0);
    send(&mut driver, "a", 16, 1);
    send(&mut driver, "b", 25, 1);
    driver.run();
    assert_eq!(driver.read_raw("told").len(), 3, "a's two windows, and that of b");
}

#[test]
fn a_timer_by_the_partitions_clock_closes_nothing_in_a_release_that_goes_by_each_key() {
    let topology = |clock| {
        let mut topology = Topology::new("p");
        let windows = topology.source("numbers").window(tens(0)).clock(clock).idle_after(ms(IDLE));
        windows.aggregate("counts", Count::default()).to("told");
        topology
    };
    let mut driver = TestDriver::new(topology(Clock::PerPartition)).partitions(1);
    send(&mut driver, "a", 5, 1);
    driver.run();
    driver.stop(0);
    driver.release(topology(Clock::PerKey));
    driver.start(0);
    send(&mut driver, "b", 60, 1);
    send(&mut driver, "a", 6, 1);
    driver.run();
    assert_eq!((late(&mut driver), told(&mut driver).len()), (0, 0));
}

/// The time at which a test driver's clock begins.
const START_MS: i64 = 1_767_225_600_000;

#[test]
fn a_device_that_lives_in_2106_closes_nobodys_window_by_either_clock() {
    for clock in [Clock::PerKey, Clock::PerPartition] {
        let mut topology = Topology::new("p");
        let windows = topology.source("numbers").window(tens(0)).clock(clock);
        windows.aggregate("counts", Count::default()).to("told");
        let mut driver = TestDriver::new(topology).partitions(1);
        for (key, ms) in [("a", 5), ("b", 6), ("of 2106", 5)] {
            send(&mut driver, key, START_MS + ms, 1);
        }
        send(&mut driver, "of 2106", 4_294_967_295_000, 1);
        assert_eq!(told(&mut driver), [], "{clock:?}");
        let letters = driver.read_raw("numbers-dlt");
        let codes: Vec<_> = letters.iter().map(|letter| letter.header("kafka_dlt-exception-fqcn")).collect();
        assert_eq!(codes, [Some("event-time-ahead")], "{clock:?}");
        // All of them go on in the windows that are open, and close them by the clock that is theirs.
        for key in ["a", "b", "of 2106"] {
            send(&mut driver, key, START_MS + 9, 2);
        }
        for key in ["b", "a", "of 2106"] {
            send(&mut driver, key, START_MS + 10, 3);
        }
        let of = |key| of(key, START_MS, "final", 2);
        let expected = match clock {
            Clock::PerKey => [of("b"), of("a"), of("of 2106")],
            Clock::PerPartition => [of("a"), of("b"), of("of 2106")],
        };
        assert_eq!((told(&mut driver), late(&mut driver)), (expected.to_vec(), 1), "{clock:?}");
        driver.crash_everywhere();
    }
}

/// Reminds by the wall clock, every eleven seconds until it was the third time, and once by event time.
struct Remind;

impl Algorithm for Remind {
    type Event = i64;
    type Row = u64;
    type Notices = Option<(String, u64)>;

    fn apply(&self, ms: i64, _: &mut u64, context: &mut Context<'_>) -> Result<Option<(String, u64)>, Reject> {
        context.set_timer("wall", At::Wall(context.now_ms() + ms))?;
        context.set_timer("event", At::Event(context.event_time_ms() + ms))?;
        Ok(None)
    }

    fn timer(&self, name: &str, count: &mut u64, context: &mut Context<'_>) -> Result<Option<(String, u64)>, Reject> {
        *count += 1;
        if name == "wall" && *count < 3 {
            context.set_timer("wall", At::Wall(context.event_time_ms() + 11_000))?;
        }
        Ok(Some((name.into(), *count)))
    }
}

/// Instances live through a leap as a service does, which is never asked once in an hour.
#[test]
fn idle_keys_and_timers_come_out_alike_whether_time_passes_in_one_leap_or_in_many_small_steps() {
    let run = |step: Option<Duration>| {
        let mut topology = Topology::new("p");
        let windows = topology.source("numbers").window(tens(0)).idle_after(ms(IDLE));
        windows.aggregate("counts", Count::default()).to("told");
        topology.source("orders").aggregate("reminded", Remind).with_wall_timers("alarms").to("reminders");
        let mut driver = TestDriver::new(topology).partitions(1).instances(2);
        let pass = |driver: &mut TestDriver, pause: Duration| {
            let mut left = pause;
            while let Some(step) = step.filter(|step| *step < left) {
                driver.advance(step);
                left -= step;
            }
            driver.advance(left);
        };
        let order = |driver: &mut TestDriver, key: &str, at: i64, ms: i64| {
            let (key, value) = (Some(key.into()), Some(ms.to_string().into_bytes()));
            driver.send_record("orders", Sent { key, value, timestamp_ms: Some(at), ..Sent::default() });
        };
        driver.run();
        for (key, at) in [("a", 5), ("a", 13), ("b", 7)] {
            send(&mut driver, key, at, 1);
        }
        order(&mut driver, "x", 1_000, 20_000);
        order(&mut driver, "y", 1_000, 45_000);
        pass(&mut driver, ms(26_000));
        send(&mut driver, "a", 14, 1);
        order(&mut driver, "x", 40_000, 55_000);
        pass(&mut driver, ms(49_000));
        send(&mut driver, "c", 100, 1);
        order(&mut driver, "z", 60_000, 5_000);
        pass(&mut driver, ms(300_000));
        let closed = told(&mut driver);
        let mut out = Vec::new();
        for topic in ["told", "reminders", "numbers-dlt", "orders-dlt"] {
            let found = driver.read_raw(topic).into_iter();
            out.extend(found.map(|found| {
                let id = found.header("tg_id").map(str::to_owned);
                (topic, found.key.clone(), found.value.clone(), id)
            }));
        }
        (closed, out)
    };
    let (closed, in_a_leap) = run(None);
    let due = [of("a", 0, "final", 1), of("b", 0, "final", 1), of("a", 10, "final", 2), of("c", 100, "final", 1)];
    assert_eq!(closed, due);
    let reminders = in_a_leap.iter().filter(|(topic, ..)| *topic == "reminders").count();
    assert_eq!(reminders, 3 + 3 + 3 + 1, "three of each key by the wall clock, and the one by event time that is due");
    assert_eq!(run(Some(ms(170))).1, in_a_leap);
}

/// Its records wait, and may be anybody's.
#[test]
fn no_time_of_a_key_passes_while_its_partition_is_halted() {
    let topology = |policy| {
        let mut topology = Topology::new("p");
        let windows = topology.source("numbers").on_unreadable(policy).window(tens(0)).idle_after(ms(IDLE));
        windows.aggregate("counts", Count::default()).to("told");
        topology
    };
    let mut driver = TestDriver::new(topology(OnUnreadable::Halt)).partitions(2);
    let record = |partition, key: &str, at, value: &str| {
        let (key, value) = (Some(key.into()), Some(value.into()));
        Sent { partition: Some(partition), key, value, timestamp_ms: Some(at), ..Sent::default() }
    };
    driver.run();
    driver.send_record("numbers", record(0, "a", 5, "1"));
    driver.send_record("numbers", record(1, "b", 5, "1"));
    driver.run();
    driver.send_record("numbers", record(0, "c", 5, "not a number"));
    driver.send_record("numbers", record(0, "a", 6, "1"));
    assert_eq!(driver.halts().len(), 1);
    for _ in 0..10 {
        driver.advance(ms(IDLE));
    }
    assert_eq!(told(&mut driver), [of("b", 0, "final", 1)], "the other partition goes on");
    driver.stop(0);
    driver.release(topology(OnUnreadable::Skip));
    driver.start(0);
    driver.run();
    driver.advance(ms(IDLE / 2));
    assert_eq!(told(&mut driver).len(), 1, "the time begins anew");
    driver.advance(ms(IDLE));
    assert_eq!((told(&mut driver)[1..].to_vec(), late(&mut driver)), (vec![of("a", 0, "final", 2)], 0));
}
