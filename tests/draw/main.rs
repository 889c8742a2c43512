//! The generator within the fast suites: some seeds, the repetition of a seed, and earlier findings.

mod falsified;
mod found;
mod literal;
mod met;
mod pairs;
mod pipeline;
mod real;
mod scenario;
mod shrink;
mod wish;

use pairs::Tally;
use pipeline::{Asked, Spans, SubDraw, WindowDraw};
use scenario::{Run, Scenario};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tidegate::testing::{Act, Message};

/// Runs a scenario that was printed as a test.
fn holds(json: &str) {
    let scenario: Scenario = serde_json::from_str(json).unwrap();
    let run = scenario.run(true);
    assert!(run.findings.is_empty(), "{:#?}\n{}", run.findings, run.trace);
}

/// A seed's scenario, its run, and the rules that had something to judge in it.
struct Drawn {
    scenario: Scenario,
    run: Run,
    judged: BTreeSet<&'static str>,
}

/// The first seeds, run once for all tests, on two threads.
static FIRST: LazyLock<Vec<Drawn>> = LazyLock::new(|| {
    let drawn = |seed: u64| {
        let scenario = Scenario::draw(seed);
        let simulated = scenario.simulated(false);
        let judged = simulated.outcome.as_ref().map(|seen| literal::look(&scenario, seen).1).unwrap_or_default();
        let run = scenario.run_of(simulated);
        Drawn { scenario, run, judged }
    };
    std::thread::scope(|scope| {
        let half = scope.spawn(|| (0..250).map(drawn).collect::<Vec<_>>());
        let other: Vec<_> = (250..500).map(drawn).collect();
        half.join().unwrap().into_iter().chain(other).collect()
    })
});

#[test]
fn the_first_seeds_lead_to_no_finding_and_instances_die_at_many_a_commit_step() {
    let (mut crashed, mut tally) = (BTreeSet::new(), Tally::default());
    for (seed, Drawn { scenario, run, .. }) in FIRST.iter().enumerate() {
        assert!(run.findings.is_empty(), "seed {seed}: {:#?}", run.findings);
        tally.add(scenario, run);
        crashed.extend(run.crashed.clone());
    }
    assert!(crashed.len() > 10, "{crashed:?}");
    let pairs = tally.pairs((0, 500), 0);
    assert_eq!(pairs.impossible(), Vec::<String>::new(), "a pair that cannot be");
    assert!(pairs.page().contains("| missing rows retried |"), "{}", pairs.page());
}

/// Only `make bites` uses them, so that nothing else would show that the code has moved under one.
#[test]
fn every_defect_that_can_be_put_back_still_fits_the_code_and_says_by_what_it_is_found() {
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
        let text = std::fs::read_to_string(&patch).unwrap();
        let head = || text.lines().take_while(|line| !line.starts_with("diff "));
        let found_by: Vec<_> = head().filter(|line| line.starts_with("kind: ") || line.starts_with("test: ")).collect();
        assert_eq!(found_by.len(), 1, "{}: by what it is found: {found_by:?}", patch.display());
        assert!(head().any(|line| line.starts_with("takes back: ")), "{}", patch.display());
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

/// Scenarios that every change plays (`system::drawn`).
#[test]
fn the_first_eight_for_real_servers_kill_and_freeze_instances_and_lose_disks() {
    let scenarios: Vec<Scenario> = (0..8).map(Scenario::for_real_servers).collect();
    let has = |is: fn(&Act) -> bool| move |scenario: &Scenario| scenario.acts.iter().any(is);
    assert!(scenarios.iter().any(has(|act| matches!(act, Act::Kill(_)))), "kills");
    assert!(scenarios.iter().any(has(|act| matches!(act, Act::Freeze(_)))), "freezes");
    let keeps_state = |scenario: &&Scenario| !scenario.pipeline.topology(&Asked::default()).changelogs().is_empty();
    let mut with_state = scenarios.iter().filter(keeps_state);
    assert!(with_state.any(has(|act| matches!(act, Act::LoseDisk(_)))), "lost disks");
}

#[test]
fn what_is_drawn_for_real_servers_is_right_whatever_the_order_of_its_partitions() {
    for seed in 0..60 {
        let scenario = Scenario::for_real_servers(seed);
        let findings = match scenario.simulated(false).outcome {
            Err(finding) => vec![finding],
            Ok(seen) => {
                assert!(seen.halts.is_empty(), "seed {seed}: nobody mends there what halts: {:?}", seen.halts);
                let unseen = seen.clone().partition_by_partition(&scenario.pipeline.topology(&Asked::default()));
                [scenario.judge(&seen), scenario.judge(&unseen)].concat()
            }
        };
        assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
    }
}

/// The rules of `literal`, and what the pipelines have that give it something to judge.
const RULES: [(&str, fn(&SubDraw) -> bool); 17] = [
    ("notice", |sub| sub.destination.is_some()),
    ("announced", |sub| sub.destination.is_some()),
    ("filter", |sub| sub.has_filter && sub.destination.is_some()),
    ("threshold", |sub| sub.threshold.is_some() && sub.destination.is_some()),
    ("join", |sub| sub.is_joined() && sub.destination.is_some()),
    ("store", |sub| sub.has_store && sub.destination.is_some()),
    ("second store", |sub| sub.has_last && sub.destination.is_some()),
    ("copies", |sub| sub.rekeys),
    ("row", SubDraw::has_rows),
    ("chain", |sub| sub.is_chain),
    ("route", |sub| sub.routed.is_some()),
    ("window", |sub| sub.window.is_some() && sub.destination.is_some()),
    ("window of another key", |sub| {
        // Longer ones outlast a run.
        let is_short = |window: WindowDraw| match window.shape {
            Spans::Tumbling(ms) | Spans::Hopping(ms, _) | Spans::Session(ms) => ms + window.grace_ms <= 400,
        };
        sub.window.is_some_and(|window| window.by_partition && is_short(window)) && sub.destination.is_some()
    }),
    ("pair", |sub| sub.pairing.is_some()),
    ("event that stayed alone", |sub| sub.pairing.is_some_and(|drawn| drawn.after_ms.max(drawn.before_ms) < 400)),
    ("joined tables", |sub| sub.joins_tables && sub.destination.is_some()),
    ("timer", |sub| sub.has_timers && sub.destination.is_some()),
];

/// Rules that a few records in a run give something to judge, whatever its pipeline: in how many runs of 500, at least.
const RARE_RULES: [(&str, u32); 7] = [
    ("tombstone", 10),
    ("partition by a text", 100),
    ("late", 10),
    ("topic of late records", 5),
    ("window that cannot be told", 5),
    ("row of a window", 5),
    ("late for a pair", 3),
];

/// A rule of `literal` is not asked where it would be wrong: of the runs that give it something to judge, and of all of
/// them, enough must be left.
#[test]
fn whatever_is_said_without_a_step_is_said_of_many_runs() {
    let (had, rare) = judged_of(&FIRST, &RULES);
    assert!(had.values().all(|[able, of]| *able > 0 && 5 * of >= *able), "{had:?}");
    assert!(RARE_RULES.iter().all(|(rule, least)| rare.get(rule).is_some_and(|of| of >= least)), "{rare:?}");
}

/// For each rule, the runs that could give it something to judge, and those that did; and the same of any rule.
fn judged_of<'r>(
    drawn: &[Drawn],
    rules: &[(&'r str, fn(&SubDraw) -> bool)],
) -> (BTreeMap<&'r str, [u32; 2]>, BTreeMap<&'static str, u32>) {
    let (mut had, mut all) = (BTreeMap::<_, [u32; 2]>::new(), BTreeMap::new());
    for Drawn { scenario, judged, .. } in drawn {
        for (rule, is_about) in rules {
            let [able, of] = had.entry(*rule).or_default();
            *able += u32::from(scenario.pipeline.subs.iter().any(is_about));
            *of += u32::from(judged.contains(rule));
        }
        judged.iter().for_each(|rule| *all.entry(*rule).or_default() += 1);
    }
    (had, all)
}

#[test]
fn a_notice_has_the_partition_the_id_and_the_text_that_are_written_here() {
    let json = r#"{"pipeline": {"partitions": 4, "is_versioned": true, "has_text_keys": false, "subs": [{"lead": "in-0",
        "step": {"Update": 0}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false,
        "ttl_ms": null, "has_filter": true, "threshold": 3, "destination": "out-0"}]}, "knobs": {"instances": 1,
        "workers": 1, "batch_rows": 50, "batch_age_ms": 0, "log_age_ms": 100, "log_messages": 50000,
        "transaction_rows": 10000, "unpublished_rows": 10000, "flush_ms": 5000, "retry_attempts": 4, "missing_row": 1,
        "verdicts": false, "queued_records": 20000, "message_bytes": 0}, "acts": [{"Send": {"topic": "in-0", "key": "0",
        "value": "{\"n\": 1, \"amount\": 2.75, \"notices\": 1}"}}, {"Turns": 3}, {"Send": {"topic": "in-0", "key": "0",
        "value": "{\"n\": 4, \"amount\": 0.25, \"notices\": 3, \"keys\": [\"7\"]}"}}]}"#;
    let scenario: Scenario = serde_json::from_str(json).unwrap();
    let Ok(seen) = scenario.simulated(false).outcome else { panic!("it comes to no rest") };
    let out = seen.log.iter().filter(|(place, _)| place.topic.as_str() == "out-0");
    let told = out.flat_map(|(place, all)| all.iter().map(move |message| (place.partition.0, message)));
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
    let header =
        |message: &Message, name: &str| text(&message.headers.iter().find(|header| header.name == name).unwrap().value);
    let told: Vec<_> = told
        .map(|(partition, message)| {
            let headers = ["tg_id", "tg_version", "tg_threshold"].map(|name| header(message, name));
            (partition, text(&message.key), text(&message.value), headers)
        })
        .collect();
    // Key 0 lies in partition 0 of 4; 2.75 reaches no 3, and 3 does; of 40, 41 and 42 the filter drops the last.
    let notice = |n: u64, seq: u64| {
        let value = format!(
            r#"{{"n":{n},"amount":3.0,"count":2,"hash":35,"notices":1,"keys":["7"],"seen":0,"trace":0,"is_intact":true,"pad":"","trap_notice":""}}"#
        );
        (0, "0".to_owned(), value, [format!("drawn/in-0/0/1/{seq}"), "2".into(), "3".into()])
    };
    assert_eq!(told, [notice(40, 0), notice(41, 1)]);
}
