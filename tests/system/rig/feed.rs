//! Notifications with seeded values, and beside them their expected results.

use super::{Random, Reference, World, evenly};
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::record::TopicName;

/// One producer in one thread, so that the order of the feed is the order of every partition. Even ids get
/// corrections only and odd ones readings only, since the order between two topics is nobody's promise.
pub struct Feed {
    producer: KafkaFeed,
    random: Random,
    ids: i64,
    pub sent: i64,
    pub reference: Reference,
}

impl Feed {
    pub fn new(world: &World, ids: i64, seed: u64) -> Self {
        let producer = KafkaFeed::connect(&world.kafka_settings()).unwrap();
        Self { producer, random: Random::new(seed), ids, sent: 0, reference: Reference::new(ids) }
    }

    /// `count` notifications, evenly over `during`, all acknowledged at the end.
    pub fn send(&mut self, count: i64, during: Duration) {
        evenly(count.unsigned_abs(), during, || self.one());
        self.flush();
    }

    /// Feeds until `act` has come to its end.
    pub fn during(&mut self, act: impl FnOnce()) {
        super::beside(|| self.send(60, Duration::from_millis(100)), act);
    }

    pub fn flush(&self) {
        self.producer.flush().unwrap();
    }

    fn one(&mut self) {
        let id = 1 + i64::try_from(self.random.below(self.ids.unsigned_abs())).unwrap();
        let score = self.reference.rows[&id].score;
        // Around the scores, so that about a third of the changes is large; never the score itself, which changes nothing.
        let number = loop {
            let number = (self.random.below(80_001) as f64 - 40_000.0) / 10_000.0;
            if number != score {
                break format!("{number}");
            }
        };
        if id % 2 == 0 { self.correct(id, &number) } else { self.read(id, &number) }
    }

    /// A correction of the score to `number`.
    pub fn correct(&mut self, id: i64, number: &str) {
        self.event("corrections", "score", id, number);
    }

    /// A reading of `number`.
    pub fn read(&mut self, id: i64, number: &str) {
        self.event("readings", "value", id, number);
    }

    fn event(&mut self, topic: &str, field: &str, id: i64, number: &str) {
        self.raw(topic, None, Some(id.to_string().as_bytes()), Some(format!(r#"{{"{field}": {number}}}"#).as_bytes()));
        self.reference.apply(topic, id, number);
    }

    /// Any bytes; they are not applied to the reference.
    pub fn raw(&mut self, topic: &str, partition: Option<i32>, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.producer.send(&TopicName::parse(topic).unwrap(), partition, key, value, &[]).unwrap();
        self.sent += 1;
    }
}
