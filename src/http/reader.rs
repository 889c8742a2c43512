//! Reads of a running pipeline's stores from another Rust program, as the types that the pipeline keeps.

use super::client::{self, encode};
use super::stores::Answer;
use crate::engine::query::{Entry, Span, within};
use crate::flow::store::Store;
use crate::flow::window::Windows;
use crate::ports::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

/// The longest time for an instance's answer: longer than it waits for its workers and for others.
const ANSWER: Duration = Duration::from_secs(15);

/// Reads one store of a pipeline over HTTP. Whichever instance is asked answers for all of them.
///
/// Values are as last committed, each page by itself. Keys are spelt as `tidegate state list` prints them. A fault that may pass,
/// as while a partition moves, is a retry ([`Fault::is_retry`]).
///
/// ```no_run
/// use tidegate::flow::window::Windows;
/// use tidegate::http::StoreReader;
///
/// let visits: StoreReader<u64> = StoreReader::new("10.0.0.7:8230", "clicks", "visits");
/// let of_ada: Option<u64> = visits.get("ada")?;
/// for entry in visits.range("a".."c") {
///     let (user, count) = entry?;
///     println!("{user}: {count}");
/// }
///
/// let minutes: StoreReader<Windows<(u64, f64)>> = StoreReader::new("10.0.0.7:8230", "meters", "minutes");
/// for window in minutes.since(1_700_000_000_000).get("meter-7")?.unwrap_or_default().windows {
///     println!("{} {:?}", window.start_ms, window.value);
/// }
/// # Ok::<(), tidegate::ports::Fault>(())
/// ```
pub struct StoreReader<V> {
    address: String,
    pipeline: String,
    store: Store<V>,
    span: Span,
    /// The header `Authorization`.
    authorization: Option<String>,
}

/// Keys with their values, ascending by the keys' bytes, asked for page by page. Ends behind the first fault.
pub struct Entries<'a, V> {
    reader: &'a StoreReader<V>,
    /// What is asked for, without the place to go on from.
    query: String,
    /// Keys at the ends of the range that are not of it.
    without: Vec<String>,
    page: VecDeque<Entry>,
    /// The place to go on from, empty at first; `None` behind the last page.
    next: Option<String>,
}

impl<V> StoreReader<V> {
    /// A reader that asks the instance at `address` (`host:port`). The store is given by its name, or, where its values have
    /// versions, as the pipeline declares it.
    #[must_use]
    pub fn new(address: &str, pipeline: &str, store: impl Into<Store<V>>) -> Self {
        let (address, pipeline, store) = (address.into(), pipeline.into(), store.into());
        Self { address, pipeline, store, span: Span::default(), authorization: None }
    }

    /// Asks with a token, which the stores of a pipeline with roll-ups need.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.authorization = Some(format!("Bearer {token}"));
        self
    }
}

impl<V> StoreReader<Windows<V>> {
    /// Leaves out windows that end at this time or before it, in milliseconds since 1970, UTC.
    #[must_use]
    pub const fn since(mut self, at_ms: i64) -> Self {
        self.span.since_ms = Some(at_ms);
        self
    }

    /// Leaves out windows that begin at this time or behind it, in milliseconds since 1970, UTC.
    #[must_use]
    pub const fn until(mut self, at_ms: i64) -> Self {
        self.span.until_ms = Some(at_ms);
        self
    }
}

impl<V: Serialize + DeserializeOwned> StoreReader<V> {
    /// The value of a key; `None` where there is none. Blocks for 15 s at most.
    ///
    /// # Errors
    /// A retry where no instance answers, or a partition cannot be read now; fatal where the store or the key is none of the
    /// pipeline's; corrupt where the value is none of the store's type.
    pub fn get(&self, key: impl Display) -> Result<Option<V>, Fault> {
        let answer = self.ask(&format!("/{}", encode(&key.to_string())), &self.of_span(&[]))?;
        let entry = answer.entries.into_iter().next().and_then(|entry| within(entry, self.span, true));
        entry.map(|entry| self.decoded(&entry)).transpose()
    }

    /// All keys.
    #[must_use]
    pub fn all(&self) -> Entries<'_, V> {
        self.entries(&[], Vec::new())
    }

    /// The keys that begin with a text.
    #[must_use]
    pub fn prefix(&self, prefix: &str) -> Entries<'_, V> {
        self.entries(&[("prefix", prefix.into())], Vec::new())
    }

    /// The keys of a range: numbers of four or eight bytes by their value, others by their bytes, so that of numbers written as text
    /// `10` comes before `9`. An excluded key is spelt as `tidegate state list` prints it.
    #[must_use]
    pub fn range<K: Display>(&self, keys: impl RangeBounds<K>) -> Entries<'_, V> {
        let (mut parameters, mut without) = (Vec::new(), Vec::new());
        for (name, bound) in [("first", keys.start_bound()), ("last", keys.end_bound())] {
            let key = match bound {
                Bound::Included(key) => key.to_string(),
                Bound::Excluded(key) => {
                    without.push(key.to_string());
                    key.to_string()
                }
                Bound::Unbounded => continue,
            };
            parameters.push((name, key));
        }
        self.entries(&parameters, without)
    }

    fn entries(&self, parameters: &[(&str, String)], without: Vec<String>) -> Entries<'_, V> {
        let query = self.of_span(parameters);
        Entries { reader: self, query, without, page: VecDeque::new(), next: Some(String::new()) }
    }

    /// The parameters, and those of the span, as the end of a path.
    fn of_span(&self, parameters: &[(&str, String)]) -> String {
        let span = [("since", self.span.since_ms), ("until", self.span.until_ms)];
        let span = span.into_iter().filter_map(|(name, ms)| Some((name, ms?.to_string())));
        let all = parameters.iter().cloned().chain(span);
        all.fold("?".to_owned(), |query, (name, value)| format!("{query}{name}={}&", encode(&value)))
    }

    /// The answer about the part of the store at the end of a path.
    fn ask(&self, path: &str, query: &str) -> Result<Answer, Fault> {
        let (address, store) = (&self.address, &self.store.spec().name);
        let path = format!("/stores/{}{path}{query}", encode(store));
        let authorization = self.authorization.as_deref().map(|value| ("authorization", value));
        let asked = client::get(address, &path, authorization.as_slice(), ANSWER);
        let answer = asked.map_err(|error| Fault::retry(format!("no instance answers at {address}")).because(error))?;
        if answer.pipeline.as_deref() != Some(&self.pipeline) {
            let who = answer.pipeline.map_or_else(|| "another program".into(), |name| format!("pipeline {name}"));
            return Err(Fault::fatal(format!("at {address} answers {who}, and no instance of {}", self.pipeline)));
        }
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let error = told.get("error").and_then(Value::as_str).unwrap_or("no answer of Tidegate's");
        match (answer.code, serde_json::from_str(&answer.body)) {
            // Where there is no such key, the answer is whole.
            (200 | 404, Ok(answer)) => Ok(answer),
            (400..500, _) => Err(Fault::fatal(format!("store {store} of {}: {error}", self.pipeline))),
            (code, _) => Err(Fault::retry(format!("store {store} of {}: {error} ({code})", self.pipeline))),
        }
    }

    fn decoded(&self, entry: &Entry) -> Result<V, Fault> {
        let bytes = [&[entry.version], entry.value.get().as_bytes()].concat();
        self.store.decode(&bytes).map_err(Fault::corrupt)
    }
}

impl<V: Serialize + DeserializeOwned> Entries<'_, V> {
    /// The next page, where there is one.
    fn turn(&mut self) -> Result<(), Fault> {
        let Some(from) = self.next.take() else { return Ok(()) };
        let from = if from.is_empty() { from } else { format!("from={from}") };
        let answer = self.reader.ask("", &format!("{}{from}", self.query))?;
        self.next = answer.next;
        self.page.extend(answer.entries);
        Ok(())
    }
}

impl<V: Serialize + DeserializeOwned> Iterator for Entries<'_, V> {
    type Item = Result<(String, V), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(entry) = self.page.pop_front() else {
                self.next.as_ref()?;
                if let Err(fault) = self.turn() {
                    return Some(Err(fault));
                }
                continue;
            };
            if !self.without.contains(&entry.key) {
                let decoded = self.reader.decoded(&entry);
                if decoded.is_err() {
                    (self.next, self.page) = (None, VecDeque::new());
                }
                return Some(decoded.map(|value| (entry.key, value)));
            }
        }
    }
}

impl<V> fmt::Debug for StoreReader<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, pipeline, store, span, .. } = self;
        let mut debug = f.debug_struct("StoreReader");
        debug.field("address", address).field("pipeline", pipeline).field("store", store).field("span", span);
        debug.finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Entries<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("query", &self.query).finish_non_exhaustive()
    }
}
