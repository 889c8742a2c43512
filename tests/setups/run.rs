//! Runs rows, several at a time, since many of them wait for an answer that does not come.

use super::row::Row;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Well within the patience of an operator who deploys it.
const WITHIN: Duration = Duration::from_secs(30);
const AT_A_TIME: usize = 4;

/// Words in braces and their meanings.
pub type Places = Vec<(&'static str, String)>;

/// The surroundings of the rows.
pub trait Ground: Sync {
    /// The binary, with an environment that holds no setting but those of the ground, ended after 30 s.
    fn command(&self, arguments: &[String]) -> Command;

    /// An empty folder, below which each row has its own.
    fn folder(&self) -> &Path;

    /// Gets a row's servers ready.
    fn prepare(&self, row: &Row) -> Places;

    /// Tells what a row has left behind that it should not have.
    fn left_behind(&self, row: &Row) -> Option<String>;
}

/// Runs all rows and tells what was otherwise than they say, a text each.
pub fn failures(ground: &impl Ground, rows: &[Row]) -> Vec<String> {
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len(), "each row has a name of its own");
    let (rest, failures) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(row) = rest.lock().unwrap().next() else { break };
                    if let Some(failure) = failure(ground, row) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[allow(clippy::disallowed_methods, reason = "a process takes real time")]
fn failure(ground: &impl Ground, row: &Row) -> Option<String> {
    let folder = ground.folder().join(row.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let mut places = ground.prepare(row);
    places.push(("{file}", folder.join("tidegate.yaml").display().to_string()));
    places.push(("{folder}", folder.display().to_string()));
    write_files(&folder, row);
    let filled = |text: &str| places.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
    let mut arguments: Vec<String> = row.arguments.iter().map(|word| filled(word)).collect();
    if !row.file.is_empty() {
        arguments.splice(0..0, ["--config".into(), filled("{file}")]);
    }
    let began = Instant::now();
    let mut command = ground.command(&arguments);
    let output = command.envs(row.environment.iter().map(|(name, value)| (name, filled(value)))).output().unwrap();
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim_end().to_owned();
    let found = places.iter().fold(text, |text, (word, value)| text.replace(value, word));
    let mut wrong = Vec::new();
    if output.status.code() != Some(row.code) {
        wrong.push(format!("exit {} expected, {} found", row.code, output.status));
    }
    if took > WITHIN {
        wrong.push(format!("took {took:?}"));
    }
    if !is_like(&found, &row.said.text()) || found.contains("panicked") {
        wrong.push(format!("expected\n{}\nfound\n{found}", row.said.text()));
    }
    wrong.extend(ground.left_behind(row));
    let _ = fs::remove_dir_all(&folder);
    (!wrong.is_empty()).then(|| format!("{}: {}", row.name, wrong.join("; ")))
}

fn write_files(folder: &Path, row: &Row) {
    fs::create_dir_all(folder).unwrap();
    if !row.file.is_empty() {
        fs::write(folder.join("tidegate.yaml"), row.file).unwrap();
    }
    for (name, text) in row.files {
        fs::write(folder.join(name), text).unwrap();
    }
    if !row.topics.is_empty() {
        copy(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("topics"), &folder.join("topics"));
    }
    for (file, from, to) in row.topics {
        let file = folder.join("topics").join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{}: {} does not contain {from}", row.name, file.display());
        fs::write(file, text.replace(from, to)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Whether a text is as expected, where `…` stands for any text.
fn is_like(found: &str, expected: &str) -> bool {
    let mut parts: Vec<&str> = expected.split('…').collect();
    let (Some(last), Some(first)) = (parts.pop(), parts.first().copied()) else { return found == expected };
    let Some(mut rest) = found.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    for part in parts.iter().skip(1) {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}

#[test]
fn three_dots_stand_for_any_text() {
    for (found, expected, is) in [
        ("a b c", "a b c", true),
        ("a b c d", "a b c", false),
        ("a b c", "a …", true),
        ("a b c", "… c", true),
        ("a b c d", "a … c …", true),
        ("a b c", "a … d …", false),
        ("a", "a…a", false),
    ] {
        assert_eq!(is_like(found, expected), is, "{found} / {expected}");
    }
}
