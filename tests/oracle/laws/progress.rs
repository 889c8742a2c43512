//! A watcher's observations over time: O7 (nothing goes back), O11, O12, O13; and O14, the receipts of senders.

use super::finding::{Anomaly, Findings};
use super::history::{History, Sample};
use std::collections::HashMap;
use tidegate::flow::record::{NextOffset, TopicPartition};

const STABLE_WITHIN_MS: i64 = 30_000;
const LAG_WITHIN_MS: i64 = 60_000;
const IDLE_MS_MAX: i64 = 10_000;
const LOCK_WAIT_MS_MAX: i64 = 5_000;

pub(super) fn judge(history: &History, out: &mut Findings) {
    goes_on(history, out);
    if let Some(healed_at_ms) = history.healed_at_ms {
        heals(history, healed_at_ms, out);
    }
    for sample in &history.samples {
        if sample.idle_ms > IDLE_MS_MAX {
            out.add(Anomaly::SessionIdle, format!("{} ms at {}", sample.idle_ms, sample.at_ms));
        }
        if sample.lock_wait_ms > LOCK_WAIT_MS_MAX {
            out.add(Anomaly::LockWait, format!("{} ms at {}", sample.lock_wait_ms, sample.at_ms));
        }
    }
    let mut arrived: HashMap<u64, usize> = HashMap::new();
    for receipt in history.inputs.iter().filter_map(|input| input.receipt) {
        *arrived.entry(receipt).or_default() += 1;
    }
    for receipt in &history.accepted {
        match arrived.get(receipt).copied().unwrap_or(0) {
            0 => out.add(Anomaly::AcceptedLost, format!("receipt {receipt}")),
            1 => {}
            times => out.add(Anomaly::AcceptedTwice, format!("receipt {receipt}: {times} times")),
        }
    }
}

/// Epoch, D and K of every source partition, sample after sample and in the end.
fn goes_on(history: &History, out: &mut Findings) {
    let mut last: HashMap<&TopicPartition, [Option<i64>; 3]> = HashMap::new();
    let mut see = |place, at: &str, now: [Option<i64>; 3]| {
        let before = last.entry(place).or_insert(now);
        let names = [Anomaly::EpochBack, Anomaly::PositionBack, Anomaly::CommittedBack];
        for ((before, now), anomaly) in before.iter_mut().zip(now).zip(names) {
            match (*before, now) {
                (Some(high), Some(low)) if low < high => out.add(anomaly, format!("{place}: {high}, {at} {low}")),
                (_, Some(_)) => *before = now,
                (_, None) => {}
            }
        }
    };
    let offset = |offset: Option<NextOffset>| offset.map(|offset| offset.0);
    for sample in &history.samples {
        let at = format!("at {}", sample.at_ms);
        for source in &sample.sources {
            let (epoch, d) = (source.position.map(|(epoch, _)| epoch), source.position.map(|(_, d)| d));
            see(&source.place, &at, [epoch, offset(d), offset(source.committed)]);
        }
    }
    for source in &history.sources {
        let epoch = source.position.map(|position| position.epoch);
        see(&source.place, "in the end", [epoch, offset(source.decided()), offset(source.committed)]);
    }
}

/// The ends of logs when the last fault ended must be stable, and passed by K, soon afterwards. A watcher that has not
/// watched for so long has nothing to say.
fn heals(history: &History, healed_at_ms: i64, out: &mut Findings) {
    let Some(first) = history.samples.iter().find(|sample| sample.at_ms >= healed_at_ms) else { return };
    let has_time = |within: i64| move |sample: &&Sample| sample.at_ms >= healed_at_ms + within;
    if let Some(then) = history.samples.iter().find(has_time(STABLE_WITHIN_MS)) {
        for (place, _, end) in &first.outputs {
            let stable = then.outputs.iter().find(|(other, ..)| other == place).map_or(-1, |(_, stable, _)| *stable);
            if stable < *end {
                out.add(Anomaly::StableOffsetStuck, format!("{place}: {stable} stable, the end was {end}"));
            }
        }
    }
    if let Some(then) = history.samples.iter().find(has_time(LAG_WITHIN_MS)) {
        for source in &first.sources {
            let now = then.sources.iter().find(|other| other.place == source.place).and_then(|other| other.committed);
            if source.end.0 > 0 && now.is_none_or(|k| k < source.end) {
                out.add(Anomaly::PartitionStuck, format!("{}: K {now:?}, the end was {}", source.place, source.end));
            }
        }
    }
}
