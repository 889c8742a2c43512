//! Draws pipelines, inputs, outcomes and faults from seeds, runs each on the real engine and judges it by the interpreter.
//!
//! ```text
//! draw SEEDS [FIRST]            so many seeds, how often features, outcomes and faults met goes to draw-pairs.md and
//!                               draw-pairs-FIRST-SEEDS.json in $CARGO_TARGET_DIR
//! draw for SECONDS SEEDS_MIN    seeds from a start that follows the clock, for so long and at least so many
//! draw until SEEDS [FIRST]      ends with the first seed that leads to a finding
//! draw seed N                   one seed with its scenario, its trace and the engine's log
//! draw real N                   the same for the scenario that the seed gives real servers
//! draw pairs FILE...            adds up the counts of several runs, and prints docs/draw-pairs.md
//! draw run JSON                 the same for a scenario as it was printed
//! draw shrink N KIND            the smallest scenario of a seed that still leads to a finding of that kind
//! ```
//! A failure is printed as a test; the last line is `n seeds, m findings`.

mod literal;
mod met;
mod pairs;
mod pipeline;
mod real;
mod scenario;
mod shrink;
mod wish;

use pairs::{Pairs, Tally};
use scenario::Scenario;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate::ports::Clock;
use tidegate::ports::clock::SystemClock;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // drawn algorithms panic by the thousand
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words[..] {
        ["seed", seed] => number(seed).map_or_else(usage, |seed| one(&Scenario::draw(seed))),
        ["real", seed] => number(seed).map_or_else(usage, |seed| one(&Scenario::for_real_servers(seed))),
        ["run", json] => serde_json::from_str(json).map_or_else(|_| usage(), |scenario| show(&scenario)),
        ["pairs", ref files @ ..] if !files.is_empty() => add_up(files),
        ["shrink", seed, kind] => number(seed).map_or_else(usage, |seed| small(seed, kind)),
        ["for", seconds, seeds_min] => {
            number(seconds).zip(number(seeds_min)).map_or_else(usage, |(seconds, seeds_min)| {
                many(&Span { first: by_the_clock(), seeds: seeds_min, seconds })
            })
        }
        ["until", seeds] => number(seeds).map_or_else(usage, |seeds| until(seeds, 0)),
        ["until", seeds, first] => {
            number(seeds).zip(number(first)).map_or_else(usage, |(seeds, first)| until(seeds, first))
        }
        [seeds] => number(seeds).map_or_else(usage, |seeds| many(&Span { first: 0, seeds, seconds: 0 })),
        [seeds, first] => number(seeds)
            .zip(number(first))
            .map_or_else(usage, |(seeds, first)| many(&Span { first, seeds, seconds: 0 })),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "draw SEEDS [FIRST] | draw for SECONDS SEEDS_MIN | draw until SEEDS [FIRST] | draw seed N | draw real N | \
         draw run JSON | draw shrink N KIND | draw pairs FILE..."
    );
    ExitCode::from(64)
}

fn one(scenario: &Scenario) -> ExitCode {
    println!("{scenario:#?}");
    show(scenario)
}

/// Runs a scenario with its trace on standard output and the engine's log on standard error.
fn show(scenario: &Scenario) -> ExitCode {
    let log = tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(std::io::stderr);
    log.with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    let run = scenario.run(true);
    print!("{}", run.trace);
    for finding in &run.findings {
        println!("{}: {}", finding.kind, finding.detail);
    }
    println!("1 seed, {} findings", run.findings.len());
    if run.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which seeds are run.
struct Span {
    first: u64,
    /// At least so many.
    seeds: u64,
    /// And more of them, until so many seconds are over.
    seconds: u64,
}

/// A first seed that no earlier run began with.
fn by_the_clock() -> u64 {
    let now = SystemClock::default().now();
    u64::try_from(now.0 / 1_000).unwrap_or(0) * 1_000_000
}

/// The state that the threads share.
struct Progress {
    next: AtomicU64,
    clock: SystemClock,
    failed: Mutex<Vec<(u64, &'static str)>>,
    tally: Mutex<Tally>,
}

impl Progress {
    /// The next seed, while any is to be run.
    fn next(&self, span: &Span) -> Option<u64> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let is_due = seed < span.first + span.seeds || self.clock.elapsed() < Duration::from_secs(span.seconds);
        if !is_due {
            self.next.fetch_sub(1, Ordering::Relaxed);
        }
        is_due.then_some(seed)
    }

    fn run(&self, span: &Span) {
        let mut tally = Tally::default();
        while let Some(seed) = self.next(span) {
            let scenario = Scenario::draw(seed);
            let run = scenario.run(false);
            tally.add(&scenario, &run);
            let mut kinds: Vec<&str> = Vec::new();
            for finding in &run.findings {
                if kinds.contains(&finding.kind) {
                    continue;
                }
                kinds.push(finding.kind);
                println!("seed {seed}: {}: {}", finding.kind, finding.detail);
                if let Ok(mut failed) = self.failed.lock() {
                    failed.push((seed, finding.kind));
                }
            }
        }
        if let Ok(mut all) = self.tally.lock() {
            all.merge(&tally);
        }
    }
}

/// Ends with the first seed that leads to a finding, and prints that seed's first one of each kind.
fn until(seeds: u64, first: u64) -> ExitCode {
    let (next, found) = (AtomicU64::new(first), Mutex::new(BTreeMap::new()));
    let look = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let findings = Scenario::draw(seed).run(false).findings;
            if !findings.is_empty() {
                next.store(first + seeds, Ordering::Relaxed); // seeds before it are under way
                if let Ok(mut found) = found.lock() {
                    found.insert(seed, findings);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(look))));
    let Some((seed, findings)) = found.into_inner().unwrap_or_default().pop_first() else {
        println!("{seeds} seeds, 0 findings");
        return ExitCode::SUCCESS;
    };
    let mut kinds: Vec<&str> = Vec::new();
    for finding in findings {
        if !kinds.contains(&finding.kind) {
            kinds.push(finding.kind);
            println!("seed {seed}: {}: {}", finding.kind, finding.detail);
        }
    }
    ExitCode::FAILURE
}

fn many(span: &Span) -> ExitCode {
    println!("seeds from {}", span.first);
    let progress = Progress {
        next: AtomicU64::new(span.first),
        clock: SystemClock::default(),
        failed: Mutex::default(),
        tally: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| progress.run(span)))));
    let Progress { next, failed, tally, .. } = progress;
    let (mut failed, tally) = (failed.into_inner().unwrap_or_default(), tally.into_inner().unwrap_or_default());
    let seeds = next.into_inner() - span.first;
    let pairs = tally.pairs((span.first, seeds), failed.len() as u64);
    keep(&pairs, &format!("draw-pairs-{}-{seeds}.json", span.first));
    failed.sort_unstable();
    let mut shrunk: Vec<&str> = Vec::new();
    for (seed, kind) in &failed {
        if shrunk.contains(kind) || shrunk.len() == 3 {
            continue; // one of each kind, and not too many
        }
        shrunk.push(kind);
        println!("seed {seed}, {kind}, as a test:\n{}", test_of(*seed, &shrunk_to(*seed, kind)));
    }
    let impossible = pairs.impossible();
    impossible.iter().for_each(|sentence| println!("{sentence}"));
    println!("{seeds} seeds, {} findings", failed.len());
    if failed.is_empty() && impossible.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Leaves the counts beside the build.
fn keep(pairs: &Pairs, name: &str) {
    let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") else { return };
    let folder = std::path::Path::new(&folder);
    let json = serde_json::to_vec(pairs).unwrap_or_default();
    for (name, contents) in [(name, json), ("draw-pairs.md", pairs.page().into_bytes())] {
        if let Err(error) = std::fs::write(folder.join(name), contents) {
            eprintln!("{name}: {error}");
        }
    }
}

/// Prints the page of several runs; pairs that are rare or cannot be, on standard error.
fn add_up(files: &[&str]) -> ExitCode {
    let mut all = Pairs::default();
    for file in files {
        let read = std::fs::read(file).map_err(|error| error.to_string());
        let read = read.and_then(|json| serde_json::from_slice::<Pairs>(&json).map_err(|error| error.to_string()));
        if let Err(error) = read.and_then(|pairs| all.merge(pairs)) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    print!("{}", all.page());
    let (rare, impossible) = (all.rare(), all.impossible());
    for sentence in rare.iter().chain(&impossible) {
        eprintln!("{sentence}");
    }
    eprintln!("{} seeds, {} findings, {} pairs rarer than 100 in a million", all.seeds(), all.findings, rare.len());
    if all.findings == 0 && rare.is_empty() && impossible.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn shrunk_to(seed: u64, kind: &str) -> Scenario {
    let has_kind = |scenario: &Scenario| scenario.run(false).findings.iter().any(|finding| finding.kind == kind);
    shrink::shrink(&Scenario::draw(seed), 2_000, has_kind)
}

fn small(seed: u64, kind: &str) -> ExitCode {
    let scenario = shrunk_to(seed, kind);
    println!("{scenario:#?}\n{}\n{}", scenario.run(true).trace, test_of(seed, &scenario));
    ExitCode::SUCCESS
}

/// A test to be pasted into `tests/draw/found.rs`.
fn test_of(seed: u64, scenario: &Scenario) -> String {
    let json = serde_json::to_string(scenario).unwrap_or_default();
    let details: Vec<String> =
        scenario.run(false).findings.iter().map(|finding| format!("// {}: {}", finding.kind, finding.detail)).collect();
    format!("{}\n#[test]\nfn seed_{seed}() {{\n    holds(r##\"{json}\"##);\n}}", details.join("\n"))
}
