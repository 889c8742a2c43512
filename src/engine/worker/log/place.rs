//! The place of one record in front of a step without rows, and the decision of the record there.

use crate::engine::outbound::limits::{AWAITS_LIMIT, Limit, Limits};
use crate::engine::outbound::message::{bytes_of, dead_letter, dead_letter_about, notice, sent_on};
use crate::engine::outbound::outgoing::Origin;
use crate::engine::outbound::publication::Outbound;
use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::event_time::Horizon;
use crate::engine::state::access::{Access, Trouble};
use crate::engine::state::stores::Keyed;
use crate::engine::status::Status;
use crate::engine::task::in_hand::Hand;
use crate::engine::worker::log::open_batch::OpenBatch;
use crate::engine::worker::log::tally::{Decisions, InPlace};
use crate::engine::worker::looks::Looks;
use crate::engine::worker::rows::record::RECORD_BYTES;
use crate::flow::algorithm::Context;
use crate::flow::effect::{Emission, Pane, Reject, Stepped};
use crate::flow::identity::{WINDOW_HEADER, span_of};
use crate::flow::key::{Key, KeyType, partition_for};
use crate::flow::net::in_net;
use crate::flow::partitioning::{Declared, KeyHash, OnViolation};
use crate::flow::reading::OnUnreadable;
use crate::flow::record::{Partition, Record, Timestamp, TopicName, TopicPartition, header_bytes};
use crate::flow::step::LogStep;
use crate::flow::store::StateAccess;
use crate::flow::topology::SubTopology;
use crate::flow::window::LATE;
use crate::ports::Fault;
use crate::ports::note::InHand;
use crate::ports::rows::{Counts, OutboxRow};
use crate::ports::sink::Message;
use crate::settings::engine::EngineSettings;
use std::sync::Arc;

/// One of this many re-keyed records is checked: whether it lay in its new key's partition already.
const SAMPLE: i64 = 16;

/// The terms that hold for every record.
pub(super) struct Terms<'a> {
    pub(super) pipeline: &'a str,
    pub(super) now: Timestamp,
    pub(super) horizon: Horizon,
    pub(super) settings: &'a EngineSettings,
    pub(super) limits: &'a Limits,
    /// The limits of the topics in which the step sends its records on.
    pub(super) sent_on_limits: Vec<Option<Arc<Limit>>>,
    pub(super) status: &'a Status,
    pub(super) hand: &'a Hand,
    pub(super) in_place: InPlace,
    pub(super) looks: Looks,
    pub(super) decisions: Decisions,
}

/// The place of one record.
pub(super) struct Place<'a> {
    pub(super) terms: &'a Terms<'a>,
    pub(super) sub: &'a SubTopology,
    pub(super) step: &'a dyn LogStep,
    pub(super) source: &'a TopicPartition,
    /// The record as the note for crashes names it.
    pub(super) at: InHand,
    /// Whether the source is kept as a table: the times of its records do not move the streams' time.
    pub(super) is_table: bool,
    /// The declaration of the partitioning of the record's topic.
    pub(super) declared: Option<&'a Declared>,
    /// The hash by which keys must be partitioned to meet, where nothing is declared and the step keeps something by
    /// key.
    pub(super) assumed: Option<&'a KeyHash>,
    pub(super) may_retry: bool,
    /// What comes of a record of the topic that cannot be read.
    pub(super) on_unreadable: OnUnreadable,
}

/// The messages that one record or timer leads to, as they go into the open batch.
struct Telling<'a> {
    record: &'a Record<'a>,
    /// The number of the first of them, and the place in the batch from which on they lie.
    first: i32,
    from: usize,
    /// Their bytes, and those of the record's copies.
    bytes: usize,
}

impl Telling<'_> {
    /// The number of the next message.
    fn seq(&self, open: &OpenBatch) -> i32 {
        self.first.saturating_add(i32::try_from(open.rows.len() - self.from).unwrap_or(i32::MAX))
    }
}

/// The outcome of one record.
pub(super) enum Verdict {
    Decided,
    /// It is offered again later.
    Later(String),
    /// The partition halts in front of it.
    Halt(HaltReason, String),
}

impl Place<'_> {
    pub(super) fn decide(
        &self,
        record: &Record<'_>,
        count: i32,
        keyed: Option<&mut Keyed>,
        open: &mut OpenBatch,
        counts: &mut Counts,
    ) -> Result<Verdict, Fault> {
        let is_outside = !self.is_table && !self.terms.horizon.allows(record.timestamp);
        if is_outside
            && keyed.as_deref().is_some_and(Keyed::is_timed)
            && let Err(reject) = self.terms.horizon.check(record.timestamp)
        {
            return Ok(self.rejected(record, reject, open, counts));
        }
        let mut keyed = keyed;
        let result = match self.check(record, count, open) {
            Ok(Some(verdict)) => return Ok(verdict), // sent on, which moves another task's clock, or a halt, which moves none
            Ok(None) => match self.run(record, count, keyed.as_deref_mut(), open, counts) {
                Ok(result) => result,
                Err(Trouble::Lack(message)) => return Ok(Verdict::Halt(HaltReason::UnknownStore, message)),
                Err(Trouble::Fault(fault)) => return Err(fault),
            },
            Err(reject) => Err(reject),
        };
        let verdict = match result {
            Ok(()) => Verdict::Decided,
            Err(reject) => self.rejected(record, reject, open, counts),
        };
        if let (Verdict::Decided, false, Some(keyed)) = (&verdict, self.is_table || is_outside, keyed) {
            keyed.advance(record.timestamp);
        }
        Ok(verdict)
    }

    /// Runs the step; the inner error is the record's fault, and none of its effects is left.
    fn run(
        &self,
        record: &Record<'_>,
        count: i32,
        keyed: Option<&mut Keyed>,
        open: &mut OpenBatch,
        counts: &mut Counts,
    ) -> Result<Result<(), Reject>, Trouble> {
        let rows = open.rows.len();
        let mut access = match keyed {
            None => Access::none(record.timestamp),
            Some(keyed) if self.is_table => keyed.open_beside(record.timestamp),
            Some(keyed) => keyed.open(record.timestamp),
        };
        let result = self
            .apply(record, &mut access)
            .and_then(|stepped| access.refusal().map_or(Ok(stepped), Err))
            .and_then(|stepped| self.take(record, stepped, 0, count, open, counts));
        open.sent_bytes += access.written_bytes(); // changelog records, which join the batch at its end
        if let Err(trouble) = access.end(result.is_ok()) {
            open.rows.truncate(rows);
            return Err(trouble);
        }
        Ok(result)
    }

    /// Checks the size, the deaths over the record and the source's declaration, before anything is decoded. A record in the
    /// wrong partition is sent on, where the declaration says so.
    fn check(&self, record: &Record<'_>, count: i32, open: &mut OpenBatch) -> Result<Option<Verdict>, Reject> {
        let (bytes, limit) = (record.value.map_or(0, <[u8]>::len), self.terms.settings.record_bytes_max);
        if bytes > limit {
            let message = format!("the value has {bytes} bytes, more than engine.record_bytes_max = {limit}");
            return Err(Reject::dead_letter("too-large", message));
        }
        self.terms.hand.check(self.at)?;
        let Some(declared) = self.declared else {
            if let (Some(hash), Some(key)) = (self.assumed.filter(|_| count > 1), record.key) {
                self.terms.looks.note(&self.source.topic, key, hash, count, self.source.partition);
            }
            return Ok(None);
        };
        let expected = declared.place(record.key)?;
        if expected == self.source.partition.0 {
            self.terms.in_place.note(&self.source.topic, record);
            return Ok(None);
        }
        self.terms.status.declared.violated(self.source, record.offset, expected);
        match declared.policy() {
            OnViolation::Warn => Ok(None),
            // A hash of the user's may name a partition that does not exist: sent there, the record would fail the
            // whole transaction.
            OnViolation::Repartition if (0..declared.count()).contains(&expected) => {
                // The repartition topic of such a source is its last companion.
                let Some(destination) = self.sub.companions.last() else { return Ok(None) };
                let limit = self.terms.limits.of(destination);
                let key = record.key.unwrap_or_default();
                fits(bytes_sent_on(record), key, limit.as_deref())?;
                self.send_on(record, destination, Some(Partition(expected)), Some(key), open);
                Ok(Some(Verdict::Decided))
            }
            OnViolation::Stop | OnViolation::Repartition => {
                Ok(Some(Verdict::Halt(HaltReason::WronglyKeyed, declared.violation(record.offset, expected))))
            }
        }
    }

    /// The key of a record as the step sees it.
    pub(super) fn key(&self, record: &Record<'_>) -> Result<Key, Reject> {
        match self.step.key_type() {
            Some(key_type) => key_type.parse(record.key),
            None => Ok(KeyType::Text.parse(record.key).unwrap_or_else(|_| Key::from(""))),
        }
    }

    fn apply(&self, record: &Record<'_>, state: &mut Access<'_>) -> Result<Stepped, Reject> {
        let key = self.key(record)?;
        let mut context = self.context(record, &key, state);
        in_net(|| self.step.apply(record, &mut context))
    }

    /// The context of the step over a record with the key that it reads there.
    pub(super) fn context<'a>(&'a self, record: &Record<'a>, key: &'a Key, state: &'a mut Access<'_>) -> Context<'a> {
        Context {
            topic: &self.source.topic,
            partition: self.source.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            headers: record.headers,
            now: self.terms.now,
            latest: self.terms.horizon.latest(),
            key,
            record_key: record.key,
            state: Some(state as &mut dyn StateAccess),
            timer: None,
        }
    }

    /// Takes the outputs of the step into the open batch, all of them or none. The first notice has the number `first`.
    pub(super) fn take(
        &self,
        record: &Record<'_>,
        stepped: Stepped,
        first: i32,
        count: i32,
        open: &mut OpenBatch,
        counts: &mut Counts,
    ) -> Result<(), Reject> {
        let (rows, copied) = (open.rows.len(), self.fit_all(record, &stepped)?);
        let Stepped { emissions, sent_on, is_late, panes } = stepped;
        let mut telling = Telling { record, first, from: rows, bytes: copied };
        let told = self.tell(&mut telling, emissions, open);
        let lost = told.and_then(|()| self.tell_panes(&mut telling, panes, open));
        let lost = lost.inspect_err(|_| open.rows.truncate(rows))?;
        open.sent_bytes += telling.bytes - copied;
        counts.late += i64::from(is_late);
        counts.dead_letters += lost;
        counts.announced += i64::try_from(open.rows.len() - rows).unwrap_or(i64::MAX) - lost;
        for destination in self.sub.sent_on_to() {
            for key in sent_on.iter() {
                if record.offset.0 % SAMPLE == 0
                    && let Some(key) = key.filter(|_| self.sub.rekeys.is_some())
                {
                    let was_there = partition_for(key, count) == self.source.partition.0;
                    self.terms.status.shuffles.sampled(&self.source.topic, was_there);
                }
                self.send_on(record, destination, None, key, open);
            }
        }
        Ok(())
    }

    /// Takes notices into the open batch, all of them or none.
    fn tell(&self, telling: &mut Telling<'_>, emissions: Vec<Emission>, open: &mut OpenBatch) -> Result<(), Reject> {
        let (rows, mut all, record) = (open.rows.len(), telling.bytes, telling.record);
        for emission in emissions {
            let row = notice(self.source, 0, record, 0, emission, None, self.terms.now);
            let row = OutboxRow { seq: telling.seq(open), ..row };
            let bytes = bytes_of(self.terms.pipeline, &row);
            all += bytes;
            let fits = self.terms.limits.check(&row.destination, bytes, "a notice");
            if let Err(reject) = fits.and_then(|()| if all > RECORD_BYTES { Err(too_much(all)) } else { Ok(()) }) {
                open.rows.truncate(rows);
                return Err(reject);
            }
            open.rows.push(Outbound { row, input_at: Some(record.timestamp) });
        }
        telling.bytes = all;
        Ok(())
    }

    /// Takes the notices of panes. A pane that cannot be told is a dead letter of its own; answers how many are.
    ///
    /// # Errors
    /// A limit must be asked for first: the record is offered again.
    fn tell_panes(&self, telling: &mut Telling<'_>, panes: Vec<Pane>, open: &mut OpenBatch) -> Result<i64, Reject> {
        let mut lost = 0;
        for pane in panes {
            let span = span_of(pane.start_ms, pane.end_ms);
            match pane.told.and_then(|emissions| self.tell(telling, emissions, open)) {
                Ok(()) => {}
                Err(reject @ Reject::Retry { .. }) => return Err(reject),
                Err(reject) => {
                    let Terms { pipeline, limits, now, .. } = self.terms;
                    let about = (telling.record, &[(WINDOW_HEADER, &*span)][..]);
                    let seq = telling.seq(open);
                    let row = dead_letter_about(pipeline, limits, (self.source, 0), about, &reject, seq, *now);
                    telling.bytes += bytes_of(pipeline, &row);
                    open.rows.push(Outbound { row, input_at: Some(telling.record.timestamp) });
                    lost += 1;
                }
            }
        }
        Ok(lost)
    }

    /// Checks whether the record may be sent on under all of its keys, before the first copy is sent. Answers the
    /// bytes of the copies.
    fn fit_all(&self, record: &Record<'_>, stepped: &Stepped) -> Result<usize, Reject> {
        let limits = &self.terms.sent_on_limits;
        if limits.is_empty() {
            return Ok(0);
        }
        let (bytes, mut all) = (bytes_sent_on(record), 0);
        for limit in limits {
            for key in stepped.sent_on.iter() {
                all += fits(bytes, key.unwrap_or_default(), limit.as_deref())?;
            }
        }
        if all > RECORD_BYTES { Err(too_much(all)) } else { Ok(all) }
    }

    /// Sends the record as it is to another topic under `key`, without those of its headers that would be read as
    /// Tidegate's there.
    fn send_on(
        &self,
        record: &Record<'_>,
        destination: &TopicName,
        partition: Option<Partition>,
        key: Option<&[u8]>,
        open: &mut OpenBatch,
    ) {
        let headers = sent_on(record.headers);
        let message = Message {
            destination,
            partition,
            key,
            value: record.value,
            headers: &headers,
            timestamp: Some(record.timestamp),
            is_tracked: false,
        };
        open.outgoing.push(Origin { source: self.source, offset: record.offset }, &message);
    }

    fn rejected(&self, record: &Record<'_>, reject: Reject, open: &mut OpenBatch, counts: &mut Counts) -> Verdict {
        let is_late = self.sub.gathers.is_some() && reject.code() == LATE;
        match reject {
            Reject::Skip { .. } => counts.skipped += 1,
            Reject::Retry { code, .. } if self.may_retry || code == AWAITS_LIMIT => {
                return Verdict::Later(code.into_owned());
            }
            reject @ Reject::Unreadable { .. } if self.on_unreadable == OnUnreadable::Halt => {
                return Verdict::Halt(HaltReason::Unreadable, reject.told_of(record.offset));
            }
            reject @ Reject::Unreadable { .. } if self.on_unreadable == OnUnreadable::Skip => {
                self.terms.status.skip_unreadable(self.source, record.offset, &reject);
                counts.skipped += 1;
            }
            reject => {
                let Terms { pipeline, limits, now, .. } = self.terms;
                let row = dead_letter(pipeline, limits, self.source, 0, record, &reject, *now);
                open.sent_bytes += bytes_of(pipeline, &row);
                open.rows.push(Outbound { row, input_at: Some(record.timestamp) });
                counts.dead_letters += 1;
            }
        }
        counts.late += i64::from(is_late);
        Verdict::Decided
    }
}

/// The bytes of a record that is sent on, without a key.
fn bytes_sent_on(record: &Record<'_>) -> usize {
    record.value.map_or(0, <[u8]>::len) + header_bytes(&sent_on(record.headers))
}

/// The bytes of a record that is sent on under `key`, given those of the rest.
///
/// # Errors
/// [`Limit::check`]'s, where they are more than `limit`.
fn fits(rest: usize, key: &[u8], limit: Option<&Limit>) -> Result<usize, Reject> {
    let bytes = key.len() + rest;
    limit.map_or(Ok(()), |limit| limit.check(bytes, "a record"))?;
    Ok(bytes)
}

/// The rejection of a record with too many bytes of outputs: they must fit into one transaction.
fn too_much(bytes: usize) -> Reject {
    let message = format!("notices and copies of {bytes} bytes in all, more than {RECORD_BYTES}");
    Reject::dead_letter("too-large", message)
}
