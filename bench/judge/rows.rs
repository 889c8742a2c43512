//! One job: rows, outputs and offsets of W1, against the seed.

use super::offsets;
use crate::Outcome;
use crate::load::{Input, Notice, change, first_value, threshold};
use crate::rig::reading::read_whole;
use crate::rig::tables::Connection;
use crate::rig::topics::PARTITIONS;
use rdkafka::message::{Headers, Message};
use std::collections::HashSet;

/// Rows fetched at once.
const PAGE: i64 = 100_000;

/// The conditions that must hold after a run.
pub struct Case<'a> {
    pub brokers: &'a str,
    pub database: &'a str,
    pub input: &'a Input,
    pub output: &'a str,
    pub share: f64,
    /// The group whose offsets must stand at the ends of the input; `None` for one that commits them by a timer.
    pub group: Option<&'a str>,
}

/// The facts found, all as they must be.
pub struct Verdict {
    pub messages: usize,
}

/// One row's life by the seed: it changes `count` times.
#[derive(Clone, Copy)]
struct Life {
    count: i64,
    n: i64,
    v: f64,
}

impl Life {
    /// Lives on until a change that is published; answers its number and size. `None` when it has none left.
    fn next_notice(&mut self, id: i64, threshold: f64) -> Option<(i64, f64)> {
        while self.n < self.count {
            let (n, change) = (self.n, change(id, self.v));
            self.n += 1;
            self.v += change;
            if change >= threshold {
                return Some((n, change));
            }
        }
        None
    }
}

/// Judges a run.
///
/// # Errors
/// The first thing found wrong.
pub fn judge(case: &Case<'_>) -> Outcome<Verdict> {
    let rows = usize::try_from(case.input.rows)?;
    let mut lives: Vec<Life> = (1..=case.input.rows).map(|id| Life { count: 0, n: 0, v: first_value(id) }).collect();
    assert_eq!(lives.len(), rows);
    for id in case.input.ids() {
        lives[usize::try_from(id)? - 1].count += 1;
    }
    let messages = outputs(case, &mut lives)?;
    // Every life has now been lived to its last notice; the rest of it publishes nothing.
    for (id, life) in (1..).zip(&mut lives) {
        if let Some((n, _)) = life.next_notice(id, threshold(case.share)) {
            return Err(format!("judge: change {n} of row {id} was not announced").into());
        }
    }
    rows_of(case, &lives)?;
    if let Some(group) = case.group {
        at_ends(case, group)?;
    }
    Ok(Verdict { messages })
}

/// Each published change once, in the order of the row's changes.
fn outputs(case: &Case<'_>, lives: &mut [Life]) -> Outcome<usize> {
    let mut messages = 0;
    let mut ids: HashSet<Vec<u8>> = HashSet::new();
    read_whole(case.brokers, case.output, 0..PARTITIONS, |message| {
        let notice: Notice = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let id = notice.id;
        let found = format!("judge: output {}-{}", message.partition(), message.offset());
        let life = usize::try_from(id - 1).ok().and_then(|index| lives.get_mut(index));
        let life = life.ok_or_else(|| format!("{found}: there is no row {id}"))?;
        match life.next_notice(id, threshold(case.share)) {
            // JSON's numbers are read to the last digit but one.
            Some((n, change)) if n == notice.n && (change - notice.change).abs() < 1e-12 => {}
            expected => {
                let found = format!("{found} announces change {} ({}) of row {id}", notice.n, notice.change);
                return Err(format!("{found}, where {expected:?} is due").into());
            }
        }
        if message.key() != Some(id.to_string().as_bytes()) {
            return Err(format!("{found}: its key is not {id}").into());
        }
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == "tg_id"));
        if let Some(value) = header.and_then(|header| header.value)
            && !ids.insert(value.to_vec())
        {
            return Err(format!("{found}: its id {} is there twice", String::from_utf8_lossy(value)).into());
        }
        messages += 1;
        Ok(())
    })?;
    Ok(messages)
}

/// Each row as changed once by each of its notifications.
fn rows_of(case: &Case<'_>, lives: &[Life]) -> Outcome {
    let connection = Connection::open(case.database)?;
    let select = "SELECT id, v, n, version FROM bench_rows WHERE id > $1 AND id <= $2 ORDER BY id";
    let select = connection.wait(connection.client.prepare(select))?;
    let mut expected = (1..).zip(lives);
    for from in (0..case.input.rows).step_by(usize::try_from(PAGE)?) {
        let page = connection.wait(connection.client.query(&select, &[&from, &(from + PAGE)]))?;
        for row in &page {
            let (id, v, n, version): (i64, f64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
            let (due, life) = expected.next().ok_or("judge: rows appeared")?;
            if id != due || n != life.count || version != life.count || v.to_bits() != life.v.to_bits() {
                let found = format!("judge: row {id} has n {n}, version {version}, v {v}");
                return Err(format!("{found}; row {due} must have n {} and v {}", life.count, life.v).into());
            }
        }
    }
    if expected.next().is_some() { Err("judge: rows vanished".into()) } else { Ok(()) }
}

/// The group's offsets at the ends of the input.
fn at_ends(case: &Case<'_>, group: &str) -> Outcome {
    let ends = offsets::ends(case.brokers, &case.input.topic, PARTITIONS)?;
    offsets::compare(case.brokers, group, &case.input.topic, &ends)?;
    if ends.iter().sum::<i64>().unsigned_abs() == case.input.records {
        Ok(())
    } else {
        Err("judge: the input is not whole".into())
    }
}
