//! The engine over a real database, with the log in memory: what a row, a lock or a limit of the server does to a batch.

use crate::server::{Fixture, shared_url};
use crate::tables::Holder;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::adapters::memory::{LogSettings, MemoryLog, MemoryStores};
use tidegate::adapters::postgres::PostgresSettings;
use tidegate::engine::member::{Member, Ports, WorkerPorts};
use tidegate::engine::protocol::order::{Hook, NoHook};
use tidegate::engine::status::Counter;
use tidegate::engine::status::Status;
use tidegate::flow::key::partition_for;
use tidegate::flow::record::TopicName;
use tidegate::flow::{Algorithm, Context, Reject, Table, Topology};
use tidegate::ports::Clock;
use tidegate::ports::changelog::ChangelogReader;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::factories::ChangelogFactory;
use tidegate::ports::source::Subscription;
use tidegate::settings::EngineSettings;

const PARTITIONS: i32 = 4;

#[derive(Serialize, Deserialize)]
struct Row {
    n: i64,
}

/// Adds each event to its row, and takes its time.
struct Add(Duration);

impl Algorithm for Add {
    type Event = i64;
    type Row = Row;
    type Notices = Option<i64>;

    fn apply(&self, event: i64, row: &mut Row, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        std::thread::sleep(self.0);
        row.n += event;
        Ok(Some(row.n))
    }
}

/// A service of one instance with two workers, over `rows` rows whose ids begin at 0.
struct Service {
    fixture: Fixture,
    log: MemoryLog,
    clock: Arc<SystemClock>,
    member: Member,
    status: Arc<Status>,
    rows: i64,
}

impl Service {
    fn new(fixture: Fixture, rows: i64, took: Duration) -> Self {
        let table = Table::new(&format!("{}.t", fixture.name));
        let mut topology = Topology::new(fixture.name);
        topology.source("pluses").update(table.clone(), Add(took)).to("sums");
        topology.source("more").update(table, Add(took)).to("sums");
        Self::of(fixture, topology, rows)
    }

    /// A service of any pipeline over the table, which may be there already.
    fn of(fixture: Fixture, topology: Topology, rows: i64) -> Self {
        let topology = Arc::new(topology);
        fixture.sql(TABLE);
        fixture.sql(&format!("INSERT INTO {{u}}.t SELECT i, 0, 0 FROM generate_series(0, {rows} - 1) AS i"));
        let clock = Arc::new(SystemClock::default());
        let settings = LogSettings { session_timeout: Duration::from_secs(120), ..LogSettings::default() };
        let log = MemoryLog::with_settings(Arc::clone(&clock) as Arc<dyn Clock>, settings);
        for topic in topology.sources().into_iter().chain(topology.outputs()) {
            log.create_topic(topic.as_str(), PARTITIONS).unwrap();
        }
        let worker = |number: usize| {
            let sink = |producer: usize| Box::new(log.sink(&format!("{}-{number}-{producer}", fixture.name)));
            WorkerPorts { rows: Box::new(fixture.rows()), sink: sink(0), spare: Some(sink(1)) }
        };
        let of_changelogs = log.clone();
        let changelogs: ChangelogFactory =
            Arc::new(move || Ok(Box::new(of_changelogs.changelog()) as Box<dyn ChangelogReader>));
        let ports = Ports {
            source: Box::new(log.source(Subscription::of(&topology))),
            workers: (0..2).map(worker).collect(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            history: None,
            stores: Some(Arc::new(MemoryStores::default())),
            changelogs: Some(changelogs),
            fencer: None,
            note: None,
            owner: "test".into(),
        };
        let status = Arc::new(Status::default());
        let hook = Arc::new(NoHook) as Arc<dyn Hook>;
        let member = Member::new(&topology, EngineSettings::default(), ports, Arc::clone(&status), &hook).unwrap();
        Self { fixture, log, clock, member, status, rows }
    }

    /// One event of 1 for each row, in each topic named.
    fn send(&self, topics: &[&str]) {
        for topic in topics {
            let topic = TopicName::parse(topic).unwrap();
            for id in 0..self.rows {
                self.log.produce(&topic, Some(id.to_string().as_bytes()), Some(b"1"), &[], self.clock.now()).unwrap();
            }
        }
    }

    /// Works until the query finds this number.
    #[track_caller]
    fn until(&mut self, query: &str, wanted: i64, within: Duration) {
        let start = Instant::now();
        loop {
            for _ in 0..20 {
                self.member.step().unwrap();
            }
            let found = self.fixture.number(query);
            if found == wanted {
                return;
            }
            let halts = self.status.halts();
            assert!(halts.is_empty(), "{halts:?}");
            assert!(start.elapsed() < within, "{query}: {found} instead of {wanted}");
        }
    }

    /// The values of the output topic, in order where one partition has them all.
    fn sums(&self) -> Vec<String> {
        let found = self.log.read(&TopicName::parse("sums").unwrap());
        found.into_iter().map(|found| String::from_utf8(found.value.unwrap()).unwrap()).collect()
    }

    fn letters(&self) -> Vec<(String, String)> {
        self.letters_in(&["pluses-dlt", "more-dlt"])
    }

    fn letters_in(&self, topics: &[&str]) -> Vec<(String, String)> {
        let header = |found: &tidegate::ports::history::Found, name: &str| found.header(name).unwrap().to_owned();
        let letters: Vec<_> =
            topics.iter().flat_map(|topic| self.log.read(&TopicName::parse(topic).unwrap())).collect();
        let letters = letters.iter();
        letters
            .map(|found| {
                (header(found, "kafka_dlt-exception-fqcn"), String::from_utf8(found.key.clone().unwrap()).unwrap())
            })
            .collect()
    }
}

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)";
const SUM: &str = "SELECT sum(version)::bigint FROM {u}.t";

#[test]
fn a_row_that_a_trigger_refuses_or_withholds_is_one_dead_letter_and_all_others_go_on() {
    for (name, body, code) in [
        ("own_code", "RAISE EXCEPTION 'closed' USING ERRCODE = 'ST404'", "trigger"),
        ("own_class", "RAISE EXCEPTION 'closed' USING ERRCODE = '45010'", "trigger"),
        ("not_ready", "RAISE EXCEPTION 'closed' USING ERRCODE = '55000'", "trigger"),
        ("lost_server", "RAISE EXCEPTION 'closed' USING ERRCODE = '08006'", "trigger"),
        ("left_out", "RETURN NULL", "withheld"),
    ] {
        let Some(fixture) = Fixture::new(name) else { return };
        let mut service = Service::new(fixture, 500, Duration::ZERO);
        let body = format!("IF NEW.id = 7 THEN {body}; END IF;");
        crate::tables::trigger(&service.fixture, "hold", &body, "BEFORE UPDATE ON {u}.t FOR EACH ROW");
        service.send(&["pluses", "more"]);
        service.until(SUM, 2 * 499, Duration::from_secs(30));
        service.until("SELECT sum(records)::bigint FROM {tg}.position", 2 * 500, Duration::from_secs(10));
        for _ in 0..50 {
            service.member.step().unwrap();
        }
        let letter = (code.to_owned(), "7".to_owned());
        assert_eq!(service.letters(), [letter.clone(), letter], "{name}");
        assert_eq!(service.fixture.number("SELECT version FROM {u}.t WHERE id = 7"), 0, "{name}");
        assert_eq!(service.status.value(Counter::DatabaseRetries), 0, "{name}");
    }
}

#[test]
fn a_row_that_an_idle_session_has_locked_holds_up_its_own_partition_for_as_long_as_it_is_locked() {
    if !crate::server::is_wanted() {
        return;
    }
    let url = shared_url();
    let Fixture { name, settings } = Fixture::on(&url, "idler");
    let settings = PostgresSettings { lock_timeout_ms: 1_000, ..settings };
    let mut service = Service::new(Fixture { name, settings }, 500, Duration::ZERO);
    service.until("SELECT count(*) FROM {tg}.position", i64::from(2 * PARTITIONS), Duration::from_secs(10));
    let holder = Holder::new(&service.fixture, "SELECT 1 FROM {u}.t WHERE id = 7 FOR UPDATE");
    service.send(&["pluses"]);
    let held = partition_for(b"7", PARTITIONS);
    let others: Vec<String> =
        (0..500_i64).map(|id| id.to_string()).filter(|id| partition_for(id.as_bytes(), PARTITIONS) != held).collect();
    let query = format!("SELECT sum(version)::bigint FROM {{u}}.t WHERE id IN ({})", others.join(","));
    service.until(&query, i64::try_from(others.len()).unwrap(), Duration::from_secs(5));
    // Records that come later do not wait either, although the row is still locked.
    let start = Instant::now();
    service.send(&["more"]);
    service.until(&query, 2 * i64::try_from(others.len()).unwrap(), Duration::from_secs(5));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(service.fixture.number("SELECT version FROM {u}.t WHERE id = 7"), 0);
    drop(holder);
    service.until(SUM, 2 * 500, Duration::from_secs(5));
    assert!(service.letters().is_empty());
}

#[test]
fn a_slow_algorithm_under_a_backlog_stays_within_the_time_that_the_server_lets_a_transaction_idle() {
    if !crate::server::is_wanted() {
        return;
    }
    let url = shared_url();
    let Fixture { name, settings } = Fixture::on(&url, "slow");
    let settings = PostgresSettings { idle_in_transaction_timeout_ms: 1_000, ..settings };
    let mut service = Service::new(Fixture { name, settings }, 1_000, Duration::from_millis(2));
    service.send(&["pluses", "more"]);
    service.until(SUM, 2 * 1_000, Duration::from_secs(60));
    assert_eq!(service.status.value(Counter::DatabaseRetries), 0);
}

#[test]
fn a_batch_that_takes_too_long_in_the_database_gets_smaller() {
    if !crate::server::is_wanted() {
        return;
    }
    let url = shared_url();
    let Fixture { name, settings } = Fixture::on(&url, "sleepy");
    let settings = PostgresSettings { statement_timeout_ms: 300, ..settings };
    let mut service = Service::new(Fixture { name, settings }, 400, Duration::ZERO);
    let body = "PERFORM pg_sleep(0.005);";
    crate::tables::trigger(&service.fixture, "sleep", body, "BEFORE UPDATE ON {u}.t FOR EACH ROW");
    service.send(&["pluses"]);
    service.until(SUM, 400, Duration::from_secs(60));
    let retries = service.status.value(Counter::DatabaseRetries);
    assert!((1..40).contains(&retries), "{retries}");
    assert!(service.letters().is_empty());
}

/// Adds what the table says to each row that an event meets.
struct AddKnown;

impl Algorithm for AddKnown {
    type Event = (i64, i64);
    type Row = Row;
    type Notices = Option<i64>;

    fn apply(&self, (event, known): (i64, i64), row: &mut Row, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        row.n += event * known;
        Ok(Some(row.n))
    }
}

/// The refusal of a row decides the batch again, in which the table's records stand.
#[test]
fn a_row_that_the_server_refuses_takes_nothing_from_the_table_that_its_stream_is_joined_with() {
    let Some(fixture) = Fixture::new("joined") else { return };
    let table = Table::new(&format!("{}.t", fixture.name));
    let mut topology = Topology::new(fixture.name);
    topology.source("pluses").join("known").update(table, AddKnown).to("sums");
    let mut service = Service::of(fixture, topology, 40);
    service.fixture.sql("ALTER TABLE {u}.t ADD CHECK (n < 1000)");
    let known = TopicName::parse("known").unwrap();
    let tell = |service: &Service, value: fn(i64) -> i64| {
        for id in 0..service.rows {
            let (key, value) = (id.to_string(), value(id).to_string());
            let at = service.clock.now();
            service.log.produce(&known, Some(key.as_bytes()), Some(value.as_bytes()), &[], at).unwrap();
        }
    };
    // Two of forty are refused.
    tell(&service, |id| if id % 20 == 7 { 1_000 } else { id + 1 });
    service.send(&["pluses"]);
    service.until(SUM, 38, Duration::from_secs(60));
    std::thread::sleep(Duration::from_millis(5));
    tell(&service, |_| 2);
    std::thread::sleep(Duration::from_millis(5));
    service.send(&["pluses"]);
    service.until(SUM, 78, Duration::from_secs(60));
    let once: i64 = (0..40).filter(|id| id % 20 != 7).map(|id| id + 1).sum();
    assert_eq!(service.fixture.number("SELECT sum(n)::bigint FROM {u}.t"), once + 80);
    let letters = service.letters_in(&["pluses-dlt", "known-dlt"]);
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(
        letters.iter().all(|(code, key)| code == "constraint" && ["7", "27"].contains(&key.as_str())),
        "{letters:?}"
    );
}

/// Gives each row the number that its record says.
struct Take;

impl Algorithm for Take {
    type Event = i64;
    type Row = Row;
    type Notices = Option<i64>;

    fn apply(&self, event: i64, row: &mut Row, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        row.n = event;
        Ok(Some(row.n))
    }
}

/// The server looks at several rows at once, in the order in which it meets them: it refuses what it would take record by record.
#[test]
fn a_unique_number_that_one_record_sets_free_is_there_for_the_next_one_of_its_batch() {
    let Some(fixture) = Fixture::new("unique_numbers") else { return };
    let mut topology = Topology::new(fixture.name);
    topology.source("pluses").update(Table::new(&format!("{}.t", fixture.name)), Take).to("sums");
    let mut service = Service::of(fixture, topology, 100);
    service.fixture.sql("UPDATE {u}.t SET n = id");
    service.fixture.sql("ALTER TABLE {u}.t ADD UNIQUE (n)");
    let is_together = |id: &i64| partition_for(id.to_string().as_bytes(), PARTITIONS) == 0;
    let ids: Vec<i64> = (0..100).filter(is_together).take(3).collect();
    let [one, other, third] = ids[..] else { panic!("{ids:?}") };
    // Two swap their numbers, and the third asks for one of them.
    let records = [(other, 1_000), (one, other), (other, one), (third, one)];
    let topic = TopicName::parse("pluses").unwrap();
    for (id, n) in records {
        let (key, value) = (id.to_string(), n.to_string());
        service.log.produce(&topic, Some(key.as_bytes()), Some(value.as_bytes()), &[], service.clock.now()).unwrap();
    }
    service.until("SELECT sum(records)::bigint FROM {tg}.position", 4, Duration::from_secs(10));
    for _ in 0..50 {
        service.member.step().unwrap();
    }
    assert_eq!(service.letters_in(&["pluses-dlt"]), [("constraint".to_owned(), third.to_string())]);
    for (id, n, version) in [(one, other, 1), (other, one, 2), (third, third, 0)] {
        let row = format!("SELECT count(*) FROM {{u}}.t WHERE id = {id} AND n = {n} AND version = {version}");
        assert_eq!(service.fixture.number(&row), 1, "{id}");
    }
    assert_eq!(service.sums(), [1_000, other, one].map(|n| n.to_string()));
}

/// Gives a row the number that its record says, makes it where it is missing, and deletes it at -1.
struct Put;

impl Algorithm for Put {
    type Event = i64;
    type Row = Option<Row>;
    type Notices = Option<i64>;

    fn apply(&self, event: i64, row: &mut Option<Row>, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *row = (event >= 0).then_some(Row { n: event });
        Ok(Some(event))
    }
}

/// Whether the rule was there when the table was looked at, or came since and has refused a row: what a later record makes of
/// the row takes back nothing of it.
#[test]
fn a_state_that_a_rule_of_the_table_refuses_is_a_dead_letter_whatever_its_batch_makes_of_the_row_later() {
    for (name, is_late) in [("rule_from_the_start", false), ("rule_added_since", true)] {
        let Some(fixture) = Fixture::new(name) else { return };
        let rule = "ALTER TABLE {u}.t ADD CHECK (n < 1000)";
        if !is_late {
            fixture.sql(TABLE);
            fixture.sql(rule);
        }
        let mut topology = Topology::new(fixture.name);
        let table = Table::new(&format!("{}.t", fixture.name));
        topology.source("pluses").update(table, Put).insert_missing(|_| None).to("sums");
        let mut service = Service::of(fixture, topology, 1);
        let topic = TopicName::parse("pluses").unwrap();
        let mut sent = 0;
        let mut send = |service: &mut Service, numbers: &[i64]| {
            for n in numbers {
                let value = n.to_string();
                service.log.produce(&topic, Some(b"0"), Some(value.as_bytes()), &[], service.clock.now()).unwrap();
            }
            sent += i64::try_from(numbers.len()).unwrap();
            service.until("SELECT sum(records)::bigint FROM {tg}.position", sent, Duration::from_secs(10));
        };
        send(&mut service, &[1]);
        if is_late {
            service.fixture.sql(rule);
        }
        send(&mut service, &[1_000]);
        // Refused, taken, refused, deleted, made anew, refused, deleted and made anew.
        send(&mut service, &[1_001, 2, 1_002, -1, 3, 1_003, -1, 4]);
        for _ in 0..50 {
            service.member.step().unwrap();
        }
        assert_eq!(service.sums(), ["1", "2", "-1", "3", "-1", "4"], "{name}");
        assert_eq!(service.letters_in(&["pluses-dlt"]), vec![("constraint".to_owned(), "0".to_owned()); 4], "{name}");
        assert_eq!(service.fixture.number("SELECT n FROM {u}.t WHERE id = 0"), 4, "{name}");
    }
}
