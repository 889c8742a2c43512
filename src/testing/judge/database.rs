//! Outbox and ledger: all that the database keeps beside the rows.

use crate::flow::identity::ID_HEADER;
use crate::flow::record::{NextOffset, Offset, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::testing::interpreter::{Expected, Kind};
use crate::testing::judge::actual::Actual;
use crate::testing::judge::finding::{Findings, Wrong};
use crate::testing::observed::{Ledger, Observed};
use std::collections::{BTreeMap, BTreeSet};

impl Observed {
    /// Judges the database's tables beside the rows: each message in the outbox is published, and the ledger has a line
    /// for each decided record of a step with rows.
    pub(super) fn judge_database(&self, topology: &Topology, expected: &[Expected], findings: &mut Findings) {
        let Some(inside) = &self.inside else { return };
        let mut told: BTreeSet<(&TopicName, &str)> = BTreeSet::new();
        for (place, input) in self.log.iter().flat_map(|(place, inputs)| inputs.iter().map(move |input| (place, input)))
        {
            let actual = Actual { partition: place.partition.0, input };
            told.extend(actual.header(ID_HEADER).map(|id| (&place.topic, id)));
        }
        let is_judged = |place: &TopicPartition| {
            let sub = topology.sub_topologies().iter().find(|sub| sub.sources().any(|topic| *topic == place.topic));
            sub.is_some_and(|sub| !self.is_struck(topology, &place.topic) && !self.is_halted(sub, place.partition.0))
        };
        for (_, destination, id) in inside.outbox.iter().filter(|(source, ..)| is_judged(source)) {
            if !told.contains(&(destination, id)) {
                findings.add(Wrong::Outbox, format!("{destination}: {id} is in the outbox, and was never told"));
            }
        }
        if self.settings.verdicts {
            self.judge_ledger(topology, &inside.ledger, expected, findings);
        }
    }

    fn judge_ledger(&self, topology: &Topology, ledger: &Ledger, expected: &[Expected], findings: &mut Findings) {
        let dead_letters = expected.iter().filter_map(|message| match &message.kind {
            Kind::DeadLetter { code, about, .. } if about.is_empty() => {
                Some(((message.source.clone(), message.source_offset), code))
            }
            _ => None, // a timer has no verdict
        });
        let dead_letters: BTreeMap<_, _> = dead_letters.collect();
        let is_judged = |(source, _): &&(TopicPartition, Offset)| !self.is_struck(topology, &source.topic);
        let mut left: BTreeSet<_> = ledger.keys().filter(is_judged).collect();
        for sub in topology.sub_topologies().iter().filter(|sub| sub.table().is_some()) {
            for (place, inputs) in self.log.iter().filter(|(place, _)| sub.sources().any(|topic| *topic == place.topic))
            {
                if self.is_struck(topology, &place.topic) {
                    continue;
                }
                let decided = self.progress.get(place).and_then(|progress| progress.decided).unwrap_or(NextOffset(0));
                for input in inputs.iter().filter(|input| !decided.is_before(input.offset)) {
                    let line = (place.clone(), input.offset);
                    left.remove(&line);
                    let code =
                        ledger.get(&line).map(|(outcome, code)| code.as_ref().filter(|_| outcome == "dead-letter"));
                    if code != Some(dead_letters.get(&line).copied()) {
                        let detail = format!("{place}@{}: the ledger says {:?}", input.offset, ledger.get(&line));
                        findings.add(Wrong::Ledger, detail);
                    }
                }
            }
        }
        for (place, offset) in left {
            findings.add(Wrong::Ledger, format!("{place}@{offset}: has a line in the ledger, and was not decided"));
        }
    }
}
