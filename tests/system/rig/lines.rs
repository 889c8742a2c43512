//! The judge of logs: every line that a world's processes wrote is read when the world ends. No panic of ours, no secret, no line
//! that comes often, and no warning without a cause and what to do, or what happens by itself. `tests/it/lines.rs` judges the
//! sentences of the code by the same rule.

use std::collections::BTreeMap;

/// The most often that a line may stand in one minute of one log. The matrix, which the failpoints are built for, starts an
/// instance anew up to twelve times a minute, and each start and end has lines of its own.
const PER_MINUTE: usize = if cfg!(feature = "failpoints") { 60 } else { 20 };

/// The same for what faults cause by themselves, where the matrix makes them: its shortest cells last 0.3 s, which are 200
/// faults a minute, and three parts of an instance tell of one: its two workers, or the consumer and the two producers of one.
/// Counted in a minute of kills: 26 assignments. A loop without a pause, which this is to find, writes thousands.
const PER_MINUTE_OF_FAULTS: usize = if cfg!(feature = "failpoints") { 600 } else { PER_MINUTE };

/// Lines that a fault causes by itself, and rebalances, which the end of an instance is to all others.
const OF_FAULTS: &[&str] = &[
    "librdkafka: ",
    "sqlx::postgres::notice: ",
    ": assigned",
    ": revoked",
    "the client tries again",
    "this instance has no partition now",
    "partitions of this instance",
    "publishing the messages that an earlier owner decided",
    "left to the next takeover",
    "in doubt; it proves that it is still a member",
    "waiting for the revoke",
    "a Kafka transaction failed",
    "producer replaced",
    "fenced the producers",
    "the database did not take",
    "the answer to a COMMIT was lost",
    "a COMMIT in doubt",
    "is locked by another program",
    "still locked by another program",
    "an input cannot be read on",
    "a task cannot publish",
    "a revoke did not finish in time",
];

/// Lines that may be without a cause or a next step, each with why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("librdkafka: ", "the client library's own words; what lasts becomes an obstacle with the next command"),
    ("sqlx::postgres::notice: ", "the server's own words to its clients; what follows from them has a line of ours"),
    ("repaired by an operator", "the note of a person's command, for the record"),
    ("an operator lets the rows catch up", "the note of a person's command, for the record"),
    ("a store was emptied by an operator", "the note of a person's command, for the record"),
];

/// Fields that hold a cause.
const CAUSE_FIELDS: &[&str] = &["error", "cause", "reason", "detail", "why", "fault", "lack", "deaths", "missing"];

/// Words of a cause in the sentence. Where the cause is what the sentence itself says, its own words.
const CAUSES: &[&str] = &[
    "because ",
    " since ",
    "most likely ",
    "; the client tries again",       // behind the broker's answer and the client's words
    "while leaving: ",                // in front of the fault
    "and the group assigns again: ",  // in front of the reason
    "changed in the settings file, ", // in front of the names
    "the changed settings file is wrong: ",
    "state.dir lies on a filesystem that does not outlive ",
    "is read by nobody; ",
];

/// Words for what happens by itself: a person may wait for it.
const BY_ITSELF: &[&str] = &[
    "by itself",
    "it is tried again",
    "trying again",
    "tries again",
    "it is offered again",
    "it is begun again",
    "are claimed again",
    "it is decided again",
    "assigns again",
    "it is read again",
    "the stream goes on",
    "the next owner publishes the rest",
    "its lease will expire",
    "becomes a dead letter",
    "the messages that its topics lack are published",
    "skipped by pipeline.on_data_loss",
];

/// Verbs with which a clause asks a person for something.
const IMPERATIVES: &[&str] = &[
    "delete ", "end ", "give ", "grant ", "let ", "mend ", "name ", "raise ", "restart ", "run ", "say ", "send ",
    "set ", "stop ", "use ", "wait ",
];

/// What a command in backticks is named for.
const OF_COMMANDS: &[&str] =
    &["prints", "names", "lists", "tells", "shows", "creates", "grants", "ends", "must be told"];

/// The settings of Kafka's brokers and topics that a line may name as the one to change.
const OF_KAFKA: &[&str] = &["offsets.retention.minutes", "retention.ms", "group.max.size"];

/// What a line of the log, or a sentence of the code, says: its words, and the names of its fields.
pub struct Said<'a> {
    pub sentence: &'a str,
    pub fields: Vec<&'a str>,
}

impl<'a> Said<'a> {
    /// Of a line behind its target: `it failed; it is tried again error="no answer"`. What stands in a field is the server's or
    /// a person's, and is not judged.
    fn of(text: &'a str) -> Self {
        let mut fields = Vec::new();
        let (mut end, mut is_quoted, mut is_escaped, mut word) = (text.len(), false, false, 0);
        for (at, letter) in text.char_indices() {
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' if !fields.is_empty() => is_quoted = !is_quoted,
                _ if is_quoted => {}
                ' ' => word = at + 1,
                '=' if is_name(&text[word..at]) => {
                    end = end.min(word);
                    fields.push(&text[word..at]);
                }
                _ => {}
            }
        }
        Self { sentence: text[..end].trim_end(), fields }
    }

    /// What is missing of the two that a warning has: a cause, and a next step or what happens by itself.
    pub fn lacks(&self) -> Vec<&'static str> {
        let has_cause = self.fields.iter().any(|field| CAUSE_FIELDS.contains(field)) || self.has(CAUSES);
        let has_next = self.fields.contains(&"next")
            || self.has(BY_ITSELF)
            || self.sentence.contains("choices: ")
            || self.names_a_setting()
            || self.names_a_command()
            || self.asks();
        [(has_cause, "a cause"), (has_next, "a next step")]
            .into_iter()
            .filter(|(has, _)| !has)
            .map(|(_, what)| what)
            .collect()
    }

    fn has(&self, marks: &[&str]) -> bool {
        marks.iter().any(|mark| self.sentence.contains(mark))
    }

    fn names_a_setting(&self) -> bool {
        let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        let words = self.sentence.split(|letter| !is_of_word(letter)).map(|word| word.trim_end_matches('.'));
        let settings: Vec<&str> = settings().collect();
        words.filter(|word| word.contains('.')).any(|word| settings.contains(&word) || OF_KAFKA.contains(&word))
    }

    /// A command in backticks, and what it is for behind it.
    fn names_a_command(&self) -> bool {
        let parts: Vec<&str> = self.sentence.split('`').collect();
        parts.iter().skip(2).step_by(2).any(|behind| OF_COMMANDS.iter().any(|what| behind.contains(what)))
    }

    /// Whether a clause begins with what a person is to do.
    fn asks(&self) -> bool {
        let starts = ["; ", ": ", " (", ", then ", ", or ", ". "];
        let clauses = starts.iter().flat_map(|start| self.sentence.split(start).skip(1));
        clauses
            .map(|clause| clause.trim_start_matches("then "))
            .any(|clause| IMPERATIVES.iter().any(|verb| clause.starts_with(verb) || clause == verb.trim_end()))
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// Our own settings, as their page lists them.
fn settings() -> impl Iterator<Item = &'static str> {
    let rows = include_str!("../../../docs/settings.md").lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
}

/// Whether a line may be as it is.
pub fn is_excepted(line: &str) -> bool {
    EXCEPTIONS.iter().any(|(words, _)| line.contains(words))
}

/// The first thing that is wrong with a log, if any. `secrets` must not stand in it.
pub fn fault_of(log: &str, secrets: &[String]) -> Option<String> {
    let is_panic = |line: &&str| line.contains("panicked at src/") || line.contains("panicked at /");
    let panic = log.lines().find(is_panic).map(|line| format!("a panic: {line}"));
    let has_secret = |line: &&str| secrets.iter().any(|secret| line.contains(secret.as_str()));
    let secret = || log.lines().position(|line| has_secret(&line)).map(|at| format!("a secret in line {}", at + 1));
    let often = || {
        let most = |line: &str| if is_of_faults(line) { PER_MINUTE_OF_FAULTS } else { PER_MINUTE };
        let mut found = lines_by_minute(log).into_iter().filter(|((_, line), count)| *count > most(line));
        found.next().map(|((_, line), count)| format!("{count} times in a minute: {line}"))
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
    is_excepted(line) || Said::of(said).lacks().is_empty()
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

fn is_of_faults(line: &str) -> bool {
    OF_FAULTS.iter().any(|words| line.contains(words))
}

fn is_for_debugging(line: &str) -> bool {
    ["Z DEBUG ", "Z TRACE "].iter().any(|level| line.contains(level))
}

/// How often each line stands in each minute of the log. Lines that differ in numbers are one; those for debugging, which the
/// rig asks for and nobody else sees, do not count.
fn lines_by_minute(log: &str) -> BTreeMap<(String, String), usize> {
    let mut minutes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("Z ") && !is_for_debugging(line)) {
        let (at, text) = line.split_once("Z ").unwrap();
        let minute: String = at.chars().take("2026-11-29T10:00".len()).collect();
        *minutes.entry((minute, without_numbers(text))).or_default() += 1;
    }
    minutes
}

/// The line that stands most often in one minute of the log, and how often.
pub fn worst_line(log: &str) -> (String, usize) {
    let lines = lines_by_minute(log).into_iter().map(|((_, text), count)| (text, count));
    lines.max_by_key(|(_, count)| *count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(lines: &[&str]) -> Option<String> {
        let lines = lines.iter().map(|line| format!("2026-11-29T10:00:00.000001Z {line}\n"));
        fault_of(&lines.collect::<String>(), &["hunter2".into()])
    }

    #[test]
    fn the_judge_of_logs_finds_panics_secrets_and_warnings_that_help_nobody() {
        let good =
            "  WARN tidegate::app::watch: partitions stand still kind=\"stands-still\" cause=\"a lock\" next=\"wait\"";
        assert_eq!(fault(&[good, "  INFO tidegate: assigned"]), None);
        assert!(fault(&["  INFO x: thread 'a' panicked at src/flow/key.rs:1"]).unwrap().starts_with("a panic"));
        assert_eq!(fault(&[" DEBUG x: password hunter2"]).unwrap(), "a secret in line 1");
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
    fn a_line_that_comes_often_is_told_and_what_injected_faults_cause_may_come_more_often() {
        assert_eq!(fault(&["DEBUG x: count=7 y"; PER_MINUTE + 1]), None);
        let flood = fault(&["  INFO x: count=7 y"; PER_MINUTE + 1]);
        let told = format!("{} times in a minute:   INFO x: count= y", PER_MINUTE + 1);
        assert_eq!(flood.as_deref(), Some(&*told));
        assert_eq!(fault(&["  INFO x: count=7 y"; PER_MINUTE]), None);
        for of_faults in ["  INFO x: group g: assigned tasks=3", "  WARN x: librdkafka: [thrd:a]: away"] {
            assert_eq!(fault(&vec![of_faults; PER_MINUTE_OF_FAULTS]), None, "{of_faults}");
            assert!(fault(&vec![of_faults; PER_MINUTE_OF_FAULTS + 1]).is_some(), "{of_faults}");
        }
        let both =
            [vec!["  INFO x: group g: assigned tasks=3"; PER_MINUTE_OF_FAULTS], vec!["  INFO x: y"; PER_MINUTE + 1]];
        assert!(fault(&both.concat()).unwrap().ends_with("  INFO x: y"), "another flood is seen beside it");
    }

    #[test]
    fn a_warning_has_a_cause_and_a_next_step_and_neither_is_taken_from_what_a_field_holds() {
        for (text, lacks) in [
            ("something is odd", vec!["a cause", "a next step"]),
            ("it failed error=no answer", vec!["a next step"]),
            ("it failed error=\"no answer; it is tried again, see `halted`, next=wait\"", vec!["a next step"]),
            ("it will be tried again", vec!["a cause", "a next step"]),
            ("trying again by itself", vec!["a cause"]),
            ("it failed: badly, see --help or `run` error=x", vec!["a next step"]),
            ("it failed; delete it error=x", vec![]),
            ("it failed; `halted` prints what repairs it error=x", vec![]),
            ("it failed; until then `audit` compares nothing error=x", vec!["a next step"]),
            ("it failed, most likely since `retention.ms` is shorter than the pause", vec![]),
            ("it failed, most likely since some.thing is short", vec!["a next step"]),
            ("two instances have the same `instance.slot`", vec!["a cause"]),
            ("it stands kind=\"stands-still\" cause=\"a lock\" next=\"wait\"", vec![]),
            ("most likely a client's partitioner: set partitioner=murmur2_random there, or say it", vec![]),
        ] {
            assert_eq!(Said::of(text).lacks(), lacks, "{text}");
        }
        let said = Said::of("it failed  slot=1 error=\"a b=c\" why=d");
        assert_eq!((said.sentence, said.fields), ("it failed", vec!["slot", "error", "why"]));
    }

    #[test]
    fn each_exception_has_its_reason() {
        assert!(EXCEPTIONS.iter().all(|(words, why)| words.len() > 5 && why.len() > 20));
        assert!(settings().count() > 20 && settings().any(|name| name == "instance.slot"));
    }
}
