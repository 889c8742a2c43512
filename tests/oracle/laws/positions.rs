//! O7: where the positions stand.

use super::finding::{Anomaly, Findings};
use super::history::{Fate, History};
use tidegate::engine::audit::comparison::{Misplaced, misplaced};

pub(super) fn judge(history: &History, out: &mut Findings) {
    for source in &history.sources {
        let (place, start, end) = (&source.place, source.start, source.end);
        let k = source.committed;
        let Some(position) = source.position else {
            let was_read = k.is_some_and(|k| k > start) || (history.is_drained && end > start);
            if was_read {
                out.add(Anomaly::PositionMissing, format!("{place}: K {k:?}, end {end}"));
            }
            continue;
        };
        let (d, p) = (position.decided, position.published);
        let numbers = format!("{place}: P {p}, K {}, D {d}, end {end}", k.map_or(-1, |k| k.0));
        let misplaced = misplaced(p, k, d);
        for law in &misplaced {
            let anomaly = match law {
                Misplaced::PublishedBeyondCommitted => Anomaly::PublishedBeyondCommitted,
                Misplaced::CommittedBeyondDecided => Anomaly::CommittedBeyondDecided,
            };
            out.add(anomaly, &numbers);
        }
        if d > end {
            out.add(Anomaly::PositionBeyondEnd, &numbers);
        } else if history.is_drained && misplaced.is_empty() && (d < end || k != Some(d)) {
            out.add(Anomaly::NotDrained, &numbers);
        }
    }
    if history.is_drained {
        let open = history.outputs.iter().filter(|output| output.fate == Fate::Open && !output.is_visible);
        for output in open {
            let (topic, found) = (&output.topic, &output.found);
            out.add(Anomaly::TransactionOpen, format!("{topic}-{}@{}", found.partition, found.offset));
        }
    }
    let oldest = history.read_at_ms - history.outbox_kept_ms;
    for row in history.outbox.iter().filter(|row| row.created_at.0 < oldest) {
        let position = history.sources.iter().find(|source| source.place == row.source).and_then(|s| s.position);
        if position.is_some_and(|position| !position.published.is_before(row.source_offset)) {
            out.add(Anomaly::OutboxKeptTooLong, format!("{}@{}", row.source, row.source_offset));
        }
    }
}
