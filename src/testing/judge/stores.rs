//! Stores: on disks, in changelogs, in the interpreter.

use crate::engine::state::cache::CLOCK;
use crate::flow::record::{Partition, TopicPartition};
use crate::flow::topology::Topology;
use crate::testing::judge::finding::{Findings, Wrong};
use crate::testing::kept::{Kept, Stores};
use crate::testing::observed::Observed;
use std::collections::BTreeMap;

impl Observed {
    /// Stores on disks, changelogs and interpreter agree on everything that can be read.
    pub(super) fn judge_stores(
        &self,
        topology: &Topology,
        expected: &BTreeMap<(usize, i32), Stores>,
        findings: &mut Findings,
    ) {
        let subs = topology.sub_topologies().iter().enumerate();
        for (number, sub) in subs.filter(|(number, _)| !self.struck.contains(number)) {
            for (at, spec) in sub.stores.iter().enumerate() {
                let Some(changelog) = topology.changelog_topic(spec) else { continue };
                for partition in 0..self.partitions {
                    let stores = expected.get(&(number, partition));
                    let mut logged: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
                    let place = TopicPartition::new(changelog.clone(), Partition(partition));
                    for message in self.log.get(&place).into_iter().flatten() {
                        let key = message.key.clone().unwrap_or_default();
                        match &message.value {
                            Some(value) => logged.insert(key, value.clone()),
                            None => logged.remove(&key),
                        };
                    }
                    let name = format!("store {}-{partition}", spec.name);
                    judge_store(&name, stores, at, &logged, findings);
                    if self.is_halted(sub, partition) {
                        continue;
                    }
                    let is_timed = (spec.time_to_live.is_some(), spec.timers.is_some());
                    judge_rest_of_store(&name, stores, is_timed, self.inside.is_some(), &logged, findings);
                    let Some(inside) = &self.inside else { continue };
                    let kept = inside.kept.get(&(spec.name.to_string(), partition));
                    if kept != Some(&logged) {
                        let held = kept.map_or_else(|| "cannot be seen".into(), keys);
                        let detail = format!("{name}: the disk holds {held}, its changelog {}", keys(&logged));
                        findings.add(Wrong::StoreChangelog, detail);
                    }
                }
            }
        }
    }
}

/// Compares the changelog of one store with the interpreter's.
fn judge_store(
    name: &str,
    stores: Option<&Stores>,
    at: usize,
    logged: &BTreeMap<Vec<u8>, Vec<u8>>,
    findings: &mut Findings,
) {
    let nothing = BTreeMap::new();
    let kept = stores.and_then(|stores| stores.kept.get(at)).unwrap_or(&nothing);
    if let Some(found) = logged.get(CLOCK) {
        let clock = std::str::from_utf8(unwrapped(found).0.get(1..).unwrap_or_default())
            .ok()
            .and_then(|text| text.parse().ok());
        let due = stores.and_then(|stores| stores.stream_time);
        // One that stands at the start says no more than none: offsets without records may have been passed.
        if clock.filter(|at| *at != i64::MIN) != due {
            findings.add(Wrong::Clock, format!("{name}: its clock stands at {clock:?}, not at {due:?}"));
        }
    }
    let is_live = |kept: &Kept| stores.is_none_or(|stores| stores.is_live(kept));
    for (key, kept) in kept.iter().filter(|(_, kept)| is_live(kept)) {
        let key_text = String::from_utf8_lossy(key);
        let Some(found) = logged.get(key) else {
            findings.add(Wrong::Store, format!("{name}: {key_text} is missing"));
            continue;
        };
        let (value, expires_at) = unwrapped(found);
        if (value, expires_at) != (&kept.value, kept.expires_at) {
            let (is, due) = (String::from_utf8_lossy(value), String::from_utf8_lossy(&kept.value));
            let detail =
                format!("{name}: {key_text} is {is} until {expires_at:?}, not {due} until {:?}", kept.expires_at);
            findings.add(Wrong::Store, detail);
        }
    }
    for (key, found) in logged.iter().filter(|(key, _)| *key != CLOCK) {
        let (value, expires_at) = unwrapped(found);
        let value = Kept { value: value.to_vec(), expires_at };
        if is_live(&value) && !kept.get(key).is_some_and(is_live) {
            let key = String::from_utf8_lossy(key);
            findings.add(Wrong::Store, format!("{name}: {key} is there, and nothing wrote it or it has expired"));
        }
    }
}

/// Judges the rest of a store whose task does not stand still: nothing expired is left, once there was time to search for
/// it, and the clock is kept where values expire.
fn judge_rest_of_store(
    name: &str,
    stores: Option<&Stores>,
    (is_timed, has_timers): (bool, bool),
    has_been_searched: bool,
    logged: &BTreeMap<Vec<u8>, Vec<u8>>,
    findings: &mut Findings,
) {
    let Some(stores) = stores else { return };
    // One that lost its time to live before its first record never had one.
    let is_timed = has_timers || (is_timed && (stores.is_clocked || !stores.is_everlasting));
    if is_timed && !logged.contains_key(CLOCK) {
        findings.add(Wrong::Clock, format!("{name}: has no clock"));
    }
    for (key, found) in logged.iter().filter(|_| has_been_searched) {
        let (value, expires_at) = unwrapped(found);
        if !stores.is_live(&Kept { value: value.to_vec(), expires_at }) {
            let (key, now) = (String::from_utf8_lossy(key), stores.stream_time);
            findings.add(Wrong::StoreExpired, format!("{name}: {key} expired at {expires_at:?}, and it is {now:?}"));
        }
    }
}

/// A kept value without its envelope, and when it expires.
fn unwrapped(kept: &[u8]) -> (&[u8], Option<i64>) {
    match kept.split_first() {
        Some((2, rest)) => match rest.split_first_chunk::<8>() {
            Some((at, value)) => (value, Some(i64::from_be_bytes(*at))),
            None => (rest, None),
        },
        Some((_, value)) => (value, None),
        None => (kept, None),
    }
}

fn keys(kept: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let one = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
    };
    format!("{:?}", kept.iter().map(one).collect::<Vec<_>>())
}
