//! Changes the code in a few hundred places, one at a time, and sees whether the fast suites notice.
//!
//! ```text
//! mutants SEED COUNT       draws so many mutants, builds them all at once, runs each, writes docs/mutants.md and .jsonl
//! mutants again [WORD..]   runs those that docs/mutants.jsonl says survived, or of them those whose names hold one of the words
//! mutants list             prints every mutant there is
//! ```
//! Every drawn mutant is compiled into one build of a copy of the tree, behind a switch in an environment variable. Those
//! that do not compile are dropped and the build is repeated until it holds.

mod find;
mod report;
mod tree;
mod trial;
mod values;
mod weave;

use find::Mutant;
use report::{Outcome, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use tree::Tree;
use trial::{Bench, End, Suite};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["list"] => list(),
        ["again", ref words @ ..] => again(words),
        [seed, count] => match (seed.parse(), count.parse()) {
            (Ok(seed), Ok(count)) => drawn(seed, count),
            _ => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("mutants SEED COUNT | mutants again [WORD..] | mutants list");
    ExitCode::from(64)
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Where the copy and what is built of it stand.
fn folder() -> io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = target.join("mutants");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn found(tree: &Tree) -> io::Result<Vec<Mutant>> {
    let mut all = Vec::new();
    for (path, text) in tree.sources()? {
        all.extend(find::in_file(&path, &text).map_err(|error| io::Error::other(format!("{path}: {error}")))?);
    }
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for mutant in &mut all {
        let count = names.entry(mutant.name()).or_default();
        *count += 1;
        if *count > 1 {
            mutant.change += &format!(" (place {count})");
        }
    }
    Ok(all)
}

fn list() -> io::Result<ExitCode> {
    let all = found(&Tree::new(root(), &folder()?))?;
    for mutant in &all {
        println!("{}:{} {}: {}", mutant.file, mutant.line, mutant.function, mutant.change);
    }
    println!("{} mutants", all.len());
    Ok(ExitCode::SUCCESS)
}

/// A part of all that the seed alone decides, in the order of their places and with their numbers.
fn sample(mut all: Vec<Mutant>, seed: u64, count: usize) -> Vec<Mutant> {
    let mut state = seed;
    let mut keyed: Vec<(u64, usize)> = (0..all.len()).map(|at| (next(&mut state), at)).collect();
    keyed.sort_unstable();
    let chosen: BTreeSet<usize> = keyed.into_iter().take(count).map(|(_, at)| at).collect();
    let mut at = 0;
    all.retain(|_| {
        at += 1;
        chosen.contains(&(at - 1))
    });
    (1..).zip(&mut all).for_each(|(id, mutant)| mutant.id = id);
    all
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn drawn(seed: u64, count: usize) -> io::Result<ExitCode> {
    let folder = folder()?;
    let mut tree = Tree::new(root(), &folder);
    let all = found(&tree)?;
    let head = report::Head::new(&tree.root, seed, all.len())?;
    let sample = sample(all, seed, count);
    println!("seed {seed}: {} of {} mutants", sample.len(), head.all);
    let (fitting, refused) = fit(&mut tree, sample)?;
    let mut records = run(&tree, &folder, &fitting)?;
    records.extend(refused.iter().map(|mutant| Record::of(mutant, Outcome::DoesNotCompile)));
    report::write(&tree.root, &head, records)
}

fn again(words: &[&str]) -> io::Result<ExitCode> {
    let folder = folder()?;
    let mut tree = Tree::new(root(), &folder);
    let (head, mut records) = report::read(&tree.root)?;
    let is_meant = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let survived: BTreeMap<String, u32> = records
        .iter()
        .filter(|record| record.outcome.is_survival() && is_meant(&record.name))
        .map(|record| (record.name.clone(), record.id))
        .collect();
    let mut mutants = Vec::new();
    for mut mutant in found(&tree)? {
        if let Some(id) = survived.get(&mutant.name()) {
            mutant.id = *id;
            mutants.push(mutant);
        }
    }
    println!("{} of {} survivors", mutants.len(), survived.len());
    let (fitting, _) = fit(&mut tree, mutants)?;
    for new in run(&tree, &folder, &fitting)? {
        if let Some(record) = records.iter_mut().find(|record| record.id == new.id) {
            *record = new;
        }
    }
    report::write(&tree.root, &head, records)
}

/// Parts the mutants into those that compile, which stand in the copy then, and the others.
fn fit(tree: &mut Tree, sample: Vec<Mutant>) -> io::Result<(Vec<Mutant>, Vec<Mutant>)> {
    let (mut fitting, mut refused) = (sample, Vec::new());
    loop {
        tree.write(&fitting)?;
        let blamed = tree.refused()?;
        println!("{} mutants, {} do not compile", fitting.len(), blamed.len());
        if blamed.is_empty() {
            return Ok((fitting, refused));
        }
        let (bad, good) = fitting.into_iter().partition(|mutant| blamed.contains(&mutant.id));
        refused.extend(bad);
        fitting = good;
    }
}

/// Runs each mutant, one a core.
fn run(tree: &Tree, folder: &Path, mutants: &[Mutant]) -> io::Result<Vec<Record>> {
    let mut suites = Suite::all(&tree.build(&trial::TESTS)?)?;
    for suite in &mut suites {
        Bench { copy: &tree.copy, core: 0 }.measure(suite, folder)?;
        println!("{}: {:.1?} without a mutant, reaches {}", suite.name, suite.clean, suite.reached.len());
    }
    let (waiting, done) = (Mutex::new(mutants.iter()), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = |core: usize| -> io::Result<()> {
        let bench = Bench { copy: &tree.copy, core };
        loop {
            let Some(mutant) = waiting.lock().ok().and_then(|mut waiting| waiting.next()) else { return Ok(()) };
            let record = Record::of(mutant, outcome(&bench, &suites, mutant.id)?);
            if let Ok(mut done) = done.lock() {
                done.push(record);
                println!("{}/{} {}", done.len(), mutants.len(), done[done.len() - 1].line());
            }
        }
    };
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || work(core))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
    })?;
    Ok(done.into_inner().unwrap_or_default())
}

fn outcome(bench: &Bench, suites: &[Suite], id: u32) -> io::Result<Outcome> {
    if !suites.iter().any(|suite| suite.reached.contains(&id)) {
        return Ok(Outcome::NotExecuted);
    }
    for suite in suites.iter().filter(|suite| suite.reached.contains(&id)) {
        match bench.with_mutant(suite, id)? {
            End::Passed => {}
            End::Failed(line) => return Ok(Outcome::Caught { suite: suite.name.into(), by: report::named(&line) }),
            End::TimedOut => return Ok(Outcome::TimedOut { suite: suite.name.into() }),
        }
    }
    Ok(Outcome::Survived)
}
