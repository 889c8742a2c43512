//! The value that somebody probably meant by one that is refused.

use crate::flow::nearest::suggestion;
use crate::settings::rule::{Allowed, Rule};

/// Words that other programs have for our choices.
const WORDS: [(&str, &[&str], &str); 10] = [
    ("missing_row", &["ignore", "drop", "pass"], "skip"),
    ("missing_row", &["dlt", "dlq", "dead", "reject"], "dead-letter"),
    ("missing_row", &["wait", "block"], "retry"),
    ("missing_row", &["create", "upsert", "add"], "insert"),
    ("start", &["beginning", "smallest", "oldest", "first"], "earliest"),
    ("start", &["end", "largest", "newest", "last"], "latest"),
    ("on_data_loss", &["fail", "stop", "none", "error"], "halt"),
    ("group_protocol", &["kip-848", "new", "broker"], "consumer"),
    ("level", &["warning"], "warn"),
    ("level", &["fatal", "critical", "severe"], "error"),
];

/// What completes "expected …" for a value that is refused: empty, or from the semicolon on.
pub(super) fn hint(rule: &Rule, text: &str) -> String {
    let word = text.trim().to_ascii_lowercase();
    match rule.allowed {
        Allowed::Choice(words) => {
            let known = WORDS.iter().find(|(key, others, _)| rule.key == *key && others.contains(&word.as_str()));
            known.map_or_else(|| suggestion(&word, words.iter().copied()), |(.., ours)| meant(ours))
        }
        Allowed::Bool => match word.as_str() {
            "true" | "yes" | "on" | "1" | "y" => meant("true"),
            "false" | "no" | "off" | "0" | "n" => meant("false"),
            _ => String::new(),
        },
        Allowed::Whole { min, max } | Allowed::WholeOrNull { min, max } => whole(rule.key, &word)
            .filter(|number| (min..=max).contains(number))
            .map_or_else(String::new, |number| format!("; write {number}")),
        Allowed::Text { fits, .. } if rule.key == "address" => {
            let word = word.replace("localhost:", "127.0.0.1:");
            let whole = match word.strip_prefix(':').unwrap_or(&word) {
                port if port.parse::<u16>().is_ok() => format!("127.0.0.1:{port}"),
                _ => word,
            };
            if fits(&whole) { format!("; did you mean {whole}?") } else { String::new() }
        }
        _ => String::new(),
    }
}

fn meant(word: &str) -> String {
    format!("; did you mean {word}?")
}

/// The number in the key's own unit.
fn whole(key: &str, word: &str) -> Option<i64> {
    let plain: String = word.chars().filter(|c| !matches!(c, '_' | ',' | '\'' | ' ')).collect();
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let (number, unit) = plain.split_at_checked(end)?;
    let number = number.strip_suffix(".0").unwrap_or(number).parse::<i64>().ok()?;
    number.checked_mul(if unit.is_empty() { 1 } else { factor(key, unit)? })
}

/// How many of the key's units one of `unit` is.
fn factor(key: &str, unit: &str) -> Option<i64> {
    let seconds = || match unit {
        "s" | "sec" | "second" | "seconds" => Some(1),
        "m" | "min" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(3_600),
        "d" | "day" | "days" => Some(86_400),
        _ => None,
    };
    let kibibytes = || match unit {
        "k" | "kb" | "ki" | "kib" => Some(1),
        "m" | "mb" | "mi" | "mib" => Some(1 << 10),
        "g" | "gb" | "gi" | "gib" => Some(1 << 20),
        _ => None,
    };
    let whole = |size: i64, of: i64| (size % of == 0).then_some(size / of);
    match key {
        _ if key.ends_with("_ms") => {
            if unit == "ms" {
                Some(1)
            } else {
                Some(seconds()? * 1_000)
            }
        }
        _ if key.ends_with("_minutes") => whole(seconds()?, 60),
        _ if key.ends_with("_hours") => whole(seconds()?, 3_600),
        _ if key.ends_with("_mib") => whole(kibibytes()?, 1 << 10),
        _ if key.contains("_bytes") => {
            if unit == "b" {
                Some(1)
            } else {
                Some(kibibytes()? << 10)
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::hint;
    use crate::settings::schema::Schema;

    #[test]
    fn what_was_probably_meant_is_said() {
        let cases = [
            ("pipeline.missing_row", "Upsert", "; did you mean insert?"),
            ("pipeline.missing_row", "ignore", "; did you mean skip?"),
            ("pipeline.missing_row", "dead_letter", "; did you mean dead-letter?"),
            ("pipeline.start", "Latest", "; did you mean latest?"),
            ("pipeline.start", "smallest", "; did you mean earliest?"),
            ("kafka.group_protocol", "KIP-848", "; did you mean consumer?"),
            ("log.level", "WARNING", "; did you mean warn?"),
            ("log.level", "loud", ""),
            ("pipeline.verdicts", "yes", "; did you mean true?"),
            ("pipeline.verdicts", "False", "; did you mean false?"),
            ("pipeline.verdicts", "maybe", ""),
            ("kafka.session_timeout_ms", "10s", "; write 10000"),
            ("kafka.session_timeout_ms", "10 000", "; write 10000"),
            ("kafka.session_timeout_ms", "10_000", "; write 10000"),
            ("kafka.session_timeout_ms", "10000.0", "; write 10000"),
            ("kafka.session_timeout_ms", "0s", ""),
            ("outbox.partition_minutes", "1h", "; write 60"),
            ("outbox.retention_hours", "2d", "; write 48"),
            ("outbox.retention_hours", "90m", ""),
            ("state.memory_mib", "2GiB", "; write 2048"),
            ("state.memory_mib", "512Ki", ""),
            ("engine.record_bytes_max", "1Mi", "; write 1048576"),
            ("http.address", "localhost:8230", "; did you mean 127.0.0.1:8230?"),
            ("http.address", ":8230", "; did you mean 127.0.0.1:8230?"),
            ("http.address", "8230", "; did you mean 127.0.0.1:8230?"),
            ("http.address", "myhost:8230", ""),
            ("engine.workers", "4x", ""),
            ("instance.slot", "99999999999999999999", ""),
        ];
        for (path, text, expected) in cases {
            let (section, key) = path.split_once('.').unwrap();
            assert_eq!(hint(Schema::rule(section, key).unwrap(), text), expected, "{path}={text}");
        }
    }
}
