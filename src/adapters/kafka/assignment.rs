//! Which partitions go together: tasks on one side, the client's partitions on the other.
//!
//! The group knows the lead topics only. The member that is given number 3 of a lead topic reads number 3 of its companions
//! too, so two topics joined by key always meet in one process. A worked failure: subscribe to `orders` and `customers`
//! both, let a member join, and `cooperative-sticky` balances each topic for itself: `orders-3` stays here while
//! `customers-3` moves there, and the join of key 3 finds nothing, silently (tried on Kafka 4.3.1).

use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::ports::source::{Subscription, TaskId};

/// The topics of a subscription with their places in it.
#[derive(Debug)]
pub(super) struct Topics {
    places: Vec<Place>,
}

/// One topic's place: `topic` counts within its sub-topology, from the lead topic, which is 0.
#[derive(Debug)]
struct Place {
    name: TopicName,
    sub_topology: usize,
    topic: usize,
}

impl Topics {
    /// Numbers the topics.
    ///
    /// # Errors
    /// A sentence when a topic is named twice: one consumer reads each partition once.
    pub(super) fn new(subscription: &Subscription) -> Result<Self, String> {
        let mut places: Vec<Place> = Vec::new();
        for (sub_topology, group) in subscription.groups.iter().enumerate() {
            for (topic, name) in std::iter::once(&group.lead).chain(&group.companions).enumerate() {
                if places.iter().any(|place| place.name == *name) {
                    return Err(format!("group {}: topic {name} is named twice", subscription.group));
                }
                places.push(Place { name: name.clone(), sub_topology, topic });
            }
        }
        Ok(Self { places })
    }

    /// The lead topics, which are subscribed to.
    pub(super) fn leads(&self) -> Vec<&str> {
        self.places.iter().filter(|place| place.topic == 0).map(|place| place.name.as_str()).collect()
    }

    /// The task and the topic's number for a partition. `hint` remembers the last answer, which mostly is the next.
    pub(super) fn find(&self, name: &[u8], partition: i32, hint: &mut usize) -> Option<(TaskId, usize)> {
        let is_named = |place: &&Place| place.name.as_str().as_bytes() == name;
        if !self.places.get(*hint).is_some_and(|place| is_named(&place)) {
            *hint = self.places.iter().position(|place| is_named(&place))?;
        }
        let place = self.places.get(*hint)?;
        Some((TaskId { sub_topology: place.sub_topology, partition: Partition(partition) }, place.topic))
    }

    /// The tasks whose lead partitions are named, in the order given; other partitions are passed over.
    pub(super) fn tasks(&self, partitions: &[(String, i32)]) -> Vec<TaskId> {
        let mut hint = 0;
        let find = |(name, partition): &(String, i32)| match self.find(name.as_bytes(), *partition, &mut hint)? {
            (task, 0) => Some(task),
            _ => None,
        };
        partitions.iter().filter_map(find).collect()
    }

    /// The partitions that the tasks read: the lead topics' and the companions'.
    pub(super) fn partitions(&self, tasks: &[TaskId]) -> Vec<TopicPartition> {
        let of = |task: &TaskId| {
            let (sub_topology, partition) = (task.sub_topology, task.partition);
            let places = self.places.iter().filter(move |place| place.sub_topology == sub_topology);
            places.map(move |place| TopicPartition::new(place.name.clone(), partition))
        };
        tasks.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::source::CopartitionGroup;

    fn name(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    fn task(sub_topology: usize, partition: i32) -> TaskId {
        TaskId { sub_topology, partition: Partition(partition) }
    }

    fn topics() -> Topics {
        let groups = vec![
            CopartitionGroup { lead: name("orders"), companions: vec![name("customers"), name("prices")] },
            CopartitionGroup { lead: name("clicks"), companions: vec![] },
        ];
        Topics::new(&Subscription { group: "g".into(), groups }).unwrap()
    }

    #[test]
    fn companions_follow_the_lead_number_by_number() {
        let topics = topics();
        assert_eq!(topics.leads(), ["orders", "clicks"]);
        let given = [("orders".to_string(), 3), ("clicks".to_string(), 0), ("unknown".to_string(), 1)];
        let tasks = topics.tasks(&given);
        assert_eq!(tasks, [task(0, 3), task(1, 0)]);
        let partitions: Vec<String> = topics.partitions(&tasks).iter().map(ToString::to_string).collect();
        assert_eq!(partitions, ["orders-3", "customers-3", "prices-3", "clicks-0"]);
    }

    #[test]
    fn records_are_placed_whatever_the_hint_says() {
        let topics = topics();
        for start in 0..6 {
            let mut hint = start;
            assert_eq!(topics.find(b"prices", 7, &mut hint), Some((task(0, 7), 2)));
            assert_eq!(topics.find(b"clicks", 1, &mut hint), Some((task(1, 1), 0)));
            assert_eq!(topics.find(b"nothing", 1, &mut hint), None);
        }
    }

    #[test]
    fn a_topic_named_twice_is_refused() {
        let groups = vec![
            CopartitionGroup { lead: name("a"), companions: vec![name("b")] },
            CopartitionGroup { lead: name("b"), companions: vec![] },
        ];
        assert!(Topics::new(&Subscription { group: "g".into(), groups }).unwrap_err().contains("named twice"));
    }
}
