//! The topics that a step writes, and which of them gets a notice.

use crate::flow::algorithm::Algorithm;
use crate::flow::record::TopicName;
use std::marker::PhantomData;

/// One of the topics of a [`route`](crate::flow::topology::StepBuilder::route). It can be had from that route alone and
/// cannot be kept, so that no notice goes to a topic that was not declared.
#[derive(Clone, Copy, Debug)]
pub struct To<'r> {
    number: usize,
    /// Each call of a route has a lifetime of its own.
    route: PhantomData<fn(&'r ()) -> &'r ()>,
}

impl To<'_> {
    /// The topics of a route, in the order in which they were declared.
    pub(crate) fn all<const N: usize>() -> [Self; N] {
        std::array::from_fn(|number| Self { number, route: PhantomData })
    }

    pub(crate) const fn number(self) -> usize {
        self.number
    }
}

/// A notice, as filters and routes see it.
pub(crate) type Item<A> = <<A as Algorithm>::Notices as IntoIterator>::Item;

/// A question about a notice: its magnitude, whether it passes, or where it goes.
pub(crate) type Measure<A, T> = Box<dyn Fn(&Item<A>) -> T + Send + Sync>;

/// Where the notices of a step go.
pub(crate) enum Route<A: Algorithm> {
    /// Nowhere: the rows, or the stores, are the result.
    Nowhere,
    /// All to one topic.
    Topic(TopicName),
    /// Each to the topic of the number that is chosen for it, or to none.
    Choice(Vec<TopicName>, Measure<A, Option<usize>>),
}

impl<A: Algorithm> Route<A> {
    /// The topic of a notice, if it is published at all.
    pub(crate) fn of(&self, notice: &Item<A>) -> Option<&TopicName> {
        match self {
            Self::Nowhere => None,
            Self::Topic(topic) => Some(topic),
            Self::Choice(topics, choose) => topics.get(choose(notice)?),
        }
    }

    /// Every topic that a notice may go to, each once.
    pub(crate) fn topics(&self) -> Vec<TopicName> {
        let all: &[TopicName] = match self {
            Self::Nowhere => &[],
            Self::Topic(topic) => std::slice::from_ref(topic),
            Self::Choice(topics, _) => topics,
        };
        let is_first = |(at, topic): &(usize, &TopicName)| all.iter().take(*at).all(|before| before != *topic);
        all.iter().enumerate().filter(is_first).map(|(_, topic)| topic.clone()).collect()
    }
}
