//! The settings that a topic has: their names, and the values that a broker accepts.
//!
//! A value is checked before any broker is asked, and brought into one spelling, so that equal values are equal whatever
//! they look like in a file or in a broker's answer.

use Kind::{Boolean, Choice, Flags, Number, Ratio, Replicas};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The type of a value.
enum Kind {
    /// A whole number within the range, or equal to the second where there is one.
    Number(RangeInclusive<i64>, Option<i64>),
    /// A number from 0 to 1.
    Ratio,
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any of these words, each once, in any order.
    Flags(&'static [&'static str]),
    /// `*`, or partition:broker pairs.
    Replicas,
}

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

const fn number(range: RangeInclusive<i64>) -> Kind {
    Number(range, None)
}

/// The topic settings of Apache Kafka 4.3 with the values that its validators accept, sorted. A broker may have more; a file
/// of ours may not, because no broker refuses a misspelt name before `apply`.
static SETTINGS: [(&str, Kind); 33] = [
    ("cleanup.policy", Flags(&["compact", "delete"])),
    ("compression.gzip.level", Number(1..=9, Some(-1))),
    ("compression.lz4.level", number(1..=17)),
    ("compression.type", Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])),
    ("compression.zstd.level", number(-131_072..=22)),
    ("delete.retention.ms", number(0..=LONG_MAX)),
    ("file.delete.delay.ms", number(0..=LONG_MAX)),
    ("flush.messages", number(1..=LONG_MAX)),
    ("flush.ms", number(0..=LONG_MAX)),
    ("follower.replication.throttled.replicas", Replicas),
    ("index.interval.bytes", number(0..=INT_MAX)),
    ("leader.replication.throttled.replicas", Replicas),
    ("local.retention.bytes", number(-2..=LONG_MAX)),
    ("local.retention.ms", number(-2..=LONG_MAX)),
    ("max.compaction.lag.ms", number(1..=LONG_MAX)),
    ("max.message.bytes", number(0..=INT_MAX)),
    ("message.timestamp.after.max.ms", number(0..=LONG_MAX)),
    ("message.timestamp.before.max.ms", number(0..=LONG_MAX)),
    ("message.timestamp.type", Choice(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", Ratio),
    ("min.compaction.lag.ms", number(0..=LONG_MAX)),
    ("min.insync.replicas", number(1..=INT_MAX)),
    ("preallocate", Boolean),
    ("remote.log.copy.disable", Boolean),
    ("remote.log.delete.on.disable", Boolean),
    ("remote.storage.enable", Boolean),
    ("retention.bytes", number(-1..=LONG_MAX)), // a broker takes any number; below -1 it is a slip
    ("retention.ms", number(-1..=LONG_MAX)),
    ("segment.bytes", number(1_048_576..=INT_MAX)),
    ("segment.index.bytes", number(4..=INT_MAX)),
    ("segment.jitter.ms", number(0..=LONG_MAX)),
    ("segment.ms", number(1..=LONG_MAX)),
    ("unclean.leader.election.enable", Boolean),
];

fn kind(name: &str) -> Option<&'static Kind> {
    SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
}

/// The value of a setting in its one spelling.
///
/// # Errors
/// The end of a sentence: there is no such setting, or no broker would take this value.
pub(super) fn checked(name: &str, value: &str) -> Result<String, String> {
    let Some(kind) = kind(name) else {
        let known = SETTINGS.iter().map(|(name, _)| *name);
        let near = crate::settings::suggestion(name, known);
        let fix = if near.is_empty() { ", which a broker would refuse: remove it" } else { &near };
        return Err(format!("unknown configuration key{fix}"));
    };
    kind.spelled(value).ok_or_else(|| {
        format!("expected {}, found {value:?}{}", kind.expectation(), kind.hint(name, value).unwrap_or_default())
    })
}

/// Whether a broker takes both values for the same. A setting that is not known here is compared as text.
pub(super) fn is_equal(name: &str, one: &str, other: &str) -> bool {
    let spelled = |value| kind(name).and_then(|kind| kind.spelled(value));
    one == other || spelled(one).is_some_and(|one| spelled(other) == Some(one))
}

impl Kind {
    /// The value in its one spelling; `None` for one of another type or out of range.
    fn spelled(&self, value: &str) -> Option<String> {
        let value = value.trim();
        match self {
            Number(range, other) => {
                let number: i64 = value.parse().ok()?;
                (range.contains(&number) || *other == Some(number)).then(|| number.to_string())
            }
            Ratio => {
                value.parse().ok().filter(|ratio: &f64| (0.0..=1.0).contains(ratio)).map(|ratio| ratio.to_string())
            }
            Boolean => Some(value.to_ascii_lowercase()).filter(|value| value == "true" || value == "false"),
            Choice(words) => words.contains(&value).then(|| value.to_owned()),
            Flags(words) => {
                let given = items(value);
                let found: BTreeSet<&str> = given.iter().copied().collect();
                let is_sound = found.len() == given.len() && found.iter().all(|word| words.contains(word));
                is_sound.then(|| found.into_iter().collect::<Vec<_>>().join(","))
            }
            Replicas => {
                let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
                let is_pair = |item: &&str| item.split_once(':').is_some_and(|(p, b)| is_number(p) && is_number(b));
                let given = items(value);
                (value == "*" || given.iter().all(is_pair)).then(|| given.join(","))
            }
        }
    }

    fn expectation(&self) -> String {
        match self {
            Number(range, other) => {
                let (min, max) = (range.start(), range.end());
                let or = other.map_or_else(String::new, |other| format!(" or {other}"));
                match *max {
                    LONG_MAX => format!("a whole number of at least {min}"),
                    max => format!("a whole number from {min} to {max}{or}"),
                }
            }
            Ratio => "a number from 0 to 1".into(),
            Boolean => "true or false".into(),
            Choice(words) => format!("one of {}", words.join(", ")),
            Flags(words) => format!("{}, or both with a comma between", words.join(" or ")),
            Replicas => "* or pairs partition:broker with commas between".into(),
        }
    }

    /// The value that was probably meant.
    fn hint(&self, name: &str, value: &str) -> Option<String> {
        let meant = match self {
            Number(..) => meant_number(name, value.trim())?.to_string(),
            Boolean => match value.trim().to_ascii_lowercase().as_str() {
                "yes" | "on" | "1" => "true".into(),
                "no" | "off" | "0" => "false".into(),
                _ => return None,
            },
            Choice(words) | Flags(words) => {
                return Some(crate::settings::suggestion(value.trim(), words.iter().copied()));
            }
            Ratio | Replicas => return None,
        };
        self.spelled(&meant).map(|meant| format!("; did you mean {meant}?"))
    }
}

fn items(list: &str) -> Vec<&str> {
    let items = list.split(',').map(str::trim);
    if list.trim().is_empty() { Vec::new() } else { items.collect() }
}

/// A whole number written as a float, with a unit, or in groups of digits.
fn meant_number(name: &str, value: &str) -> Option<i64> {
    const BYTES: [(&str, i64); 3] = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    const TIMES: [(&str, i64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let digits: String = value.chars().filter(|c| !matches!(c, '_' | '\'' | ' ')).collect();
    if let Ok(number) = digits.parse() {
        return Some(number);
    }
    let units: &[(&str, i64)] = if name.rsplit('.').next() == Some("ms") { &TIMES } else { &BYTES };
    let with_unit = |(unit, factor): &(&str, i64)| {
        digits.trim_end_matches('B').strip_suffix(unit)?.parse::<i64>().ok()?.checked_mul(*factor)
    };
    units.iter().find_map(with_unit).or_else(|| whole(digits.parse().ok()?))
}

/// The float as a whole number, where it is one that every digit of it is known of.
fn whole(float: f64) -> Option<i64> {
    let is_whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
    is_whole.then(|| format!("{float:.0}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_type_and_not_by_spelling() {
        let equal = [
            ("cleanup.policy", "compact, delete", "delete,compact"),
            ("min.cleanable.dirty.ratio", "0", "0.0"),
            ("min.cleanable.dirty.ratio", ".5", "5e-1"),
            ("preallocate", "FALSE", "false"),
            ("retention.ms", "0604800000", "604800000"),
            ("retention.ms", "+5", " 5"),
            ("compression.type", "zstd ", "zstd"),
            ("leader.replication.throttled.replicas", "0:1, 1:2", "0:1,1:2"),
            ("unknown.here", "x", "x"),
        ];
        for (name, one, other) in equal {
            assert!(is_equal(name, one, other), "{name}: {one} and {other}");
        }
        let different = [
            ("cleanup.policy", "compact", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0.5", "0.05"),
            ("preallocate", "true", "false"),
            ("retention.ms", "5", "50"),
            ("retention.ms", "5", "five"),
            ("message.timestamp.type", "CreateTime", "createtime"),
            ("unknown.here", "0.0", "0"),
        ];
        for (name, one, other) in different {
            assert!(!is_equal(name, one, other), "{name}: {one} and {other}");
        }
    }

    #[test]
    fn a_value_that_no_broker_takes_is_told_with_what_it_would_take() {
        let wrong = [
            (
                "retention.ms",
                "6.048e+08",
                "a whole number of at least -1, found \"6.048e+08\"; did you mean 604800000?",
            ),
            ("retention.ms", "7d", "found \"7d\"; did you mean 604800000?"),
            ("retention.ms", "604_800_000", "did you mean 604800000?"),
            ("retention.ms", "-2", "a whole number of at least -1, found \"-2\""),
            ("min.insync.replicas", "two", "a whole number from 1 to 2147483647, found \"two\""),
            ("max.message.bytes", "1Mi", "found \"1Mi\"; did you mean 1048576?"),
            ("max.message.bytes", "4Gi", "a whole number from 0 to 2147483647, found \"4Gi\""),
            (
                "cleanup.policy",
                "compacted",
                "compact or delete, or both with a comma between, found \"compacted\"; did you mean compact?",
            ),
            ("cleanup.policy", "compact,compact", "found \"compact,compact\""),
            (
                "compression.type",
                "ZSTD",
                "one of uncompressed, zstd, lz4, snappy, gzip, producer, found \"ZSTD\"; did you mean zstd?",
            ),
            ("compression.gzip.level", "0", "a whole number from 1 to 9 or -1, found \"0\""),
            ("preallocate", "yes", "true or false, found \"yes\"; did you mean true?"),
            ("min.cleanable.dirty.ratio", "50", "a number from 0 to 1, found \"50\""),
            ("segment.bytes", "14", "a whole number from 1048576 to"),
            ("leader.replication.throttled.replicas", "a:b", "* or pairs partition:broker"),
            ("retention.mss", "5", "unknown configuration key; did you mean retention.ms?"),
        ];
        for (name, value, said) in wrong {
            let found = checked(name, value).unwrap_err();
            assert!(found.contains(said), "{name}: {value}: {found}");
        }
        let right = [
            ("cleanup.policy", "", ""),
            ("compression.gzip.level", "-1", "-1"),
            ("retention.bytes", "-1", "-1"),
            ("retention.ms", "0604800000", "604800000"),
            ("min.cleanable.dirty.ratio", "1.0", "1"),
            ("leader.replication.throttled.replicas", "*", "*"),
        ];
        for (name, value, spelled) in right {
            assert_eq!(checked(name, value).as_deref(), Ok(spelled), "{name}");
        }
    }
}
