//! The outputs of steps that go through the log alone: re-keyed records and changelog records, in one piece of memory.
//!
//! The bytes are final, as an outbox row's are: a transaction that failed is sent again from here.

use crate::flow::record::{Header, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::sink::Message;
use std::collections::BTreeSet;

/// Messages in sending order. Keys and values stand behind each other in one arena, and topics and partitions are named
/// by number, so that a message costs no allocation of its own, and no count of references that other threads count
/// too.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    arena: Vec<u8>,
    sources: Names<TopicPartition>,
    destinations: Names<TopicName>,
    entries: Vec<Entry>,
    /// Bytes of the headers of all messages that were ever pushed.
    header_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    source: usize,
    source_offset: Offset,
    destination: usize,
    partition: Option<Partition>,
    start: usize,
    key_length: Option<usize>,
    value_length: Option<usize>,
    headers: Vec<Header>, // empty for most, and then not allocated
    timestamp: Option<Timestamp>,
    is_tracked: bool,
}

/// Each name once. They come in runs, so the last one is looked at first.
#[derive(Debug)]
struct Names<T> {
    all: Vec<T>,
    last: usize,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { all: Vec::new(), last: 0 }
    }
}

impl<T: Clone + PartialEq> Names<T> {
    fn number(&mut self, name: &T) -> usize {
        if self.all.get(self.last) != Some(name) {
            self.last = self.all.iter().position(|known| known == name).unwrap_or_else(|| {
                self.all.push(name.clone());
                self.all.len() - 1
            });
        }
        self.last
    }
}

/// The origin of a message, by which it is judged whether the message is still ours to send.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) source: &'a TopicPartition,
    pub(crate) offset: Offset,
}

impl Outgoing {
    /// Copies one message to the end.
    pub(crate) fn push(&mut self, origin: Origin<'_>, message: &Message<'_>) {
        let start = self.arena.len();
        for part in [message.key, message.value].into_iter().flatten() {
            self.arena.extend_from_slice(part);
        }
        self.entries.push(Entry {
            source: self.sources.number(origin.source),
            source_offset: origin.offset,
            destination: self.destinations.number(message.destination),
            partition: message.partition,
            start,
            key_length: message.key.map(<[u8]>::len),
            value_length: message.value.map(<[u8]>::len),
            headers: message.headers.to_vec(),
            timestamp: message.timestamp,
            is_tracked: message.is_tracked,
        });
        self.header_bytes += crate::flow::record::header_bytes(message.headers);
    }

    /// Bytes of keys, values and headers, of removed messages too: the memory in use.
    pub(crate) const fn bytes(&self) -> usize {
        self.arena.len() + self.header_bytes
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.entries.iter().filter_map(|entry| {
            let value_start = entry.start + entry.key_length.unwrap_or(0);
            let slice = |start: usize, length: Option<usize>| length.and_then(|n| self.arena.get(start..start + n));
            Some(Message {
                destination: self.destinations.all.get(entry.destination)?,
                partition: entry.partition,
                key: slice(entry.start, entry.key_length),
                value: slice(value_start, entry.value_length),
                headers: &entry.headers,
                timestamp: entry.timestamp,
                is_tracked: entry.is_tracked,
            })
        })
    }

    /// The messages with their origins.
    pub(crate) fn with_origins(&self) -> impl Iterator<Item = (Origin<'_>, Message<'_>)> {
        self.entries.iter().zip(self.messages()).filter_map(|(entry, message)| {
            let source = self.sources.all.get(entry.source)?;
            Some((Origin { source, offset: entry.source_offset }, message))
        })
    }

    /// Takes out the messages at these places.
    pub(crate) fn remove(&mut self, places: &BTreeSet<usize>) {
        let mut place = 0..;
        self.entries.retain(|_| place.next().is_none_or(|place| !places.contains(&place)));
    }

    /// Puts all of `next` behind its own.
    pub(crate) fn append(&mut self, next: Self) {
        if self.entries.is_empty() {
            *self = next;
            return;
        }
        self.header_bytes += next.header_bytes;
        let shift = self.arena.len();
        self.arena.extend_from_slice(&next.arena);
        let sources: Vec<usize> = next.sources.all.iter().map(|name| self.sources.number(name)).collect();
        let destinations: Vec<usize> =
            next.destinations.all.iter().map(|name| self.destinations.number(name)).collect();
        self.entries.extend(next.entries.into_iter().filter_map(|entry| {
            let (source, destination) = (*sources.get(entry.source)?, *destinations.get(entry.destination)?);
            Some(Entry { source, destination, start: entry.start + shift, ..entry })
        }));
    }

    /// Keeps the messages whose origin `keep` accepts.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&TopicPartition, Offset) -> bool) {
        let sources = &self.sources.all;
        self.entries.retain(|entry| sources.get(entry.source).is_some_and(|source| keep(source, entry.source_offset)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: i32) -> TopicPartition {
        TopicPartition::new(TopicName::parse("in").unwrap(), Partition(number))
    }

    fn filled(number: i32, offsets: std::ops::Range<i64>) -> Outgoing {
        let destination = TopicName::parse("out").unwrap();
        let mut out = Outgoing::default();
        for offset in offsets {
            let text = format!("{number}-{offset}");
            let message = Message {
                destination: &destination,
                partition: None,
                key: (offset % 2 == 0).then_some(b"k"),
                value: Some(text.as_bytes()),
                headers: &[],
                timestamp: None,
                is_tracked: false,
            };
            out.push(Origin { source: &place(number), offset: Offset(offset) }, &message);
        }
        out
    }

    fn values(out: &Outgoing) -> Vec<String> {
        out.messages().map(|m| String::from_utf8(m.value.unwrap().to_vec()).unwrap()).collect()
    }

    #[test]
    fn messages_keep_their_bytes_through_appending_and_retaining() {
        let mut out = filled(0, 0..2);
        out.append(filled(1, 5..7));
        out.append(filled(0, 2..3));
        assert_eq!(values(&out), ["0-0", "0-1", "1-5", "1-6", "0-2"]);
        assert_eq!(out.messages().filter(|m| m.key == Some(b"k")).count(), 3);
        out.retain(|_, offset| offset.0 != 1);
        assert_eq!(values(&out), ["0-0", "1-5", "1-6", "0-2"]);
    }
}
