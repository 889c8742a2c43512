//! A stream joined with a table topic on a real Kafka, through a kill: the user that each order meets is computed
//! beside it. No database takes part.

use crate::keyed::{changelog, read, topic, wait_read};
use crate::rig::{Random, World, say};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::key::partition_for;

const PARTITIONS: i32 = 12;
const USERS: u64 = 300;

/// One producer, and the expected results: the versions of its user that each order may meet.
struct Shop {
    feed: KafkaFeed,
    random: Random,
    /// The version of each user that the service has surely seen, and the last one sent; `None` where it is deleted.
    seen: BTreeMap<String, Option<u64>>,
    sent: BTreeMap<String, Option<u64>>,
    orders: Vec<(String, Option<u64>)>,
    updates: u64,
}

impl Shop {
    /// An order of any user; one in ten is of a user the table never had.
    fn order(&mut self) {
        let is_stranger = self.random.below(10) == 0;
        let user = format!("{}{}", if is_stranger { "stranger" } else { "u" }, self.random.below(USERS));
        let value = format!(r#"{{"item":"{}","cents":1}}"#, self.orders.len());
        self.feed.send(&topic("orders"), None, Some(user.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        let least = self.seen.get(&user).copied().flatten();
        self.orders.push((user, least));
    }

    fn update(&mut self, user: u64) {
        let user = format!("u{user}");
        self.updates += 1;
        let value = format!(r#"{{"name":"{}","country":"NL","more":1}}"#, self.updates);
        self.feed.send(&topic("users"), None, Some(user.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        self.sent.insert(user, Some(self.updates));
    }

    fn delete(&mut self, user: u64) {
        let user = format!("u{user}");
        self.feed.send(&topic("users"), None, Some(user.as_bytes()), None, &[]).unwrap();
        self.updates += 1;
        self.sent.insert(user, None);
    }

    /// Waits until the service has seen all that was sent.
    fn settle(&mut self, world: &World) {
        self.feed.flush().unwrap();
        wait_read(world, "orders", "users", self.updates, Duration::from_secs(120));
        wait_read(world, "orders", "orders", self.orders.len() as u64, Duration::from_secs(120));
        self.seen = self.sent.clone();
    }

    /// Holds every order from number `first` on against its user at the time when it was handled.
    fn judge(&self, world: &World, first: usize) -> usize {
        let mut met: Vec<Option<u64>> = vec![None; self.orders.len()];
        let mut last: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        read(world, "orders", "addressed-orders", |record| {
            let user = String::from_utf8(record.key.unwrap()).unwrap();
            let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            let n: usize = value["item"].as_str().unwrap().parse().unwrap();
            let version: u64 = value["name"].as_str().unwrap().parse().unwrap();
            assert_eq!(self.orders[n].0, user);
            assert_eq!(record.partition, partition_for(user.as_bytes(), PARTITIONS));
            assert_eq!(met[n].replace(version), None, "order {n} is told twice");
            let before = last.insert(user, (n, version));
            assert!(before.is_none_or(|(m, v)| m < n && v <= version), "order {n} met {version} after {before:?}");
        });
        let mut told = 0;
        for (n, (user, least)) in self.orders.iter().enumerate().skip(first) {
            let most = self.sent.get(user).copied().flatten();
            assert_eq!(
                met[n].is_some(),
                most.is_some(),
                "order {n} of {user}: met {:?}, {least:?} to {most:?}",
                met[n]
            );
            assert!((*least..=most).contains(&met[n]), "order {n} of {user}: met {:?}, {least:?} to {most:?}", met[n]);
            told += usize::from(met[n].is_some());
        }
        told
    }
}

/// `TIDEGATE_JOIN_SEED`.
#[test]
fn every_order_meets_its_user_as_the_table_says_through_a_kill() {
    let seed = Random::seed("TIDEGATE_JOIN_SEED");
    let Some(world) = World::keyed("joins", "orders") else { return };
    say(&format!("joins: TIDEGATE_JOIN_SEED={seed}"));
    let mut shop = Shop {
        feed: KafkaFeed::connect(&world.kafka_settings()).unwrap(),
        random: Random::new(seed),
        seen: BTreeMap::new(),
        sent: BTreeMap::new(),
        orders: Vec::new(),
        updates: 0,
    };

    // Everything waits before anybody starts, the orders first: the table is read to its end before the stream begins.
    (0..3_000).for_each(|_| shop.order());
    shop.feed.flush().unwrap();
    std::thread::sleep(Duration::from_millis(50)); // so that the table's records are the later ones
    (0..3 * USERS).for_each(|n| shop.update(n % USERS));
    shop.feed.flush().unwrap();
    for order in &mut shop.orders {
        order.1 = shop.sent.get(&order.0).copied().flatten();
    }
    let mut instances = vec![world.stateful_instance("first"), world.stateful_instance("second")];
    shop.settle(&world);
    let of_backlog = shop.judge(&world, 0);

    // The table changes and rests; then orders come, and an instance is killed while they do.
    (0..USERS).for_each(|user| match user % 3 {
        0 => shop.update(user),
        1 if user % 2 == 0 => shop.delete(user),
        _ => {}
    });
    shop.settle(&world);
    let first = shop.orders.len();
    for n in 0..4_000 {
        shop.order();
        if n == 2_000 {
            shop.feed.flush().unwrap();
            instances[0].kill();
        }
    }
    instances[0] = world.stateful_instance("first");
    shop.settle(&world);
    let of_kill = shop.judge(&world, first);

    // Both at once: an order meets a version between the one known before and the last one sent, never an earlier one
    // than the order before it.
    let first = shop.orders.len();
    for _ in 0..4_000 {
        let user = shop.random.below(USERS);
        match shop.random.below(4) {
            0 if shop.sent[&format!("u{user}")].is_some() => shop.update(user),
            _ => shop.order(),
        }
    }
    shop.settle(&world);
    let of_mixed = shop.judge(&world, first);

    let kept = changelog(&world, "orders", "orders-users-changelog");
    for (user, version) in &shop.sent {
        let expected = version.map(|version| serde_json::json!({"name": version.to_string(), "country": "NL"}));
        assert_eq!(kept.get(user).map(|(_, value)| value), expected.as_ref(), "{user}");
    }
    for dead in ["orders-dlt", "users-dlt"] {
        read(&world, "orders", dead, |record| panic!("a dead letter in {dead}: {record:?}"));
    }
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    world.note(&format!(
        "{} orders, {} changes of {USERS} users, one kill: {of_backlog} + {of_kill} + {of_mixed} told, all once and right",
        shop.orders.len(),
        shop.updates
    ));
}
