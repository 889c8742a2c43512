//! The scope of the judge: it leaves out everything that a disaster has struck or that stands still.

use crate::flow::record::{TopicName, TopicPartition};
use crate::flow::topology::{SubTopology, Topology};
use crate::testing::observed::Observed;

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
}
