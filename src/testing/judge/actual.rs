//! A message as it lies in its topic, and the owners of its headers.

use crate::flow::record::Header;
use crate::testing::observed::Message;

/// A message as it lies in its topic.
pub(super) struct Actual<'a> {
    pub(super) partition: i32,
    pub(super) input: &'a Message,
}

impl<'a> Actual<'a> {
    /// The last header of the name: the engine's own stand behind the record's.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        let header = self.input.headers.iter().rev().find(|header: &&Header| header.name == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    }
}

/// Headers as they came with a record, without those that mean something to Tidegate.
pub(super) fn theirs_of(headers: &[Header]) -> Vec<(&str, Option<&[u8]>)> {
    let theirs = headers.iter().filter(|header| !is_ours(header));
    theirs.map(|header| (&*header.name, header.value.as_deref())).collect()
}

pub(super) fn header_text(headers: &[Header]) -> String {
    let one = |header: &Header| {
        format!("{}={}", header.name, String::from_utf8_lossy(header.value.as_deref().unwrap_or_default()))
    };
    format!("{:?}", headers.iter().map(one).collect::<Vec<_>>())
}

/// Whether a header of this name has a meaning for Tidegate, or for the readers of its dead letters.
pub(super) fn is_ours(header: &Header) -> bool {
    header.name.starts_with("tg_") || header.name.starts_with("kafka_dlt-")
}
