//! Draws pipelines, inputs, outcomes and faults from seeds, runs each on the real engine and judges it by the interpreter.
//!
//! `draw SEEDS [FIRST]` runs so many seeds and ends with one line; `draw seed N` repeats one and prints its trace;
//! `draw run JSON` does so with a scenario as it was printed;
//! `draw shrink N KIND` prints the smallest test that still leads to a finding of that kind, with its trace.

mod pipeline;
mod scenario;
mod shrink;

use scenario::Scenario;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // drawn algorithms panic by the thousand
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words[..] {
        ["seed", seed] => number(seed).map_or_else(usage, one),
        ["run", json] => serde_json::from_str(json).map_or_else(|_| usage(), |scenario| show(&scenario)),
        ["shrink", seed, kind] => number(seed).map_or_else(usage, |seed| small(seed, kind)),
        [seeds] => number(seeds).map_or_else(usage, |seeds| many(seeds, 0)),
        [seeds, first] => number(seeds).zip(number(first)).map_or_else(usage, |(seeds, first)| many(seeds, first)),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("draw SEEDS [FIRST] | draw seed N | draw run JSON | draw shrink N KIND");
    ExitCode::from(64)
}

fn one(seed: u64) -> ExitCode {
    let scenario = Scenario::draw(seed);
    println!("{scenario:#?}");
    show(&scenario)
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

fn many(seeds: u64, first: u64) -> ExitCode {
    println!("seeds {first} to {}", first + seeds.saturating_sub(1));
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let run = Scenario::draw(seed).run(false);
                    let mut kinds: Vec<&str> = Vec::new();
                    for finding in &run.findings {
                        if kinds.contains(&finding.kind) {
                            continue;
                        }
                        kinds.push(finding.kind);
                        println!("seed {seed}: {}: {}", finding.kind, finding.detail);
                        if let Ok(mut failed) = failed.lock() {
                            failed.push((seed, finding.kind));
                        }
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_default();
    failed.sort_unstable();
    let mut shrunk: Vec<&str> = Vec::new();
    for (seed, kind) in &failed {
        if shrunk.contains(kind) || shrunk.len() == 3 {
            continue; // one of each kind, and not too many
        }
        shrunk.push(kind);
        println!("seed {seed}, {kind}, as a test:\n{}", test_of(*seed, &shrunk_to(*seed, kind)));
    }
    println!("{seeds} seeds, {} findings", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
