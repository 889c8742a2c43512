//! Reads of stores from outside the pipeline, answered by the workers of a running member.

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tidegate::adapters::memory::{LogSettings, MemoryDatabase, MemoryLog, MemoryStores};
use tidegate::engine::member::{Member, Ports, Running, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::query::{Entry, Keys, Queries, Reading, Refusal, Span, Wanted};
use tidegate::engine::status::Status;
use tidegate::flow::key::{KeyType, crc32_partition_for, partition_for};
use tidegate::flow::record::{Partition, Timestamp, TopicName, TopicPartition};
use tidegate::flow::table::ColumnType;
use tidegate::flow::topology::{StepKind, SubTopology};
use tidegate::flow::window::{Tumbling, Window, Windowed, Windows};
use tidegate::flow::{Algorithm, Context, Declared, OnViolation, Reject, Store, Table, Topology};
use tidegate::pipelines::usage::topology;
use tidegate::ports::Clock;
use tidegate::ports::changelog::ChangelogReader;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::rows::{NoRows, Rows};
use tidegate::ports::source::Subscription;
use tidegate::settings::EngineSettings;

const PARTITIONS: i32 = 3;

/// A member over a log of its own, not running yet.
fn member(topology: Topology) -> (MemoryLog, Arc<dyn Clock>, Member) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let log = MemoryLog::with_settings(Arc::clone(&clock), LogSettings::default());
    let mut topics: BTreeSet<TopicName> = topology.outputs();
    topics.extend(topology.sub_topologies().iter().flat_map(SubTopology::sources).cloned());
    for topic in topics {
        log.create_topic(topic.as_str(), PARTITIONS).unwrap();
    }
    let member = member_of(topology, &log, &clock);
    (log, clock, member)
}

/// A member with a new disk.
fn member_of(topology: Topology, log: &MemoryLog, clock: &Arc<dyn Clock>) -> Member {
    let topology = Arc::new(topology);
    let (of_changelogs, database) = (log.clone(), MemoryDatabase::new());
    database.create_table(&Table::new("users"), &[("count", ColumnType::I64, false)]);
    let rows = || -> Box<dyn Rows> {
        let has_rows = topology.sub_topologies().iter().any(|sub| matches!(sub.step, StepKind::Rows(_)));
        if has_rows { Box::new(database.rows(topology.name())) } else { Box::new(NoRows) }
    };
    let ports = Ports {
        source: Box::new(log.source(Subscription::of(&topology))),
        workers: (0..2)
            .map(|worker| WorkerPorts {
                rows: rows(),
                sink: Box::new(log.sink(&format!("usage-{worker}"))),
                spare: None,
            })
            .collect(),
        clock: Arc::clone(clock),
        history: None,
        fencer: None,
        note: None,
        stores: Some(Arc::new(MemoryStores::default())),
        changelogs: Some(Arc::new(move || Ok(Box::new(of_changelogs.changelog()) as Box<dyn ChangelogReader>))),
        owner: "a test".into(),
    };
    let settings = EngineSettings { log_age: Duration::from_millis(5), ..EngineSettings::default() };
    let hook: Arc<dyn Hook> = Arc::new(NoHook);
    Member::new(&topology, settings, ports, Arc::new(Status::default()), &hook).unwrap()
}

/// A member with threads of its own over the in-process log.
struct World {
    log: MemoryLog,
    clock: Arc<dyn Clock>,
    queries: Queries,
    running: Running,
    store: &'static str,
}

impl World {
    fn new() -> Self {
        Self::of(topology(), "usage")
    }

    fn of(topology: Topology, store: &'static str) -> Self {
        let (log, clock, member) = member(topology);
        let queries = member.queries();
        Self { log, clock, queries, running: member.spawn(), store }
    }

    fn send(&self, user: &str, times: usize) {
        let events = TopicName::parse("events").unwrap();
        for n in 0..times {
            let event = format!(r#"{{"userId": "{user}", "units": {n}}}"#);
            self.log.produce(&events, None, Some(event.as_bytes()), &[], Timestamp(1_000)).unwrap();
        }
    }

    /// Puts a record into a partition of the test's choice.
    fn put(&self, topic: &str, partition: i32, key: &[u8]) {
        let place = TopicPartition::new(TopicName::parse(topic).unwrap(), Partition(partition));
        self.log.produce_to(&place, Some(key), Some(b"{}"), &[], Timestamp(1_000)).unwrap();
    }

    fn read(&self, wanted: &Wanted) -> Result<Reading, Refusal> {
        self.queries.read(self.store, wanted, &|| false)
    }

    /// Reads until `is_so`, ten seconds at most.
    fn read_until(&self, wanted: &Wanted, is_so: impl Fn(&Reading) -> bool) -> Reading {
        let began = self.clock.elapsed();
        loop {
            let reading = self.read(wanted).unwrap();
            if is_so(&reading) {
                return reading;
            }
            assert!(self.clock.elapsed() < began + Duration::from_secs(10), "it does not become so: {reading:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn many(keys: Keys, from: Option<Vec<u8>>, count_max: usize) -> Wanted {
    Wanted::Many { keys, span: Span::default(), from, count_max }
}

fn prefix(prefix: &str, count_max: usize) -> Wanted {
    many(Keys::Prefix(prefix.into()), None, count_max)
}

fn count(reading: &Reading) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(reading.entries.first()?.value.get()).unwrap();
    value["count"].as_u64()
}

#[test]
fn a_key_is_read_from_its_partition_with_position_and_age() {
    let world = World::new();
    world.send("ada", 7);
    let reading = world.read_until(&key("ada"), |reading| count(reading) == Some(7));
    let home = partition_for(b"ada", PARTITIONS);
    let entry = &reading.entries[0];
    assert_eq!((entry.key.as_str(), entry.version, entry.partition), ("ada", 1, home));
    assert_eq!(reading.partitions.len(), 1, "no other partition is asked");
    let standing = &reading.partitions[0];
    assert_eq!(standing.partition, home);
    assert_eq!(standing.inputs[0].source, format!("usage-by-user-repartition-{home}"));
    assert!(standing.inputs[0].next_offset >= 7 && standing.changelog_next_offset >= 1, "{standing:?}");
    assert!(standing.staleness_ms < 10_000, "{standing:?}");
    assert!(reading.elsewhere.is_empty() && reading.unready.is_empty());

    let none = world.read(&key("nobody")).unwrap();
    assert!(none.entries.is_empty() && none.unready.is_empty());
    world.running.stop();
    world.running.join(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_prefix_is_read_from_every_partition_and_bounded() {
    let world = World::new();
    for n in 0..30 {
        world.send(&format!("user-{n:02}"), 1);
    }
    world.send("other", 1);
    let all = prefix("user-", 100);
    let reading = world.read_until(&all, |reading| reading.entries.len() == 30);
    assert_eq!(reading.partitions.len(), 3);
    assert!(reading.entries.iter().all(|entry| entry.key.starts_with("user-")));
    let few = world.read(&prefix("", 2)).unwrap();
    let keys: Vec<&str> = few.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["other", "user-00"], "the first two of all partitions");
    let sizes = world.read(&Wanted::Size).unwrap();
    assert!(sizes.entries.is_empty() && sizes.partitions.iter().all(|standing| standing.keys.is_some()));
}

#[test]
fn what_is_not_there_is_refused_or_said_to_be_elsewhere() {
    let world = World::new();
    let wanted = key("ada");
    let refusal = world.queries.read("usages", &wanted, &|| false).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownStore { known: vec!["usage".into()] });
    assert_eq!(refusal.to_string(), "no such store; there are usage");
    world.send("ada", 1);
    world.read_until(&wanted, |reading| count(reading) == Some(1));
    let World { queries, running, .. } = world;
    running.stop();
    running.join(Duration::from_secs(10)).unwrap();
    let reading = queries.read("usage", &wanted, &|| false).unwrap();
    assert!(reading.entries.is_empty(), "{reading:?}");
    assert_eq!(reading.elsewhere, [partition_for(b"ada", PARTITIONS)], "the partition was given up");
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

/// Counts in a store of its own, under keys of its own.
struct Note {
    store: Store<u64>,
    keys: fn(&str) -> Vec<u8>,
}

impl Algorithm for Note {
    type Event = (Value, Option<Value>);
    type Row = ();
    type Notices = Option<()>;

    fn apply(&self, _: Self::Event, (): &mut (), context: &mut Context<'_>) -> Result<Option<()>, Reject> {
        let key = (self.keys)(&context.key().to_string());
        context.store(&self.store)?.put(&key, &1)?;
        Ok(None)
    }
}

/// The other partition than a Java producer would choose, or a librdkafka one.
fn elsewhere(key: &[u8]) -> i32 {
    let taken = [partition_for(key, PARTITIONS), crc32_partition_for(key, PARTITIONS)];
    (0..PARTITIONS).find(|partition| !taken.contains(partition)).unwrap()
}

fn key(text: &str) -> Wanted {
    Wanted::Key { key: text.into(), span: Span::default() }
}

fn is_one(reading: &Reading) -> bool {
    reading.entries.len() == 1
}

#[test]
fn a_key_is_found_wherever_an_undeclared_producer_put_it() {
    let mut topology = Topology::new("clicks");
    topology.source("clicks").aggregate("counts", Count).done();
    let world = World::of(topology, "counts");
    world.put("clicks", elsewhere(b"ada"), b"ada");
    let found = world.read_until(&key("ada"), is_one);
    assert_eq!(found.entries[0].partition, elsewhere(b"ada"));
    assert_eq!(found.partitions.len(), 3, "nothing says which one has it");
}

#[test]
fn a_declared_key_is_asked_for_in_its_own_partition_unless_others_are_only_warned_of() {
    let declared = |policy| {
        let mut topology = Topology::new("clicks");
        let declared = Declared::crc32(PARTITIONS).on_violation(policy);
        topology.source("clicks").declared(declared).aggregate("counts", Count).done();
        World::of(topology, "counts")
    };
    let world = declared(OnViolation::Stop);
    world.put("clicks", crc32_partition_for(b"ada", PARTITIONS), b"ada");
    assert_eq!(world.read_until(&key("ada"), is_one).partitions.len(), 1);
    let world = declared(OnViolation::Warn);
    world.put("clicks", elsewhere(b"ada"), b"ada");
    world.read_until(&key("ada"), is_one);
}

/// A join whose step keeps `keys` in the store `notes`.
fn notes(keys: fn(&str) -> Vec<u8>) -> World {
    let store = Store::new("notes");
    let mut topology = Topology::new("noting");
    let note = Note { store: store.clone(), keys };
    topology.source("orders").left_join::<Value>("users").process(note).with_store(&store).done();
    World::of(topology, "notes")
}

#[test]
fn keys_of_the_algorithms_own_are_found_beside_the_records_that_wrote_them() {
    let world = notes(|user| format!("{user}/1").into_bytes());
    let user = (0..).map(|n| format!("u{n}")).find(|user| {
        partition_for(user.as_bytes(), PARTITIONS) != partition_for(format!("{user}/1").as_bytes(), PARTITIONS)
    });
    let user = user.unwrap();
    world.put("orders", partition_for(user.as_bytes(), PARTITIONS), user.as_bytes());
    world.read_until(&key(&format!("{user}/1")), is_one);
}

#[test]
fn a_key_is_asked_for_as_it_is_listed() {
    for (keys, listed) in [
        ((|_: &str| vec![0x80, 1]) as fn(&str) -> Vec<u8>, "0x8001"),
        (|_| Vec::new(), ""),
        (|_| b"0x6162".to_vec(), "0x6162"), // a text that looks like bytes, as addresses do
        (|_| b"0x8001".to_vec(), "0x8001"),
    ] {
        let world = notes(keys);
        world.put("orders", 0, b"u");
        let all = world.read_until(&prefix("", 10), is_one);
        assert_eq!((all.entries[0].key.as_str(), all.entries[0].bytes()), (listed, keys("u")));
        assert!(is_one(&world.read(&key(listed)).unwrap()), "{listed}");
    }
}

#[test]
fn the_store_of_a_table_is_read_by_keys_of_its_records() {
    /// Counts like [`Count`], beside a table.
    struct Joined;

    impl Algorithm for Joined {
        type Event = (Value, Option<Value>);
        type Row = u64;
        type Notices = Option<()>;

        fn apply(&self, _: Self::Event, count: &mut u64, _: &mut Context<'_>) -> Result<Option<()>, Reject> {
            *count += 1;
            Ok(None)
        }
    }

    let mut topology = Topology::new("big");
    let numbers = KeyType::I64BigEndian;
    topology.source("orders").left_join::<Value>("users").aggregate("counts", Joined).keys(numbers).done();
    let mut world = World::of(topology, "users");
    for id in [-1_i64, 2, 300] {
        let bytes = id.to_be_bytes();
        world.put("users", elsewhere(&bytes), &bytes);
        world.put("orders", elsewhere(&bytes), &bytes);
    }
    for store in ["users", "counts"] {
        world.store = store;
        for id in ["-1", "2", "300"] {
            assert_eq!(world.read_until(&key(id), is_one).entries[0].key, id, "{store}");
        }
        let first = world.read(&prefix("", 1)).unwrap();
        let second = many(Keys::Prefix(String::new()), first.next.clone(), 5);
        let keys = |reading: &Reading| reading.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
        assert_eq!(
            (keys(&first), keys(&world.read(&second).unwrap())),
            (vec!["2".into()], vec!["300".into(), "-1".into()])
        );
        let wrong = world.read(&key("two")).unwrap_err();
        assert_eq!(wrong, Refusal::BadKey("\"two\" is no whole number".into()));
        assert!(matches!(world.read(&prefix("2", 5)).unwrap_err(), Refusal::BadKey(_)));
    }
}

#[test]
fn keys_of_every_type_are_found_by_what_people_write_for_them() {
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let bytes_of_uuid = uuid::Uuid::try_parse(uuid).unwrap().into_bytes();
    let wrapped = format!(r#"{{"schema":{{}},"payload":{{"id":"{uuid}"}}}}"#);
    let cases: [(KeyType, &[u8], &str, &str); 6] = [
        (KeyType::I32BigEndian, &[0, 0, 4, 0x12], "1042", "1042"),
        (KeyType::UuidBytes, &bytes_of_uuid, uuid, uuid),
        (KeyType::Bytes, &[0xff, 0], "0xff00", "0xff00"),
        (KeyType::Field("id"), br#"{"id":1042}"#, "1042", "1042"),
        (KeyType::TextField("code"), br#"{"code":"a b"}"#, "a b", "a b"),
        (KeyType::UuidField("id"), wrapped.as_bytes(), uuid, uuid),
    ];
    for (kind, bytes, asked, told) in cases {
        let mut topology = Topology::new("kinds");
        topology.source("clicks").aggregate("counts", Count).keys(kind).to("told");
        let world = World::of(topology, "counts");
        world.put("clicks", elsewhere(bytes), bytes);
        let found = world.read_until(&key(asked), is_one);
        assert_eq!(found.entries[0].key, told, "{kind}");
    }
}

#[test]
fn pages_tell_each_key_once_in_the_order_of_their_bytes() {
    let world = World::new();
    for n in 0..50 {
        world.send(&format!("user-{}", n * 7), 1);
    }
    world.read_until(&prefix("user-", 100), |reading| reading.entries.len() == 50);
    for count_max in [1, 7, 49, 50] {
        let (mut told, mut from): (Vec<Entry>, _) = (Vec::new(), None);
        loop {
            let page = many(Keys::Prefix("user-".into()), from, count_max);
            let reading = world.read(&page).unwrap();
            assert!(reading.entries.len() <= count_max && !reading.entries.is_empty());
            told.extend(reading.entries);
            from = reading.next;
            if from.is_none() {
                break;
            }
        }
        assert!(told.len() == 50 && told.is_sorted_by(|a, b| a.bytes() < b.bytes()), "{count_max}: {told:?}");
    }
}

fn range(first: Option<&str>, last: Option<&str>) -> Keys {
    Keys::Range { first: first.map(Into::into), last: last.map(Into::into) }
}

/// All keys of a question, in pages of so many.
fn paged(world: &World, keys: &Keys, count_max: usize) -> Vec<String> {
    let (mut told, mut from) = (Vec::new(), None);
    loop {
        let reading = world.read(&many(keys.clone(), from, count_max)).unwrap();
        told.extend(reading.entries.into_iter().map(|entry| entry.key));
        from = reading.next;
        if from.is_none() {
            return told;
        }
    }
}

#[test]
fn the_ends_of_a_range_of_uuids_are_spelt_in_either_case() {
    let mut topology = Topology::new("ids");
    topology.source("clicks").aggregate("counts", Count).keys(KeyType::Uuid).done();
    let world = World::of(topology, "counts");
    let ids = ["0a7b8c9d-0000-4000-8000-00000000000a", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"];
    ids.iter().for_each(|id| world.put("clicks", elsewhere(id.as_bytes()), id.as_bytes()));
    world.read_until(&prefix("", 10), |reading| reading.entries.len() == 2);
    let upper = ids[1].to_uppercase();
    assert_eq!(paged(&world, &range(Some(&upper), None), 10), [ids[1]]);
    assert_eq!(paged(&world, &range(None, Some(&upper)), 10), ids);
    let found = world.read(&key(&upper)).unwrap().entries;
    assert_eq!(found.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), [ids[1]], "and so is one that is asked for");
}

#[test]
fn a_range_of_numbers_goes_by_their_values_and_a_page_ends_anywhere_in_it() {
    let mut topology = Topology::new("numbers");
    topology.source("clicks").aggregate("counts", Count).keys(KeyType::I32BigEndian).done();
    let world = World::of(topology, "counts");
    let numbers = [-300, -2, -1, 0, 1, 7, 300];
    for number in numbers {
        let bytes = i32::to_be_bytes(number);
        world.put("clicks", elsewhere(&bytes), &bytes);
    }
    world.read_until(&prefix("", 10), |reading| reading.entries.len() == numbers.len());
    for count_max in [1, 2, 3, 10] {
        let told = |first, last| paged(&world, &range(first, last), count_max);
        assert_eq!(told(Some("-2"), Some("1")), ["0", "1", "-2", "-1"], "{count_max}: those below zero come last");
        assert_eq!(told(Some("0"), Some("7")), ["0", "1", "7"]);
        assert_eq!(told(None, Some("-2")), ["-300", "-2"]);
        assert_eq!(told(Some("7"), None), ["7", "300"]);
        assert_eq!(told(Some("8"), Some("299")).len(), 0);
    }
    let refused = |first, last| world.read(&many(range(Some(first), Some(last)), None, 5)).unwrap_err().to_string();
    assert_eq!(refused("7", "-7"), "first, \"7\", is behind last, \"-7\"");
    assert_eq!(refused("a", "7"), "\"a\" is no whole number of 32 bits");
}

#[test]
fn a_range_of_texts_goes_by_their_bytes_and_one_of_decimal_numbers_is_refused() {
    let world = notes(|user| format!("{user}/1").into_bytes());
    for user in ["ada", "bob", "eve"] {
        world.put("orders", 0, user.as_bytes());
    }
    world.read_until(&prefix("", 10), |reading| reading.entries.len() == 3);
    for count_max in [1, 10] {
        assert_eq!(paged(&world, &range(Some("ada/1"), Some("bob/1")), count_max), ["ada/1", "bob/1"]);
        assert_eq!(paged(&world, &range(Some("ada/2"), None), count_max), ["bob/1", "eve/1"]);
        assert_eq!(paged(&world, &range(None, Some("b")), count_max), ["ada/1"]);
    }
    // Texts that look like bytes, as addresses do.
    let mut topology = Topology::new("clicks");
    topology.source("clicks").aggregate("counts", Count).done();
    let world = World::of(topology, "counts");
    for address in ["0x8001", "0x9000", "0xa000"] {
        world.put("clicks", 0, address.as_bytes());
    }
    world.read_until(&prefix("", 10), |reading| reading.entries.len() == 3);
    assert_eq!(paged(&world, &range(Some("0x8001"), Some("0x9000")), 10), ["0x8001", "0x9000"]);
    let mut topology = Topology::new("numbers");
    topology.source("clicks").aggregate("counts", Count).keys(KeyType::I64).done();
    let world = World::of(topology, "counts");
    let refused = world.read(&many(range(Some("9"), Some("10")), None, 5)).unwrap_err().to_string();
    let words = "decimal integers (KeyType::I64), whose bytes do not ascend as the ids do: ask for a prefix";
    assert!(refused.contains(words), "{refused}");
}

#[test]
fn of_a_windowed_aggregate_the_windows_of_a_span_are_told() {
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

    /// Leaves each row as it is.
    struct Nothing;

    impl Algorithm for Nothing {
        type Event = ();
        type Row = Clicks;
        type Notices = Option<()>;

        fn apply(&self, (): (), _: &mut Clicks, _: &mut Context<'_>) -> Result<Option<()>, Reject> {
            Ok(None)
        }
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Clicks {
        count: i64,
    }

    let hour = Duration::from_secs(3_600);
    let mut topology = Topology::new("windows");
    let kind = Tumbling::of(Duration::from_millis(10)).grace(hour);
    topology.source("clicks").window(kind).aggregate("minutes", Counts).done();
    let mut world = World::of(topology, "minutes");
    let clicks = TopicName::parse("clicks").unwrap();
    for (user, at) in [("ada", 3), ("ada", 15), ("ada", 16), ("bob", 40)] {
        world.log.produce(&clicks, Some(user.as_bytes()), Some(b"{}"), &[], Timestamp(at)).unwrap();
    }
    let told = |reading: Reading| -> Vec<(String, Vec<(i64, u64)>)> {
        let windows = |entry: &Entry| -> Vec<(i64, u64)> {
            let kept: Windows<u64> = serde_json::from_str(entry.value.get()).unwrap();
            assert!(kept.clock_ms.is_some(), "the rest of the value stays: {entry:?}");
            kept.windows.iter().map(|window| (window.start_ms, window.value)).collect()
        };
        reading.entries.iter().map(|entry| (entry.key.clone(), windows(entry))).collect()
    };
    let all = vec![("ada".to_owned(), vec![(0, 1), (10, 2)]), ("bob".to_owned(), vec![(40, 1)])];
    let of = |since_ms, until_ms, count_max| {
        let (keys, span) = (Keys::Prefix(String::new()), Span { since_ms, until_ms });
        Wanted::Many { keys, span, from: None, count_max }
    };
    let is_whole = |reading: &Reading| {
        let counts = told(reading.clone()).into_iter().flat_map(|(_, windows)| windows).map(|(_, count)| count);
        counts.sum::<u64>() == 4
    };
    assert_eq!(told(world.read_until(&of(None, None, 9), is_whole)), all);
    let some = |since_ms, until_ms| told(world.read(&of(since_ms, until_ms, 9)).unwrap());
    assert_eq!(some(Some(10), None), [("ada".to_owned(), vec![(10, 2)]), ("bob".to_owned(), vec![(40, 1)])]);
    assert_eq!(some(Some(9), Some(11)), all[..1], "a window is told that has a part of the span");
    assert_eq!(some(None, Some(10)), [("ada".to_owned(), vec![(0, 1)])]);
    assert_eq!(some(Some(50), None), [], "a key without a window is left out");
    let page = world.read(&of(Some(40), None, 1)).unwrap();
    assert_eq!(told(page), [("bob".to_owned(), vec![(40, 1)])], "and takes no place on the page");
    let one =
        |key: &str, since_ms| world.read(&Wanted::Key { key: key.into(), span: Span { since_ms, until_ms: None } });
    assert_eq!(told(one("ada", Some(10)).unwrap()), [("ada".to_owned(), vec![(10, 2)])]);
    assert_eq!(told(one("ada", Some(20)).unwrap()), [("ada".to_owned(), vec![])], "a key that is named is there");
    let refused = {
        let mut topology = Topology::new("clicks");
        topology.source("clicks").aggregate("counts", Count).done();
        world = World::of(topology, "counts");
        world.read(&of(Some(1), None, 1)).unwrap_err()
    };
    let mut topology = Topology::new("beside-rows");
    topology.source("clicks").window(kind).update("users", "minutes", Counts, Nothing).done();
    world = World::of(topology, "minutes");
    for (user, at) in [("1", 3), ("1", 15), ("2", 40)] {
        world.log.produce(&clicks, Some(user.as_bytes()), Some(b"{}"), &[], Timestamp(at)).unwrap();
    }
    let beside_rows = world.read_until(&of(Some(10), None, 9), |reading| reading.entries.len() == 2);
    assert_eq!(told(beside_rows), [("1".to_owned(), vec![(10, 1)]), ("2".to_owned(), vec![(40, 1)])]);
    assert!(refused.to_string().starts_with("this store keeps no windows"), "{refused}");
}

/// Steps the member's parts in this thread.
fn steps(member: &mut Member, count: usize) {
    for _ in 0..count {
        member.step().unwrap();
    }
}

#[test]
fn a_long_read_is_answered_in_slices_between_which_records_are_committed() {
    let (log, _, mut member) = member({
        let mut topology = Topology::new("clicks");
        topology.source("clicks").aggregate("counts", Count).done();
        topology
    });
    let clicks = TopicPartition::new(TopicName::parse("clicks").unwrap(), Partition(0));
    let click =
        |user: &str| log.produce_to(&clicks, Some(user.as_bytes()), Some(b"{}"), &[], Timestamp(1_000)).unwrap();
    steps(&mut member, 20);
    for n in 0..5_500 {
        click(&format!("u{n}"));
    }
    let committed = || log.committed("clicks", &clicks).map_or(0, |committed| committed.next_offset.0);
    while committed() < 5_500 {
        member.step().unwrap();
    }
    let queries = member.queries();
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(queries.read("counts", &prefix("u", 10_000), &|| false)).unwrap());
    let (mut answered, mut progress) = (None, BTreeSet::new());
    for n in 0..2_000 {
        click(&format!("v{n}"));
        member.step().unwrap();
        std::thread::sleep(Duration::from_millis(2)); // for the thread that asks
        progress.insert(committed());
        if let Ok(reading) = told.try_recv() {
            answered = Some(reading.unwrap());
            break;
        }
    }
    assert_eq!(answered.unwrap().entries.len(), 5_500);
    assert!(progress.len() >= 3, "nothing is committed while a long read is answered: {progress:?}");
}

#[test]
fn a_read_that_nobody_waits_for_ends_at_once_and_is_not_answered() {
    let (_log, clock, mut member) = member(topology());
    steps(&mut member, 20);
    let began = clock.elapsed();
    let reading = member.queries().read("usage", &prefix("", 10), &|| true).unwrap();
    assert!(clock.elapsed() - began < Duration::from_secs(1));
    let states: BTreeSet<&str> = reading.unready.iter().map(|unready| unready.state).collect();
    assert_eq!((reading.unready.len(), states), (3, BTreeSet::from(["busy"])));
    steps(&mut member, 5);
}

#[test]
fn what_has_expired_is_read_by_nobody_before_and_after_its_partition_moved() {
    struct Mark;
    impl Algorithm for Mark {
        type Event = Value;
        type Row = Option<bool>;
        type Notices = Option<()>;
        fn apply(&self, _: Value, mark: &mut Option<bool>, _: &mut Context<'_>) -> Result<Option<()>, Reject> {
            *mark = Some(true);
            Ok(None)
        }
    }
    let marks = || {
        let mut topology = Topology::new("marks");
        topology.source("events").aggregate(Store::new("marks").time_to_live(Duration::from_secs(60)), Mark).done();
        topology
    };
    let mut world = World::of(marks(), "marks");
    for (key, at) in [(b"early", 0), (b"later", 100_000)] {
        let place = TopicPartition::new(TopicName::parse("events").unwrap(), Partition(1));
        world.log.produce_to(&place, Some(key), Some(b"{}"), &[], Timestamp(at)).unwrap();
    }
    for is_first in [true, false] {
        world.read_until(&key("later"), is_one);
        assert!(world.read(&key("early")).unwrap().entries.is_empty());
        assert_eq!(world.read(&prefix("", 10)).unwrap().entries.len(), 1);
        let World { log, clock, running, store, .. } = world;
        running.stop();
        running.join(Duration::from_secs(10)).unwrap();
        if !is_first {
            return;
        }
        let member = member_of(marks(), &log, &clock);
        world = World { log, clock, queries: member.queries(), running: member.spawn(), store };
    }
}
