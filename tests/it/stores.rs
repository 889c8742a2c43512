//! Stores over HTTP and by the command line: codes, forwarding, what is missing. First by views that say what a test wants,
//! then by two members of one group in this process.

use crate::cli::tidegate;
use crate::http::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tidegate::adapters::memory::{MemoryLog, MemoryStores};
use tidegate::engine::member::{Member, Ports, Running, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::query::{Entry, InputPosition, Keys, Queries, Reading, Refusal, Standing, Unready, Wanted};
use tidegate::engine::status::Status;
use tidegate::flow::record::{Partition, Timestamp, TopicName};
use tidegate::flow::window::{Tumbling, Window, Windowed, Windows};
use tidegate::flow::{Algorithm, Context, Declared, Reject, Store, Topology};
use tidegate::http::{About, Entries, Server, StoreReader, View, serve};
use tidegate::ports::Clock;
use tidegate::ports::changelog::ChangelogReader;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::rows::NoRows;
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::Subscription;
use tidegate::settings::EngineSettings;

/// An instance that owns partition 0 or 1 of the store `usage`, with one user in each.
struct Fake {
    status: Status,
    partition: i32,
    /// Where the other instance listens.
    other: Mutex<Option<String>>,
    is_restoring: bool,
    cluster_id: &'static str,
}

const USERS: [&str; 2] = ["ada", "bob/ü"];

fn entry(partition: i32) -> Entry {
    let key = USERS[usize::try_from(partition).unwrap()].to_owned();
    let value = serde_json::from_str(r#"{"count":10,"units":12345678901234567890123}"#).unwrap();
    Entry { key, key_bytes: None, version: 1, value, partition }
}

fn standing(partition: i32) -> Standing {
    let inputs = vec![InputPosition { source: format!("usage-by-user-repartition-{partition}"), next_offset: 9 }];
    Standing {
        partition,
        changelog_next_offset: 4,
        inputs,
        staleness_ms: 40,
        is_caught_up: true,
        keys: Some(1),
        unwritten_keys: Some(0),
        bytes: Some(32),
    }
}

impl View for Fake {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: "usage".into(), place: "a test".into() }
    }

    fn stores(&self) -> Vec<String> {
        vec!["usage".into()]
    }

    fn owners(&self, _: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        let other = self.other.lock().unwrap().clone();
        partitions.iter().filter_map(|partition| Some((*partition, other.clone()?))).collect()
    }

    fn read(&self, store: &str, wanted: &Wanted, _: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        if store != "usage" {
            return Err(Refusal::UnknownStore { known: self.stores() });
        }
        let (pipeline, cluster_id) = ("usage".into(), self.cluster_id.into());
        let mut reading = Reading { pipeline, cluster_id, ..Reading::default() };
        let asked: Vec<i32> = match wanted {
            Wanted::Key { key, .. } => vec![i32::from(key.starts_with('b'))],
            Wanted::Many { .. } | Wanted::Size => vec![0, 1],
        };
        for partition in asked {
            if partition != self.partition {
                reading.elsewhere.push(partition);
                continue;
            }
            if self.is_restoring {
                reading.unready.push(Unready { partition, state: "restoring", seconds_left: Some(6.2) });
                continue;
            }
            reading.partitions.push(standing(partition));
            let entry = entry(partition);
            let is_asked = match wanted {
                Wanted::Key { key, .. } => *key == entry.key,
                Wanted::Many { keys: Keys::Prefix(prefix), .. } => entry.key.starts_with(prefix),
                Wanted::Many { keys: Keys::Range { first, last }, .. } => {
                    first.as_ref().is_none_or(|first| *first <= entry.key)
                        && last.as_ref().is_none_or(|last| entry.key <= *last)
                }
                Wanted::Size => false,
            };
            reading.entries.extend(is_asked.then_some(entry));
        }
        Ok(reading)
    }
}

fn start(partition: i32, is_restoring: bool) -> (Arc<Fake>, Server) {
    start_on("one", partition, is_restoring)
}

fn start_on(cluster_id: &'static str, partition: i32, is_restoring: bool) -> (Arc<Fake>, Server) {
    let status = Status::default();
    let fake = Arc::new(Fake { status, partition, other: Mutex::default(), is_restoring, cluster_id });
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&fake) as Arc<dyn View>).unwrap();
    (fake, server)
}

/// The address of a server in this process, as the group learns it.
fn told(server: &Server) -> String {
    tidegate::http::place::told(&server.address().to_string()).unwrap()
}

/// Two instances that know each other; the second one perhaps restores.
fn pair(is_restoring: bool) -> (Server, Server) {
    let ((first, one), (second, two)) = (start(0, false), start(1, is_restoring));
    *first.other.lock().unwrap() = Some(told(&two));
    *second.other.lock().unwrap() = Some(told(&one));
    (one, two)
}

fn ask(server: &Server, path: &str) -> (u16, String, Value) {
    let (code, head, body) = get(server, path);
    (code, head, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}")))
}

#[test]
fn any_instance_answers_for_every_key_and_names_the_owner() {
    let (one, two) = pair(false);
    let (code, _, here) = ask(&one, "/stores/usage/ada");
    assert_eq!(code, 200);
    assert_eq!((&here["entries"][0]["key"], &here["entries"][0]["value"]["count"]), (&json!("ada"), &json!(10)));
    let partition = &here["partitions"][0];
    assert_eq!((&partition["owner"], &partition["staleness_ms"]), (&Value::Null, &json!(40)));
    assert_eq!(partition["inputs"][0]["source"], "usage-by-user-repartition-0");

    let (code, _, there) = ask(&one, "/stores/usage/bob%2F%C3%BC");
    assert_eq!(code, 200, "{there}");
    assert_eq!(there["entries"][0]["partition"], 1);
    assert_eq!(there["partitions"][0]["owner"], two.address().to_string());
    let text = get(&one, "/stores/usage/bob%2F%C3%BC").2;
    assert!(text.contains("12345678901234567890123"), "a value is told as it was written: {text}");

    let (code, _, none) = ask(&two, "/stores/usage/anna");
    assert_eq!((code, &none["error"]), (404, &json!("no such key")));
    let (code, _, unknown) = ask(&one, "/stores/usages/ada");
    assert_eq!((code, &unknown["error"]), (404, &json!("no such store; there are usage")));
}

#[test]
fn a_prefix_and_the_sizes_come_from_all_instances() {
    let (one, _two) = pair(false);
    let (code, _, all) = ask(&one, "/stores/usage?prefix=");
    let keys: Vec<&Value> = all["entries"].as_array().unwrap().iter().map(|entry| &entry["key"]).collect();
    assert_eq!((code, keys), (200, vec![&json!("ada"), &json!("bob/ü")]));
    assert_eq!((&all["has_more"], all["partitions"].as_array().unwrap().len()), (&json!(false), 2));
    let (_, _, few) = ask(&one, "/stores/usage?limit=1");
    assert_eq!((few["entries"].as_array().unwrap().len(), &few["has_more"]), (1, &json!(true)));
    let (_, _, b) = ask(&one, "/stores/usage?prefix=b");
    assert_eq!(b["entries"][0]["key"], "bob/ü");
    let (code, _, sizes) = ask(&one, "/stores");
    assert_eq!((code, &sizes["stores"][0]["partitions"][1]["keys"]), (200, &json!(1)));
    assert_eq!(ask(&one, "/stores/usage?limt=1").0, 400);
}

#[test]
fn what_cannot_be_read_now_is_said_with_when_to_ask_again() {
    let (one, two) = pair(true);
    let (code, head, restoring) = ask(&two, "/stores/usage/bob");
    assert_eq!(code, 503);
    assert!(head.contains("retry-after: 7"), "{head}");
    assert_eq!(restoring["missing"][0]["reason"], "restoring");
    let (code, head, partly) = ask(&one, "/stores/usage");
    assert_eq!((code, &partly["entries"][0]["key"]), (503, &json!("ada")));
    assert_eq!(partly["missing"][0]["owner"], two.address().to_string());
    assert!(head.contains("retry-after: 7"), "{head}");
    drop(two);
    let (code, _, gone) = ask(&one, "/stores/usage/bob");
    assert_eq!((code, &gone["missing"][0]["reason"]), (503, &json!("its owner did not answer")));
}

#[test]
fn a_question_goes_round_no_loop() {
    let ((first, one), (second, two)) = (start(0, false), start(0, false));
    *first.other.lock().unwrap() = Some(told(&two));
    *second.other.lock().unwrap() = Some(told(&one));
    let (code, _, answer) = ask(&one, "/stores/usage/bob");
    assert_eq!((code, &answer["missing"][0]["reason"]), (503, &json!("another instance owns it")));
}

#[test]
fn an_answer_from_another_cluster_is_not_believed_and_a_strangers_loopback_address_is_not_asked() {
    let ((first, one), (_second, two)) = (start(0, false), start_on("two", 1, false));
    *first.other.lock().unwrap() = Some(told(&two));
    let (code, _, answer) = ask(&one, "/stores/usage/bob%2F%C3%BC");
    let reason = r#"at its owner's address answers pipeline "usage" on cluster "two""#;
    assert_eq!((code, &answer["missing"][0]["reason"]), (503, &json!(reason)));
    assert_eq!(answer["entries"], json!([]));
    *first.other.lock().unwrap() = Some(format!("{}#another-machine", two.address()));
    let (code, _, answer) = ask(&one, "/stores/usage/bob%2F%C3%BC");
    let reason = answer["missing"][0]["reason"].as_str().unwrap();
    assert!(code == 503 && reason.contains("its own machine only; set http.address"), "{reason}");
}

#[test]
fn no_more_long_reads_run_at_a_time_than_leave_the_pipeline_its_processors() {
    /// Notes how many reads are under way.
    #[derive(Default)]
    struct Slow {
        status: Status,
        now_and_most: Mutex<(usize, usize)>,
    }

    impl View for Slow {
        fn status(&self) -> &Status {
            &self.status
        }

        fn about(&self) -> About {
            About { pipeline: "usage".into(), place: "a test".into() }
        }

        fn read(&self, _: &str, _: &Wanted, _: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
            let mut counts = self.now_and_most.lock().unwrap();
            *counts = (counts.0 + 1, counts.1.max(counts.0 + 1));
            drop(counts);
            std::thread::sleep(Duration::from_millis(100));
            self.now_and_most.lock().unwrap().0 -= 1;
            Ok(Reading::default())
        }
    }

    let slow = Arc::new(Slow::default());
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&slow) as Arc<dyn View>).unwrap();
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| get(&server, "/stores/usage").0)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!((codes, slow.now_and_most.lock().unwrap().1), (vec![200; 8], 2));
}

/// Counts the records of each key.
struct Count;

impl Algorithm for Count {
    type Event = Value;
    type Row = u64;
    type Notices = Option<()>;

    fn apply(&self, _: Value, count: &mut u64, _: &mut Context<'_>) -> Result<Option<()>, Reject> {
        *count += 1;
        Ok(None)
    }
}

fn counting() -> Topology {
    let mut topology = Topology::new("clicks");
    topology.source("clicks").declared(Declared::murmur2(4)).aggregate("usage", Count).done();
    topology
}

/// A member of a group, with its page.
struct Instance {
    queries: OnceLock<Queries>,
    status: Arc<Status>,
}

impl View for Instance {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: "usage".into(), place: "a test".into() }
    }

    fn stores(&self) -> Vec<String> {
        self.queries.get().unwrap().stores()
    }

    fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        self.queries.get().unwrap().read(store, wanted, is_gone)
    }

    fn owners(&self, store: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        self.queries.get().unwrap().owners(store, partitions)
    }

    fn doubt_owners(&self) {
        self.queries.get().unwrap().doubt_owners();
    }
}

impl Instance {
    /// Serves, then joins, as `run` does.
    fn start(topology: Topology, log: &MemoryLog, clock: &Arc<dyn Clock>, number: usize) -> (Server, Running) {
        let topology = Arc::new(topology);
        let status = Arc::new(Status::default());
        let instance = Arc::new(Self { queries: OnceLock::new(), status: Arc::clone(&status) });
        let server = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&instance) as Arc<dyn View>).unwrap();
        let of_changelogs = log.clone();
        let sink = Box::new(log.sink(&format!("clicks-{number}")));
        let ports = Ports {
            source: Box::new(log.source(Subscription::of(&topology)).at(&told(&server))),
            workers: vec![WorkerPorts { rows: Box::new(NoRows), sink, spare: None }],
            clock: Arc::clone(clock),
            history: None,
            fencer: None,
            note: None,
            stores: Some(Arc::new(MemoryStores::default())),
            changelogs: Some(Arc::new(move || Ok(Box::new(of_changelogs.changelog()) as Box<dyn ChangelogReader>))),
            owner: format!("instance {number}"),
        };
        let settings = EngineSettings { log_age: Duration::from_millis(5), ..EngineSettings::default() };
        let member = Member::new(&topology, settings, ports, status, &(Arc::new(NoHook) as Arc<dyn Hook>)).unwrap();
        assert!(instance.queries.set(member.queries()).is_ok());
        (server, member.spawn())
    }
}

/// A clock, and a log with the topics of a pipeline that reads the one that is given back.
fn world(topology: &Topology) -> (Arc<dyn Clock>, MemoryLog, TopicName) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let log = MemoryLog::new(Arc::clone(&clock));
    let clicks = TopicName::parse("clicks").unwrap();
    for topic in topology.outputs().into_iter().chain([clicks.clone()]) {
        log.create_topic(topic.as_str(), 4).unwrap();
    }
    (clock, log, clicks)
}

/// Asks until the answer is as wanted, for at most 20 s.
fn ask_until(server: &Server, path: &str, is_so: impl Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..1_000 {
        let (code, _, answer) = ask(server, path);
        if is_so(code, &answer) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{path}: {:?}", ask(server, path))
}

fn keys(answer: &Value) -> Vec<String> {
    answer["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
}

/// What another Rust program reads of one instance, each key's count being one.
fn typed(server: &Server, users: &[String]) {
    let address = server.address().to_string();
    let reader: StoreReader<u64> = StoreReader::new(&address, "usage", "usage");
    assert_eq!(reader.get("user-7").unwrap(), Some(1));
    assert_eq!(reader.get("nobody").unwrap(), None);
    let read = |entries: Entries<'_, u64>| -> Vec<String> {
        let entries = entries.map(Result::unwrap).map(|(user, count)| (count == 1).then_some(user).unwrap());
        entries.collect()
    };
    let between = |wanted: &dyn Fn(&str) -> bool| users.iter().filter(|user| wanted(user)).cloned().collect::<Vec<_>>();
    assert_eq!(read(reader.all()), users);
    assert_eq!(read(reader.prefix("user-3")), between(&|user| user.starts_with("user-3")));
    assert_eq!(read(reader.range("user-12"..="user-3")), between(&|user| ("user-12"..="user-3").contains(&user)));
    assert_eq!(read(reader.range("user-12".."user-3")), between(&|user| ("user-12".."user-3").contains(&user)));
    assert_eq!(read(reader.range("user-5"..)), between(&|user| user >= "user-5"));
    let behind = reader.range("b".."a").next().unwrap().unwrap_err();
    assert!(!behind.is_retry() && behind.to_string().contains("is behind last"), "{behind}");
    let fault = |pipeline, store: Store<u64>| StoreReader::new(&address, pipeline, store).get("user-7").unwrap_err();
    assert!(fault("usage", Store::new("visits")).to_string().contains("no such store; there are usage"));
    assert!(
        fault("clicks", Store::new("usage")).to_string().contains("answers pipeline usage, and no instance of clicks")
    );
    let of_texts: StoreReader<String> = StoreReader::new(&address, "usage", "usage");
    assert!(of_texts.get("user-7").unwrap_err().to_string().contains("does not fit its type"));
    assert!(of_texts.all().count() == 1, "it ends behind a fault");
    let of_windows: StoreReader<Windows<u64>> = StoreReader::new(&address, "usage", "usage");
    let refused = of_windows.since(1).until(2).get("user-7").unwrap_err();
    assert!(refused.to_string().contains("keeps no windows"), "{refused}");
    let nobody: StoreReader<u64> = StoreReader::new("127.0.0.1:1", "usage", "usage");
    assert!(nobody.get("user-7").unwrap_err().is_retry());
}

#[test]
fn two_members_of_a_group_answer_for_each_other_and_a_moved_partition_says_that_it_is_restored() {
    let (clock, log, clicks) = world(&counting());
    let start = |number| Instance::start(counting(), &log, &clock, number);
    let ((one, _running), (two, running)) = (start(1), start(2));
    let mut users: Vec<String> = (0..40).map(|n| format!("user-{n}")).collect();
    users.sort();
    for user in &users {
        log.produce(&clicks, Some(user.as_bytes()), Some(b"{}"), &[], Timestamp(1_000)).unwrap();
    }
    for server in [&one, &two] {
        let others = |all: &Value| {
            let partitions = all["partitions"].as_array().unwrap();
            partitions.iter().filter(|told| told["owner"].is_string()).count()
        };
        let is_so = |code, all: &Value| code == 200 && keys(all).len() == 40 && others(all) == 2;
        assert_eq!(keys(&ask_until(server, "/stores/usage?limit=1000", is_so)), users);
        for user in &users {
            let (code, _, answer) = ask(server, &format!("/stores/usage/{user}"));
            assert_eq!((code, keys(&answer)), (200, vec![user.clone()]), "{answer}");
        }
    }
    let (mut told, mut from) = (Vec::new(), String::new());
    loop {
        let (code, _, page) = ask(&one, &format!("/stores/usage?limit=7{from}"));
        assert!(code == 200 && keys(&page).len() <= 7, "{page}");
        told.extend(keys(&page));
        let Some(next) = page["next"].as_str() else { break };
        from = format!("&from={next}");
    }
    assert_eq!(told, users, "page by page");
    typed(&one, &users);

    // A transaction that another process has not ended yet keeps the restore from its end.
    let changelog = TopicName::parse("clicks-usage-changelog").unwrap();
    let mut other = log.sink("a stranger");
    other.begin().unwrap();
    for partition in (0..4).map(Partition) {
        let (key, value, headers) = (Some(&b"k"[..]), None, &[]);
        let (destination, partition) = (&changelog, Some(partition));
        let message = Message { destination, partition, key, value, headers, timestamp: None, is_tracked: false };
        other.send(&message).unwrap();
    }
    other.flush().unwrap();
    running.stop();
    running.join(Duration::from_secs(10)).unwrap();
    drop(two);
    let restoring = |code, all: &Value| {
        let missing = all["missing"].as_array().unwrap();
        code == 503 && !missing.is_empty() && missing.iter().all(|missing| missing["reason"] == "restoring")
    };
    let all = ask_until(&one, "/stores/usage?limit=1000", restoring);
    assert!(!keys(&all).is_empty(), "what was not moved is told: {all}");
    other.renew().unwrap(); // aborts it
    let all = ask_until(&one, "/stores/usage?limit=1000", |code, _| code == 200);
    assert_eq!(keys(&all), users);
}

/// Counts the records of each window.
struct Counts;

impl Windowed for Counts {
    type Event = Value;
    type Value = u64;
    type Notices = Option<()>;

    fn add(&self, _: &Value, count: &mut u64, _: &mut Context<'_>) -> Result<(), Reject> {
        *count += 1;
        Ok(())
    }

    fn emit(&self, _: &u64, _: &Window<'_>) -> Option<()> {
        None
    }
}

#[test]
fn another_program_reads_the_windows_of_a_span_as_the_types_that_are_kept_whichever_instance_has_them() {
    let kept = || -> Store<Windows<u64>> { Store::new("tens").version(3, |from, _| Err(format!("of {from}"))) };
    let topology = || {
        let mut topology = Topology::new("clicks");
        let kind = Tumbling::of(Duration::from_millis(10)).grace(Duration::from_secs(3_600));
        topology.source("clicks").declared(Declared::murmur2(4)).window(kind).aggregate(kept(), Counts).done();
        topology
    };
    let (clock, log, clicks) = world(&topology());
    let start = |number| Instance::start(topology(), &log, &clock, number);
    let ((one, _first), (two, _second)) = (start(1), start(2));
    // More than a page of keys: each has a window at 0, and half of them two of those behind it.
    let users: Vec<String> = (100..350).map(|n| format!("user-{n}")).collect();
    for (n, user) in users.iter().enumerate() {
        let times: &[i64] = if n % 2 == 0 { &[3] } else { &[3, 15, 16, 29] };
        for at in times {
            log.produce(&clicks, Some(user.as_bytes()), Some(b"{}"), &[], Timestamp(*at)).unwrap();
        }
    }
    for server in [&one, &two] {
        let counts = |all: &Value| -> u64 {
            let entries = all["entries"].as_array().unwrap().iter();
            let windows = entries.flat_map(|entry| entry["value"]["windows"].as_array().unwrap());
            windows.map(|window| window["value"].as_u64().unwrap()).sum()
        };
        let is_so = |code, all: &Value| code == 200 && counts(all) == 125 + 4 * 125;
        let all = ask_until(server, "/stores/tens?limit=1000", is_so);
        let owned = all["partitions"].as_array().unwrap().iter().filter(|told| told["owner"].is_null()).count();
        assert_eq!(owned, 2, "each has a half: {all}");
        let address = server.address().to_string();
        let reader = || -> StoreReader<Windows<u64>> { StoreReader::new(&address, "usage", kept()) };
        let of = |kept: Windows<u64>| -> Vec<(i64, i64, u64)> {
            assert!(kept.clock_ms.is_some(), "the rest of the value stays: {kept:?}");
            kept.windows.into_iter().map(|window| (window.start_ms, window.end_ms, window.value)).collect()
        };
        let (first, next, last) = ((0, 10, 1), (10, 20, 2), (20, 30, 1));
        let get = |reader: StoreReader<Windows<u64>>, user: &str| reader.get(user).unwrap().map(of);
        for user in ["user-101", "user-103", "user-105", "user-107"] {
            assert_eq!(get(reader(), user), Some(vec![first, next, last]));
            assert_eq!(get(reader().since(10), user), Some(vec![next, last]));
            assert_eq!(get(reader().until(10), user), Some(vec![first]));
            assert_eq!(get(reader().since(9).until(11), user), Some(vec![first, next]), "those that have a part of it");
            assert_eq!(get(reader().since(10).until(20), user), Some(vec![next]));
            assert_eq!(get(reader().since(30), user), Some(vec![]), "a key that is named is there");
        }
        assert_eq!(get(reader().since(10), "nobody"), None);
        let read = |entries: Entries<'_, Windows<u64>>| -> Vec<(String, Vec<(i64, i64, u64)>)> {
            entries.map(Result::unwrap).map(|(user, kept)| (user, of(kept))).collect()
        };
        let due = |windows: &[(i64, i64, u64)], wanted: &dyn Fn(&str) -> bool| -> Vec<_> {
            let odd = users.iter().skip(1).step_by(2).filter(|user| wanted(user));
            odd.map(|user| (user.clone(), windows.to_vec())).collect()
        };
        // A key without a window of the span is left out, on each page.
        assert_eq!(read(reader().since(10).until(20).all()), due(&[next], &|_| true));
        assert_eq!(read(reader().since(20).prefix("user-2")), due(&[last], &|user| user.starts_with("user-2")));
        let range = |user: &str| ("user-120".."user-321").contains(&user);
        assert_eq!(read(reader().since(15).range("user-120".."user-321")), due(&[next, last], &range));
        assert_eq!(read(reader().until(10).all()).len(), users.len());
        assert_eq!(read(reader().since(30).all()), []);
        let by_name: StoreReader<Windows<u64>> = StoreReader::new(&address, "usage", "tens");
        let refused = by_name.since(10).get("user-101").unwrap_err();
        assert!(refused.to_string().contains("holds a value of version 3"), "{refused}");
        let of_texts: StoreReader<Windows<String>> = StoreReader::new(&address, "usage", "tens");
        assert!(of_texts.since(10).all().next().unwrap().is_err());
    }
}

#[test]
fn the_command_line_asks_a_running_instance() {
    let (one, two) = pair(false);
    let address = one.address().to_string();
    let run = |arguments: &[&str]| {
        let mut all = vec!["--set", "pipeline.name=usage", "state", "--address", &address];
        all.extend(arguments);
        let output = tidegate(&all, &[]);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run(&["get", "usage", "ada"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("ada  0          {\"count\":10"), "{out}");
    assert!(out.contains("partition 0: usage-by-user-repartition-0 up to 9, all of it proved\n"), "{out}");
    let (code, out, _) = run(&["get", "usage", "bob/ü", "-o", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["partitions"][0]["owner"]), (Some(0), &json!(two.address().to_string())));
    let (code, out, _) = run(&["list", "usage", "--limit", "1"]);
    assert!(code == Some(0) && out.contains("there are more"), "{out}");
    for (arguments, keys) in
        [(&["--first", "ada"][..], 2), (&["--last", "ada"], 1), (&["--prefix", "b"], 1), (&["--first", "c"], 0)]
    {
        let (code, out, err) = run(&[&["list", "usage", "-o", "json"], arguments].concat());
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, json["entries"].as_array().unwrap().len()), (Some(0), keys), "{arguments:?}: {err}");
    }
    let (code, _, err) = run(&["list", "usage", "--since", "yesterday"]);
    assert!(
        code == Some(1) && err.starts_with("state: since: expected milliseconds since 1970, or a time as in"),
        "{err}"
    );
    let (code, out, _) = run(&["size"]);
    assert!(code == Some(0) && out.contains("usage  0          1     0          32     this instance"), "{out}");
    let (code, _, err) = run(&["get", "usage", "anna"]);
    assert_eq!((code, err.as_str()), (Some(1), "state: no such key\n"));
    let output = tidegate(&["state", "--address", &address, "size"], &[]);
    let err = String::from_utf8(output.stderr).unwrap();
    let stranger =
        format!("state: at {address} (--address) answers pipeline usage, and no instance of scoring; name one");
    assert!(output.status.code() == Some(1) && err.starts_with(&stranger), "{err}");
    drop(one);
    let (code, _, err) = run(&["size"]);
    assert!(code == Some(1) && err.contains("no instance answers at") && err.contains("--address"), "{err}");
}

/// The port is taken by whatever it is, and the instance of ours has a free one.
#[test]
fn the_command_line_takes_no_strangers_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = std::io::Read::read(&mut stream, &mut [0; 4_096]).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n{\"stores\":[]}").unwrap();
    });
    let output = tidegate(&["--set", &format!("http.address={address}"), "state", "size"], &[]);
    stranger.join().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    let told =
        format!("state: at {address} (http.address: flag --set) answers another program, and no instance of scoring;");
    assert!(output.status.code() == Some(1) && output.stdout.is_empty() && err.starts_with(&told), "{err}");
}
