//! Keyed state as an algorithm sees it: typed values under byte keys, local to the task's partition.
//!
//! A value is kept as `[version: 1 byte][JSON]`, so that a store written by an earlier release is upgraded when it is
//! read, and one written by a later release halts its partition instead of being misread. The engine adds the rest (expiry,
//! cache, changelog, RocksDB).

use crate::flow::codec::json;
use crate::flow::effect::Reject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Converts the bytes of an earlier version into a value.
type Upgrade<V> = Arc<dyn Fn(u8, &[u8]) -> Result<V, String> + Send + Sync>;

/// Names a store and the type of its values. Clones name the same store.
///
/// ```
/// use std::time::Duration;
/// use tidegate::flow::Store;
/// let visits: Store<u64> = Store::new("visits").time_to_live(Duration::from_secs(3600));
/// ```
pub struct Store<V> {
    spec: StoreSpec,
    upgrade: Option<Upgrade<V>>,
    value: PhantomData<fn() -> V>,
    /// Whether a value that was written has been read back.
    is_proved: AtomicBool,
}

/// A store as the engine knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSpec {
    /// Its name: part of `<pipeline>-<name>-changelog`.
    pub name: Arc<str>,
    /// The version that its values are written in.
    pub version: u8,
    /// The time for which a value is readable after the latest event time of its writes.
    pub time_to_live: Option<Duration>,
    /// The timers of its step that it keeps, where it keeps these and nothing else.
    pub timers: Option<TimerKind>,
}

/// The timers of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKind {
    /// Whether they may go by the wall clock, too.
    pub goes_by_wall: bool,
    /// Whether the step sets them by itself, as windows do: its algorithm has none then.
    pub is_own: bool,
}

impl<V> Store<V> {
    /// A store of version 1 whose values do not expire.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let spec = StoreSpec { name: name.into(), version: 1, time_to_live: None, timers: None };
        Self { spec, upgrade: None, value: PhantomData, is_proved: AtomicBool::new(false) }
    }

    /// Values are written in `version`; `upgrade` reads those of earlier ones, from their version and their JSON. Where it
    /// answers an error the partition halts, since no record is to blame; where it panics the record that reads the value is
    /// a dead letter.
    #[must_use]
    pub fn version(
        mut self,
        version: u8,
        upgrade: impl Fn(u8, &[u8]) -> Result<V, String> + Send + Sync + 'static,
    ) -> Self {
        self.spec.version = version;
        self.upgrade = Some(Arc::new(upgrade));
        self
    }

    /// A value expires this long after the event time of the record that wrote it, the latest of them where some came late:
    /// a write never shortens a life. It is unreadable as soon as the task's clock, the highest event time of the records
    /// that its streams have decided, has come as far; its tombstone follows. A value that was written before its store
    /// had a time to live gets one, counted from the clock, some time after the release that gives it.
    #[must_use]
    pub const fn time_to_live(mut self, time: Duration) -> Self {
        self.spec.time_to_live = Some(time);
        self
    }

    /// Another store whose values are written and upgraded like those of this one.
    pub(crate) fn named(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.spec.name = name.into();
        other
    }

    /// The same with values of ours, which read back what they write.
    pub(crate) const fn proved(mut self) -> Self {
        self.is_proved = AtomicBool::new(true);
        self
    }

    /// The same as a store of timers.
    pub(crate) const fn of_timers(mut self, kind: TimerKind) -> Self {
        self.spec.timers = Some(kind);
        self
    }

    /// The store as the engine knows it.
    #[must_use]
    pub const fn spec(&self) -> &StoreSpec {
        &self.spec
    }
}

impl<V: Serialize + DeserializeOwned> Store<V> {
    /// Reads a value from `[version][JSON]`.
    ///
    /// # Errors
    /// A sentence: the value cannot be true, and no record is to blame.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<V, String> {
        let name = &self.spec.name;
        let Some((version, json)) = bytes.split_first() else {
            return Err(format!("store {name}: a value without a version"));
        };
        if *version == self.spec.version {
            return serde_json::from_slice(json).map_err(|error| format!("store {name}: a value of version {version} does not fit its type ({error}); give the new type a new version and an upgrade"));
        }
        match &self.upgrade {
            Some(upgrade) if *version < self.spec.version => upgrade(*version, json)
                .map_err(|error| format!("store {name}: upgrade from version {version}: {error}")),
            _ => Err(format!(
                "store {name}: holds a value of version {version}, this release knows {}; deploy the release that wrote it, or one that upgrades it",
                self.spec.version
            )),
        }
    }

    /// Reads a value that is to be kept, and would halt its partition later if it could not be read: the first one, and in a debug
    /// build each. To read all of them would parse each value once more.
    ///
    /// # Errors
    /// A dead letter, where the type does not read what it has written.
    fn read_back(&self, bytes: &[u8]) -> Result<(), Reject> {
        if cfg!(not(debug_assertions)) && self.is_proved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let json = bytes.get(1..).unwrap_or_default();
        serde_json::from_slice::<V>(json).map_err(|error| {
            let (name, kind) = (&self.spec.name, std::any::type_name::<V>());
            let message = format!(
                "store {name}: the type {kind} does not read the value that it wrote ({error}): let serde read all that it writes, and give \
                 a field that it may leave out #[serde(default)]"
            );
            Reject::dead_letter("not-readable", message)
        })?;
        self.is_proved.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A value of the same JSON as one of this store, as `[version][JSON]`.
    ///
    /// # Errors
    /// The same as [`Store::encode`].
    pub(crate) fn encoded(&self, value: &impl Serialize) -> Result<Vec<u8>, Reject> {
        let mut bytes = vec![self.spec.version];
        json::encode_kept_into(value, &mut bytes)?;
        self.read_back(&bytes)?;
        Ok(bytes)
    }

    /// Shows a value as `[version][JSON]`; `None` where it is JSON's null, which deletes the key.
    ///
    /// # Errors
    /// A dead letter, where the value cannot be said in JSON.
    pub(crate) fn encode<R>(&self, value: &V, show: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, Reject> {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.push(self.spec.version);
            json::encode_kept_into(value, scratch)?;
            let is_null = scratch.get(1..) == Some(b"null");
            if !is_null {
                self.read_back(scratch)?;
            }
            Ok(show((!is_null).then_some(scratch)))
        })
    }
}

impl<V> Clone for Store<V> {
    fn clone(&self) -> Self {
        let (spec, upgrade) = (self.spec.clone(), self.upgrade.clone());
        Self { spec, upgrade, value: PhantomData, is_proved: AtomicBool::new(false) }
    }
}

impl<V> fmt::Debug for Store<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl<V> From<&str> for Store<V> {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// The stores of one task while one record is handled. Implemented by the engine: its writes are undone where the record is
/// rejected. Values are `[version][JSON]`.
pub trait StateAccess {
    /// The number of a store of this step.
    fn find(&self, name: &str) -> Option<usize>;

    /// Shows the value of `key`; `None` where there is none or it has expired.
    ///
    /// # Errors
    /// [`Unavailable`]: the engine knows why, and offers the record again or halts the partition.
    fn get(&mut self, store: usize, key: &[u8], visit: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), Unavailable>;

    /// Sets or deletes the value of `key`.
    fn put(&mut self, store: usize, key: &[u8], value: Option<&[u8]>);

    /// Shows keys and values with `from <= key`, and `key < to` where it is given, in key order until `visit` answers
    /// false.
    ///
    /// # Errors
    /// The same as [`StateAccess::get`].
    fn scan(
        &mut self,
        store: usize,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Unavailable>;

    /// A value was read that cannot be true: the partition is to halt.
    fn corrupt(&mut self, message: String) -> Unavailable;

    /// Something was asked for that this step was not given, as `message` says: the partition is to halt.
    fn lacks(&mut self, message: String) -> Unavailable;

    /// The number of the store that keeps the step's timers, and which these are; `None` where it has none.
    fn timers(&self) -> Option<(usize, TimerKind)>;

    /// The task's clock, in milliseconds since 1970, UTC: the highest timestamp of the records that its streams have decided.
    fn clock(&self) -> i64;

    /// A timer was set, by the wall clock or by event time, for this time in milliseconds since 1970, UTC.
    fn timer_was_set(&mut self, _is_by_wall: bool, _at: i64) {}
}

/// State could not be read; the record is not to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unavailable;

impl From<Unavailable> for Reject {
    /// The engine finds the reason first and never treats this as the record's fault.
    fn from(_: Unavailable) -> Self {
        Self::retry("state-unavailable", "the store could not be read")
    }
}

/// A store in the hands of an algorithm, for the time of one record.
pub struct Opened<'a, V> {
    pub(crate) store: &'a Store<V>,
    pub(crate) number: usize,
    pub(crate) state: &'a mut dyn StateAccess,
}

/// Opens a store of the step.
///
/// # Errors
/// The step was not given it.
pub(crate) fn open<'s, V>(state: &'s mut dyn StateAccess, store: &'s Store<V>) -> Result<Opened<'s, V>, Reject> {
    let name = &store.spec.name;
    if let Some(number) = state.find(name) {
        return Ok(Opened { store, number, state });
    }
    let message = format!("the algorithm opens the store {name}, which its step was not given: add `with_store`");
    Err(state.lacks(message).into())
}

impl<V: Serialize + DeserializeOwned> Opened<'_, V> {
    /// The value of `key`, or `None`.
    ///
    /// # Errors
    /// The store cannot be read: hand the error on with `?`.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<V>, Reject> {
        let Self { store, number, state } = self;
        let mut found = None;
        state.get(*number, key.as_ref(), &mut |value| found = value.map(|bytes| store.decode(bytes)))?;
        found.transpose().map_err(|message| state.corrupt(message).into())
    }

    /// Sets the value of `key`. A value that is JSON's null deletes it.
    ///
    /// # Errors
    /// A dead letter, where the value cannot be said in JSON.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: &V) -> Result<(), Reject> {
        let Self { store, number, state } = self;
        store.encode(value, |value| state.put(*number, key.as_ref(), value))
    }

    /// Shows the JSON of the value of `key`, of whatever version it is; `None` where there is no value.
    ///
    /// # Errors
    /// The same as [`Opened::get`].
    pub(crate) fn look<R>(
        &mut self,
        key: impl AsRef<[u8]>,
        show: impl Fn(&[u8]) -> Option<R>,
    ) -> Result<Option<R>, Reject> {
        let mut shown = None;
        self.state.get(self.number, key.as_ref(), &mut |value| {
            shown = value.and_then(|bytes| show(bytes.get(1..)?));
        })?;
        Ok(shown)
    }

    /// Sets the value of `key`, encoded by [`Store::encoded`].
    pub(crate) fn put_encoded(&mut self, key: impl AsRef<[u8]>, bytes: &[u8]) {
        self.state.put(self.number, key.as_ref(), Some(bytes));
    }

    /// Deletes the value of `key`.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.state.put(self.number, key.as_ref(), None);
    }

    /// Keys and values with `from <= key < to`, in the keys' byte order, at most `count_max`.
    ///
    /// # Errors
    /// The same as [`Opened::get`].
    pub fn range(
        &mut self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        count_max: usize,
    ) -> Result<Vec<(Vec<u8>, V)>, Reject> {
        self.collect(from.as_ref(), Some(to.as_ref()), count_max)
    }

    /// Keys that begin with `prefix`, and their values, in the keys' byte order, at most `count_max`.
    ///
    /// # Errors
    /// The same as [`Opened::get`].
    pub fn prefix(&mut self, prefix: impl AsRef<[u8]>, count_max: usize) -> Result<Vec<(Vec<u8>, V)>, Reject> {
        let prefix = prefix.as_ref();
        self.collect(prefix, after_prefix(prefix).as_deref(), count_max)
    }

    fn collect(&mut self, from: &[u8], to: Option<&[u8]>, count_max: usize) -> Result<Vec<(Vec<u8>, V)>, Reject> {
        let Self { store, number, state } = self;
        let mut found = Vec::new();
        let mut trouble = None;
        state.scan(*number, from, to, &mut |key, value| {
            match store.decode(value) {
                Ok(value) if found.len() < count_max => found.push((key.to_vec(), value)),
                Ok(_) => {}
                Err(message) => trouble = Some(message),
            }
            found.len() < count_max && trouble.is_none()
        })?;
        match trouble {
            Some(message) => Err(state.corrupt(message).into()),
            None => Ok(found),
        }
    }
}

impl Opened<'_, i64> {
    /// Adds `n` to the counter under `key` and answers the sum; a missing one counts from 0.
    ///
    /// # Errors
    /// The same as [`Opened::get`]; a dead letter with the code `overflow` where the sum leaves `i64`.
    pub fn add(&mut self, key: impl AsRef<[u8]>, n: i64) -> Result<i64, Reject> {
        let key = key.as_ref();
        let sum = self.get(key)?.unwrap_or(0).checked_add(n);
        let sum = sum.ok_or_else(|| Reject::dead_letter("overflow", "the counter leaves the range of i64"))?;
        self.put(key, &sum)?;
        Ok(sum)
    }
}

/// The smallest key above every key that begins with `prefix`; `None` where there is none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut out = prefix.get(..=end)?.to_vec();
    *out.last_mut()? += 1;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<V: Serialize + DeserializeOwned>(store: &Store<V>, value: &V) -> Option<Vec<u8>> {
        store.encode(value, |bytes| bytes.map(<[u8]>::to_vec)).unwrap()
    }

    #[test]
    fn a_value_of_an_earlier_version_is_upgraded_and_one_of_a_later_version_is_refused() {
        let old: Store<u32> = Store::new("s");
        let bytes = encoded(&old, &7).unwrap();
        assert_eq!(bytes, b"\x017");
        let new: Store<String> = Store::new("s").version(2, |from, json| {
            assert_eq!(from, 1);
            Ok(format!("n={}", String::from_utf8_lossy(json)))
        });
        assert_eq!(new.decode(&bytes).unwrap(), "n=7");
        let written = encoded(&new, &"x".to_owned()).unwrap();
        assert_eq!(new.decode(&written).unwrap(), "x");
        let refused = old.decode(&written).unwrap_err();
        assert!(refused.contains("version 2") && refused.contains("knows 1"), "{refused}");
        assert!(old.decode(b"").is_err());
        assert!(old.decode(b"\x01\"seven\"").is_err());
    }

    #[test]
    fn a_null_deletes_and_a_number_that_json_cannot_say_is_a_dead_letter() {
        let store: Store<Option<u32>> = Store::new("s");
        assert_eq!(encoded(&store, &None), None);
        let store: Store<f64> = Store::new("s");
        assert_eq!(store.encode(&f64::NAN, |_| ()).unwrap_err().code(), "not-finite");
    }

    #[test]
    fn a_type_that_does_not_read_what_it_wrote_is_found_at_the_first_value_by_its_name() {
        #[derive(serde::Serialize, serde::Deserialize, Debug)]
        struct Lossy {
            #[serde(skip_serializing)]
            n: u32,
        }
        let store: Store<Lossy> = Store::new("s");
        for _ in 0..2 {
            let reject = store.encode(&Lossy { n: 7 }, |_| ()).unwrap_err();
            assert_eq!(reject.code(), "not-readable");
            for words in
                ["store s: ", "Lossy does not read the value that it wrote (missing field `n`", "#[serde(default)]"]
            {
                assert!(reject.message().contains(words), "{}", reject.message());
            }
        }
        let lossy = Lossy { n: 7 };
        assert!(store.encoded(&lossy).is_err(), "{}", lossy.n);
        // One whose first value was read back is taken for one that reads all, but in a debug build.
        let mixed: Store<Vec<Option<f64>>> = Store::new("m");
        assert!(encoded(&mixed, &vec![Some(1.5)]).is_some() && mixed.is_proved.load(Ordering::Relaxed));
        let ours = Store::<Lossy>::new("s").proved();
        assert_eq!(ours.encode(&Lossy { n: 7 }, |_| ()).is_err(), cfg!(debug_assertions));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
