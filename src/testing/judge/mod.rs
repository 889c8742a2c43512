//! Holds the traces of the engine against the naive interpreter's result for the same records.

mod actual;
mod database;
mod finding;
mod message;
mod progress;
mod rows;
mod scope;
mod stores;
mod topics;
mod turns;

pub use finding::{Finding, KINDS};

use crate::flow::record::TopicPartition;
use crate::flow::row::Value;
use crate::flow::topology::Topology;
use crate::testing::interpreter::{Interpreter, Refuses};
use crate::testing::judge::finding::{Findings, Wrong};
use crate::testing::judge::turns::Turns;
use crate::testing::observed::{Event, Message, Observed};
use std::collections::BTreeMap;

/// Bound of the interpreter for event times ahead of the clock: schedules keep clear of the engine's own bound.
const AHEAD_MS: i64 = 3_600_000;

impl Observed {
    /// Compares rows, messages, stores, offsets and halts with the interpreter's result for the same records. The
    /// topology's steps are those of the run, once nothing asks to be offered again any more. `refuses` gets a table
    /// and a row's values as they are written, changes them as the table would, and answers whether the table refuses
    /// them then.
    #[must_use]
    pub fn judge(
        &self,
        topology: &Topology,
        refuses: &dyn Fn(&str, &mut BTreeMap<String, Value>) -> bool,
    ) -> Vec<Finding> {
        let mut findings = Findings(Vec::new());
        let mut interpreter = Interpreter {
            topology,
            settings: &self.settings,
            partitions: self.partitions,
            limits: &self.limits,
            refuses: refuses as Refuses<'_>,
            made: &self.made,
            blamed: self.blamed(topology),
            latest_event_time: self.now_ms + AHEAD_MS,
            now_ms: None,
            rows: self.first_rows.clone(),
            stores: BTreeMap::new(),
            out: Vec::new(),
            halts: Vec::new(),
            is_everlasting: false,
        };
        for (name, value) in &self.thresholds {
            set_threshold(topology, name, *value);
        }
        self.interpret(&mut interpreter, &mut findings);
        self.judge_rows(topology, &interpreter.rows, &mut findings);
        self.judge_more_rows(topology, &interpreter.rows, &mut findings);
        self.judge_messages(topology, &interpreter.out, &mut findings);
        self.judge_stores(topology, &interpreter.stores, &mut findings);
        self.judge_progress(topology, &mut findings);
        self.judge_halts(&interpreter, &mut findings);
        self.judge_database(topology, &interpreter.out, &mut findings);
        for open in &self.open {
            findings.add(Wrong::OpenTransaction, open);
        }
        findings.0
    }

    /// Every decided record, one by one, in the order in which the engine decided.
    fn interpret(&self, interpreter: &mut Interpreter<'_>, findings: &mut Findings) {
        let mut last: BTreeMap<(TopicPartition, Option<Vec<u8>>), i64> = BTreeMap::new();
        let written = interpreter.topology.outputs();
        let mut turns = Turns::of(self, interpreter.topology);
        for event in &self.events {
            match event {
                Event::Written { table, key, column, value } => {
                    if let Some(row) = interpreter.rows.get_mut(&(table.clone(), key.clone())) {
                        row.values.insert(column.clone(), value.clone());
                    }
                }
                Event::Placed { table, key, row } => {
                    let place = (table.clone(), key.clone());
                    match row {
                        Some(row) => drop(interpreter.rows.insert(place, row.clone())),
                        None => drop(interpreter.rows.remove(&place)),
                    }
                }
                Event::Threshold { name, value } => set_threshold(interpreter.topology, name, *value),
                Event::EverLasting => interpreter.release_everlasting(),
                Event::Turned(place, offset, at_ms) => {
                    if !self.is_struck(interpreter.topology, &place.topic) {
                        let turns = turns.seen(place, *offset, *at_ms);
                        for turn in &turns {
                            interpreter.turn(place, turn);
                        }
                    }
                }
                Event::Decided(place, offset, is_applied) => {
                    if self.is_struck(interpreter.topology, &place.topic) {
                        continue;
                    }
                    let find = |log: &BTreeMap<TopicPartition, Vec<Message>>| {
                        let inputs = log.get(place)?;
                        let at = inputs.binary_search_by_key(offset, |input| input.offset).ok()?;
                        inputs.get(at).cloned()
                    };
                    let Some(input) = find(&self.log).or_else(|| find(&self.gone)) else {
                        turns.pass(place, *offset);
                        interpreter.pass(place);
                        // Ends of transactions, and aborted attempts, take offsets in topics that the pipeline writes.
                        if !written.contains(&place.topic) {
                            findings
                                .add(Wrong::Progress, format!("{place}: {offset} was decided, and nothing lies there"));
                        }
                        continue;
                    };
                    turns.in_front_of(place, *offset).iter().for_each(|(source, turn)| interpreter.turn(source, turn));
                    let key = is_applied.then(|| (place.clone(), input.key.clone()));
                    let before = key.and_then(|key| last.insert(key, offset.0));
                    if before.is_some_and(|before| before >= offset.0) {
                        findings.add(
                            Wrong::Order,
                            format!("{place}: offset {offset} was decided behind {before:?} of its key"),
                        );
                    }
                    interpreter.now_ms = self.handled.get(&(place.clone(), *offset)).copied();
                    interpreter.take(place, &input);
                }
            }
        }
        for (source, turn) in turns.rest() {
            if !self.is_struck(interpreter.topology, &source.topic) {
                interpreter.turn(&source, &turn);
            }
        }
        for (place, offset) in &interpreter.halts {
            findings
                .add(Wrong::WronglyKeyed, format!("{place}: offset {offset} was decided, and ought to have halted"));
        }
    }
}

fn set_threshold(topology: &Topology, name: &str, value: f64) {
    if let Some(threshold) = topology.thresholds().iter().find(|threshold| threshold.name() == name) {
        threshold.set(value);
    }
}
