//! The outbox and the ledger, and many batches at once.

use crate::server::{Fixture, claim, now_ms, outbox_row, source, step};
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::flow::key::Key;
use tidegate::flow::record::{Header, NextOffset, Offset};
use tidegate::flow::row::Value;
use tidegate::flow::table::{ColumnSpec, ColumnType, Table, TableSpec};
use tidegate::ports::history::RowHistory;
use tidegate::ports::rows::{CommitAnswer, Move, OutboxRow, RowWrite, Rows, VerdictRow, WriteKind};

#[test]
fn outbox_rows_come_back_in_order_byte_for_byte_and_no_offset_is_split() {
    let Some(fixture) = Fixture::new("in_order") else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    let at = now_ms();
    let full = OutboxRow {
        key: None,
        value: None,
        headers: vec![Header::new("a", *b"\0\xff"), Header { name: "a".into(), value: None }, Header::new("", *b"")],
        ..outbox_row(3, 0, at)
    };
    let expected = [
        OutboxRow { key: Some(Vec::new()), value: Some(Vec::new()), ..outbox_row(1, 0, at) },
        outbox_row(1, 1, at - 60_000),
        full,
        outbox_row(3, 1, at),
        outbox_row(3, 2, at),
        outbox_row(9, 0, at),
    ];
    let mut shuffled = expected.to_vec();
    shuffled.rotate_left(4);
    shuffled.swap(0, 3);
    rows.begin().unwrap();
    rows.advance(&[step(epoch, 0, 10)]).unwrap();
    rows.append(&shuffled).unwrap();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    let mut read = |from, to, max| rows.outbox(&source(0), NextOffset(from), NextOffset(to), max).unwrap();
    assert_eq!(read(0, 10, 100), expected);
    assert_eq!(read(0, 10, 6), expected);
    assert_eq!(read(0, 10, 5), expected[..5]);
    assert_eq!(read(0, 10, 4), expected[..2], "offset 3 would be split");
    assert_eq!(read(0, 10, 3), expected[..2]);
    assert_eq!(read(0, 10, 1), expected[..2], "one offset is never split, whatever the limit");
    assert_eq!(read(2, 10, 1), expected[2..5]);
    assert_eq!(read(3, 9, 9), expected[2..5], "the end is exclusive");
    // Rows of an earlier incarnation are kept and not offered.
    fixture.sql("UPDATE {tg}.position SET incarnation = 1");
    assert!(rows.outbox(&source(0), NextOffset(0), NextOffset(10), 9).unwrap().is_empty());
    let mut seen = Vec::new();
    fixture.history().each_outbox_row(&mut |row| seen.push(row)).unwrap();
    assert_eq!(seen, expected);
}

#[test]
fn the_audit_reads_page_after_page_and_misses_nothing() {
    let Some(fixture) = Fixture::new("pages") else { return };
    fixture.sql(
        "INSERT INTO {tg}.outbox (pipeline, topic, partition, source_offset, seq, incarnation, created_at, destination) \
         SELECT p, 'input', n % 3, n / 7, n % 7, 0, now() + (n % 5) * interval '1 microsecond', 'output' \
         FROM generate_series(0, 12000) AS n, (VALUES ('pages'), ('other')) AS v(p)",
    );
    let mut seen = Vec::new();
    fixture
        .history()
        .each_outbox_row(&mut |row| seen.push((row.source.partition, row.source_offset, row.seq)))
        .unwrap();
    assert_eq!(seen.len(), 12_001);
    assert!(seen.is_sorted());
    seen.dedup();
    assert_eq!(seen.len(), 12_001);
}

#[test]
fn verdicts_are_kept() {
    let Some(fixture) = Fixture::new("verdicts") else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    rows.begin().unwrap();
    rows.advance(&[step(epoch, 0, 2)]).unwrap();
    let verdict = VerdictRow {
        source: source(0),
        source_offset: Offset(0),
        outcome: "updated",
        magnitude: Some(0.25),
        threshold: Some(0.2),
        note: None,
    };
    let dead = VerdictRow {
        source_offset: Offset(1),
        outcome: "dead-letter",
        magnitude: None,
        threshold: None,
        note: Some("bad-json".into()),
        ..verdict.clone()
    };
    rows.record(&[verdict, dead]).unwrap();
    rows.commit().unwrap();
    let text = "SELECT string_agg(format('%s %s %s %s %s', source_offset, outcome, magnitude, threshold, note), ',' \
                ORDER BY source_offset) FROM {tg}.verdict";
    assert_eq!(fixture.text(text), "0 updated 0.25 0.2 ,1 dead-letter   bad-json");
}

/// docs/traps.md#sorted-arrays-do-not-sort-locks: batches of different partitions over the same ten rows, in orders
/// of their own. Each change counts once.
#[test]
fn batches_over_the_same_rows_neither_deadlock_nor_lose_an_update() {
    const WORKERS: i32 = 3;
    const BATCHES: i64 = 120;
    let Some(fixture) = Fixture::new("hot") else { return };
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)");
    fixture.sql("INSERT INTO {u}.t SELECT i, 0, 0 FROM generate_series(1, 10) AS i");
    let columns = vec![ColumnSpec { name: "n".into(), accepts: vec![ColumnType::I64], is_nullable: false }];
    let spec = TableSpec::new(Table::new("hot.t"), columns);
    let retries = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (fixture, spec, retries) = (&fixture, &spec, &retries);
            scope.spawn(move || {
                let mut rows = fixture.rows();
                rows.bind(std::slice::from_ref(spec)).unwrap();
                assert!(rows.create(&claim(worker, 1), NextOffset(0)).unwrap());
                let mut at = 0;
                while at < BATCHES {
                    let moved = Move { source: source(worker), ..step(1, at, at + 1) };
                    let mut batch = || {
                        rows.begin()?;
                        assert_eq!(rows.advance(std::slice::from_ref(&moved))?, [true]);
                        let keys: Vec<_> =
                            (1..=10).filter(|id| (id + at + i64::from(worker)) % 3 != 0).map(Key::I64).collect();
                        let mut writes: Vec<_> = rows
                            .read(0, &keys)?
                            .into_iter()
                            .map(|row| {
                                let Value::I64(n) = row.values[0] else { panic!() };
                                RowWrite {
                                    kind: WriteKind::Update,
                                    key: row.key,
                                    from_version: row.version,
                                    to_version: row.version + 1,
                                    values: vec![Value::I64(n + 1)],
                                }
                            })
                            .collect();
                        writes.rotate_left(usize::try_from(at).unwrap() % 5);
                        rows.write(0, &writes).map_err(|fault| match fault {
                            tidegate::ports::rows::WriteFault::Fault(fault) => fault,
                            tidegate::ports::rows::WriteFault::Rejected(reject) => panic!("{reject:?}"),
                        })?;
                        rows.commit()
                    };
                    match batch() {
                        Ok(CommitAnswer::Done) => at += 1,
                        Err(fault) if fault.is_retry() => {
                            retries.fetch_add(1, Ordering::Relaxed);
                            rows.rollback();
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let expected: i64 = (0..WORKERS)
        .flat_map(|worker| {
            (0..BATCHES).map(move |at| (1..=10).filter(|id| (id + at + i64::from(worker)) % 3 != 0).count())
        })
        .map(|count| i64::try_from(count).unwrap())
        .sum();
    assert_eq!(fixture.number("SELECT sum(n)::bigint FROM {u}.t"), expected);
    assert_eq!(fixture.number("SELECT sum(version)::bigint FROM {u}.t"), expected);
    assert_eq!(retries.load(Ordering::Relaxed), 0, "deadlocks");
}
