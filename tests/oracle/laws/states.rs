//! O9: what the inputs lead to = the changelog = the store.

use super::finding::{Anomaly, Findings};
use super::history::{History, Values};
use std::collections::BTreeSet;

pub(super) fn judge(history: &History, out: &mut Findings) {
    let states = &history.states;
    compare(&states.replayed, &states.changelog, Anomaly::ChangelogDiffers, out);
    if let Some(stores) = &states.stores {
        compare(&states.changelog, stores, Anomaly::StoreDiffers, out);
    }
}

fn compare(expected: &Values, found: &Values, anomaly: Anomaly, out: &mut Findings) {
    let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    for key in keys.into_iter().filter(|key| expected.get(*key) != found.get(*key)) {
        let (store, name) = key;
        let (expected, found) = (expected.get(key), found.get(key));
        out.add(anomaly, format!("{store} {name}: expected {expected:?}, found {found:?}"));
    }
}
