//! A history's records by the input that they belong to.

use super::history::{Fate, History, Input, Link, Output, Source, Verdict};
use std::collections::{HashMap, HashSet};
use tidegate::engine::audit::comparison::origin_of;
use tidegate::engine::outbound::message::{is_dead_letter, sequence_of};
use tidegate::flow::record::{Offset, TopicPartition};
use tidegate::ports::rows::OutboxRow;

/// An input by name.
pub(super) type Place = (TopicPartition, Offset);

pub(super) struct Index<'h> {
    pub(super) sources: HashMap<TopicPartition, &'h Source>,
    pub(super) inputs: HashMap<Place, &'h Input>,
    links: HashMap<Place, Vec<&'h Link>>,
    verdicts: HashMap<Place, Vec<&'h Verdict>>,
    /// Outbox rows that are notices, and those that are dead letters.
    notices: HashMap<Place, Vec<&'h OutboxRow>>,
    letters: HashMap<Place, Vec<&'h OutboxRow>>,
    /// Messages visible to committed readers, notices and dead letters apart.
    told: HashSet<(Place, bool)>,
    /// Outbox rows decided earlier may be gone.
    kept_from_ms: i64,
}

impl<'h> Index<'h> {
    pub(super) fn new(history: &'h History) -> Self {
        let mut out = Self {
            sources: history.sources.iter().map(|source| (source.place.clone(), source)).collect(),
            inputs: history.inputs.iter().map(|input| ((input.place.clone(), input.offset), input)).collect(),
            links: HashMap::new(),
            verdicts: HashMap::new(),
            notices: HashMap::new(),
            letters: HashMap::new(),
            told: HashSet::new(),
            kept_from_ms: history.read_at_ms - history.outbox_kept_ms,
        };
        for link in &history.links {
            out.links.entry((link.place.clone(), link.offset)).or_default().push(link);
        }
        for verdict in &history.verdicts {
            out.verdicts.entry((verdict.place.clone(), verdict.offset)).or_default().push(verdict);
        }
        for row in history.outbox.iter().filter(|row| sequence_of(row).is_none()) {
            let of_kind = if is_dead_letter(row) { &mut out.letters } else { &mut out.notices };
            of_kind.entry((row.source.clone(), row.source_offset)).or_default().push(row);
        }
        let visible = history.outputs.iter().filter(|output| output.is_visible && output.fate == Fate::Committed);
        let told = visible.filter_map(|output| Some((place_of(&history.pipeline, output)?, is_letter(output))));
        out.told = told.collect();
        out
    }

    pub(super) fn links(&self, place: &Place) -> &[&'h Link] {
        self.links.get(place).map_or(&[], Vec::as_slice)
    }

    pub(super) fn verdicts(&self, place: &Place) -> &[&'h Verdict] {
        self.verdicts.get(place).map_or(&[], Vec::as_slice)
    }

    pub(super) fn notices(&self, place: &Place) -> &[&'h OutboxRow] {
        self.notices.get(place).map_or(&[], Vec::as_slice)
    }

    pub(super) fn letters(&self, place: &Place) -> &[&'h OutboxRow] {
        self.letters.get(place).map_or(&[], Vec::as_slice)
    }

    /// Whether a committed reader finds a notice, or a dead letter, of this input.
    pub(super) fn is_told(&self, place: &Place, is_letter: bool) -> bool {
        self.told.contains(&(place.clone(), is_letter))
    }

    /// Whether what was decided about this input is so old that its outbox row may be gone.
    pub(super) fn may_be_gone(&self, place: &Place) -> bool {
        self.verdicts(place).iter().any(|verdict| verdict.decided_at_ms < self.kept_from_ms)
    }

    /// Whether the input lies below D. `None`: its partition has no position, which is a finding of its own.
    pub(super) fn is_decided(&self, place: &Place) -> Option<bool> {
        Some(!self.sources.get(&place.0)?.decided()?.is_before(place.1))
    }
}

/// The input that a message of this pipeline names.
pub(super) fn place_of(pipeline: &str, output: &Output) -> Option<Place> {
    let origin = origin_of(pipeline, output.found.id()?)?;
    Some((origin.source, origin.offset))
}

/// Whether a message is a dead letter.
pub(super) fn is_letter(output: &Output) -> bool {
    output.found.headers.iter().any(|header| header.name.starts_with("kafka_dlt-"))
}
