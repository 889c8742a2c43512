//! One source that feeds several chains, and several sources that feed one step.

use crate::flow::events::Plain;
use crate::flow::reading::Reading;
use crate::flow::step::CopyOn;
use crate::flow::topology::group::{Group, Outlet};
use crate::flow::topology::{Source, StepKind, Topology};
use std::sync::Arc;

impl<'t> Source<'t> {
    /// Begins the chains of a source that feeds several: `steps` builds the first one. Each chain reads a copy of every record,
    /// as it came, from a repartition topic of its own, `<pipeline>-<name>-repartition`, partitioned by the record's key, by
    /// murmur2. So each goes at its own pace and commits in its own way, and what stops one stops no other. A source with
    /// a single chain needs none of this.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// # #[derive(Serialize, Deserialize, Default)] struct Sum { cents: i64 }
    /// # struct Add;
    /// # impl Algorithm for Add {
    /// #     type Event = Sum; type Row = Sum; type Notices = Option<i64>;
    /// #     fn apply(&self, order: Sum, sum: &mut Sum, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
    /// #         sum.cents += order.cents;
    /// #         Ok(Some(sum.cents))
    /// #     }
    /// # }
    /// let mut topology = Topology::new("shop");
    /// topology
    ///     .source("orders")
    ///     .chain("accounts", |orders| orders.update("accounts", Add).to("balances"))
    ///     .chain("turnover", |orders| orders.aggregate("turnover", Add).done());
    /// assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn chain(self, name: &str, steps: impl FnOnce(Source<'_>)) -> Chains<'t> {
        let (number, reading) = (self.group.topology.sub_topologies.len(), self.group.reading);
        let outlet = Outlet { format: reading.format, ..Outlet::default() };
        let topology = self.group.finish(StepKind::Log(Arc::new(CopyOn)), outlet, Vec::new());
        // A source with an illegal name, which is reported, has no step.
        let number = Some(number).filter(|number| *number < topology.sub_topologies.len());
        Chains { topology, number, reading }.chain(name, steps)
    }

    /// Adds another topic to those that the step reads, as [`Source::with`] does; `prepare` may send its records on under
    /// another key first. What comes of it is a companion: equal partition count, same keys, one type, one format.
    ///
    /// ```
    /// # use serde::Deserialize;
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// #[derive(Deserialize)] struct Payment { payer: String, cents: i64 }
    /// # struct Paid;
    /// # impl Algorithm for Paid {
    /// #     type Event = Payment; type Row = i64; type Notices = Option<i64>;
    /// #     fn apply(&self, paid: Payment, sum: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
    /// #         *sum += paid.cents;
    /// #         Ok(Some(*sum))
    /// #     }
    /// # }
    /// let mut topology = Topology::new("paid");
    /// topology
    ///     .source("card-payments")
    ///     .key_by("card-payers", |paid: &Payment| paid.payer.clone())
    ///     .merge("transfers", |transfers| transfers.key_by("transfer-payers", |paid: &Payment| paid.payer.clone()))
    ///     .aggregate("paid", Paid)
    ///     .to("paid");
    /// assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn merge(mut self, topic: &str, prepare: impl for<'a> FnOnce(Source<'a>) -> Source<'a>) -> Self {
        let reading = self.group.reading;
        let mut source = self.group.topology.source(topic);
        (source.group.reading, source.events.reading) = (reading, reading);
        let Group { topics, declared, reading: its_reading, topology, .. } = prepare(source).group;
        if declared.is_some() {
            topology.errors.push(format!(
                "topic {topic}: declared() in merge() would be held against none of its records; declare the source that it is merged into"
            ));
        }
        if its_reading != reading {
            topology.errors.push(format!(
                "topic {topic}: is read otherwise than the source that it is merged into; say format(), tombstones() and on_unreadable() of \
                 the source, in front of merge()"
            ));
        }
        self.group.topics.extend(topics);
        self
    }
}

/// The chains of one source, under construction.
pub struct Chains<'t> {
    topology: &'t mut Topology,
    /// The sub-topology that copies the records.
    number: Option<usize>,
    reading: Reading,
}

impl Chains<'_> {
    /// Adds a chain, as [`Source::chain`] does.
    #[expect(clippy::return_self_not_must_use, reason = "the last chain is no beginning")]
    pub fn chain(self, name: &str, steps: impl FnOnce(Source<'_>)) -> Self {
        let Self { topology, number, reading } = self;
        let topic = topology.internal(name, "repartition");
        if topic.is_none() {
            topology.errors.push(format!("chain {name:?}: use a name of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        if let (Some(topic), Some(sub)) = (&topic, number.and_then(|number| topology.sub_topologies.get_mut(number))) {
            sub.destinations.push(topic.clone());
            sub.chains.push(name.into());
        }
        steps(Source { group: Group::new(&mut *topology, topic, reading), events: Plain { reading } });
        Self { topology, number, reading }
    }
}
