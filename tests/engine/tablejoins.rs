//! Two tables as one against two maps, tombstones, and crashes.

use proptest::collection::vec;
use proptest::{prop_assert_eq, proptest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::flow::table_join::Both;
use tidegate::flow::{Key, Store, TableJoin, Topology};
use tidegate::testing::TestDriver;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Inner,
    Left,
    Outer,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Debug)]
struct Told {
    left: Option<i64>,
    right: Option<i64>,
}

struct Join(Kind);

impl Kind {
    fn join(self, left: Option<i64>, right: Option<i64>) -> Option<Told> {
        let is_told = match self {
            Self::Inner => left.is_some() && right.is_some(),
            Self::Left => left.is_some(),
            Self::Outer => left.is_some() || right.is_some(),
        };
        is_told.then_some(Told { left, right })
    }
}

impl TableJoin for Join {
    type Left = i64;
    type Right = i64;
    type Value = Told;

    fn join(&self, left: Option<&i64>, right: Option<&i64>, _: &Key) -> Option<Told> {
        assert!(left.is_some() || right.is_some(), "a key that is in no table");
        assert!(left.copied() != Some(13), "thirteen");
        self.0.join(left.copied(), right.copied())
    }
}

fn driver(kind: Kind, partitions: i32) -> TestDriver {
    let mut topology = Topology::new("p");
    topology.source("users").join_tables("limits").aggregate("both", Join(kind)).to("joined");
    TestDriver::new(topology).partitions(partitions)
}

/// A change: of which table, of which key, to what.
type Sending = (bool, u8, Option<i64>);

fn send(driver: &mut TestDriver, (is_left, key, value): Sending) {
    let value = value.map(|value| json!(value).to_string().into_bytes());
    driver.send_raw(if is_left { "users" } else { "limits" }, Some(&[b'a' + key]), value.as_deref());
}

/// What was told of each key, in order.
fn told(driver: &mut TestDriver) -> BTreeMap<u8, Vec<Option<Told>>> {
    let mut out: BTreeMap<u8, Vec<Option<Told>>> = BTreeMap::new();
    for found in driver.read_raw("joined") {
        let value = found.value.map(|value| serde_json::from_slice(&value).unwrap());
        out.entry(found.key.unwrap()[0] - b'a').or_default().push(value);
    }
    out
}

proptest! {
    #[test]
    fn joined_tables_equal_two_maps(
        kind in proptest::sample::select(vec![Kind::Inner, Kind::Left, Kind::Outer]),
        changes in vec((proptest::bool::ANY, 0..3_u8, proptest::option::weighted(0.7, 0..9_i64)), 1..40),
    ) {
        let mut driver = driver(kind, 1);
        let (mut users, mut limits): (BTreeMap<u8, i64>, BTreeMap<u8, i64>) = Default::default();
        let mut expected: BTreeMap<u8, Vec<Option<Told>>> = BTreeMap::new();
        for change in changes {
            let (is_left, key, value) = change;
            let now = |users: &BTreeMap<u8, i64>, limits: &BTreeMap<u8, i64>| kind.join(users.get(&key).copied(), limits.get(&key).copied());
            let before = now(&users, &limits);
            let table = if is_left { &mut users } else { &mut limits };
            match value {
                Some(value) => drop(table.insert(key, value)),
                None => drop(table.remove(&key)),
            }
            match (before, now(&users, &limits)) {
                (None, None) => {}
                (_, now) => expected.entry(key).or_default().push(now),
            }
            send(&mut driver, change);
            driver.run();
        }
        prop_assert_eq!(told(&mut driver), expected);
        for key in 0..3 {
            let is_kept = users.contains_key(&key) || limits.contains_key(&key);
            let name = String::from_utf8(vec![b'a' + key]).unwrap();
            prop_assert_eq!(driver.store("both", &name).is_some(), is_kept, "nothing is left of a key in no table");
        }
    }
}

#[test]
fn a_value_that_cannot_be_joined_is_a_dead_letter_and_the_key_keeps_what_it_had() {
    let mut driver = driver(Kind::Inner, 1);
    for change in [(true, 0, Some(1)), (false, 0, Some(5)), (true, 0, Some(13)), (false, 0, Some(6))] {
        send(&mut driver, change);
        driver.run();
    }
    let told = told(&mut driver);
    let of = |left, right| Some(Told { left: Some(left), right: Some(right) });
    assert_eq!(told[&0], [of(1, 5), of(1, 6)]);
    assert_eq!(driver.read_raw("users-dlt").len(), 1);
}

#[test]
fn a_joined_table_takes_no_time_to_live() {
    let mut topology = Topology::new("p");
    let store: Store<Option<Both<i64, i64>>> = Store::new("both").time_to_live(Duration::from_millis(5));
    topology.source("users").join_tables("limits").aggregate(store, Join(Kind::Inner)).to("joined");
    let errors = topology.validate().unwrap_err();
    assert!(errors.iter().any(|error| error.contains("remove its time_to_live()")), "{errors:?}");
}

/// A release whose code fails over a value that was told: the key can still be deleted and mended.
#[test]
fn a_key_whose_values_of_before_cannot_be_joined_any_more_is_mended_by_its_next_record() {
    let mut driver = driver(Kind::Left, 1);
    send(&mut driver, (true, 0, Some(9)));
    driver.run();
    let mut topology = Topology::new("p");
    topology.source("users").join_tables("limits").aggregate("both", Picky).to("joined");
    driver.release(topology);
    send(&mut driver, (true, 0, None));
    driver.run();
    assert_eq!(told(&mut driver)[&0], [Some(Told { left: Some(9), right: None }), None]);
    assert_eq!(driver.read_raw("users-dlt").len(), 0);
}

/// Takes no nine.
struct Picky;

impl TableJoin for Picky {
    type Left = i64;
    type Right = i64;
    type Value = Told;

    fn join(&self, left: Option<&i64>, right: Option<&i64>, _: &Key) -> Option<Told> {
        assert_ne!(left, Some(&9), "nine");
        Kind::Left.join(left.copied(), right.copied())
    }
}

#[test]
fn what_is_joined_is_told_once_whatever_crashes() {
    let mut driver = driver(Kind::Left, 2).instances(2);
    for n in 0..10_u8 {
        send(&mut driver, (n % 2 == 0, n % 3, (n != 7).then_some(i64::from(n))));
    }
    driver.run();
    assert!(!told(&mut driver).is_empty());
    driver.crash_everywhere();
}

/// What the release of before has told is remembered, and not computed by the code of the next one.
#[test]
fn what_another_release_has_told_is_forgotten_with_a_tombstone() {
    let mut driver = driver(Kind::Left, 1);
    send(&mut driver, (true, 0, Some(1)));
    driver.run();
    let mut topology = Topology::new("p");
    topology.source("users").join_tables("limits").aggregate("both", Join(Kind::Inner)).to("joined");
    driver.stop(0);
    driver.release(topology);
    driver.start(0);
    send(&mut driver, (true, 0, None));
    driver.run();
    assert_eq!(told(&mut driver)[&0], [Some(Told { left: Some(1), right: None }), None]);
}
