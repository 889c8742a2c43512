//! The acts of a schedule, done to the world.

use crate::adapters::memory::SinkFault;
use crate::engine::protocol::order::{Step, TAKEOVER, THROUGH_DATABASE, THROUGH_LOG};
use crate::flow::key::Key;
use crate::flow::record::{Header, TopicPartition};
use crate::flow::topology::SubTopology;
use crate::testing::driver::{Sent, TestDriver};
use crate::testing::observed::{Event, Message, Row};
use crate::testing::simulation::Simulation;
use crate::testing::simulation::schedule::{Act, Disaster, FAILURES, Failure, Sending};
use crate::testing::watch::watched;
use std::time::Duration;

impl Simulation {
    /// The calls of producers that were to fail and were never made, and how many COMMITs.
    pub fn unmet(&mut self) -> (Vec<Failure>, usize) {
        let faults = self.driver.log().unmet_faults();
        let is_of = |failure: &Failure, fault| sink_fault(*failure) == fault;
        let failure = |fault: SinkFault| FAILURES.into_iter().find(|failure| is_of(failure, fault));
        (faults.into_iter().filter_map(failure).collect(), self.driver.database().unmet_faults())
    }

    /// Does one thing.
    ///
    /// # Errors
    /// A sentence, where the engine panicked.
    ///
    /// # Panics
    /// On an act that names a thing that does not exist.
    pub fn act(&mut self, act: &Act) -> Result<(), String> {
        self.note(|| format!("{act:?}"));
        match act {
            Act::Turns(turns) => {
                for _ in 0..*turns {
                    self.round()?;
                }
            }
            Act::Pass(ms) => self.driver.pass(Duration::from_millis(*ms)),
            Act::Send(sending) => self.send(sending),
            Act::Write(table, key, column, value) => self.write(table, key, column, value),
            Act::Insert(table, key, row) => self.insert(table, key, row, false),
            Act::InsertFirst(table, key, row) => self.insert(table, key, row, true),
            Act::Delete(table, key) => {
                if let Some(key) = self.driver.key_called(table, key)
                    && self.driver.remove(table, &key)
                {
                    self.note_placed(table, key);
                }
            }
            Act::Crash(step, nth) => self.driver.crash_at(step_called(step), *nth),
            Act::Kill(instance) => self.driver.kill(*instance),
            Act::Stop(instance) => self.guarded(*instance, TestDriver::stop_or_die)?,
            Act::Start(instance) => {
                if *instance >= self.driver.instance_count() {
                    self.expected_halts.clear(); // its disk remembers nothing
                }
                if !self.driver.is_up(*instance) {
                    self.driver.try_start(*instance);
                }
            }
            Act::Freeze(instance) => self.driver.freeze(*instance),
            Act::Thaw(instance) => self.driver.thaw(*instance),
            Act::Zombie(instance, turns) => {
                for _ in 0..*turns {
                    self.guarded(*instance, |driver, instance| drop(driver.step_workers(instance)))?;
                }
            }
            Act::LoseDisk(instance) => {
                if !self.driver.is_up(*instance) {
                    self.expected_halts.clear();
                    self.driver.disk(*instance).lose();
                }
            }
            Act::CommitFails => self.driver.database().fail_next_commit(),
            Act::CommitAnswerLost(is_applied) => self.driver.database().fail_next_commit_unknown(*is_applied),
            Act::OutboxReadFails(nth) => self.driver.database().fail_outbox_read(*nth),
            Act::DatabaseDown(is_down) => self.driver.database().set_down(*is_down),
            Act::Fail(failure) => self.driver.log().fail_next(sink_fault(*failure)),
            Act::StartsFail(count) => self.driver.log().fail_next_starts(*count),
            Act::EverLasting => self.release_everlasting()?,
            Act::Expire(nth) => {
                let group = self.topology.name().to_owned();
                let members = self.driver.log().members(&group);
                if let Some(member) = members.get(nth % members.len().max(1)) {
                    self.driver.log().expire_member(&group, member);
                }
            }
            Act::DiskFull(instance, is_full) => {
                self.broken_disks.insert(*instance);
                self.driver.disk(*instance).fill(*is_full);
            }
            Act::DiskBlocked(instance, is_blocked) => {
                self.broken_disks.insert(*instance);
                self.driver.disk(*instance).block(*is_blocked);
            }
            Act::Threshold(name, value) => self.set_threshold(name, *value),
            Act::Disaster(disaster) => {
                self.expected_halts.clear(); // the traces to be seen may be covered up
                if matches!(disaster, Disaster::OffsetBack(..) | Disaster::ChangelogCut(..)) {
                    self.stop_all()?;
                }
                self.keep_inputs();
                self.strike(disaster, false);
            }
            Act::Living(disaster) => {
                self.was_living = true;
                self.expected_halts.clear();
                self.keep_inputs();
                self.strike(disaster, true);
            }
            Act::LateCommits => {
                self.must_halt.clear(); // an offset may have come back
                self.expected_halts.clear();
                self.driver.log().deliver_commits();
                self.look(usize::MAX);
            }
        }
        Ok(())
    }

    /// Every instance leaves politely; those that fail on the way are dead.
    fn stop_all(&mut self) -> Result<(), String> {
        (0..self.driver.instance_count()).try_for_each(|instance| self.guarded(instance, TestDriver::stop_or_die))
    }

    fn release_everlasting(&mut self) -> Result<(), String> {
        self.stop_all()?;
        self.driver.release(watched(self.topology.clone(), &self.applications).everlasting());
        self.sequence += 1;
        self.events.push((self.sequence, Event::EverLasting));
        // Nothing that is decided from now on was decided before, also where no step will be run over it.
        self.progress.values_mut().for_each(|progress| progress.sequence = self.sequence);
        for instance in 0..self.driver.instance_count() {
            self.driver.try_start(instance);
        }
        Ok(())
    }

    fn keep_inputs(&mut self) {
        let held = &mut self.held;
        for topic in self.topology.sub_topologies().iter().flat_map(SubTopology::sources) {
            self.driver.log().each_record(topic, &mut |partition, record| {
                let place = TopicPartition::new(topic.clone(), partition);
                held.entry(place).or_default().entry(record.offset).or_insert_with(|| Message::of(record));
            });
        }
    }

    pub(in crate::testing) fn back_up(&mut self) {
        self.backup = Some(self.driver.database().snapshot());
    }

    /// Sets the database back, if it was backed up.
    pub(in crate::testing) fn restore_backup(&mut self) -> bool {
        let Some(backup) = &self.backup else { return false };
        self.driver.database().restore(backup);
        true
    }

    fn set_threshold(&mut self, name: &str, value: i64) {
        let Some(threshold) = self.topology.thresholds().iter().find(|threshold| threshold.name() == name) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "a drawn number is small")]
        let value = value as f64;
        threshold.set(value);
        self.sequence += 1;
        self.events.push((self.sequence, Event::Threshold { name: name.into(), value }));
    }

    fn send(&mut self, sending: &Sending) {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        let header = |(name, value): &(String, Option<String>)| Header { name: name.clone(), value: bytes(value) };
        let sent = Sent {
            partition: sending.partition.map(|partition| partition.rem_euclid(self.shape.partitions)),
            key: bytes(&sending.key),
            value: bytes(&sending.value),
            headers: sending.headers.iter().map(header).collect(),
            timestamp_ms: Some(self.driver.now_ms().saturating_add(sending.after_ms)),
        };
        self.driver.send_record(&sending.topic, sent);
    }

    fn insert(&mut self, table: &str, key: &str, row: &str, is_first: bool) {
        let Some(key) = self.driver.key_called(table, key) else { return };
        if self.driver.insert_by_name(table, &key, row, is_first) {
            self.note_placed(table, key);
        }
    }

    /// Notes a row that somebody else has inserted or deleted.
    fn note_placed(&mut self, table: &str, key: Key) {
        let found = self.driver.named_row(table, &key);
        let row = found.map(|(version, values)| Row { version, values: values.into_iter().collect() });
        self.sequence += 1;
        self.events.push((self.sequence, Event::Placed { table: table.into(), key, row }));
    }

    fn write(&mut self, table: &str, key: &str, column: &str, value: &str) {
        let found = self.first_rows.keys().find(|(own, own_key)| own == table && own_key.to_string() == key);
        let Some((_, key)) = found.cloned() else { return };
        if self.driver.write_column(table, &key, column, value) {
            self.sequence += 1;
            let Some(value) = self.driver.column_value(table, column, value) else { return };
            let (table, column) = (table.into(), column.into());
            self.events.push((self.sequence, Event::Written { table, key, column, value }));
        }
    }
}

fn step_called(name: &str) -> Step {
    let steps = TAKEOVER.iter().chain(&THROUGH_DATABASE).chain(&THROUGH_LOG);
    steps.copied().find(|step| format!("{step:?}") == name).unwrap_or_else(|| panic!("there is no commit step {name}"))
}

const fn sink_fault(failure: Failure) -> SinkFault {
    match failure {
        Failure::Begin => SinkFault::Begin,
        Failure::Send => SinkFault::Send,
        Failure::Flush => SinkFault::Flush,
        Failure::Offsets => SinkFault::Offsets,
        Failure::Commit => SinkFault::Commit { is_applied: false },
        Failure::CommitAnswer => SinkFault::Commit { is_applied: true },
        Failure::Taint => SinkFault::Taint,
        Failure::Renew => SinkFault::Renew,
    }
}
