//! Golden scripts: a text of commands and, below each, what it printed.
//!
//! ```text
//! row accounts 7 {"score": 0.0}
//! send readings 7 {"value": 10.0}
//! read large-changes
//! > 7 {"magnitude":2.0,"score":2.0}
//! ```
//! Commands: `row TABLE KEY JSON`, `send TOPIC KEY TEXT` (`-` for no key, nothing for no value), `threshold NAME NUMBER`,
//! `advance MS`, `crash STEP NTH`, `kill N`, `start N`, `stop N`, `read TOPIC`, `dead TOPIC`, `version TABLE KEY`,
//! `halts`. Lines that start with `#` are comments.

use super::driver::TestDriver;
use crate::engine::protocol::order::{Step, TAKEOVER, THROUGH_DATABASE};
use std::fmt::Write as _;
use std::time::Duration;

/// Runs a script and answers it with the outputs as they are now: equal to `script` when nothing has changed.
///
/// # Panics
/// On a line that is not a command, and wherever the driver panics.
#[must_use]
pub fn run_script(driver: &mut TestDriver, script: &str) -> String {
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with('>')) {
        out.push_str(line);
        out.push('\n');
        let command = line.trim();
        if !command.is_empty() && !command.starts_with('#') {
            for printed in run_line(driver, command) {
                let _ = writeln!(out, "> {printed}");
            }
        }
    }
    out
}

fn run_line(driver: &mut TestDriver, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.splitn(4, ' ').collect();
    match words.as_slice() {
        ["row", table, key, json] => driver.row_by_name(table, number(line, key), &json_of(line, json)),
        ["send", topic, key] => driver.send_raw(topic, key_of(key), None),
        ["send", topic, key, text] => driver.send_raw(topic, key_of(key), Some(text.as_bytes())),
        ["threshold", name, value] => driver.threshold(name, value.parse().unwrap_or_else(|_| bad(line))),
        ["advance", ms] => driver.advance(Duration::from_millis(number(line, ms).unsigned_abs())),
        ["crash", step, nth] => {
            let nth = usize::try_from(number(line, nth)).unwrap_or_else(|_| bad(line));
            driver.crash_at(step_of(line, step), nth);
        }
        ["kill", instance] => driver.kill(instance.parse().unwrap_or_else(|_| bad(line))),
        ["start", instance] => driver.start(instance.parse().unwrap_or_else(|_| bad(line))),
        ["stop", instance] => driver.stop(instance.parse().unwrap_or_else(|_| bad(line))),
        ["read", topic] => return driver.read(topic).iter().map(|(key, value)| format!("{key} {value}")).collect(),
        ["dead", topic] => return dead(driver, topic),
        ["version", table, key] => {
            let row = driver.row_of(table, number(line, key));
            return vec![row.map_or("no row".into(), |row| format!("version {} {:?}", row.version, row.values))];
        }
        ["halts"] => {
            let halts = driver.halts();
            return halts.iter().map(|halt| format!("{} {}", halt.source, halt.reason.label())).collect();
        }
        _ => bad(line),
    }
    Vec::new()
}

fn dead(driver: &mut TestDriver, topic: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    found
        .iter()
        .map(|found| {
            let header = |name| found.header(name).unwrap_or("-").to_owned();
            format!("{}: {}", header("kafka_dlt-exception-fqcn"), header("kafka_dlt-exception-message"))
        })
        .collect()
}

fn step_of(line: &str, name: &str) -> Step {
    let steps = TAKEOVER.iter().chain(&THROUGH_DATABASE);
    steps.copied().find(|step| format!("{step:?}") == name).unwrap_or_else(|| bad(line))
}

fn key_of(key: &str) -> Option<&[u8]> {
    (key != "-").then_some(key.as_bytes())
}

fn number(line: &str, word: &str) -> i64 {
    word.parse().unwrap_or_else(|_| bad(line))
}

fn json_of(line: &str, json: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(json).unwrap_or_else(|_| bad(line))
}

fn bad<T>(line: &str) -> T {
    panic!("not a command: {line}")
}
