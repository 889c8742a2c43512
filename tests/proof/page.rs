//! Lines to Markdown.

use crate::{Cell, Finding, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Cells that are counted together.
pub struct Kind {
    pub name: &'static str,
    what: &'static str,
    /// Number of cells that the long run is to have.
    wanted: usize,
}

const fn kind(name: &'static str, what: &'static str, wanted: usize) -> Kind {
    Kind { name, what, wanted }
}

pub const KINDS: [Kind; 16] = [
    kind("kill", "an instance is killed at a crash point", 200),
    kind("pause", "an instance is stopped at a crash point, past its session, and goes on", 60),
    kind("double", "two faults at once", 30),
    kind("sigterm", "an instance leaves under load", 3),
    kind("rolling", "every instance is replaced, one after the other", 1),
    kind("broker", "the broker of a role is killed, stopped, frozen", 30),
    kind("database", "PostgreSQL is killed, stopped, frozen, its sessions ended, its rows locked", 30),
    kind("obstacle", "an obstacle stands until it is told with cause and next command, and goes", 39),
    kind("late", "a request reaches the broker within the next transaction (F1)", 90),
    kind("f2", "a Kafka request or its answer is lost, delayed, cut (F2)", 65),
    kind("f3", "the broker answers with an error (F3)", 126),
    kind("f4", "a statement or its answer is lost, held, refused (F4)", 240),
    kind("mix", "random faults of all kinds, re-drawn every 20 s", 6),
    kind("protocol", "kills with `group.protocol=consumer`", 1),
    kind("guard", "a guard is switched off, and it must be noticed", 14),
    kind("drawn", "a drawn pipeline with drawn records through kills, judged by a naive interpreter", 60),
];

/// Facts of which the largest value is shown.
const WORST: [(&str, &str, &str); 4] = [
    ("told_s", "told after at most", "s"),
    ("gone_s", "no longer told after at most", "s"),
    ("all_move_s", "all move after at most", "s"),
    ("stood_s", "a partition stood for at most", "s"),
];

/// The whole page.
pub fn page(runs: &[Run], cells: &[Cell], findings: &[Finding]) -> String {
    let mut out = String::from(
        "# What the long run has shown\n\n\
         Made by `make prove` from the lines in [proof/](proof/), one a cell: do not edit. `make prove PART=…` runs a part of at\n\
         most 40 minutes on real servers and adds to what is here; a cell counts as clean when the audit, the oracle or the\n\
         one-by-one computation over everything that the run wrote found nothing.\n\n\
         ## Cells\n\n\
         | kind | what happens | wanted | clean | cells | findings | minutes | worst |\n|---|---|---|---|---|---|---|---|\n",
    );
    for kind in &KINDS {
        let of_it: Vec<&Cell> = cells.iter().filter(|cell| cell.kind == kind.name).collect();
        let clean: Vec<&Cell> = of_it.iter().copied().filter(|cell| cell.outcome == "clean").collect();
        let different: BTreeSet<&str> = clean.iter().map(|cell| cell.cell.as_str()).collect();
        let found = of_it.iter().filter(|cell| cell.outcome == "finding").count();
        let minutes = of_it.iter().fold(0.0, |sum, cell| sum + cell.seconds) / 60.0;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {found} | {minutes:.1} | {} |",
            kind.name,
            kind.what,
            kind.wanted,
            clean.len(),
            different.len(),
            worst(&clean)
        );
    }
    out.push_str("\n## Findings\n\n");
    if findings.is_empty() {
        out.push_str("None.\n");
    } else {
        out.push_str("| where | what | mended by |\n|---|---|---|\n");
        for Finding { cell, what, mended } in findings {
            let _ = writeln!(out, "| {cell} | {what} | {mended} |");
        }
    }
    guards(&mut out, cells);
    out.push_str("\n## Runs\n\n| run | part | commit | clean cells | seeds | versions |\n|---|---|---|---|---|---|\n");
    for Run { run, part, commit, versions } in runs {
        let clean: Vec<&Cell> = cells.iter().filter(|cell| cell.run == *run && cell.outcome == "clean").collect();
        let seeds: BTreeSet<String> = clean.iter().map(|cell| cell.seed.to_string()).collect();
        let seeds: Vec<String> = seeds.into_iter().collect();
        let _ = writeln!(out, "| {run} | {part} | {commit} | {} | {} | {versions} |", clean.len(), seeds.join(", "));
    }
    out
}

fn worst(clean: &[&Cell]) -> String {
    let worst = WORST.iter().filter_map(|(fact, words, unit)| {
        let values = clean.iter().filter_map(|cell| cell.facts.get(*fact)?.as_f64());
        let most = values.reduce(f64::max)?;
        Some(format!("{words} {most:.1} {unit}"))
    });
    worst.collect::<Vec<_>>().join("; ")
}

/// The judges that caught each guard's removal, and the most tries that it took.
fn guards(out: &mut String, cells: &[Cell]) {
    let mut caught: BTreeMap<&str, (usize, BTreeSet<String>, u64)> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.kind == "guard" && cell.outcome == "clean") {
        let text = |fact: &str| cell.facts.get(fact).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let tries = cell.facts.get("tries").and_then(serde_json::Value::as_u64).unwrap_or(1);
        let entry = caught.entry(&cell.cell).or_default();
        entry.0 += 1;
        entry.1.insert(text("caught_by"));
        entry.2 = entry.2.max(tries);
    }
    if caught.is_empty() {
        return;
    }
    out.push_str("\n## Guards\n\n| switched off | times | caught by | after at most |\n|---|---|---|---|\n");
    for (guard, (times, by, tries)) in caught {
        let by: Vec<String> = by.into_iter().collect();
        let _ = writeln!(out, "| {guard} | {times} | {} | {tries} |", by.join("; "));
    }
}
