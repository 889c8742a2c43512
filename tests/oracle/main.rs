//! The oracle's own tests: it finds nothing in clean histories, and names what is wrong in falsified ones. No network.
#![allow(clippy::disallowed_methods, reason = "a seed may come from the clock")]

mod clean;
mod falsified;
mod falsifying;
mod laws;
#[path = "../system/rig/random.rs"]
mod random;

use falsified::FALSIFICATIONS;
use laws::{Anomaly, idle, judge, report};
use random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// `TIDEGATE_ORACLE_SEED` repeats a run's choices.
fn seed() -> u64 {
    Random::seed("TIDEGATE_ORACLE_SEED")
}

#[test]
fn nothing_is_found_in_thousands_of_clean_histories() {
    let seed = seed();
    let (mut records, mut drained, mut forgetful) = (0, 0, 0);
    for seed in seed..seed + 5_000 {
        let history = clean::clean(&mut Random::new(seed));
        let findings = judge(&history);
        assert!(findings.is_empty(), "TIDEGATE_ORACLE_SEED={seed}:\n{}", report(&history, &findings));
        records += history.inputs.len();
        drained += usize::from(history.is_drained);
        forgetful += usize::from(history.outbox_kept_ms != 86_400_000);
    }
    assert!(records > 100_000 && drained > 1_000 && forgetful > 500, "{records}, {drained}, {forgetful}: too tame");
}

#[test]
fn every_falsified_history_is_flagged_by_its_own_name_and_by_no_other() {
    let seed = seed();
    let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seed..seed + 100 {
        for (name, falsification) in FALSIFICATIONS {
            let mut random = Random::new(seed);
            let mut history = clean::clean(&mut random);
            if (falsification.apply)(&mut history, &mut random).is_none() {
                continue; // it has nothing to falsify in this way
            }
            *applied.entry(name).or_default() += 1;
            let findings = judge(&history);
            let found: BTreeSet<Anomaly> = findings.iter().map(|finding| finding.anomaly).collect();
            let told = report(&history, &findings);
            let case = format!("TIDEGATE_ORACLE_SEED={seed}, {name}");
            assert!(found.contains(&falsification.anomaly), "{case}: not found, but\n{told}");
            assert!(!idle(&history).contains(&falsification.anomaly), "{case}: found where there is nothing to judge");
            let others: Vec<_> = found.iter().filter(|anomaly| **anomaly != falsification.anomaly).collect();
            let is_allowed = |anomaly: &&Anomaly| falsification.follows.contains(anomaly);
            assert!(others.iter().all(is_allowed), "{case}: also {others:?}\n{told}");
        }
    }
    for (name, _) in FALSIFICATIONS {
        let count = applied.get(name).copied().unwrap_or(0);
        assert!(count >= 10, "{name}: tried {count} times only");
    }
}

#[test]
fn a_history_without_stores_samples_or_receipts_says_that_nothing_was_judged_of_them() {
    let mut history = clean::clean(&mut Random::new(7));
    history.states = laws::States::default();
    history.samples.clear();
    history.accepted.clear();
    let told = report(&history, &judge(&history));
    let idle = told.lines().find(|line| line.starts_with("nothing to judge of ")).unwrap();
    for word in
        ["changelog-differs", "store-differs", "stable-offset-stuck", "epoch-back", "session-idle", "accepted-lost"]
    {
        assert!(idle.contains(word), "no {word} in {idle}");
    }
}

#[test]
fn there_is_a_falsified_history_for_each_anomaly_and_each_law() {
    let falsified: BTreeSet<Anomaly> = FALSIFICATIONS.iter().map(|(_, falsification)| falsification.anomaly).collect();
    let missing: Vec<_> = Anomaly::ALL.iter().filter(|anomaly| !falsified.contains(anomaly)).collect();
    assert!(missing.is_empty(), "no falsified history for {missing:?}");
    let laws: BTreeSet<u8> = Anomaly::ALL.iter().map(|anomaly| anomaly.law()).collect();
    assert_eq!(laws, (1..=14).collect());
}

#[test]
fn words_name_one_anomaly_each() {
    let words: BTreeSet<&str> = Anomaly::ALL.iter().map(|anomaly| anomaly.word()).collect();
    let meanings: BTreeSet<&str> = Anomaly::ALL.iter().map(|anomaly| anomaly.meaning()).collect();
    assert_eq!((words.len(), meanings.len()), (Anomaly::ALL.len(), Anomaly::ALL.len()));
}
