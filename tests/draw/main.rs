//! The generator within the fast suites: some seeds, that a seed repeats itself, and what was found before.

mod falsified;
mod found;
mod met;
mod pairs;
mod pipeline;
mod real;
mod scenario;
mod shrink;
mod wish;

use pairs::Tally;
use pipeline::Asked;
use scenario::{Run, Scenario};
use std::collections::BTreeSet;
use tidegate::engine::supervisor::changelogs;
use tidegate::testing::Act;

/// Runs a scenario that was printed as a test.
fn holds(json: &str) {
    let scenario: Scenario = serde_json::from_str(json).unwrap();
    let run = scenario.run(true);
    assert!(run.findings.is_empty(), "{:#?}\n{}", run.findings, run.trace);
}

#[test]
fn the_first_seeds_lead_to_no_finding_and_instances_die_at_many_a_commit_step() {
    let (mut crashed, mut tally) = (BTreeSet::new(), Tally::default());
    for seed in 0..500 {
        let scenario = Scenario::draw(seed);
        let run = scenario.run(false);
        assert!(run.findings.is_empty(), "seed {seed}: {:#?}", run.findings);
        tally.add(&scenario, &run);
        crashed.extend(run.crashed);
    }
    assert!(crashed.len() > 10, "{crashed:?}");
    let pairs = tally.pairs((0, 500), 0);
    assert_eq!(pairs.impossible(), Vec::<String>::new(), "a pair that cannot be");
    assert!(pairs.page().contains("| missing rows retried |"), "{}", pairs.page());
}

/// They are used by `make bites` alone, so that nothing else would tell that the code has moved under one.
#[test]
fn every_defect_that_can_be_put_back_still_fits_the_code() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let bites = std::fs::read_dir(root.join("tests/draw/bites")).unwrap().map(|bite| bite.unwrap().path());
    let patches: Vec<_> = bites.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(patches.len() > 20, "{patches:?}");
    for patch in patches {
        let applied = std::process::Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root)
            .output()
            .unwrap();
        assert!(applied.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&applied.stderr));
    }
}

fn tally_of(runs: &[(&Scenario, &Run)]) -> Tally {
    let mut tally = Tally::default();
    for run in runs {
        let mut other = Tally::default();
        other.add(run.0, run.1);
        tally.merge(&other);
    }
    tally
}

#[test]
fn counts_of_several_runs_are_added_up_and_no_seed_counts_twice() {
    let scenario = Scenario::draw(0);
    let run = scenario.run(false);
    let one = tally_of(&[(&scenario, &run)]).pairs((0, 10), 0);
    let two = tally_of(&[(&scenario, &run), (&scenario, &run)]).pairs((0, 20), 0);
    let mut sum = one.clone();
    sum.merge(tally_of(&[(&scenario, &run)]).pairs((10, 10), 0)).unwrap();
    assert_eq!((sum.seeds(), sum.rare()), (two.seeds(), two.rare()));
    assert!(sum.merge(one).unwrap_err().contains("overlap"));
}

#[test]
fn a_seed_gives_the_same_trace_byte_for_byte() {
    for seed in 0..40 {
        let (one, other) = (Scenario::draw(seed).run(true), Scenario::draw(seed).run(true));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.findings, other.findings, "seed {seed}");
    }
}

#[test]
fn a_printed_scenario_is_read_back_as_it_was() {
    for seed in 0..40 {
        let scenario = Scenario::draw(seed);
        let json = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario, "seed {seed}");
    }
}

#[test]
fn a_failing_scenario_is_shrunk_to_what_makes_it_fail() {
    let is_tombstone = |act: &Act| matches!(act, Act::Send(sending) if sending.value.is_none());
    let has_one = |scenario: &Scenario| scenario.acts.iter().any(is_tombstone);
    let found = (0..).map(Scenario::draw).find(|scenario| has_one(scenario) && scenario.pipeline.subs.len() > 1);
    let small = shrink::shrink(&found.unwrap(), 1_000, has_one);
    assert_eq!((small.acts.len(), small.pipeline.subs.len(), small.pipeline.partitions), (1, 1, 1));
}

/// Those that every change plays (`system::drawn`).
#[test]
fn the_first_eight_for_real_servers_kill_and_freeze_instances_and_lose_disks() {
    let scenarios: Vec<Scenario> = (0..8).map(Scenario::for_real_servers).collect();
    let has = |is: fn(&Act) -> bool| move |scenario: &Scenario| scenario.acts.iter().any(is);
    assert!(scenarios.iter().any(has(|act| matches!(act, Act::Kill(_)))), "kills");
    assert!(scenarios.iter().any(has(|act| matches!(act, Act::Freeze(_)))), "freezes");
    let keeps_state = |scenario: &&Scenario| !changelogs(&scenario.pipeline.topology(&Asked::default())).is_empty();
    let mut with_state = scenarios.iter().filter(keeps_state);
    assert!(with_state.any(has(|act| matches!(act, Act::LoseDisk(_)))), "lost disks");
}

#[test]
fn what_is_drawn_for_real_servers_is_right_whatever_the_order_of_its_partitions() {
    for seed in 0..30 {
        let scenario = Scenario::for_real_servers(seed);
        let findings = match scenario.simulated(false).outcome {
            Err(finding) => vec![finding],
            Ok(seen) => {
                let unseen = seen.clone().partition_by_partition(&scenario.pipeline.topology(&Asked::default()));
                [scenario.judge(&seen), scenario.judge(&unseen)].concat()
            }
        };
        assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
    }
}
