//! Tables in front of a row update on a real Kafka and a real PostgreSQL: instances are killed, and rows, notices and the
//! tables' changelogs are those of a one-by-one computation.

use crate::rig::{Random, World, say, until};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::record::TopicName;

const IDS: u64 = 300;
const ROUNDS: i64 = 5;
const PAYMENTS: i64 = 3_000;

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Account {
    spent: i64,
    bonus: i64,
    version: i64,
}

/// The producer of all three topics, and the expected results.
struct Bank {
    feed: KafkaFeed,
    random: Random,
    customers: BTreeMap<u64, i64>,
    limits: BTreeMap<u64, i64>,
    accounts: BTreeMap<u64, Account>,
    /// What is told of each account, in order.
    told: BTreeMap<u64, Vec<(i64, i64)>>,
    sent: i64,
}

impl Bank {
    fn send(&mut self, name: &str, id: u64, value: Option<String>) {
        let key = id.to_string();
        let value = value.as_deref().map(str::as_bytes);
        self.feed.send(&topic(name), None, Some(key.as_bytes()), value, &[]).unwrap();
        self.sent += 1;
    }

    /// New terms for some, and for some none any more.
    fn change_the_tables(&mut self) {
        for id in 0..IDS {
            match self.random.below(4) {
                0 => {
                    let percent = i64::try_from(self.random.below(20)).unwrap();
                    self.customers.insert(id, percent);
                    self.send("customers", id, Some(format!(r#"{{"bonus_percent":{percent}}}"#)));
                }
                1 => {
                    let cents = i64::try_from(self.random.below(5_000)).unwrap();
                    self.limits.insert(id, cents);
                    self.send("credit-limits", id, Some(format!(r#"{{"limit_cents":{cents}}}"#)));
                }
                2 => {
                    self.limits.remove(&id);
                    self.send("credit-limits", id, None);
                }
                _ if self.random.below(10) == 0 => {
                    self.customers.remove(&id);
                    self.send("customers", id, None);
                }
                _ => {}
            }
        }
    }

    fn pay(&mut self) {
        let (id, cents) = (self.random.below(IDS), i64::try_from(self.random.below(300)).unwrap());
        self.send("payments", id, Some(format!(r#"{{"cents":{cents}}}"#)));
        let Some(percent) = self.customers.get(&id) else { return };
        let account = self.accounts.entry(id).or_default();
        let before = account.spent;
        account.spent += cents;
        account.bonus += cents * percent / 100;
        account.version += i64::from(cents > 0);
        let limit = self.limits.get(&id).filter(|limit| before <= **limit && account.spent > **limit);
        if let Some(limit) = limit {
            self.told.entry(id).or_default().push((account.spent, *limit));
        }
    }

    fn settle(&self, world: &World) {
        self.feed.flush().unwrap();
        world.wait_taken(self.sent, Duration::from_secs(120));
    }
}

/// `TIDEGATE_ROWJOINS_SEED` repeats a run's choices.
#[test]
fn rows_follow_the_tables_that_their_stream_is_joined_with_through_kills() {
    let seed = Random::seed("TIDEGATE_ROWJOINS_SEED");
    let Some(world) = World::example("rowjoins", "charges") else { return };
    say(&format!("rowjoins: TIDEGATE_ROWJOINS_SEED={seed}"));
    world.ok(&["topics", "--dir", "topics/charges", "apply", "--env", "dev", "--yes"]);
    world.ok(&["migrate"]);
    world.sql(&format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, spent_cents bigint NOT NULL, bonus_cents bigint NOT NULL,
                                version bigint NOT NULL);
         INSERT INTO accounts SELECT id, 0, 0, 0 FROM generate_series(0, {IDS} - 1) id"
    ));
    let mut bank = Bank {
        feed: KafkaFeed::connect(&world.kafka_settings()).unwrap(),
        random: Random::new(seed),
        customers: BTreeMap::new(),
        limits: BTreeMap::new(),
        accounts: BTreeMap::new(),
        told: BTreeMap::new(),
        sent: 0,
    };
    // Everything waits before anybody starts: the tables are read to their ends before the stream begins.
    for _ in 0..3 {
        bank.change_the_tables();
    }
    (0..PAYMENTS).for_each(|_| bank.pay());
    bank.feed.flush().unwrap();
    let mut instances = ["first", "second"].map(|name| world.stateful_instance(name));
    bank.settle(&world);
    for round in 0..ROUNDS {
        bank.change_the_tables();
        if round % 2 == 0 {
            // While the tables change, too.
            bank.feed.flush().unwrap();
            kill(&world, &mut instances, &mut bank.random);
        }
        bank.settle(&world);
        for n in 0..PAYMENTS {
            bank.pay();
            if n == PAYMENTS / 2 {
                bank.feed.flush().unwrap();
                kill(&world, &mut instances, &mut bank.random);
            }
        }
        bank.settle(&world);
    }
    until("everything is published", Duration::from_secs(60), || {
        let behind = format!("{:?}", world.audit().behind());
        if world.audit().behind().is_empty() { Ok(()) } else { Err(behind) }
    });

    for row in world.sql("SELECT id, spent_cents, bonus_cents, version FROM accounts ORDER BY id") {
        use sqlx::Row as _;
        let at = |index: usize| row.try_get_unchecked::<i64, _>(index).unwrap();
        let expected = bank.accounts.get(&at(0).unsigned_abs()).copied().unwrap_or_default();
        assert_eq!(Account { spent: at(1), bonus: at(2), version: at(3) }, expected, "account {}", at(0));
    }
    let mut told: BTreeMap<u64, Vec<(i64, i64)>> = BTreeMap::new();
    for found in world.messages("exceeded-limits") {
        let id = String::from_utf8(found.key.unwrap()).unwrap().parse().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&found.value.unwrap()).unwrap();
        let number = |name: &str| value[name].as_i64().unwrap();
        told.entry(id).or_default().push((number("spent_cents"), number("limit_cents")));
    }
    assert_eq!(told, bank.told, "each payment beyond a limit is told once, in order");
    for (name, field, expected) in
        [("customers", "bonus_percent", &bank.customers), ("credit-limits", "limit_cents", &bank.limits)]
    {
        let mut kept: BTreeMap<u64, i64> = BTreeMap::new();
        for found in world.messages(&format!("charges-{name}-changelog")) {
            let id = String::from_utf8(found.key.unwrap()).unwrap().parse().unwrap();
            match found.value {
                Some(value) => {
                    let value: serde_json::Value = serde_json::from_slice(&value[2..]).unwrap();
                    kept.insert(id, value[field].as_i64().unwrap());
                }
                None => drop(kept.remove(&id)),
            }
        }
        assert_eq!(kept, *expected, "{name}: the changelog is the table");
        assert!(world.messages(&format!("{name}-dlt")).is_empty());
    }
    assert!(world.messages("payments-dlt").is_empty());
    for instance in &mut instances {
        let (status, took) = instance.terminate(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
}

/// Kills one of the instances, and starts it again.
fn kill(world: &World, instances: &mut [crate::rig::Instance; 2], random: &mut Random) {
    std::thread::sleep(Duration::from_millis(random.below(60)));
    let index = usize::try_from(random.below(2)).unwrap();
    assert!(instances[index].is_running(), "{} ended by itself", instances[index].name);
    instances[index].kill();
    let name = instances[index].name.clone();
    instances[index] = world.stateful_instance(&name);
}
