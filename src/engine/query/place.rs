//! A store in its pipeline: the spelling of its keys, and the partitions in which they may lie.

use crate::engine::query::reading::{Entry, Keys, Refusal, Span, from_hex, to_hex};
use crate::engine::state::question::Found;
use crate::flow::join::JoinedTable;
use crate::flow::key::{KeyType, Range};
use crate::flow::partitioning::{Declared, KeyHash, OnViolation};
use crate::flow::record::Partition;
use crate::flow::store::after_prefix;
use crate::flow::topology::{Gathers, StepKind, SubTopology, Topology};
use crate::ports::Fault;
use serde_json::value::RawValue;

/// A store in the topology.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) topology: &'a Topology,
    pub(super) sub_topology: usize,
    pub(super) sub: &'a SubTopology,
    /// Its number among the step's stores.
    pub(super) store: usize,
}

impl Place<'_> {
    /// Whether it keeps a value under each record's key, as an aggregate's own store does and that of windows: the first of the
    /// step's. Others, except those of tables, have the keys that the algorithm chooses, in the partition of the record that
    /// wrote them.
    pub(super) fn is_by_key(&self) -> bool {
        let is_own = match &self.sub.step {
            StepKind::Log(step) => step.keeps_by_key(),
            StepKind::Rows(_) => self.sub.gathers.is_some(),
        };
        self.store == 0 && is_own
    }

    /// The table that it keeps, if it is a table's store: those come last.
    pub(super) fn table(&self) -> Option<&JoinedTable> {
        let others = self.sub.stores.len().checked_sub(self.sub.tables.len())?;
        self.sub.tables.get(self.store.checked_sub(others)?)
    }

    /// The spelling of its keys for people.
    pub(super) fn key_type(&self) -> KeyType {
        if self.is_by_key() || self.table().is_some() { self.sub.key_type() } else { KeyType::Text }
    }

    /// The hash by which a key finds its partition; `None` where the key may lie in any: its keys are not those of
    /// records or a part of them, or nobody has declared how the records were partitioned, or misplaced records are handled all the same.
    pub(super) fn hash(&self) -> Option<KeyHash> {
        if self.key_type().is_field() {
            return None; // the rest of the record's key is not known
        }
        let declared = |declared: &Option<Declared>| {
            let declared = declared.as_ref().filter(|declared| declared.policy() != OnViolation::Warn);
            declared.map(|declared| declared.hash().clone())
        };
        let internal = self.topology.internal_topics();
        let ours = |topic| internal.contains(topic).then_some(KeyHash::Murmur2);
        if let Some(table) = self.table() {
            return declared(&table.declared).or_else(|| ours(&table.topic));
        }
        // No companion but a table can have a declaration.
        let mut companions = self.sub.companions.iter().filter(|topic| !self.sub.is_table(topic));
        if self.is_by_key() && companions.all(|topic| internal.contains(topic)) {
            return declared(&self.sub.declared).or_else(|| ours(&self.sub.lead));
        }
        None
    }

    /// The keys for which `text` may stand.
    pub(super) fn candidates(&self, text: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let bytes = text.strip_prefix("0x").and_then(from_hex);
        let key_type = self.key_type();
        if key_type.is_binary() {
            let key = key_type.key_of_text(text).or(bytes);
            let what = match key_type {
                KeyType::UuidBytes => "UUID",
                KeyType::I32BigEndian => "whole number of 32 bits",
                _ => "whole number",
            };
            return Ok(vec![key.ok_or_else(|| Refusal::BadKey(format!("{text:?} is no {what}")))?]);
        }
        if matches!(key_type, KeyType::Uuid | KeyType::UuidField(_)) {
            return Ok(vec![text.to_ascii_lowercase().into_bytes()]); // as keys spell them
        }
        // Keys that are text are never spelt in digits, so a text that looks like digits stands for itself.
        let bytes = bytes.filter(|bytes| std::str::from_utf8(bytes).is_err());
        Ok(std::iter::once(text.to_owned().into_bytes()).chain(bytes).collect())
    }

    /// The ranges of bytes in which these keys lie, ascending.
    pub(super) fn ranges(&self, keys: &Keys) -> Result<Vec<Range>, Refusal> {
        let key_type = self.key_type();
        match keys {
            Keys::Prefix(prefix) if key_type.is_binary() && !prefix.is_empty() => {
                Err(Refusal::BadKey(format!("the keys of this store are {key_type}, which have no prefix as text")))
            }
            Keys::Prefix(prefix) => Ok(vec![(prefix.as_bytes().to_vec(), after_prefix(prefix.as_bytes()))]),
            Keys::Range { first: None, last: None } => Ok(vec![(Vec::new(), None)]),
            Keys::Range { first, last } => {
                let Some(order) = key_type.order() else {
                    return Err(Refusal::BadKey(format!(
                        "the keys of this store are {key_type}, whose bytes do not ascend as the ids do: ask for a prefix, or \
                         for all keys page by page"
                    )));
                };
                let bound = |text: &Option<String>| text.as_ref().map(|text| self.bound(text)).transpose();
                order.ranges(bound(first)?, bound(last)?).ok_or_else(|| {
                    let [first, last] = [first, last].map(|bound| bound.as_deref().unwrap_or_default());
                    Refusal::BadKey(format!("first, {first:?}, is behind last, {last:?}"))
                })
            }
        }
    }

    /// The key that a text at one end of a range stands for: itself where the keys are text, although it may look like bytes.
    fn bound(&self, text: &str) -> Result<Vec<u8>, Refusal> {
        let is_text = !self.key_type().is_binary() && self.key_type() != KeyType::Bytes;
        let has_its_own = !self.is_by_key() && self.table().is_none();
        let mut candidates = self.candidates(text)?;
        if is_text && !has_its_own {
            candidates.truncate(1);
        }
        Ok(candidates.pop().unwrap_or_default())
    }

    /// Refuses a span of event time where no windows are kept.
    pub(super) fn check(&self, span: Span) -> Result<(), Refusal> {
        let in_windows = matches!(self.sub.gathers, Some(Gathers::WindowsByKey | Gathers::WindowsByTask));
        let keeps_windows = in_windows && self.is_by_key();
        if span.is_all() || keeps_windows {
            return Ok(());
        }
        Err(Refusal::BadKey("this store keeps no windows: since and until are for those of steps in windows".into()))
    }

    pub(super) fn entry(&self, (key, value): Found, partition: Partition) -> Result<Entry, Refusal> {
        let key_type = Some(self.key_type()).filter(|key_type| key_type.is_binary());
        let id = key_type.and_then(|key_type| key_type.parse(Some(&key)).ok());
        let (key, key_bytes) = match (id, String::from_utf8(key)) {
            (Some(id), Ok(key)) => (id.to_string(), Some(to_hex(key.as_bytes()))),
            (Some(id), Err(error)) => (id.to_string(), Some(to_hex(error.as_bytes()))),
            (None, Ok(text)) => (text, None),
            (None, Err(error)) => {
                let hex = to_hex(error.as_bytes());
                (format!("0x{hex}"), Some(hex))
            }
        };
        let name = self.sub.stores.get(self.store).map(|spec| &*spec.name).unwrap_or_default();
        let (version, value) = json_of(name, &value).map_err(|fault| unanswered(&fault))?;
        Ok(Entry { key, key_bytes, version, value, partition: partition.0 })
    }
}

/// Version and JSON. A query knows no types, so it gives a value as it was written.
pub(super) fn json_of(store: &str, value: &[u8]) -> Result<(u8, Box<RawValue>), Fault> {
    let parts = value.split_first();
    let (version, json) = parts.ok_or_else(|| Fault::corrupt(format!("store {store}: a value without a version")))?;
    let json = serde_json::from_slice(json)
        .map_err(|error| Fault::corrupt(format!("store {store}: a value is not JSON")).because(error))?;
    Ok((*version, json))
}

pub(super) fn unanswered(fault: &Fault) -> Refusal {
    Refusal::Unanswered(fault.to_string())
}
