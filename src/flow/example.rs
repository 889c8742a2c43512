//! Stores and timers of a unit test that calls an algorithm directly.
//!
//! Values are written and read by the engine's own code; what the engine does around it (expiry, undoing, size limits) is
//! tested by [`TestDriver`](crate::testing::TestDriver).

use crate::flow::algorithm::Context;
use crate::flow::effect::Reject;
use crate::flow::key::KeyType;
use crate::flow::store::{Opened, StateAccess, Store, TimerKind, Unavailable, open};
use crate::flow::timer::{Timer, store_of};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The stores and timers of one partition, in memory, for a unit test: [`Context::with_stores`] lends them to a record. They
/// begin empty and last from record to record.
///
/// Values are kept as the engine keeps them: as the JSON of their store, with its version, so that one which JSON cannot say is
/// a dead letter, a null deletes its key, and values of earlier versions are upgraded. Nothing expires, no write is undone
/// where a record is rejected, and no timer fires by itself: a test calls [`Algorithm::timer`](crate::flow::Algorithm::timer),
/// and one that is to see all of that runs the [`TestDriver`](crate::testing::TestDriver).
///
/// ```
/// use tidegate::flow::record::TopicName;
/// use tidegate::flow::{At, Context, ExampleStores, Key, Store};
///
/// let visits: Store<u64> = Store::new("visits");
/// let mut stores = ExampleStores::new().with(&visits).with_timers();
/// let (topic, key) = (TopicName::parse("clicks")?, Key::from("ada"));
/// let mut context = Context::example(&topic, &key).at(1_000).with_stores(&mut stores);
/// context.store(&visits).unwrap().put("ada", &1).unwrap();
/// context.set_timer("silent", At::Event(61_000)).unwrap();
///
/// assert_eq!(stores.store(&visits).unwrap().get("ada").unwrap(), Some(1));
/// let timers = stores.timers();
/// assert_eq!((timers.len(), &*timers[0].name, timers[0].at), (1, "silent", 61_000));
/// # Ok::<(), String>(())
/// ```
#[derive(Default)]
pub struct ExampleStores {
    state: State,
    /// The key's bytes of the record that has the stores.
    record_key: Vec<u8>,
}

#[derive(Default)]
struct State {
    stores: Vec<Kept>,
    halt: Option<String>,
}

/// One store: values as `[version][JSON]`.
struct Kept {
    name: Arc<str>,
    /// Which timers it keeps, where it keeps these.
    timers: Option<TimerKind>,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl ExampleStores {
    /// None yet, and no timers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a store, as a step has it by `with_store`.
    #[must_use]
    pub fn with<V>(mut self, store: &Store<V>) -> Self {
        let spec = store.spec();
        self.state.stores.push(Kept { name: Arc::clone(&spec.name), timers: spec.timers, values: BTreeMap::new() });
        self
    }

    /// The same with timers by event time, as a step has them by `with_timers`.
    #[must_use]
    pub fn with_timers(self) -> Self {
        self.with(&store_of("timers", TimerKind { goes_by_wall: false, is_own: false }))
    }

    /// The same with timers by both clocks, as a step has them by `with_wall_timers`.
    #[must_use]
    pub fn with_wall_timers(self) -> Self {
        self.with(&store_of("timers", TimerKind { goes_by_wall: true, is_own: false }))
    }

    /// Opens a store, to fill it before a record and to look into it behind one.
    ///
    /// # Errors
    /// It is none of those that [`ExampleStores::with`] was told of: see [`ExampleStores::halt`].
    pub fn store<'s, V>(&'s mut self, store: &'s Store<V>) -> Result<Opened<'s, V>, Reject> {
        open(&mut self.state, store)
    }

    /// The timers that are set, in the order in which they would fire: by clock, time, key and name. One that was taken back, or
    /// moved away, is not among them.
    #[must_use]
    pub fn timers(&self) -> Vec<Timer> {
        let of_timers = self.state.stores.iter().filter(|kept| kept.timers.is_some());
        of_timers.flat_map(|kept| kept.values.keys().filter_map(|entry| Timer::read(entry))).collect()
    }

    /// The reason for which the engine would have halted the partition, where an algorithm opened a store or set a timer that its
    /// step was not given, or read a value that is none of its store's type. The algorithm got the reject `state-unavailable`.
    #[must_use]
    pub fn halt(&self) -> Option<&str> {
        self.state.halt.as_deref()
    }
}

impl fmt::Debug for ExampleStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.state.stores.iter().map(|kept| (&kept.name, kept.values.len()));
        f.debug_map().entries(sizes).finish()
    }
}

impl<'a> Context<'a> {
    /// The same with stores and timers, for a unit test. The record's key is the context's as text, or its bytes where it has such;
    /// an empty one stands for a record without a key, which can set no timer.
    #[must_use]
    pub fn with_stores(mut self, stores: &'a mut ExampleStores) -> Self {
        let ExampleStores { state, record_key } = stores;
        *record_key = KeyType::Text.spell(self.key);
        self.record_key = (!record_key.is_empty()).then_some(record_key);
        self.state = Some(state);
        self
    }
}

impl StateAccess for State {
    fn find(&self, name: &str) -> Option<usize> {
        self.stores.iter().position(|kept| *kept.name == *name && kept.timers.is_none())
    }

    fn get(&mut self, store: usize, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Unavailable> {
        visit(self.stores.get(store).and_then(|kept| kept.values.get(key)).map(Vec::as_slice));
        Ok(())
    }

    fn put(&mut self, store: usize, key: &[u8], value: Option<&[u8]>) {
        let Some(kept) = self.stores.get_mut(store) else { return };
        match value {
            Some(value) => kept.values.insert(key.to_vec(), value.to_vec()),
            None => kept.values.remove(key),
        };
    }

    fn scan(
        &mut self,
        store: usize,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Unavailable> {
        let all = self.stores.get(store).into_iter().flat_map(|kept| &kept.values);
        let mut found = all.filter(|(key, _)| &key[..] >= from && to.is_none_or(|to| &key[..] < to));
        found.all(|(key, value)| visit(key, value));
        Ok(())
    }

    fn corrupt(&mut self, message: String) -> Unavailable {
        self.halt.get_or_insert(message);
        Unavailable
    }

    fn lacks(&mut self, message: String) -> Unavailable {
        self.halt.get_or_insert(message);
        Unavailable
    }

    fn timers(&self) -> Option<(usize, TimerKind)> {
        self.stores.iter().enumerate().find_map(|(number, kept)| Some((number, kept.timers?)))
    }

    /// No record was decided yet.
    fn clock(&self) -> i64 {
        i64::MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::key::Key;
    use crate::flow::record::TopicName;
    use crate::flow::timer::{At, Clock};

    fn example<T>(stores: &mut ExampleStores, key: &Key, run: impl FnOnce(Context<'_>) -> T) -> T {
        let topic = TopicName::derived("in");
        run(Context::example(&topic, key).at(1_000).with_now(9_000).with_stores(stores))
    }

    fn set(stores: &mut ExampleStores, key: impl Into<Key>, name: &str, at: At) -> Result<(), Reject> {
        example(stores, &key.into(), |mut context| context.set_timer(name, at))
    }

    #[test]
    fn stores_last_from_record_to_record_and_are_read_by_key_prefix_and_range() {
        let (counts, other): (Store<i64>, Store<i64>) = (Store::new("counts"), Store::new("other"));
        let mut stores = ExampleStores::new().with(&counts).with(&other);
        stores.store(&counts).unwrap().put("a", &4).unwrap();
        for key in ["a", "ab", "b", "c"] {
            let sum = example(&mut stores, &Key::from(key), |mut context| {
                assert_eq!((context.event_time_ms(), context.now_ms()), (1_000, 9_000));
                context.store(&counts)?.delete("c");
                context.store(&counts)?.add(key, 3)
            });
            assert_eq!(sum.unwrap(), if key == "a" { 7 } else { 3 });
        }
        let mut counts = stores.store(&counts).unwrap();
        let keys = |found: Vec<(Vec<u8>, i64)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(counts.prefix("a", 9).unwrap()), [b"a".to_vec(), b"ab".to_vec()]);
        assert_eq!(keys(counts.range("ab", "c", 9).unwrap()), [b"ab".to_vec(), b"b".to_vec()]);
        assert_eq!(keys(counts.range("", "d", 1).unwrap()), [b"a".to_vec()]);
        assert_eq!(stores.store(&other).unwrap().get("a").unwrap(), None, "each store has its own values");
    }

    #[test]
    fn values_are_kept_as_the_engine_keeps_them() {
        let old: Store<Option<f64>> = Store::new("s");
        let mut stores = ExampleStores::new().with(&old);
        let mut opened = stores.store(&old).unwrap();
        opened.put("k", &Some(1.5)).unwrap();
        opened.put("gone", &Some(1.0)).unwrap();
        opened.put("gone", &None).unwrap();
        assert_eq!(opened.put("k", &Some(f64::NAN)).unwrap_err().code(), "not-finite");
        let new: Store<String> =
            Store::new("s").version(2, |from, json| Ok(format!("{from}: {}", String::from_utf8_lossy(json))));
        assert_eq!(stores.store(&new).unwrap().prefix("", 9).unwrap(), [(b"k".to_vec(), "1: 1.5".to_owned())]);
        stores.store(&new).unwrap().put("k", &"x".into()).unwrap();
        assert_eq!(stores.store(&old).unwrap().get("k").unwrap_err().code(), "state-unavailable");
        assert!(stores.halt().unwrap().contains("holds a value of version 2"), "{:?}", stores.halt());
    }

    #[test]
    fn timers_are_told_in_the_order_in_which_they_fire_without_those_taken_back() {
        let mut stores = ExampleStores::new().with_wall_timers();
        set(&mut stores, "b", "x", At::Event(5)).unwrap();
        set(&mut stores, 7, "wall", At::Wall(1)).unwrap();
        set(&mut stores, "a", "moved", At::Event(4)).unwrap();
        set(&mut stores, "a", "moved", At::Event(6)).unwrap();
        set(&mut stores, "a", "z", At::Event(5)).unwrap();
        set(&mut stores, "a", "gone", At::Wall(2)).unwrap();
        example(&mut stores, &Key::from("a"), |mut context| context.cancel_timer("gone")).unwrap();
        let timer = |clock, at, key: &str, name: &str| Timer { clock, at, key: key.into(), name: name.into() };
        let expected = [
            timer(Clock::Event, 5, "a", "z"),
            timer(Clock::Event, 5, "b", "x"),
            timer(Clock::Event, 6, "a", "moved"),
            timer(Clock::Wall, 1, "7", "wall"),
        ];
        assert_eq!(stores.timers(), expected);
        assert_eq!(set(&mut stores, "", "x", At::Event(5)).unwrap_err().code(), "null-key");
        assert_eq!(set(&mut stores, "a", &"x".repeat(129), At::Event(5)).unwrap_err().code(), "bad-timer");
        assert_eq!((stores.timers().len(), stores.halt()), (4, None));
    }

    #[test]
    fn what_would_halt_the_partition_is_told() {
        let counts: Store<u64> = Store::new("timers");
        let mut stores = ExampleStores::new().with_timers();
        let refused = example(&mut stores, &Key::from("a"), |mut context| context.store(&counts).map(drop));
        assert_eq!(refused.unwrap_err().code(), "state-unavailable");
        let expected = "the algorithm opens the store timers, which its step was not given: add `with_store`";
        assert_eq!(stores.halt(), Some(expected));
        for (mut stores, at, expected) in [
            (ExampleStores::new(), At::Event(5), "add `with_timers`"),
            (ExampleStores::new().with_timers(), At::Wall(5), "`with_wall_timers`"),
        ] {
            set(&mut stores, "a", "x", at).unwrap_err();
            assert!(stores.halt().unwrap().contains(expected), "{:?}", stores.halt());
        }
    }
}
