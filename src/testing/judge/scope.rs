//! The scope of the judge: it leaves out everything that a disaster has struck or that stands still, and takes from the run
//! which records were not run again because instances had died over them.

use crate::flow::identity::NoticeId;
use crate::flow::record::{Offset, TopicName, TopicPartition};
use crate::flow::topology::{SubTopology, Topology};
use crate::testing::judge::actual::Actual;
use crate::testing::observed::Observed;
use std::collections::BTreeSet;

impl Observed {
    pub(super) fn struck_of<'a>(&'a self, topology: &'a Topology) -> impl Iterator<Item = &'a SubTopology> {
        self.struck.iter().filter_map(|number| topology.sub_topologies().get(*number))
    }

    pub(super) fn is_struck(&self, topology: &Topology, source: &TopicName) -> bool {
        self.struck_of(topology).any(|sub| sub.sources().any(|topic| topic == source))
    }

    pub(super) fn is_halted(&self, sub: &SubTopology, partition: i32) -> bool {
        let is_of =
            |place: &TopicPartition| place.partition.0 == partition && sub.sources().any(|topic| *topic == place.topic);
        self.halts.iter().any(|halt| is_of(&halt.source))
    }

    /// The records over which instances died, and whose dead letters say so: such a record is not run again, although by then its
    /// row or its partner may be gone. That a note of deaths went with its disk is to be seen nowhere else.
    pub(super) fn blamed(&self, topology: &Topology) -> BTreeSet<(TopicPartition, Offset)> {
        let is_blamed = |(source, offset): &&(TopicPartition, Offset)| {
            let id = NoticeId { pipeline: topology.name(), source, source_offset: *offset, seq: 0, incarnation: 0 };
            let (id, letters) = (id.to_string(), Topology::dead_letter_topic(&source.topic));
            let place = TopicPartition::new(letters, source.partition);
            self.log.get(&place).into_iter().flatten().any(|input| {
                let letter = Actual { partition: place.partition.0, input };
                letter.header("tg_id") == Some(&id)
                    && letter.header("kafka_dlt-exception-fqcn") == Some("kills-the-process")
            })
        };
        self.died.iter().filter(is_blamed).cloned().collect()
    }
}
