//! Counts of meetings between drawn things: features of pipelines among themselves, and outcomes of records with faults.

use crate::met::{FEATURES, OUTCOMES, all_outcomes, faults, struck};
use crate::scenario::{Run, Scenario};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Two features, or an outcome and a fault, that no run can have both, and why.
pub const NEVER: [(&str, &str, &str); 10] = [
    ("missing rows skipped", "missing rows retried", "one setting says what is done about a missing row"),
    ("missing rows retried", "missing rows made", "a row that is made is missing to nobody"),
    ("table declared, warn", "fields of JSON keys", PART_OF_KEYS),
    ("table declared, stop", "fields of JSON keys", PART_OF_KEYS),
    ("table declared, warn", "fields of JSON keys with a schema", PART_OF_KEYS),
    ("table declared, stop", "fields of JSON keys with a schema", PART_OF_KEYS),
    ("table declared, warn", "keys of two columns", PART_OF_KEYS),
    ("table declared, stop", "keys of two columns", PART_OF_KEYS),
    ("tables that keep what is written", "tables that round", "the tables of a drawn pipeline are of one kind"),
    ("without versions", "versions shown to steps", "what is not there cannot be shown"),
];

const PART_OF_KEYS: &str = "a declaration of keys of which the id is a part is refused";

/// The spellings of keys, of which a drawn pipeline has one.
const SPELLINGS: [&str; 9] = [
    "text keys",
    "uuid keys",
    "big-endian keys",
    "keys of four bytes",
    "keys of sixteen bytes",
    "raw keys",
    "fields of JSON keys",
    "fields of JSON keys with a schema",
    "keys of two columns",
];
const ONE_SPELLING: &str = "the keys of a drawn pipeline are of one type";

/// Times that a million runs must have met each pair.
const OFTEN: u64 = 100;
const MILLION: u64 = 1_000_000;

type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// Counts of pairs over many runs, as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairs {
    /// First seed and how many, of each part.
    pub spans: Vec<(u64, u64)>,
    /// The trees that were run.
    pub trees: Vec<String>,
    pub findings: u64,
    features: Counts,
    faults: Counts,
}

/// Counts under way, by number.
pub struct Tally {
    faults: Vec<String>,
    features_met: Vec<u64>,
    faults_met: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let faults = faults();
        let (features_met, faults_met) = (vec![0; FEATURES.len().pow(2)], vec![0; OUTCOMES.len() * faults.len()]);
        Self { faults, features_met, faults_met }
    }
}

impl Tally {
    /// Counts one run.
    pub fn add(&mut self, scenario: &Scenario, run: &Run) {
        let has: Vec<usize> = (0..FEATURES.len()).filter(|number| (FEATURES[*number].1)(scenario)).collect();
        for (at, one) in has.iter().enumerate() {
            for other in &has[at + 1..] {
                self.features_met[one * FEATURES.len() + other] += 1;
            }
        }
        let struck = struck(scenario, &run.crashed, &run.unmet);
        let struck: Vec<usize> =
            (0..self.faults.len()).filter(|number| struck.contains(&self.faults[*number])).collect();
        if struck.is_empty() {
            return;
        }
        let outcomes = all_outcomes(scenario);
        for (number, _) in OUTCOMES.iter().enumerate().filter(|(_, name)| outcomes.contains(*name)) {
            for fault in &struck {
                self.faults_met[number * self.faults.len() + fault] += 1;
            }
        }
    }

    /// Adds the counts of another thread.
    pub fn merge(&mut self, other: &Self) {
        let add = |own: &mut [u64], others: &[u64]| own.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        add(&mut self.features_met, &other.features_met);
        add(&mut self.faults_met, &other.faults_met);
    }

    /// The counts by name, as they are kept.
    pub fn pairs(&self, (first, seeds): (u64, u64), findings: u64) -> Pairs {
        let mut pairs = Pairs { spans: vec![(first, seeds)], findings, ..Pairs::default() };
        pairs.trees.extend(std::env::var("TIDEGATE_TREE").ok());
        for (one, (name, _)) in FEATURES.iter().enumerate() {
            let row = pairs.features.entry((*name).to_owned()).or_default();
            let later = (one + 1..FEATURES.len()).map(|other| (other, self.features_met[one * FEATURES.len() + other]));
            row.extend(later.map(|(other, count)| (FEATURES[other].0.to_owned(), count)));
        }
        for (one, name) in OUTCOMES.iter().enumerate() {
            let counts = self.faults_met.iter().skip(one * self.faults.len());
            let row = self.faults.iter().cloned().zip(counts.copied()).collect();
            pairs.faults.insert((*name).to_owned(), row);
        }
        pairs
    }
}

impl Pairs {
    /// Adds another part.
    ///
    /// # Errors
    /// A sentence, where the two have seeds in common.
    pub fn merge(&mut self, other: Self) -> Result<(), String> {
        for (first, seeds) in &other.spans {
            let meets = |(own, count): &&(u64, u64)| first < &(own + count) && own < &(first + seeds);
            if let Some((own, count)) = self.spans.iter().find(meets) {
                return Err(format!("seeds {first} to {} and {own} to {} overlap", first + seeds - 1, own + count - 1));
            }
        }
        self.spans.extend(other.spans);
        self.spans.sort_unstable();
        self.trees.extend(other.trees.into_iter().filter(|tree| !self.trees.contains(tree)).collect::<Vec<_>>());
        self.findings += other.findings;
        for (own, others) in [(&mut self.features, other.features), (&mut self.faults, other.faults)] {
            for (row, counts) in others {
                for (column, count) in counts {
                    *own.entry(row.clone()).or_default().entry(column).or_default() += count;
                }
            }
        }
        Ok(())
    }

    pub fn seeds(&self) -> u64 {
        self.spans.iter().map(|(_, seeds)| seeds).sum()
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        let rows = self.features.iter().chain(&self.faults);
        rows.flat_map(|(row, counts)| counts.iter().map(|(column, count)| (&row[..], &column[..], *count)))
    }

    /// A sentence for each pair that was met although it cannot be.
    pub fn impossible(&self) -> Vec<String> {
        let met = self.all().filter(|(_, _, count)| *count > 0);
        let met = met.filter_map(|(row, column, count)| Some((row, column, count, never(row, column)?)));
        met.map(|(row, column, count, why)| format!("{row} met {column} {count} times, although {why}")).collect()
    }

    /// The pairs that a million runs would meet less than 100 times, the rarest first.
    pub fn rare(&self) -> Vec<String> {
        let due = OFTEN * self.seeds() / MILLION;
        let possible = self.all().filter(|(row, column, _)| never(row, column).is_none());
        let mut rare: Vec<_> = possible
            .filter(|(_, _, count)| *count < due.max(1))
            .map(|(row, column, count)| (count, row, column))
            .collect();
        rare.sort_unstable();
        rare.into_iter().map(|(count, row, column)| format!("{row} with {column}: {count}")).collect()
    }

    /// The page: the runs, and two tables in Markdown.
    pub fn page(&self) -> String {
        let spans: Vec<String> =
            self.spans.iter().map(|(first, seeds)| format!("{first} to {}", first + seeds.saturating_sub(1))).collect();
        let trees = self.trees.join("`, `");
        let mut out = format!(
            "# Pairs that were drawn\n\n{} seeds ({}) on `{trees}`: {} findings. How often two features stood in one scenario, and how \
             often a record with an outcome and a fault that struck did. A number is of scenarios; \"–\" is a pair that cannot be, \
             for the reason below.\n\n",
            self.seeds(),
            spans.join("; "),
            self.findings
        );
        let features: Vec<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
        let faults = faults();
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        let _ = writeln!(out, "## Features with features\n\n{}", table(&self.features, &features, &features));
        let _ = writeln!(out, "## Outcomes with faults\n\n{}", table(&self.faults, &faults, &OUTCOMES));
        out.push_str("## Pairs that cannot be\n\n");
        for (one, other, why) in NEVER {
            let _ = writeln!(out, "- {one} with {other}: {why}");
        }
        let _ = writeln!(out, "- two of {}: {ONE_SPELLING}", SPELLINGS.join(", "));
        out
    }
}

fn never(one: &str, other: &str) -> Option<&'static str> {
    if one != other && SPELLINGS.contains(&one) && SPELLINGS.contains(&other) {
        return Some(ONE_SPELLING);
    }
    let is_it = |(a, b): (&str, &str)| (a, b) == (one, other) || (b, a) == (one, other);
    NEVER.iter().find(|(a, b, _)| is_it((a, b))).map(|(_, _, why)| *why)
}

/// The columns stand across; the pairs of one with itself, and of features below the diagonal, are empty.
fn table(counts: &Counts, rows: &[&str], columns: &[&str]) -> String {
    let mut out = format!("| |{} |\n|---|{}\n", columns.join(" |"), "---:|".repeat(columns.len()));
    for row in rows {
        let _ = write!(out, "| {row} |");
        for column in columns {
            let of = |one: &str, other: &str| counts.get(one).and_then(|counts| counts.get(other)).copied();
            let _ = match of(row, column).or_else(|| of(column, row)) {
                _ if never(row, column).is_some() => write!(out, " – |"),
                Some(count) => write!(out, " {count} |"),
                None => write!(out, " |"),
            };
        }
        out.push('\n');
    }
    out
}
