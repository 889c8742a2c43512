//! The owner that may move a position (docs/protocol.md#through-the-database and #takeover).

use crate::server::{Fixture, claim, source, step};
use crate::tables::Holder;
use std::time::{Duration, Instant};
use tidegate::adapters::postgres::{PostgresRows, PostgresSettings};
use tidegate::flow::key::Key;
use tidegate::flow::record::NextOffset;
use tidegate::flow::row::Value;
use tidegate::flow::table::{ColumnSpec, ColumnType, Table, TableSpec};
use tidegate::ports::history::RowHistory;
use tidegate::ports::rows::{Claimed, CommitAnswer, Move, RowWrite, Rows, WriteKind};

fn account() -> (&'static str, TableSpec) {
    let columns = vec![ColumnSpec { name: "score".into(), accepts: vec![ColumnType::I64], is_nullable: false }];
    (
        "CREATE TABLE {u}.account (id bigint PRIMARY KEY, version bigint NOT NULL, score bigint NOT NULL)",
        TableSpec::new(Table::new("account"), columns),
    )
}

fn bound(fixture: &Fixture) -> TableSpec {
    let (create, mut spec) = account();
    fixture.sql(create);
    fixture.sql("INSERT INTO {u}.account VALUES (1, 0, 10), (2, 0, 20)");
    spec.table = Table::new(&format!("{}.account", fixture.name));
    spec
}

fn write(id: i64, from_version: i64, score: i64) -> RowWrite {
    RowWrite {
        kind: WriteKind::Update,
        key: Key::I64(id),
        from_version,
        to_version: from_version + 1,
        values: vec![Value::I64(score)],
    }
}

#[test]
fn a_zombie_moves_nothing_after_its_successors_claim() {
    let Some(fixture) = Fixture::new("zombie") else { return };
    let spec = bound(&fixture);
    let (mut zombie, mut successor) = (fixture.rows(), fixture.rows());
    zombie.bind(std::slice::from_ref(&spec)).unwrap();
    let epoch = fixture.own(&mut zombie, 1);
    // Its transaction is open before the claim: only the compare-and-set can stop it.
    zombie.begin().unwrap();
    assert_eq!(fixture.own(&mut successor, 2), epoch + 1);
    assert_eq!(zombie.advance(&[step(epoch, 0, 5)]).unwrap(), [false]);
    // Even an engine that went on could not commit.
    assert!(zombie.write(0, &[write(1, 0, 99)]).is_err());
    assert!(zombie.commit().is_err());
    assert_eq!(fixture.number("SELECT score FROM {u}.account WHERE id = 1"), 10);
    assert_eq!(fixture.number("SELECT next_offset FROM {tg}.position"), 0);
}

#[test]
fn a_row_write_of_a_lost_compare_and_set_is_rolled_back() {
    let Some(fixture) = Fixture::new("lost_set") else { return };
    let spec = bound(&fixture);
    let mut rows = fixture.rows();
    rows.bind(std::slice::from_ref(&spec)).unwrap();
    let epoch = fixture.own(&mut rows, 1);
    rows.begin().unwrap();
    rows.read(0, &[Key::I64(1)]).unwrap();
    rows.write(0, &[write(1, 0, 99)]).unwrap();
    assert_eq!(rows.advance(&[step(epoch, 3, 5)]).unwrap(), [false], "the offset is not where we believe");
    rows.rollback();
    assert_eq!(fixture.number("SELECT score FROM {u}.account WHERE id = 1"), 10);
}

/// It waits not for long: its worker has other partitions, and asks again.
#[test]
fn a_claim_does_not_pass_the_batch_in_flight_and_sees_it_afterwards() {
    let Some(fixture) = Fixture::new("claim_waits") else { return };
    let mut old = fixture.rows();
    let epoch = fixture.own(&mut old, 1);
    old.begin().unwrap();
    assert_eq!(old.advance(&[step(epoch, 0, 7)]).unwrap(), [true]);
    let mut new = fixture.rows();
    let fault = new.claim(&[claim(0, 2)]).unwrap_err();
    assert!(fault.is_lock_wait(), "the claim passed a batch in flight: {fault}");
    assert_eq!(old.commit().unwrap(), CommitAnswer::Done);
    let Claimed::Owned(position) = new.claim(&[claim(0, 2)]).unwrap().remove(0) else { panic!("it is free") };
    assert_eq!((position.epoch, position.next_offset.0), (epoch + 1, 7));
}

#[test]
fn an_older_generation_cannot_claim_and_each_claim_is_answered_in_order() {
    let Some(fixture) = Fixture::new("stale") else { return };
    let mut rows = fixture.rows();
    fixture.own(&mut rows, 5);
    let answers = rows.claim(&[claim(1, 4), claim(0, 4), claim(2, 4)]).unwrap();
    assert_eq!(answers, [Claimed::Absent, Claimed::Stale { generation: 5 }, Claimed::Absent]);
    assert_eq!(fixture.number("SELECT epoch FROM {tg}.position"), 1, "a stale claim raised the epoch");
    let Claimed::Owned(position) = rows.claim(&[claim(0, 5)]).unwrap().remove(0) else { panic!("the same generation") };
    assert_eq!((position.epoch, position.group.as_str(), position.partition_count), (2, "stale", 3));
    assert_eq!(position.log_ids, claim(0, 5).log_ids);
    assert!(!rows.create(&claim(0, 5), NextOffset(9)).unwrap(), "created twice");
}

#[test]
fn positions_move_together_and_their_counters_add_up() {
    let Some(fixture) = Fixture::new("together") else { return };
    let mut rows = fixture.rows();
    for partition in 0..3 {
        assert!(rows.create(&claim(partition, 1), NextOffset(0)).unwrap());
    }
    for round in 0..2 {
        rows.begin().unwrap();
        let moves: Vec<_> = (0..3)
            .rev()
            .map(|partition| Move { source: source(partition), ..step(1, round * 4, round * 4 + 4) })
            .collect();
        assert_eq!(rows.advance(&moves).unwrap(), [true; 3]);
        // A second time in one transaction, from where the first put it.
        let again = Move { published: NextOffset(0), ..step(1, round * 4 + 4, round * 4 + 4) };
        assert_eq!(rows.advance(&[again]).unwrap(), [true], "and P does not go back");
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    }
    let positions = fixture.history().positions().unwrap();
    assert_eq!(positions.len(), 3);
    for (_, position, counts) in positions {
        assert_eq!((position.next_offset.0, position.published.0, counts.records), (8, 4, 8));
    }
    // One that does not match spoils them all.
    rows.begin().unwrap();
    let wrong = Move { source: source(1), ..step(1, 7, 9) };
    assert_eq!(rows.advance(&[step(1, 8, 9), wrong]).unwrap(), [true, false]);
    assert!(rows.commit().is_err());
    assert_eq!(fixture.number("SELECT sum(next_offset)::bigint FROM {tg}.position"), 24);
}

#[test]
fn a_position_that_stays_locked_is_told_with_its_holder() {
    let Some(fixture) = Fixture::new("held_position") else { return };
    let mut rows = fixture.rows();
    fixture.own(&mut rows, 1);
    let holder = Holder::new(&fixture, &format!("SELECT 1 FROM {}.position FOR UPDATE", fixture.settings.schema));
    let told = |rows: &mut PostgresRows| {
        let fault = rows.claim(&[claim(0, 2)]).unwrap_err();
        assert!(fault.is_lock_wait(), "{fault}");
        fault.to_string()
    };
    for _ in 0..10 {
        assert!(!told(&mut rows).contains("locked by"), "a batch in flight is not looked for");
    }
    let sentence = told(&mut rows);
    for part in ["claim positions: SQLSTATE 55P03", "application idler", "pg_terminate_backend("] {
        assert!(sentence.contains(part), "no {part:?} in {sentence}");
    }
    drop(holder);
    rows.claim(&[claim(0, 2)]).unwrap();
}

#[test]
fn a_frozen_holder_is_a_retry_within_the_lock_timeout_and_is_ended_by_the_server() {
    let Some(fixture) = Fixture::new("frozen") else { return };
    let settings =
        PostgresSettings { lock_timeout_ms: 300, idle_in_transaction_timeout_ms: 1_000, ..fixture.settings.clone() };
    let fixture = Fixture { name: fixture.name, settings };
    let mut frozen = fixture.rows();
    let epoch = fixture.own(&mut frozen, 1);
    frozen.begin().unwrap();
    assert_eq!(frozen.advance(&[step(epoch, 0, 1)]).unwrap(), [true]);
    // It does nothing from here on, as a stopped process would.
    let mut next = fixture.rows();
    let start = Instant::now();
    let fault = next.claim(&[claim(0, 2)]).unwrap_err();
    assert!(fault.is_retry() && start.elapsed() < Duration::from_secs(1), "{fault} after {:?}", start.elapsed());
    assert!(fault.to_string().contains("55P03"), "{fault}");
    std::thread::sleep(Duration::from_millis(1_000));
    assert!(matches!(next.claim(&[claim(0, 2)]).unwrap()[0], Claimed::Owned(_)));
    // It wakes up, and its transaction is gone.
    assert!(!matches!(frozen.commit(), Ok(CommitAnswer::Done)));
    assert_eq!(fixture.number("SELECT next_offset FROM {tg}.position"), 0);
}
