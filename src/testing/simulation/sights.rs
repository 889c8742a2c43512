//! Sights of a run on its way, and all that it left behind, for the judge.

use crate::engine::outbound::message::{id_of, sequence_of};
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::flow::record::{NextOffset, Offset, Partition, TopicPartition};
use crate::flow::row::Value;
use crate::flow::timer::Clock;
use crate::ports::store::StoreId;
use crate::testing::judge::Finding;
use crate::testing::observed::{Event, Inside, Message, Observed, Progress, Standstill};
use crate::testing::simulation::Simulation;
use crate::testing::watch::{Application, Run};
use std::collections::BTreeMap;

impl Simulation {
    /// Compares its traces with the interpreter's result for the same records, see [`Observed::judge`]. Called after
    /// [`Simulation::finish`].
    #[must_use]
    pub fn judge(&mut self, refuses: &dyn Fn(&str, &mut BTreeMap<String, Value>) -> bool) -> Vec<Finding> {
        self.observed().judge(&self.topology, refuses)
    }

    /// The traces that it left behind. Called after [`Simulation::finish`].
    #[must_use]
    pub fn observed(&mut self) -> Observed {
        self.forgive_forgotten();
        self.events.sort_by_key(|(sequence, _)| *sequence);
        let mut rows = BTreeMap::new();
        for spec in self.topology.tables() {
            let found = self.driver.named_rows(&spec.table.name).into_iter();
            rows.extend(found.map(|(key, row)| ((spec.table.name.clone(), key), row)));
        }
        let mut log: BTreeMap<TopicPartition, Vec<Message>> = BTreeMap::new();
        for topic in self.driver.log().topics() {
            self.driver.log().each_record(&topic, &mut |partition, record| {
                let place = TopicPartition::new(topic.clone(), partition);
                log.entry(place).or_default().push(Message::of(record));
            });
        }
        let mut progress = BTreeMap::new();
        for place in self.progress.keys() {
            let decided = self.driver.decided_to(place);
            let committed = self.driver.log().committed(self.topology.name(), place).map(|found| found.next_offset);
            let published = self.driver.position_at(place).map(|position| position.published);
            let end = self.driver.log().bounds(place).map(|bounds| bounds.end);
            progress.insert(place.clone(), Progress { decided, committed, published, end });
        }
        let mut inside = self.inside();
        for (number, sub) in self.topology.sub_topologies().iter().enumerate() {
            for (spec, partition) in
                sub.stores.iter().flat_map(|spec| (0..self.shape.partitions).map(move |n| (spec, n)))
            {
                let id = StoreId { name: spec.name.clone(), partition: Partition(partition) };
                if let Some(found) = self.driver.kept(number, &id) {
                    inside.kept.insert((spec.name.to_string(), partition), found);
                }
            }
        }
        let halts = self.driver.standing().into_iter().map(standstill).collect();
        let (kafka, database) = (self.driver.log().open_transactions(), self.driver.database().open_transactions());
        let mut open = Vec::new();
        if kafka > 0 {
            open.push(format!("{kafka} Kafka transactions are open"));
        }
        if database > 0 {
            open.push(format!("{database} database transactions hold locks"));
        }
        Observed {
            partitions: self.shape.partitions,
            settings: self.shape.settings.clone(),
            limits: self.shape.limits.iter().cloned().collect(),
            now_ms: self.driver.now_ms(),
            first_rows: self.first_rows.clone(),
            made: self.driver.database().made(),
            events: self.events.iter().map(|(_, event)| event.clone()).collect(),
            handled: self.handled.clone(),
            died: self.applications.died(),
            thresholds: self.thresholds.clone(),
            struck: self.struck.clone(),
            forgotten: self.forgotten.clone(),
            must_halt: self.must_halt.union(&self.expected_halts).copied().collect(),
            rows,
            log,
            gone: self.held.iter().map(|(place, held)| (place.clone(), held.values().cloned().collect())).collect(),
            progress,
            halts,
            open,
            inside: Some(inside),
        }
    }

    /// Outbox, ledger, and observations on the way.
    fn inside(&mut self) -> Inside {
        let name = self.topology.name().to_owned();
        let outbox = self.driver.database().outbox(&name).into_iter().filter(|row| sequence_of(row).is_none());
        let outbox = outbox.map(|row| (row.source.clone(), row.destination.clone(), id_of(&name, &row))).collect();
        let ledger = self.driver.database().verdicts(&name).into_iter();
        let ledger = ledger.map(|line| ((line.source, line.source_offset), (line.outcome.into(), line.note))).collect();
        Inside { outbox, ledger, seen: self.seen.clone(), ended: self.driver.ended(), ..Inside::default() }
    }

    /// When each task's latest record was decided, as far as it has been looked at.
    fn decided_last(&self) -> BTreeMap<(usize, i32), u64> {
        let mut last = BTreeMap::new();
        for progress in self.progress.values() {
            let sequence = last.entry(progress.task).or_insert(0);
            *sequence = progress.sequence.max(*sequence);
        }
        last
    }

    /// Notes the records that the instance's steps were run over, and those decided since the last look.
    pub(super) fn look(&mut self, instance: usize) {
        // Whoever found such a row missing has to decide again. By now another worker may have changed it.
        for (table, key, row) in self.driver.came_first() {
            self.sequence += 1;
            self.events.push((self.sequence, Event::Placed { table, key, row: Some(row) }));
        }
        for Application { place, offset, now_ms, run } in self.applications.take() {
            self.sequence += 1;
            let Some(progress) = self.progress.get_mut(&place) else { continue };
            match run {
                Run::TakenUp => progress.taken.entry(offset).or_default().push((instance, self.sequence)),
                Run::Record => {
                    progress.applied.entry(offset).or_default().push((instance, self.sequence, now_ms));
                }
                Run::Timer(clock) => {
                    progress.turned.insert(offset, self.sequence);
                    if clock == Clock::Wall {
                        self.events.push((self.sequence, Event::Turned(place, offset, now_ms)));
                    }
                }
            }
        }
        let mut lines = Vec::new();
        let decided_before = self.decided_last();
        for (place, progress) in &mut self.progress {
            let Some(at) = self.driver.decided_to(place) else { continue };
            let from = progress.reached.unwrap_or(NextOffset(0));
            if Some(at) == progress.reached {
                continue;
            }
            progress.reached = Some(at);
            for offset in (from.0..at.0).map(Offset) {
                let applied = progress.applied.remove(&offset).unwrap_or_default();
                let own = applied.iter().rev().find(|(by, ..)| *by == instance).or(applied.last());
                if let Some((.., now_ms)) = own {
                    self.handled.insert((place.clone(), offset), *now_ms);
                }
                let taken = progress.taken.remove(&offset).unwrap_or_default();
                let taken = taken.iter().rev().find(|(by, _)| *by == instance).or(taken.last());
                // An offset that no code was run over was decided with the one before it, but behind the turns in front of it
                // and behind everything that its task had decided when it was looked at last.
                let turned = progress.turned.range(..=offset).map(|(_, sequence)| *sequence).max().unwrap_or(0);
                let before = decided_before.get(&progress.task).copied().unwrap_or(0);
                let unapplied = progress.sequence.max(turned).max(before);
                let applied = own.map(|(_, sequence, _)| *sequence);
                let sequence = applied.or(taken.map(|(_, sequence)| *sequence)).unwrap_or(unapplied);
                progress.sequence = sequence;
                self.events.push((sequence, Event::Decided(place.clone(), offset, own.is_some())));
            }
            lines.push(format!("  instance {instance}: {place} decided to {at}"));
        }
        for line in lines {
            self.note(|| line);
        }
        if self.driver.is_up(instance) {
            for halt in self.driver.standing_at(instance) {
                let is_excused = halt.reason == HaltReason::StoreUnwritable && self.broken_disks.contains(&instance);
                let halt = standstill(halt);
                if !is_excused && !self.seen.contains(&halt) {
                    self.seen.push(halt);
                }
            }
        }
    }
}

fn standstill(halt: Halt) -> Standstill {
    Standstill { source: halt.source, reason: halt.reason.label().into(), detail: halt.detail }
}
