//! Outbox partitions: made ahead, dropped only when old and published.

use crate::server::{Fixture, claim, now_ms, outbox_row, step};
use std::time::{Duration, Instant};
use tidegate::adapters::postgres::{OutboxSettings, PostgresSchema};
use tidegate::flow::record::NextOffset;
use tidegate::ports::rows::Rows;
use tidegate::ports::schema::{Maintained, Schema};

const COUNT: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = '{tg}.outbox'::regclass";

fn schema(fixture: &Fixture) -> PostgresSchema {
    let outbox = OutboxSettings { retention_hours: 2, ..OutboxSettings::default() };
    PostgresSchema::new(&fixture.settings, outbox, fixture.name).unwrap()
}

/// A partition of an hour in the past, with one row of the given source and offset.
fn old(fixture: &Fixture, name: &str, hours_ago: i32, pipeline: &str, offset: i64) {
    let at = format!("date_trunc('hour', now()) - interval '{hours_ago} hours'");
    fixture.sql(&format!(
        "DO $$ BEGIN EXECUTE format('CREATE TABLE {{tg}}.{name} PARTITION OF {{tg}}.outbox FOR VALUES FROM (%L) TO (%L)', \
         {at}, {at} + interval '1 hour'); END $$"
    ));
    fixture.sql(&format!(
        "INSERT INTO {{tg}}.outbox (pipeline, topic, partition, source_offset, seq, incarnation, created_at, destination) \
         VALUES ('{pipeline}', 'input', 0, {offset}, 0, 0, {at} + interval '1 minute', 'output')"
    ));
}

#[test]
fn only_what_is_past_the_retention_and_below_p_is_dropped() {
    let Some(fixture) = Fixture::new("dropping") else { return };
    let mut rows = fixture.rows();
    fixture.own(&mut rows, 1);
    fixture.sql("UPDATE {tg}.position SET next_offset = 10, published = 10");
    old(&fixture, "published", 9, "dropping", 9);
    old(&fixture, "pending", 8, "dropping", 10);
    old(&fixture, "orphan", 7, "somebody", 1);
    old(&fixture, "mixed", 6, "dropping", 3);
    fixture.sql(
        "INSERT INTO {tg}.outbox SELECT source_offset + n, created_at, partition, seq, incarnation, pipeline, topic, \
         destination FROM {tg}.mixed, (VALUES (1), (8)) AS v(n)",
    );
    old(&fixture, "recent", 1, "dropping", 2);
    old(&fixture, "empty", 5, "dropping", 2);
    fixture.sql("DELETE FROM {tg}.empty");
    assert_eq!(schema(&fixture).maintain().unwrap(), Maintained { created: 0, dropped: 2 });
    let left = "SELECT string_agg(c.relname::text, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c \
                ON c.oid = i.inhrelid WHERE i.inhparent = '{tg}.outbox'::regclass AND c.relname !~ '_'";
    assert_eq!(fixture.text(left), "mixed orphan pending recent");
    fixture.sql("UPDATE {tg}.position SET published = 12, next_offset = 12");
    assert_eq!(schema(&fixture).maintain().unwrap().dropped, 2);
    assert_eq!(fixture.text(left), "orphan recent");
}

#[test]
fn partitions_are_made_ahead_and_a_late_range_stays_in_the_default_partition() {
    let Some(fixture) = Fixture::new("ahead") else { return };
    assert_eq!(fixture.number(COUNT), 14, "the one in use, half a day ahead, and the default");
    assert_eq!(schema(&fixture).maintain().unwrap(), Maintained::default());
    // The state as if maintenance had not run: the current partition is missing, and a row came.
    fixture.sql(
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT c.oid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = '{tg}.outbox'::regclass AND c.relname <> 'outbox_default' LOOP EXECUTE 'DROP TABLE ' || t; \
         END LOOP; END $$",
    );
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    rows.begin().unwrap();
    rows.advance(&[step(epoch, 0, 2)]).unwrap();
    rows.append(&[outbox_row(0, 0, now_ms()), outbox_row(1, 0, 1_000)]).unwrap();
    rows.commit().unwrap();
    let mut schema = schema(&fixture);
    assert_eq!(schema.maintain().unwrap().created, 12, "all but the range that has a row in the default partition");
    assert_eq!(fixture.number("SELECT count(*) FROM {tg}.outbox_default"), 2);
    assert_eq!(rows.outbox(&crate::server::source(0), NextOffset(0), NextOffset(9), 9).unwrap().len(), 2);
    // The row of 1970 goes once it is published, the one of this hour stays.
    fixture.sql("UPDATE {tg}.position SET published = 2");
    schema.maintain().unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM {tg}.outbox_default"), 1);
}

#[test]
fn maintenance_gives_way_to_a_batch_in_flight() {
    let Some(fixture) = Fixture::new("gives_way") else { return };
    let mut rows = fixture.rows();
    assert!(rows.create(&claim(0, 1), NextOffset(5)).unwrap());
    old(&fixture, "gone", 9, "gives_way", 1);
    rows.begin().unwrap();
    rows.advance(&[step(1, 5, 6)]).unwrap();
    rows.append(&[outbox_row(5, 0, now_ms())]).unwrap();
    let start = Instant::now();
    assert_eq!(schema(&fixture).maintain().unwrap().dropped, 0);
    assert!(start.elapsed() < Duration::from_secs(2), "queued for {:?}", start.elapsed());
    rows.commit().unwrap();
    assert_eq!(schema(&fixture).maintain().unwrap().dropped, 1);
}
