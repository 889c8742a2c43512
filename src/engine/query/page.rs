//! One page of keys, put together from slices of several partitions.

use crate::engine::query::reading::Span;
use crate::engine::state::question::Found;
use crate::flow::record::Partition;
use crate::flow::window::windows_within;
use std::collections::BTreeMap;

/// The number of bytes of keys and values after which an answer ends, roughly.
const ANSWER_BYTES: usize = 8 << 20;

/// The first keys of the answers so far, over all partitions.
#[derive(Default)]
pub(super) struct Page {
    pub(super) entries: BTreeMap<(Vec<u8>, i32), Vec<u8>>,
    pub(super) bytes: usize,
    /// Keys from here on are left out.
    pub(super) end: Option<Vec<u8>>,
    pub(super) next: Option<Vec<u8>>,
}

impl Page {
    pub(super) fn add(&mut self, found: Vec<Found>, partition: Partition, count_max: usize) {
        for (key, value) in found {
            self.bytes += key.len() + value.len();
            self.entries.insert((key, partition.0), value);
        }
        while self.entries.len() > count_max || self.bytes > ANSWER_BYTES {
            let Some(((last, _), _)) = self.entries.last_key_value() else { return };
            let is_only = self.entries.first_key_value().is_some_and(|((first, _), _)| first == last);
            if is_only {
                return; // the first key is kept, however large it is, or the reader would not get on
            }
            let last = last.clone();
            self.end_at(last);
        }
    }

    /// The page ends before `next`.
    pub(super) fn end_at(&mut self, next: Vec<u8>) {
        if self.end.as_ref().is_some_and(|end| *end <= next) {
            return;
        }
        let cut = self.entries.split_off(&(next.clone(), i32::MIN));
        self.bytes -= cut.iter().map(|((key, _), value)| key.len() + value.len()).sum::<usize>();
        (self.end, self.next) = (Some(next.clone()), Some(next));
    }
}

/// A key with its windows in a span, and whether there are any.
pub(super) fn within((key, mut value): Found, span: Span) -> (Found, bool) {
    let within = value.split_first().map(|(_, json)| windows_within(json, span.since_ms, span.until_ms));
    // What cannot be read is told by whoever shows the value.
    let Some(Ok((json, count))) = within else { return ((key, value), true) };
    value.truncate(1);
    value.extend(json);
    ((key, value), count > 0)
}
