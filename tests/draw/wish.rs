//! The draw of a seed: most draw freely, some first wish for two features, or for an outcome and a fault, that shall
//! meet.

use crate::met::{FEATURES, OUTCOMES, fault, faults, outcomes};
use crate::scenario::{self, Acts, ROWS, Scenario};
use tidegate::testing::{Act, COMMIT_STEPS, Random, Sending};

/// Most pipelines drawn for two features, for an outcome and a fault, and most records or faults drawn for one.
const PIPELINES: usize = 2_000;
const PLACES: usize = 100;
const TRIES: usize = 120;

/// Features and outcomes that come seldom and are wished for more often; the most seldom one thrice.
const RARE_FEATURES: [&str; 3] = ["fields of JSON keys", "fields of JSON keys with a schema", "keys of two columns"];
const RARE_OUTCOMES: [&str; 11] = [
    "timer that kills",
    "timer that kills",
    "timer that kills",
    "made column changed",
    "panic in a pair",
    "panic in a route",
    "panic in a hash",
    "panic in a magnitude",
    "wrong partition, sent on",
    "wrong partition, stop",
    "stalls",
];
/// An outcome and a fault that seldom meet: the batch that stalls is undone, so that its store is seldom written.
const RARE_PAIR: (&str, &str) = ("stalls", STORE_WRITTEN);
const STORE_WRITTEN: &str = "crash after WriteStore";

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        match random.below(8) {
            0 => with_features(&mut random),
            1 | 2 => with_fault(&mut random, &OUTCOMES),
            3 => with_fault(&mut random, &RARE_OUTCOMES),
            _ => {
                let base = base(&mut random);
                acted(&mut random, base, None)
            }
        }
    }
}

/// A scenario without acts.
fn base(random: &mut Random) -> Scenario {
    let (pipeline, mut knobs) = (scenario::pipeline(random), scenario::knobs(random));
    knobs.deaths = *random.choose(&[1, 2, 3]);
    // Drawn from another sequence, so that what else a seed draws stays as it was.
    let mut aside = Random::new(!random.clone().next());
    let number = usize::try_from(aside.below(pipeline.subs.len() as u64)).unwrap_or(0);
    knobs.rejected = aside.happens(6).then_some(number);
    Scenario { pipeline, knobs, acts: Vec::new(), rows: ROWS }
}

fn acted(random: &mut Random, base: Scenario, wish: Option<(Act, Vec<Act>)>) -> Scenario {
    let acts = Acts { random, pipeline: &base.pipeline, knobs: &base.knobs, n: 0, acts: Vec::new() }.draw(wish);
    let mut scenario = Scenario { acts, ..base };
    // A record that is offered again until its row is there has fewer repetitions left for its own asking, and how many is not known.
    let is_insert = |act: &Act| matches!(act, Act::Insert(..) | Act::InsertFirst(..));
    let comes_back = scenario.pipeline.subs.iter().any(|sub| sub.inserts) || scenario.acts.iter().any(is_insert);
    if comes_back && scenario.knobs.missing_row % 3 == 2 {
        scenario.knobs.missing_row = 1;
    }
    scenario
}

fn with_features(random: &mut Random) -> Scenario {
    let rare = random.happens(50).then(|| *random.choose(&RARE_FEATURES));
    let is_rare = |(name, _): &(&str, fn(&Scenario) -> bool)| rare == Some(*name);
    let one = FEATURES.into_iter().find(is_rare).unwrap_or_else(|| *random.choose(&FEATURES)).1;
    let other = random.choose(&FEATURES).1;
    let mut found = base(random);
    for _ in 0..PIPELINES {
        if one(&found) && other(&found) {
            break;
        }
        found = base(random);
    }
    acted(random, found, None)
}

fn with_fault(random: &mut Random, outcomes: &[&str]) -> Scenario {
    let is_rare = random.happens(2);
    let (outcome, wished) = if is_rare {
        (RARE_PAIR.0, RARE_PAIR.1.to_owned())
    } else {
        (*random.choose(outcomes), random.choose(&faults()).clone())
    };
    let mut found = base(random);
    for _ in 0..PLACES {
        if let Some(wish) = record_and_fault(random, &found, outcome, &wished) {
            return acted(random, found, Some(wish));
        }
        found = base(random);
    }
    acted(random, found, None)
}

/// A record of that outcome and a fault of that name, where the pipeline has a place for both.
fn record_and_fault(random: &mut Random, base: &Scenario, outcome: &str, wished: &str) -> Option<(Act, Vec<Act>)> {
    let mut acts = Acts { random, pipeline: &base.pipeline, knobs: &base.knobs, n: scenario::WISHED, acts: Vec::new() };
    let is_it = |sending: &Sending| outcomes(base, sending).contains(&outcome);
    // No record is drawn so: it is made of one that changes something.
    let stalls = outcome == RARE_PAIR.0;
    let record = (0..TRIES).find_map(|_| {
        acts.record(if stalls { 0 } else { 100 });
        let mut act = acts.acts.pop()?;
        if stalls && acts.may_disturb(&act) {
            scenario::disturb(&mut act, scenario::STALLS);
        }
        Some(act).filter(|act| matches!(act, Act::Send(sending) if is_it(sending)))
    })?;
    let wished = wished.strip_suffix(", disks lost").unwrap_or(wished);
    if let Some(step) = COMMIT_STEPS.into_iter().find(|step| wished == format!("crash after {step}")) {
        acts.crash_after(step, 1);
        if acts.acts.is_empty() {
            return None;
        }
        // Something to reach the step with.
        (0..3).for_each(|_| acts.record(0));
        acts.acts.push(Act::Turns(6));
        if wished == STORE_WRITTEN {
            acts.acts.extend([Act::Pass(10_000), Act::Turns(6)]); // stores are written once in a while
        }
        return Some((record, acts.acts));
    }
    let fault = (0..TRIES).find_map(|_| {
        acts.acts.clear();
        acts.fault();
        let is_it = acts.acts.iter().any(|act| fault(base, act).as_deref() == Some(wished));
        is_it.then(|| std::mem::take(&mut acts.acts))
    })?;
    Some((record, fault))
}
