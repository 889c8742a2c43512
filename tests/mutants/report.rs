//! `docs/mutants.md` for people and `docs/mutants.jsonl` with every mutant that was drawn.

use crate::find::Mutant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Least share of the compiling mutants that is to be caught, in per cent.
const BOUND: usize = 90;

/// Which sample of which tree.
#[derive(Serialize, Deserialize)]
pub struct Head {
    pub seed: u64,
    /// Mutants that there are.
    pub all: usize,
    commit: String,
    /// The object of `src` in git, which identifies the tree whatever commit holds it.
    sources: String,
}

impl Head {
    pub fn new(root: &Path, seed: u64, all: usize) -> io::Result<Self> {
        let said = |what: &str| -> io::Result<String> {
            let output = Command::new("git").args(["rev-parse", "--short=12", what]).current_dir(root).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self { seed, all, commit: said("HEAD")?, sources: said("HEAD:src")? })
    }
}

#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    Caught {
        suite: String,
        by: String,
    },
    TimedOut {
        suite: String,
    },
    Survived,
    /// No suite comes to its place.
    NotExecuted,
    DoesNotCompile,
}

impl Outcome {
    pub fn is_survival(&self) -> bool {
        matches!(self, Self::Survived | Self::NotExecuted)
    }
}

/// A line of the list.
#[derive(Serialize, Deserialize, Clone)]
pub struct Record {
    pub id: u32,
    pub name: String,
    line: usize,
    folder: String,
    kind: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Record {
    pub fn of(mutant: &Mutant, outcome: Outcome) -> Self {
        let (name, folder, kind) = (mutant.name(), mutant.folder().to_owned(), mutant.kind.to_owned());
        Self { id: mutant.id, name, line: mutant.line, folder, kind, outcome }
    }

    pub fn line(&self) -> String {
        let outcome = match &self.outcome {
            Outcome::Caught { suite, by } => format!("caught by {suite}: {by}"),
            Outcome::TimedOut { suite } => format!("timed out in {suite}"),
            Outcome::Survived => "SURVIVED".to_owned(),
            Outcome::NotExecuted => "NOT EXECUTED".to_owned(),
            Outcome::DoesNotCompile => "does not compile".to_owned(),
        };
        format!("{} (line {}): {outcome}", self.name, self.line)
    }
}

/// The test or the seed that a line of output names.
pub fn named(line: &str) -> String {
    if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.split(" ... ").next()) {
        return test.to_owned();
    }
    let mut words = line.split(": ");
    match (words.next(), words.next()) {
        (Some(seed), Some(kind)) if seed.starts_with("seed ") => format!("{seed}, {kind}"),
        _ => line.to_owned(),
    }
}

pub fn read(root: &Path) -> io::Result<(Head, Vec<Record>)> {
    let text = std::fs::read_to_string(root.join("docs/mutants.jsonl"))?;
    let mut lines = text.lines();
    let head = serde_json::from_str(lines.next().unwrap_or_default())?;
    Ok((head, lines.map(serde_json::from_str).collect::<Result<_, _>>()?))
}

/// Why a survivor lives, or what kills it since, by the mutant's name.
fn reasons(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(root.join("tests/mutants/reasons.txt"))?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut reasons = BTreeMap::new();
    while let (Some(name), Some(reason)) = (lines.next(), lines.next()) {
        reasons.insert(name.to_owned(), reason.trim().to_owned());
    }
    Ok(reasons)
}

/// Writes both files; the code says whether enough are caught and each survivor has its reason.
pub fn write(root: &Path, head: &Head, mut records: Vec<Record>) -> io::Result<ExitCode> {
    records.sort_by_key(|record| record.id);
    let mut lines = serde_json::to_string(head)? + "\n";
    for record in &records {
        lines += &(serde_json::to_string(record)? + "\n");
    }
    std::fs::write(root.join("docs/mutants.jsonl"), lines)?;
    let reasons = reasons(root)?;
    let (page, is_good) = page(head, &records, &reasons);
    std::fs::write(root.join("docs/mutants.md"), page)?;
    println!("{}", summary(&records));
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Numbers of the mutants that compile, and of those among them that are caught.
fn counts<'a>(records: impl IntoIterator<Item = &'a Record>) -> (usize, usize) {
    records
        .into_iter()
        .filter(|record| record.outcome != Outcome::DoesNotCompile)
        .fold((0, 0), |(all, caught), record| (all + 1, caught + usize::from(!record.outcome.is_survival())))
}

fn summary(records: &[Record]) -> String {
    let (all, caught) = counts(records);
    let tenths = (caught * 1_000).checked_div(all).unwrap_or_default();
    format!("{caught} of {all} mutants are caught: {}.{} %", tenths / 10, tenths % 10)
}

fn table<'a>(out: &mut String, title: &str, records: &'a [Record], key: impl Fn(&'a Record) -> &'a str) {
    let mut groups: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        groups.entry(key(record)).or_default().push(record);
    }
    let _ = write!(out, "| {title} | drawn | compile | caught |\n|---|---|---|---|\n");
    for (name, group) in groups {
        let drawn = group.len();
        let (all, caught) = counts(group);
        let _ = writeln!(out, "| {name} | {drawn} | {all} | {caught} |");
    }
    out.push('\n');
}

fn page(head: &Head, records: &[Record], reasons: &BTreeMap<String, String>) -> (String, bool) {
    let mut out = include_str!("page.md").to_owned();
    let Head { seed, all, commit, sources } = head;
    let _ = write!(
        out,
        "## Result\n\nCommit `{commit}` (`src` is tree `{sources}`), seed {seed}: {} of {all} mutants drawn.\n\n**{}** of those \
         that compile.\n\n",
        records.len(),
        summary(records)
    );
    table(&mut out, "folder", records, |record| &record.folder);
    table(&mut out, "kind", records, |record| &record.kind);
    let mut catchers: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        match &record.outcome {
            Outcome::Caught { suite, .. } => *catchers.entry(suite.clone()).or_default() += 1,
            Outcome::TimedOut { .. } => *catchers.entry("a suite that does not end".into()).or_default() += 1,
            _ => {}
        }
    }
    out.push_str("| first caught by | mutants |\n|---|---|\n");
    for (suite, count) in catchers {
        let _ = writeln!(out, "| {suite} | {count} |");
    }
    let is_explained = survivors(&mut out, records, reasons);
    let (all, caught) = counts(records);
    (out, is_explained && caught * 100 >= all * BOUND)
}

/// Lists those that live and those that were killed since; answers whether each that lives has its reason.
fn survivors(out: &mut String, records: &[Record], reasons: &BTreeMap<String, String>) -> bool {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut is_explained = true;
    out.push_str("\n## Survivors\n\n| mutant | why |\n|---|---|\n");
    for record in records.iter().filter(|record| record.outcome.is_survival()) {
        let reason = reasons.get(&record.name);
        is_explained &= reason.is_some();
        let place = if record.outcome == Outcome::NotExecuted { "No suite executes it. " } else { "" };
        let reason = reason.map_or("not judged yet", String::as_str);
        let _ = writeln!(out, "| {} | {place}{} |", cell(&record.name), cell(reason));
    }
    out.push_str(
        "\n## Survived at first\n\nA test was written for each of these.\n\n| mutant | caught by |\n|---|---|\n",
    );
    for record in records.iter().filter(|record| reasons.contains_key(&record.name)) {
        let by = match &record.outcome {
            Outcome::Caught { suite, by } => format!("{suite}: `{by}`"),
            Outcome::TimedOut { suite } => format!("{suite} does not end"),
            _ => continue,
        };
        let _ = writeln!(out, "| {} | {by} |", cell(&record.name));
    }
    is_explained
}
