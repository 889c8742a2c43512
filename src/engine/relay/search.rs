//! Finds the message that its topic refuses for good, among those of a publication that was refused.
//!
//! A search changes nothing: it sends only in transactions that are aborted.

use crate::engine::outbound::limits::Limits;
use crate::engine::outbound::message::{bytes_of, dead_letter, dead_letter_for, is_dead_letter, send_row};
use crate::engine::outbound::publication::{Outbound, Publication};
use crate::engine::relay::producers::Producers;
use crate::flow::effect::Reject;
use crate::flow::record::{Offset, Record, Timestamp, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::ports::Fault;
use crate::ports::rows::OutboxRow;
use crate::ports::sink::{Message, Sink, SizeLimit};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// The number of portions of one trial: each portion costs a round trip, each trial a producer.
const PORTIONS: usize = 32;

/// The number of times in a row that a task's very first message may be found refused, before anything of it is
/// published: where no message is taken at all the topic is to blame, and a person has to mend it.
pub(super) const FIRST_REFUSED_MAX: u32 = 3;

/// The searches for the refused messages of a task, since it last published.
#[derive(Default)]
pub(crate) struct Searches {
    /// The number of searches in a row that blamed the first message.
    pub(crate) first_refused: u32,
    /// Whether the last search found nothing.
    pub(crate) found_nothing: bool,
}

/// The result of a search.
pub(crate) enum Found {
    Nothing,
    /// The search came to no end, since the log answered otherwise than with a refusal.
    Interrupted(String),
    /// Messages above the limits of their topics.
    Large(Vec<(Place, OutboxRow)>),
    /// A message that is refused although it is sent alone; `is_first` where none before it was taken.
    Refused {
        dead_letter: (Place, OutboxRow),
        is_first: bool,
    },
}

impl Searches {
    /// Notes another search. True when it is time to give up.
    pub(crate) fn note(&mut self, found: &Found) -> bool {
        if matches!(found, Found::Interrupted(_)) {
            return false;
        }
        let had_found_nothing = std::mem::replace(&mut self.found_nothing, matches!(found, Found::Nothing));
        self.first_refused =
            if matches!(found, Found::Refused { is_first: true, .. }) { self.first_refused + 1 } else { 0 };
        self.first_refused >= FIRST_REFUSED_MAX || (had_found_nothing && self.found_nothing)
    }
}

/// The answer to messages that were sent in a transaction that is aborted.
enum Trial {
    /// None of them is to blame.
    Taken,
    /// This portion was refused, with the reason.
    Refused(Range<usize>, String),
    /// The log answered otherwise: nothing is known of them.
    Interrupted(String),
}

/// The place of a message in a publication.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Among its rows.
    Row(usize),
    /// Among the records that a step without rows sends on.
    SentOn(usize),
}

/// A message that may be refused.
struct Suspect<'a> {
    place: Place,
    source: &'a TopicPartition,
    what: What<'a>,
}

enum What<'a> {
    Notice(&'a OutboxRow),
    SentOn(Offset, Message<'a>),
}

impl Suspect<'_> {
    const fn destination(&self) -> &TopicName {
        match &self.what {
            What::Notice(row) => &row.destination,
            What::SentOn(_, message) => message.destination,
        }
    }

    fn bytes(&self, pipeline: &str) -> usize {
        match &self.what {
            What::Notice(row) => bytes_of(pipeline, row),
            What::SentOn(_, message) => message.bytes(),
        }
    }

    fn send(&self, sink: &mut dyn Sink, pipeline: &str) -> Result<(), Fault> {
        match &self.what {
            What::Notice(row) => send_row(sink, pipeline, row),
            What::SentOn(_, message) => sink.send(message),
        }
    }

    fn dead_letter(&self, pipeline: &str, limits: &Limits, cause: &str, publication: &Publication) -> OutboxRow {
        let (offset, message) = match &self.what {
            What::Notice(row) => return dead_letter_for(pipeline, limits, row, cause),
            What::SentOn(offset, message) => (*offset, message),
        };
        let timestamp = message.timestamp.unwrap_or(Timestamp(0));
        let (key, value, headers) = (message.key, message.value, message.headers);
        let record = Record { offset, timestamp, key, value, headers };
        let reject = Reject::dead_letter("refused", format!("{}: {cause}", message.destination));
        let dead_letter = dead_letter(pipeline, limits, self.source, 0, &record, &reject, timestamp);
        // Behind the notices of the same input.
        let is_of_it =
            |outbound: &&Outbound| outbound.row.source == *self.source && outbound.row.source_offset == offset;
        let seq = publication.rows.iter().filter(is_of_it).count();
        OutboxRow { seq: i32::try_from(seq).unwrap_or(i32::MAX), ..dead_letter }
    }
}

/// Searches with the producers of a worker, which have nothing open.
pub(crate) struct Search<'a> {
    pub(crate) producers: &'a mut Producers,
    pub(crate) pipeline: &'a str,
}

impl Search<'_> {
    /// The current limits of the topics that the publication may write, without those that cannot be asked for.
    pub(crate) fn limits_of(&mut self, publication: &Publication) -> HashMap<TopicName, SizeLimit> {
        let mut topics = BTreeSet::new();
        for suspect in publication.suspects() {
            topics.insert(suspect.destination().clone());
            topics.insert(Topology::dead_letter_topic(&suspect.source.topic));
        }
        topics
            .into_iter()
            .filter_map(|topic| Some((topic.clone(), self.producers.sink.message_bytes_max(&topic).ok()?)))
            .collect()
    }

    /// Finds the messages of `publication` that are to blame, in transactions that are aborted.
    ///
    /// # Errors
    /// `Fatal` of the producer.
    pub(crate) fn find(&mut self, publication: &Publication, limits: &Limits) -> Result<Found, Fault> {
        let pipeline = self.pipeline;
        let dead_letter = |suspect: &Suspect<'_>, cause: &str| {
            (suspect.place, suspect.dead_letter(pipeline, limits, cause, publication))
        };
        let suspects = publication.suspects();
        let large = suspects.iter().filter_map(|suspect| {
            let told = limits.check(suspect.destination(), suspect.bytes(pipeline), "a message").err()?;
            Some(dead_letter(suspect, told.message()))
        });
        let large: Vec<_> = large.collect();
        if !large.is_empty() {
            return Ok(Found::Large(large));
        }
        let mut range = 0..suspects.len();
        while !range.is_empty() {
            match self.try_portions(&suspects, range)? {
                Trial::Refused(found, cause) if found.len() == 1 => {
                    let Some(suspect) = suspects.get(found.start) else { break };
                    return Ok(Found::Refused {
                        dead_letter: dead_letter(suspect, &cause),
                        is_first: found.start == 0,
                    });
                }
                Trial::Refused(found, _) => range = found,
                Trial::Taken => break,
                Trial::Interrupted(cause) => return Ok(Found::Interrupted(cause)),
            }
        }
        Ok(Found::Nothing)
    }

    /// Sends a range of the suspects in portions, each acknowledged before the next, in a transaction that is aborted.
    fn try_portions(&mut self, suspects: &[Suspect<'_>], range: Range<usize>) -> Result<Trial, Fault> {
        let length = range.len().div_ceil(PORTIONS);
        let mut portion = range.start..range.start;
        let mut outcome = self.producers.sink.begin();
        for start in range.clone().step_by(length) {
            if outcome.is_err() {
                break;
            }
            portion = start..range.end.min(start + length);
            let mut sent = suspects.get(portion.clone()).into_iter().flatten();
            outcome = sent.try_for_each(|suspect| suspect.send(&mut *self.producers.sink, self.pipeline));
            outcome = outcome.and_then(|()| self.producers.sink.flush());
        }
        let trial = match outcome {
            Ok(()) => Trial::Taken,
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(fault @ Fault::Corrupt(_)) => Trial::Refused(portion, fault.to_string()),
            Err(fault) => Trial::Interrupted(fault.to_string()),
        };
        self.producers.renew()?;
        Ok(trial)
    }
}

impl Publication {
    /// The messages that a dead letter may replace: neither dead letters nor changelog records.
    fn suspects(&self) -> Vec<Suspect<'_>> {
        let rows = self.rows.iter().map(|outbound| &outbound.row);
        let notices = rows.enumerate().filter(|(_, row)| !is_dead_letter(row));
        let notices = notices.map(|(number, row)| Suspect {
            place: Place::Row(number),
            source: &row.source,
            what: What::Notice(row),
        });
        let sent_on = self.outgoing.with_origins().enumerate().filter(|(_, (_, message))| !message.is_tracked);
        let sent_on = sent_on.map(|(number, (origin, message))| Suspect {
            place: Place::SentOn(number),
            source: origin.source,
            what: What::SentOn(origin.offset, message),
        });
        notices.chain(sent_on).collect()
    }

    /// Puts dead letters in the places of messages, those among the rows first.
    pub(crate) fn replace(&mut self, dead_letters: Vec<(Place, OutboxRow)>) {
        let mut gone = BTreeSet::new();
        for (place, dead_letter) in dead_letters {
            self.counts.dead_letters += 1;
            match place {
                Place::Row(number) => {
                    self.counts.announced -= 1;
                    if let Some(outbound) = self.rows.get_mut(number) {
                        outbound.row = dead_letter;
                    }
                }
                Place::SentOn(number) => {
                    gone.insert(number);
                    let is_before = |Outbound { row, .. }: &Outbound| {
                        row.source == dead_letter.source && row.source_offset <= dead_letter.source_offset
                    };
                    let at = self.rows.iter().rposition(is_before).map_or(0, |before| before + 1);
                    let input_at = Some(dead_letter.created_at);
                    self.rows.insert(at, Outbound { row: dead_letter, input_at });
                }
            }
        }
        self.outgoing.remove(&gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    fn row(topic: &str, offset: i64, destination: &str) -> OutboxRow {
        let name = |name: &str| TopicName::parse(name).unwrap();
        OutboxRow {
            source: TopicPartition::new(name(topic), Partition(0)),
            source_offset: Offset(offset),
            seq: 0,
            incarnation: 0,
            destination: name(destination),
            key: None,
            value: None,
            headers: Vec::new(),
            created_at: Timestamp(0),
            timestamp: None,
        }
    }

    /// The dead letter of a message that was sent on goes behind the earlier messages of its own source.
    #[test]
    fn a_dead_letter_in_the_place_of_a_message_that_was_sent_on_stands_in_the_order_of_its_source() {
        let mut publication = Publication::default();
        for row in [row("in", 0, "out"), row("in", 1, "out"), row("in", 2, "out"), row("other", 0, "out")] {
            publication.rows.push(Outbound { row, input_at: None });
        }
        publication.replace(vec![(Place::SentOn(0), row("in", 1, "in-dlt"))]);
        let order: Vec<(i64, bool)> = publication
            .rows
            .iter()
            .map(|Outbound { row, .. }| (row.source_offset.0, row.destination.as_str() == "in-dlt"))
            .collect();
        assert_eq!(order, [(0, false), (1, false), (1, true), (2, false), (0, false)]);
    }
}
