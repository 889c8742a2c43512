//! The end of a chain that publishes in several topics, by conditions.

use crate::flow::algorithm::Algorithm;
use crate::flow::route::{Item, Measure, To};
use crate::flow::topology::StepBuilder;

impl<'t, A: Algorithm> StepBuilder<'t, A> {
    /// Ends the chain: each notice that passes is published in the one of `topics` that `choose` names. It gets the topics
    /// in their order, and can name no other.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// #[derive(Serialize, Deserialize)] struct Order { cents: i64 }
    /// # struct Pass;
    /// # impl Algorithm for Pass {
    /// #     type Event = Order; type Row = (); type Notices = Option<Order>;
    /// #     fn apply(&self, order: Order, (): &mut (), _: &mut Context<'_>) -> Result<Option<Order>, Reject> { Ok(Some(order)) }
    /// # }
    /// let mut topology = Topology::new("sizes");
    /// topology.source("orders").process(Pass).route(["small-orders", "large-orders"], |order, [small, large]| {
    ///     if order.cents < 10_000 { small } else { large }
    /// });
    /// assert_eq!(topology.validate(), Ok(()));
    /// ```
    ///
    /// A topic of another route is none of its topics:
    ///
    /// ```compile_fail
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// # #[derive(Serialize, Deserialize)] struct Order { cents: i64 }
    /// # struct Pass;
    /// # impl Algorithm for Pass {
    /// #     type Event = Order; type Row = (); type Notices = Option<Order>;
    /// #     fn apply(&self, order: Order, (): &mut (), _: &mut Context<'_>) -> Result<Option<Order>, Reject> { Ok(Some(order)) }
    /// # }
    /// # let mut topology = Topology::new("sizes");
    /// topology.source("orders").process(Pass).route(["small-orders"], |order, [small]| "large-orders");
    /// ```
    pub fn route<const N: usize>(
        mut self,
        topics: [&str; N],
        choose: impl for<'n, 'r> Fn(&'n Item<A>, [To<'r>; N]) -> To<'r> + Send + Sync + 'static,
    ) {
        let mut seen: Vec<&str> = Vec::with_capacity(N);
        for topic in topics {
            self.note(seen.contains(&topic).then(|| format!("topic {topic}: stands twice in a route(); name it once")));
            seen.push(topic);
        }
        self.end_in(&topics, Box::new(move |notice| Some(choose(notice, To::all()).number())));
    }

    /// Begins the topics of the chain: notices for which `predicate` holds are published in `topic`; the others go on to the
    /// next branch. [`Branches::to`] names the topic of the rest, [`Branches::done`] drops it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidegate::flow::{Algorithm, Context, Reject, Topology};
    /// #[derive(Serialize, Deserialize)] struct Order { cents: i64 }
    /// # struct Pass;
    /// # impl Algorithm for Pass {
    /// #     type Event = Order; type Row = (); type Notices = Option<Order>;
    /// #     fn apply(&self, order: Order, (): &mut (), _: &mut Context<'_>) -> Result<Option<Order>, Reject> { Ok(Some(order)) }
    /// # }
    /// let mut topology = Topology::new("sizes");
    /// topology
    ///     .source("orders")
    ///     .process(Pass)
    ///     .branch("large-orders", |order| order.cents >= 10_000)
    ///     .branch("refunds", |order| order.cents < 0)
    ///     .to("small-orders");
    /// assert_eq!(topology.validate(), Ok(()));
    /// ```
    pub fn branch(self, topic: &str, predicate: impl Fn(&Item<A>) -> bool + Send + Sync + 'static) -> Branches<'t, A> {
        Branches { step: self, topics: Vec::new(), predicates: Vec::new() }.branch(topic, predicate)
    }
}

/// A step whose notices go to several topics, under construction.
#[must_use = "a step does nothing until its chain ends in to() or done()"]
pub struct Branches<'t, A: Algorithm> {
    step: StepBuilder<'t, A>,
    topics: Vec<String>,
    predicates: Vec<Measure<A, bool>>,
}

impl<A: Algorithm> Branches<'_, A> {
    /// Publishes notices that no branch so far has taken in `topic`, where `predicate` holds.
    pub fn branch(mut self, topic: &str, predicate: impl Fn(&Item<A>) -> bool + Send + Sync + 'static) -> Self {
        self.topics.push(topic.into());
        self.predicates.push(Box::new(predicate));
        self
    }

    /// Ends the chain: notices that no branch has taken are published in `topic`.
    pub fn to(mut self, topic: &str) {
        self.topics.push(topic.into());
        self.end();
    }

    /// Ends the chain: notices that no branch has taken are dropped.
    pub fn done(self) {
        self.end();
    }

    fn end(self) {
        let Self { step, topics, predicates } = self;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        // Without a topic for the rest, the number behind the last branch names none.
        let choose =
            move |notice: &Item<A>| Some(predicates.iter().position(|holds| holds(notice)).unwrap_or(predicates.len()));
        step.end_in(&topics, Box::new(choose));
    }
}
