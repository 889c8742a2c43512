//! Migrations, the server's settings, base line, slots.

use crate::server::{Fixture, claim, is_wanted, shared_url};
use std::time::Duration;
use tidegate::adapters::postgres::{OutboxSettings, PostgresRows, PostgresSchema, PostgresSettings};
use tidegate::flow::table::Table;
use tidegate::ports::Fault;
use tidegate::ports::history::RowHistory;
use tidegate::ports::rows::{Claim, Rows};
use tidegate::ports::schema::Schema;

#[test]
fn two_runners_migrate_once_between_them() {
    if !is_wanted() {
        return;
    }
    let settings = PostgresSettings { schema: "tg_Twice$".into(), ..PostgresSettings::new(&shared_url()) };
    let run = || PostgresSchema::new(&settings, OutboxSettings::default(), "p").unwrap().migrate().unwrap();
    let mut schema = PostgresSchema::new(&settings, OutboxSettings::default(), "p").unwrap();
    let fault = schema.verify().unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().contains("tidegate migrate"), "{fault}");
    let mut applied: Vec<_> = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        runners.into_iter().flat_map(|runner| runner.join().unwrap()).collect()
    });
    applied.sort();
    assert_eq!(
        applied,
        ["0001_position", "0002_outbox", "0003_verdict", "0004_baseline_slot", "0005_repair", "0006_event_time"]
    );
    assert!(run().is_empty());
    schema.verify().unwrap();
}

#[test]
fn a_server_that_cannot_commit_or_may_lose_commits_is_refused() {
    if !is_wanted() {
        return;
    }
    let with = |option: &str| PostgresSettings::new(&format!("{}?options=-c%20{option}", shared_url()));
    let standby = with("default_transaction_read_only=on");
    let fault = PostgresRows::new(&standby, "p", "p").unwrap().begin().unwrap_err();
    assert!(fault.is_retry() && fault.to_string().contains("is a read-only standby"), "{fault}");
    let fault = PostgresSchema::new(&standby, OutboxSettings::default(), "p").unwrap().migrate().unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    let lossy = with("synchronous_commit=off");
    let fault = PostgresRows::new(&lossy, "p", "p").unwrap().begin().unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().contains("synchronous_commit = off"), "{fault}");
}

#[test]
fn a_server_that_is_not_there_is_a_retry_and_a_wrong_url_is_fatal() {
    if !is_wanted() {
        return;
    }
    let new = |url: &str| PostgresRows::new(&PostgresSettings::new(url), "p", "p");
    assert!(new("postgres://tidegate@127.0.0.1:1/x").unwrap().begin().unwrap_err().is_retry());
    let (server, _) = shared_url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let fault = new(&format!("{server}/nowhere")).unwrap().begin().unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    let fault = new("not a url with hunter2").unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)) && !fault.to_string().contains("hunter2"));
    let hostile = PostgresSettings { schema: "a\";DROP".into(), ..PostgresSettings::new(&server) };
    assert!(PostgresRows::new(&hostile, "p", "p").is_err());
}

#[test]
fn a_primary_that_turns_read_only_is_a_retry() {
    let Some(fixture) = Fixture::new("turned") else { return };
    let mut rows = fixture.rows();
    fixture.own(&mut rows, 1);
    // A switch-over that keeps connections is known only when a statement wants to write.
    let settings = PostgresSettings::new(&format!("{}?application_name=x", fixture.settings.url.expose()));
    let fixture =
        Fixture { name: fixture.name, settings: PostgresSettings { schema: fixture.settings.schema, ..settings } };
    fixture.sql("CREATE ROLE turned LOGIN; GRANT ALL ON SCHEMA {tg} TO turned; GRANT ALL ON ALL TABLES IN SCHEMA {tg} TO turned");
    let url = fixture.settings.url.expose().replace("tidegate@", "turned@");
    let mut rows = PostgresRows::new(
        &PostgresSettings { url: PostgresSettings::new(&url).url, ..fixture.settings.clone() },
        "turned",
        "turned",
    )
    .unwrap();
    rows.claim(&[claim(0, 2)]).unwrap();
    fixture.sql("ALTER ROLE turned SET default_transaction_read_only = on");
    fixture.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'turned'");
    for _ in 0..2 {
        assert!(rows.claim(&[claim(0, 3)]).unwrap_err().is_retry());
    }
    fixture.sql("ALTER ROLE turned RESET default_transaction_read_only");
    rows.claim(&[claim(0, 3)]).unwrap();
}

#[test]
fn the_version_sum_counts_from_the_baseline_which_is_noted_once() {
    let Some(fixture) = Fixture::new("baseline") else { return };
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL)");
    fixture.sql("INSERT INTO {u}.t VALUES (1, 40), (2, 2)");
    let table = Table::new("baseline.t");
    let (mut schema, mut history) = (fixture.schema(), fixture.history());
    schema.note_baseline(&table).unwrap();
    assert_eq!(history.version_sum(&table).unwrap(), Some(0));
    fixture.sql("UPDATE {u}.t SET version = version + 3");
    schema.note_baseline(&table).unwrap();
    assert_eq!(history.version_sum(&table).unwrap(), Some(6));
    assert_eq!(history.version_sum(&table.unversioned()).unwrap(), None);
}

#[test]
fn the_baseline_may_be_noted_while_the_pipeline_runs_and_table_by_table() {
    let Some(fixture) = Fixture::new("late_baseline") else { return };
    for table in ["a", "b", "c"] {
        fixture.sql(&format!("CREATE TABLE {{u}}.{table} (id bigint PRIMARY KEY, version bigint NOT NULL)"));
        fixture.sql(&format!("INSERT INTO {{u}}.{table} VALUES (1, 40), (2, 2)"));
    }
    let [a, b, c] = ["a", "b", "c"].map(|table| Table::new(&format!("late_baseline.{table}")));
    let (mut schema, mut history, mut rows) = (fixture.schema(), fixture.history(), fixture.rows());
    let epoch = fixture.own(&mut rows, 1);
    fixture.sql("UPDATE {tg}.position SET topic = 'readings'");
    assert_eq!(history.version_sum(&a).unwrap(), None, "not compared yet");
    // A batch of the pipeline changes a row, and counts it in the same transaction.
    let change = |table: &str| {
        fixture.sql(&format!("UPDATE {{u}}.{table} SET version = version + 1 WHERE id = 1"));
        fixture.sql("UPDATE {tg}.position SET row_changes = row_changes + 1");
    };
    assert_eq!(epoch, 1);
    let of_others = |table: &str| fixture.sql(&format!("UPDATE {{u}}.{table} SET version = version + 7 WHERE id = 2"));
    let changes = || fixture.number("SELECT row_changes FROM {tg}.position");
    let mut sum = |tables: &[&Table]| -> i64 { tables.iter().map(|t| history.version_sum(t).unwrap().unwrap()).sum() };
    of_others("a");
    (0..3).for_each(|_| change("a"));
    change("b");
    let with = |table: &Table| (table.clone(), vec!["readings".to_owned()]);
    schema.note_baselines(&[with(&a), with(&b), with(&a.clone().unversioned())]).unwrap();
    assert_eq!(sum(&[&a, &b]), changes());
    (0..2).for_each(|_| change("b"));
    assert_eq!(sum(&[&a, &b]), changes());
    // A later release has one table more.
    (0..5).for_each(|_| change("c"));
    schema.note_baselines(&[with(&a), with(&b), with(&c)]).unwrap();
    change("c");
    assert_eq!(sum(&[&a, &b, &c]), changes());
    of_others("b");
    assert_eq!(sum(&[&a, &b, &c]), changes() + 7, "another writer shows from then on");
}

#[test]
fn an_update_that_was_lost_before_a_table_was_added_shows_afterwards_too() {
    let Some(fixture) = Fixture::new("added_baseline") else { return };
    for table in ["a", "b"] {
        fixture.sql(&format!("CREATE TABLE {{u}}.{table} (id bigint PRIMARY KEY, version bigint NOT NULL)"));
        fixture.sql(&format!("INSERT INTO {{u}}.{table} VALUES (1, 40), (2, 2)"));
    }
    let [a, b] = ["a", "b"].map(|table| Table::new(&format!("added_baseline.{table}")));
    let (mut schema, mut history, mut rows) = (fixture.schema(), fixture.history(), fixture.rows());
    fixture.own(&mut rows, 1);
    let with = |table: &Table, topic: &str| (table.clone(), vec![topic.to_owned()]);
    fixture.sql("UPDATE {tg}.position SET topic = 'first'");
    schema.note_baselines(&[with(&a, "first")]).unwrap();
    let count = |topic: &str| {
        fixture.sql(&format!("UPDATE {{tg}}.position SET row_changes = row_changes + 1 WHERE topic = '{topic}'"));
    };
    let change = |table: &str, topic: &str| {
        fixture.sql(&format!("UPDATE {{u}}.{table} SET version = version + 1 WHERE id = 1"));
        count(topic);
    };
    (0..3).for_each(|_| change("a", "first"));
    count("first"); // its update is lost
    let second = r#"{"topic": "second", "row_changes": 0}"#;
    let copy = format!("SELECT (jsonb_populate_record(p, '{second}')).* FROM {{tg}}.position AS p");
    fixture.sql(&format!("INSERT INTO {{tg}}.position {copy}"));
    (0..2).for_each(|_| change("b", "second"));
    schema.note_baselines(&[with(&a, "first"), with(&b, "second")]).unwrap();
    change("b", "second");
    let sum = history.version_sum(&a).unwrap().unwrap() + history.version_sum(&b).unwrap().unwrap();
    assert_eq!(sum, fixture.number("SELECT sum(row_changes)::bigint FROM {tg}.position") - 1);
}

#[test]
fn a_slot_is_idle_while_its_holder_owns_no_position_and_does_not_renew_it() {
    let Some(fixture) = Fixture::new("idle") else { return };
    let (mut schema, mut rows) = (fixture.schema(), fixture.rows());
    let term = Duration::from_secs(60);
    let long = Duration::from_secs(70);
    let idle = |schema: &mut PostgresSchema| -> Vec<(u32, String)> { schema.idle_slots(long).unwrap() };
    assert_eq!(idle(&mut schema), []);
    assert_eq!(schema.lease_slot("host-1", None, term).unwrap(), 0);
    assert_eq!(schema.lease_slot("host-2", None, term).unwrap(), 1);
    assert_eq!(idle(&mut schema), [(1, "host-2".into()), (0, "host-1".into())], "the latest first");
    // An instance that has just begun owns nothing yet, and may when its producers are fenced.
    schema.renew_slot(1, "host-2", Duration::from_secs(90)).unwrap();
    assert_eq!(idle(&mut schema), [(0, "host-1".into())], "the other was renewed lately");
    schema.renew_slot(1, "host-2", term).unwrap();
    fixture.own(&mut rows, 1); // host-1
    assert_eq!(idle(&mut schema), [(1, "host-2".into())]);
    let by_another = Claim { owner: "host-2".into(), ..claim(0, 2) };
    rows.claim(&[by_another]).unwrap();
    assert_eq!(idle(&mut schema), [(0, "host-1".into())], "claimed since by another: host-1 may be dead");
    schema.release_slot(0, "host-1");
    assert_eq!(idle(&mut schema), []);
}

#[test]
fn a_slot_has_one_owner_at_a_time_and_is_free_after_its_term() {
    let Some(fixture) = Fixture::new("slots") else { return };
    let (mut a, mut b) = (fixture.schema(), fixture.schema());
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(300));
    assert_eq!(a.lease_slot("a", None, long).unwrap(), 0);
    assert_eq!(b.lease_slot("b", None, short).unwrap(), 1);
    assert_eq!(a.lease_slot("a", None, long).unwrap(), 0, "an owner that asks again gets its own");
    assert!(b.lease_slot("b", Some(0), long).unwrap_err().is_retry());
    assert!(b.renew_slot(1, "b", short).unwrap());
    assert!(!b.renew_slot(0, "b", short).unwrap());
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(a.lease_slot("c", None, long).unwrap(), 1, "the term is over");
    assert!(!b.renew_slot(1, "b", long).unwrap(), "somebody else has it");
    b.release_slot(1, "b");
    assert_eq!(fixture.text("SELECT owner FROM {tg}.slot WHERE slot = 1"), "c", "released what was not ours");
    a.release_slot(0, "a");
    fixture.sql("UPDATE {tg}.slot SET expires_at = now() - interval '25 hours' WHERE slot = 1");
    assert_eq!(b.lease_slot("b", Some(7), long).unwrap(), 7);
    assert_eq!(
        fixture.text("SELECT string_agg(slot::text, ' ') FROM {tg}.slot"),
        "7",
        "one of a dead instance stays a day"
    );
    assert_eq!(b.lease_slot("d", None, long).unwrap(), 0);
    let mut leased: Vec<_> = std::thread::scope(|scope| {
        let fixture = &fixture;
        let many: Vec<_> = (0..8)
            .map(|n| scope.spawn(move || fixture.schema().lease_slot(&format!("m{n}"), None, long).unwrap()))
            .collect();
        many.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    leased.sort_unstable();
    leased.dedup();
    assert_eq!(leased.len(), 8);
}

#[test]
fn the_first_start_beside_a_pipeline_of_the_same_topics_knows_its_name() {
    let Some(fixture) = Fixture::new("renamed") else { return };
    fixture.own(&mut fixture.rows(), 1);
    let ask = |pipeline: &str, topics: &[&str]| {
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let schema = PostgresSchema::new(&fixture.settings, OutboxSettings::default(), pipeline);
        schema.unwrap().likely_former(&topics).unwrap()
    };
    assert_eq!(ask("another", &["other", "input"]), ["renamed"]);
    assert!(ask("another", &["other"]).is_empty(), "reads other topics");
    assert!(ask("renamed", &["input"]).is_empty(), "has positions");
}
