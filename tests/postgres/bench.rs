//! The cost of a batch; concurrent batches change each row as often as they said. For figures worth reading:
//! `SYSTEM_TESTS=1 TIDEGATE_COST_SECONDS=8 cargo test --release --test postgres -- --nocapture cost_of_a_batch`.

use crate::server::{Fixture, claim, now_ms, outbox_row, source, step};
use std::time::{Duration, Instant};
use tidegate::flow::key::Key;
use tidegate::flow::record::{NextOffset, Offset};
use tidegate::flow::row::Value;
use tidegate::flow::table::{ColumnSpec, ColumnType, Table, TableSpec};
use tidegate::ports::rows::{CommitAnswer, Move, OutboxRow, RowWrite, Rows, WriteKind};

const BATCH: i64 = 1_000;

/// Nanoseconds that this thread has been on a CPU (`/proc/thread-self/schedstat`).
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Hundredths of a second that this thread has spent in user code and in the kernel, TCP included.
fn user_and_kernel() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    [fields[11].parse().unwrap(), fields[12].parse().unwrap()]
}

/// Duration of each case, and number of rows: a million where it is to be measured.
fn size() -> (Duration, i64) {
    let seconds = std::env::var("TIDEGATE_COST_SECONDS").ok().map(|text| text.parse().unwrap());
    (Duration::from_secs(seconds.unwrap_or(1)), if seconds.is_some() { 1_000_000 } else { 10_000 })
}

#[test]
fn cost_of_a_batch() {
    let (seconds, table_rows) = size();
    let Some(fixture) = Fixture::new("cost") else { return };
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, v double precision NOT NULL, payload text NOT NULL) WITH (fillfactor = 85)");
    fixture.sql(&format!(
        "INSERT INTO {{u}}.t SELECT i, 0, 0, repeat('x', 100) FROM generate_series(0, {}) AS i",
        table_rows - 1
    ));
    fixture.sql("VACUUM ANALYZE {u}.t");
    fixture.sql("CHECKPOINT");
    let column = |name: &str, kind| ColumnSpec { name: name.into(), accepts: vec![kind], is_nullable: false };
    let columns = vec![column("v", ColumnType::F64), column("payload", ColumnType::Text)];
    let spec = TableSpec::new(Table::new("cost.t"), columns);
    let mut all_written = 0;
    for (workers, share) in [(1, 1.0), (2, 1.0), (2, 0.2)] {
        let totals: Vec<(i64, i64, [u64; 5], [u64; 2])> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    let (fixture, spec) = (&fixture, &spec);
                    scope.spawn(move || {
                        let mut rows = fixture.rows();
                        rows.bind(std::slice::from_ref(spec)).unwrap();
                        let partition = worker + if share < 1.0 { 10 } else { workers * 20 };
                        rows.create(&claim(partition, 1), NextOffset(0)).unwrap();
                        let mut seed = u64::try_from(worker).unwrap() + 1;
                        let (mut at, mut written, mut cpu) = (0, 0, [0_u64; 5]);
                        let start = Instant::now();
                        while start.elapsed() < seconds {
                            let mut keys: Vec<i64> = (0..BATCH)
                                .map(|_| {
                                    seed = seed
                                        .wrapping_mul(6_364_136_223_846_793_005)
                                        .wrapping_add(1_442_695_040_888_963_407);
                                    i64::try_from(seed >> 33).unwrap() % table_rows
                                })
                                .collect();
                            keys.sort_unstable();
                            keys.dedup();
                            let keys: Vec<_> = keys.into_iter().map(Key::I64).collect();
                            let mut marks = [cpu_ns(); 6];
                            rows.begin().unwrap();
                            let moved = Move { source: source(partition), ..step(1, at, at + BATCH) };
                            assert_eq!(rows.advance(&[moved]).unwrap(), [true]);
                            marks[1] = cpu_ns();
                            let found = rows.read(0, &keys).unwrap();
                            marks[2] = cpu_ns();
                            let now = now_ms();
                            let mut outbox: Vec<OutboxRow> = Vec::new();
                            let writes: Vec<_> = found
                                .into_iter()
                                .zip(0..)
                                .map(|(mut row, number)| {
                                    if let Some(Value::F64(v)) = row.values.first_mut() {
                                        *v += 1.0;
                                    }
                                    if number % 5 == 0 || share >= 1.0 {
                                        outbox.push(OutboxRow {
                                            source: source(partition),
                                            source_offset: Offset(at + number),
                                            ..outbox_row(0, 0, now)
                                        });
                                    }
                                    RowWrite {
                                        kind: WriteKind::Update,
                                        key: row.key,
                                        from_version: row.version,
                                        to_version: row.version + 1,
                                        values: row.values,
                                    }
                                })
                                .collect();
                            let before = cpu_ns();
                            rows.write(0, &writes).unwrap();
                            marks[3] = cpu_ns();
                            rows.append(&outbox).unwrap();
                            marks[4] = cpu_ns();
                            assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
                            marks[5] = cpu_ns();
                            at += BATCH;
                            written += i64::try_from(writes.len()).unwrap();
                            for (index, total) in cpu.iter_mut().enumerate() {
                                let from = if index == 2 { before } else { marks[index] };
                                *total += marks[index + 1] - from;
                            }
                        }
                        (at, written, cpu, user_and_kernel())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        all_written += totals.iter().map(|(_, written, ..)| written).sum::<i64>();
        let rows: i64 = totals.iter().map(|(rows, ..)| rows).sum();
        #[expect(clippy::cast_precision_loss, reason = "a report")]
        let per_row = |ns: u64| ns as f64 / 1000.0 / rows as f64;
        let of = |index: usize| per_row(totals.iter().map(|(_, _, cpu, _)| cpu[index]).sum());
        let ticks = |index: usize| per_row(totals.iter().map(|(_, _, _, ticks)| ticks[index] * 10_000_000).sum());
        let whole: u64 = totals.iter().flat_map(|(_, _, cpu, _)| cpu).sum();
        println!(
            "{workers} connection(s), share {share}: {} rows/s, own CPU {:.2} µs/row (begin+advance {:.2}, read {:.2}, write {:.2}, append {:.2}, commit {:.2}); thread with its loop: user {:.2}, kernel {:.2}",
            u64::try_from(rows).unwrap() / seconds.as_secs(),
            per_row(whole),
            of(0),
            of(1),
            of(2),
            of(3),
            of(4),
            ticks(0),
            ticks(1)
        );
        assert!(
            per_row(whole) < 10.0,
            "{:.2} µs of own CPU a row; 2.8 unoptimized when this was written",
            per_row(whole)
        );
    }
    assert_eq!(fixture.number("SELECT sum(version)::bigint FROM {u}.t"), all_written);
}
