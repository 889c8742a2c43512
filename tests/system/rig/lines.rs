//! The judge of logs: every line that a world's processes wrote is read when the world ends. No panic of ours, no secret, no line
//! that comes often, and no warning without a cause and what to do, or what happens by itself.

use std::collections::BTreeMap;

/// The most often that a line may stand in one minute of one log. The matrix, which the failpoints are built for, makes faults
/// and rebalances more often than that, and each has its line.
const PER_MINUTE: usize = if cfg!(feature = "failpoints") { 100_000 } else { 20 };

/// Lines that may be without a next step, each with why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("librdkafka: ", "the client library's own words; what lasts becomes an obstacle with the next command"),
    ("sqlx::postgres::notice: ", "the server's own words to its clients; what follows from them has a line of ours"),
    ("repaired by an operator", "the note of a person's command, for the record"),
    ("an operator lets the rows catch up", "the note of a person's command, for the record"),
    ("a store was emptied by an operator", "the note of a person's command, for the record"),
];

/// Marks of a cause, in a field or in the sentence.
const CAUSES: &[&str] = &[
    "error=",
    "cause=",
    "reason=",
    "detail=",
    "why=",
    "fault=",
    "lack=",
    "because",
    "since ",
    "most likely",
    "deaths=",
    ": ",
];

/// Marks of a next command or setting, or of what happens by itself.
const NEXTS: &[&str] = &[
    "next=",
    "`",
    "--",
    "again",
    "restart",
    "goes on",
    "go on",
    "by itself",
    "next owner",
    "takes over",
    "will expire",
    "(http.",
    "state.dir",
    "choices:",
    "delete ",
    "dead letter",
    "let all producers ",
    "set partitioner=",
];

/// The first thing that is wrong with a log, if any. `secrets` must not stand in it.
pub fn fault_of(log: &str, secrets: &[String]) -> Option<String> {
    let is_panic = |line: &&str| line.contains("panicked at src/") || line.contains("panicked at /");
    let panic = log.lines().find(is_panic).map(|line| format!("a panic: {line}"));
    let has_secret = |line: &&str| secrets.iter().any(|secret| line.contains(secret.as_str()));
    let secret = || log.lines().position(|line| has_secret(&line)).map(|at| format!("a secret in line {}", at + 1));
    let often = || {
        let (line, count) = worst_line(log);
        (count > PER_MINUTE).then(|| format!("{count} times in a minute: {line}"))
    };
    let mute = || {
        let line = log.lines().find(|line| is_warning(line) && !is_helpful(line))?;
        Some(format!("a warning without a cause or a next step: {line}"))
    };
    panic.or_else(secret).or_else(often).or_else(mute)
}

fn is_warning(line: &str) -> bool {
    // `2026-11-29T10:00:00.000000Z  WARN target: message field=value`
    let level = line.split_once("Z ").filter(|(at, _)| at.starts_with("20")).map(|(_, rest)| rest.trim_start());
    level.is_some_and(|rest| rest.starts_with("WARN") || rest.starts_with("ERROR"))
}

/// Whether a warning has both, or needs neither.
fn is_helpful(line: &str) -> bool {
    let said = line.split_once("Z ").map_or(line, |(_, said)| said);
    let said = said.split_once(": ").map_or(said, |(_, message)| message); // without the target
    let has = |marks: &[&str]| marks.iter().any(|mark| said.contains(mark));
    EXCEPTIONS.iter().any(|(words, _)| line.contains(words)) || (has(CAUSES) && has(NEXTS))
}

/// A line without its numbers, but for those of partitions: of twelve partitions each may say the same.
fn without_numbers(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let is_partition = words.last().is_some_and(|before| before.ends_with("partition"))
            || ["readings-", "corrections-"].iter().any(|topic| word.contains(topic));
        let plain: String = word.chars().filter(|c| is_partition || !c.is_ascii_digit()).collect();
        words.push(plain);
    }
    words.join(" ")
}

fn is_for_debugging(line: &str) -> bool {
    ["Z DEBUG ", "Z TRACE "].iter().any(|level| line.contains(level))
}

/// The line that stands most often in one minute of the log, and how often. Lines that differ in numbers are one; those for
/// debugging, which the rig asks for and nobody else sees, do not count.
pub fn worst_line(log: &str) -> (String, usize) {
    let mut minutes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("Z ") && !is_for_debugging(line)) {
        let (at, text) = line.split_once("Z ").unwrap();
        let minute: String = at.chars().take("2026-11-29T10:00".len()).collect();
        *minutes.entry((minute, without_numbers(text))).or_default() += 1;
    }
    minutes.into_iter().map(|((_, text), count)| (text, count)).max_by_key(|(_, count)| *count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(lines: &[&str]) -> Option<String> {
        let lines = lines.iter().map(|line| format!("2026-11-29T10:00:00.000001Z {line}\n"));
        fault_of(&lines.collect::<String>(), &["hunter2".into()])
    }

    #[test]
    fn the_judge_of_logs_finds_panics_secrets_floods_and_warnings_that_help_nobody() {
        let good =
            "  WARN tidegate::app::watch: partitions stand still kind=\"stands-still\" cause=\"a lock\" next=\"wait\"";
        assert_eq!(fault(&[good, "  INFO tidegate: assigned"]), None);
        assert!(fault(&["  INFO x: thread 'a' panicked at src/flow/key.rs:1"]).unwrap().starts_with("a panic"));
        assert_eq!(fault(&[" DEBUG x: password hunter2"]).unwrap(), "a secret in line 1");
        assert_eq!(fault(&["DEBUG x: count=7 y"; 21]), None);
        let flood = fault(&["  INFO x: count=7 y"; 21]);
        let is_told = flood.is_some_and(|told| told.starts_with("21 times in a minute:   INFO x: count= y"));
        assert_eq!(is_told, !cfg!(feature = "failpoints"));
        assert_eq!(fault(&["  INFO x: count=7 y"; 20]), None);
        for mute in [
            "  WARN tidegate::x: something is odd",
            " ERROR tidegate::x: it failed error=no answer",
            "  WARN tidegate::x: it will be tried again",
        ] {
            assert!(fault(&[mute]).unwrap().starts_with("a warning without"), "{mute}");
        }
        assert_eq!(fault(&["  WARN tidegate::x: it failed; it is tried again error=no answer"]), None);
        assert_eq!(fault(&["  WARN tidegate::adapters::kafka: librdkafka: [thrd:a]: away facility=\"FAIL\""]), None);
        assert_eq!(fault(&["  WARN sqlx::postgres::notice: terminating connection"]), None);
    }

    #[test]
    fn each_exception_has_its_reason() {
        assert!(EXCEPTIONS.iter().all(|(words, why)| words.len() > 5 && why.len() > 20));
    }
}
