//! One message, held against the one that must be there: a notice or a dead letter.

use crate::flow::identity::{TIMER_HEADER, VERSION_HEADER, WINDOW_HEADER};
use crate::flow::record::{Header, Timestamp, TopicName};
use crate::testing::interpreter::{Expected, Kind};
use crate::testing::judge::actual::{Actual, header_text, is_ours, theirs_of};
use crate::testing::judge::finding::{Findings, Wrong};

/// Most bytes of a message's frame, beside key, value and headers, as the engine counts it.
const FRAME: usize = 1_000;

/// A topic whose messages are judged.
pub(super) struct Place<'a> {
    pub(super) topic: &'a TopicName,
    pub(super) pipeline: &'a str,
    /// The largest message that it takes, where that is small.
    pub(super) limit: Option<usize>,
    /// The latest time of a clock.
    pub(super) now: Timestamp,
}

pub(super) fn judge_message(at: &Place<'_>, message: &Expected, actual: &Actual<'_>, findings: &mut Findings) {
    let name = format!("{}: {}@{}", at.topic, message.source, message.source_offset);
    let Actual { partition, input } = actual;
    for (number, header) in input.headers.iter().enumerate().filter(|(_, header)| is_ours(header)) {
        if input.headers.iter().take(number).any(|before| before.name == header.name) {
            findings.add(Wrong::ForeignHeader, format!("{name}: has {} twice", header.name));
        }
    }
    if message.partition.is_some_and(|due| due != *partition) {
        findings.add(Wrong::MessagePartition, format!("{name}: lies in {partition}, not in {:?}", message.partition));
    }
    match &message.kind {
        Kind::Notice { id, version, threshold, content_type } => {
            if input.key != message.key {
                findings.add(Wrong::MessageKey, format!("{name}: has another key"));
            }
            if input.value != message.value {
                let text = |value: &Option<Vec<u8>>| {
                    value.as_deref().map(String::from_utf8_lossy).map(std::borrow::Cow::into_owned)
                };
                let (is, due) = (text(&input.value), text(&message.value));
                findings.add(Wrong::NoticeValue, format!("{name}: says {is:?}, not {due:?}"));
            }
            let found = actual.header(VERSION_HEADER).and_then(|version| version.parse().ok());
            if found != *version {
                findings.add(Wrong::NoticeVersion, format!("{name}: tells of version {found:?}, not {version:?}"));
            }
            if input.timestamp != message.timestamp {
                let (is, due) = (input.timestamp.0, message.timestamp.0);
                findings.add(Wrong::NoticeTime, format!("{name}: is of {is}, not of {due}"));
            }
            let due = notice_headers(at, id, (*version, threshold.as_deref()), *content_type);
            let is_same = |header: &Header, (own, value): &(&str, Option<String>)| {
                let found = header.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
                // An instant of a fixed width: as text it is in order.
                let is_past = |found: &str| found.len() == 24 && *found <= *at.now.to_rfc3339();
                header.name == *own
                    && found.is_some_and(|found| value.as_ref().map_or_else(|| is_past(found), |due| found == due))
            };
            let (ours, own): (Vec<&Header>, Vec<&Header>) =
                input.headers.iter().partition(|header| due.iter().any(|due| is_same(header, due)));
            if ours.len() != due.len()
                || !due.iter().all(|due| ours.iter().any(|header| is_same(header, due)))
                || !own.into_iter().eq(&message.headers)
            {
                let (is, own) = (header_text(&input.headers), header_text(&message.headers));
                findings.add(Wrong::NoticeHeader, format!("{name}: has {is}, not {due:?} and {own}"));
            }
        }
        Kind::DeadLetter { code, about, .. } => {
            let headers = [TIMER_HEADER, WINDOW_HEADER];
            let told = headers.into_iter().filter_map(|header| Some((header, actual.header(header)?.to_owned())));
            let told: Vec<_> = told.collect();
            if told != *about {
                findings.add(Wrong::DeadLetterHeader, format!("{name}: tells of {told:?}, not {about:?}"));
            }
            let found = actual.header("kafka_dlt-exception-fqcn");
            if found != Some(code) {
                findings.add(Wrong::DeadLetterCode, format!("{name}: is {found:?}, not {code}"));
            }
            judge_dead_letter(at, &name, message, actual, findings);
        }
        Kind::SentOn => {}
    }
}

/// The headers of a notice; the value of `ce_time` is any instant so far.
fn notice_headers<'a>(
    at: &Place<'_>,
    id: &str,
    (version, threshold): (Option<i64>, Option<&str>),
    content_type: Option<&str>,
) -> Vec<(&'a str, Option<String>)> {
    let always = [
        ("ce_specversion", Some("1.0".into())),
        ("ce_id", Some(id.into())),
        ("ce_source", Some(format!("/{}", at.pipeline))),
        ("ce_type", Some(at.topic.to_string())),
        ("ce_time", None),
        ("tg_id", Some(id.into())),
    ];
    let content_type = content_type.map(|content_type| ("content-type", Some(content_type.into())));
    let version = version.map(|version| ("tg_version", Some(version.to_string())));
    let threshold = threshold.map(|threshold| ("tg_threshold", Some(threshold.into())));
    always.into_iter().chain(content_type).chain(version).chain(threshold).collect()
}

/// A dead letter is its record with all that came with it, and says where that lay. Where the whole is larger than its
/// topic takes, it may leave out the value, then the headers, then the key, and says how large they were.
fn judge_dead_letter(at: &Place<'_>, name: &str, message: &Expected, actual: &Actual<'_>, findings: &mut Findings) {
    let input = actual.input;
    let due: [(&str, Vec<u8>); 6] = [
        ("kafka_dlt-original-topic", message.source.topic.as_str().into()),
        ("kafka_dlt-original-partition", message.source.partition.0.to_be_bytes().into()),
        ("kafka_dlt-original-offset", message.source_offset.0.to_be_bytes().into()),
        ("kafka_dlt-original-timestamp", message.timestamp.0.to_be_bytes().into()),
        ("kafka_dlt-original-timestamp-type", b"CreateTime".into()),
        ("kafka_dlt-original-consumer-group", at.pipeline.into()),
    ];
    // Of a key that cannot be read code and message stand twice, as Spring has them.
    let of_the_key = [
        ("kafka_dlt-key-exception-fqcn", "kafka_dlt-exception-fqcn"),
        ("kafka_dlt-key-exception-message", "kafka_dlt-exception-message"),
    ];
    let is_bad_key = actual.header("kafka_dlt-exception-fqcn") == Some("bad-key");
    for (own, same) in of_the_key {
        let (found, due) = (actual.header(own), actual.header(same).filter(|_| is_bad_key));
        if found != due {
            findings.add(Wrong::DeadLetterHeader, format!("{name}: {own} is {found:?}, not {due:?}"));
        }
    }
    let is_there = |name: &str| input.headers.iter().any(|header| header.name == name);
    for (own, value) in &due {
        let found = input.headers.iter().find(|header| header.name == *own);
        if found.and_then(|header| header.value.as_ref()) != Some(value) {
            findings.add(Wrong::DeadLetterHeader, format!("{name}: {own} is {found:?}, not {value:?}"));
        }
    }
    let others = ["kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "tg_id"];
    let omitted =
        ["tg_value_omitted_bytes", "tg_headers_omitted_bytes", "tg_key_omitted_bytes", "tg_message_omitted_bytes"];
    let is_known = |name: &str| {
        let is_due = due.iter().any(|(own, _)| *own == name) || of_the_key.iter().any(|(own, _)| *own == name);
        [TIMER_HEADER, WINDOW_HEADER].contains(&name) || is_due || others.contains(&name) || omitted.contains(&name)
    };
    let unknown = input.headers.iter().find(|header| is_ours(header) && !is_known(&header.name));
    if unknown.is_some() || !others.iter().all(|name| is_there(name)) {
        findings.add(Wrong::DeadLetterHeader, format!("{name}: has {}", header_text(&input.headers)));
    }
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let sum = |headers: &mut dyn Iterator<Item = &Header>| -> usize {
        headers.map(|header| header.name.len() + bytes(&header.value)).sum()
    };
    let mine = sum(&mut input.headers.iter().filter(|header| is_ours(header)));
    let (key, value) = (bytes(&message.key), bytes(&message.value));
    let theirs = sum(&mut message.headers.iter().filter(|header| !is_ours(header)));
    let is_omitted = |header: &str, size: usize, whole: usize| {
        at.limit.is_some_and(|limit| mine + whole + FRAME > limit) && actual.header(header) == Some(&size.to_string())
    };
    let [value_header, headers_header, key_header, _] = omitted;
    if input.value != message.value && !(input.value.is_none() && is_omitted(value_header, value, key + theirs + value))
    {
        findings.add(Wrong::DeadLetterValue, format!("{name}: has another value than its record"));
    }
    let (found, due) = (theirs_of(&input.headers), theirs_of(&message.headers));
    if found != due && !(found.is_empty() && is_omitted(headers_header, theirs, key + theirs)) {
        findings.add(Wrong::DeadLetterHeader, format!("{name}: has other headers than its record: {found:?}"));
    }
    if input.key != message.key && !(input.key.is_none() && is_omitted(key_header, key, key)) {
        findings.add(Wrong::MessageKey, format!("{name}: has another key"));
    }
}
