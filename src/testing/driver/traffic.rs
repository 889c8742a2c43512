//! Traffic of a test: rows, records, thresholds and time go in; records, rows and halts come out.

use crate::engine::protocol::halt::Halt;
use crate::engine::status::Counter;
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::record::Header;
use crate::flow::row::{Value, to_values};
use crate::ports::history::Found;
use crate::ports::rows::RowRead;
use crate::testing::driver::TestDriver;
use crate::testing::driver::operation::{Operation, Sent, parse};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

impl TestDriver {
    /// Puts a row into a table, with version 0. Where several steps have structs of their own for it, the row has the columns
    /// of the first step's, then those that the others add.
    ///
    /// # Panics
    /// When no step uses such a table or the row does not fit it.
    pub fn row(&mut self, table: &str, key: impl Into<Key>, row: impl Serialize) {
        let values = self.values(table, &row);
        self.act(Operation::Row { table: table.into(), key: key.into(), values });
    }

    /// The same at the worst moment: another program inserts the row once an instance has found it missing, and right before
    /// that instance does.
    ///
    /// # Panics
    /// When no step uses such a table or the row does not fit it.
    pub fn row_first(&mut self, table: &str, key: impl Into<Key>, row: impl Serialize) {
        let values = self.values(table, &row);
        self.act(Operation::RowFirst { table: table.into(), key: key.into(), values });
    }

    /// Deletes a row, as another program would, once everything at hand was done.
    ///
    /// # Panics
    /// When no step uses such a table.
    pub fn delete_row(&mut self, table: &str, key: impl Into<Key>) {
        self.run();
        self.act(Operation::Delete { table: table.into(), key: key.into() });
    }

    /// The values of a row's columns as they are stored.
    fn values(&self, table: &str, row: &impl Serialize) -> Vec<Value> {
        let (spec, mut values) = (self.table(table), Vec::new());
        if let Err(error) = to_values(row, &spec.columns, &mut values) {
            panic!("row for {table}: {error}");
        }
        let stored = spec.columns.iter().zip(values).filter(|(column, _)| spec.is_written(&column.name));
        stored.map(|(_, value)| value).collect()
    }

    /// Sends a value under a key to a topic: the value in the topic's format, the key as the step that reads the topic spells
    /// keys. A key of bytes is sent as it stands.
    ///
    /// # Panics
    /// When there is no such topic, or its format cannot write the value.
    pub fn send(&mut self, topic: &str, key: impl Into<Key>, value: impl Serialize) {
        self.send_with(topic, key, value, &[]);
    }

    /// Like [`TestDriver::send`], with headers: names and texts, in their order.
    ///
    /// # Panics
    /// When there is no such topic, or its format cannot write the value.
    pub fn send_with(&mut self, topic: &str, key: impl Into<Key>, value: impl Serialize, headers: &[(&str, &str)]) {
        let key = Some(self.spell(topic, &key.into()));
        let headers = headers.iter().map(|(name, text)| Header::new(*name, text.as_bytes()));
        match self.plan.topology.format_of(&parse(topic)).encode(&value) {
            Ok(value) => {
                let sent = Sent { key, value: Some(value), headers: headers.collect(), ..Sent::default() };
                self.send_record(topic, sent);
            }
            Err(reject) => panic!("value for {topic}: {}", reject.message()),
        }
    }

    /// Sends bytes as they are; absent keys and values included.
    ///
    /// # Panics
    /// When there is no such topic.
    pub fn send_raw(&mut self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
        let (key, value) = (key.map(Into::into), value.map(Into::into));
        self.send_record(topic, Sent { key, value, ..Sent::default() });
    }

    /// Sends bytes into a partition of the test's choice, as a producer with another partitioner would.
    ///
    /// # Panics
    /// When there is no such topic or partition.
    pub fn send_to(&mut self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
        let (key, value) = (key.map(Into::into), value.map(Into::into));
        self.send_record(topic, Sent { partition: Some(partition), key, value, ..Sent::default() });
    }

    /// Sends a record with a timestamp and headers of the test's choice.
    ///
    /// # Panics
    /// When there is no such topic or partition.
    pub fn send_record(&mut self, topic: &str, sent: Sent) {
        self.act(Operation::Send { topic: topic.into(), sent });
    }

    /// Changes a named threshold, as a changed settings file does while the service runs.
    ///
    /// # Panics
    /// When there is no such threshold.
    pub fn threshold(&mut self, name: &str, value: f64) {
        self.run();
        self.act(Operation::Threshold { name: name.into(), value });
    }

    /// Lets time pass, after everything at hand was done.
    pub fn advance(&mut self, by: Duration) {
        self.act(Operation::Advance(by));
        self.run();
    }

    /// Works until nothing is left to do: every partition is read to its end and published, or stands still.
    ///
    /// # Panics
    /// When that does not happen within a generous bound.
    pub fn run(&mut self) {
        self.act(Operation::Settle);
    }

    /// Messages of a topic with `i64` keys, as a committed reader finds them: keys and values, partition by
    /// partition in order: a text is a JSON string, bytes are a list of numbers.
    ///
    /// # Panics
    /// When there is no such topic, or a message is not in the topic's format under a decimal key.
    #[must_use]
    pub fn read(&mut self, topic: &str) -> Vec<(i64, serde_json::Value)> {
        let format = self.plan.topology.format_of(&parse(topic));
        let decode = |found: &Found| {
            let key = std::str::from_utf8(found.key.as_deref()?).ok()?.parse().ok()?;
            Some((key, format.decode(found.value.as_deref()).ok()?))
        };
        let found = self.read_raw(topic);
        found
            .iter()
            .map(|found| decode(found).unwrap_or_else(|| panic!("{topic}: not {format} under an i64 key: {found:?}")))
            .collect()
    }

    /// Messages of a topic with keys of any type, as a committed reader finds them: keys and values, partition by partition in
    /// order; null for a value that is missing.
    ///
    /// # Panics
    /// When there is no such topic, or a message has no key of the topic's type or is not in its format.
    #[must_use]
    pub fn read_keyed(&mut self, topic: &str) -> Vec<(Key, serde_json::Value)> {
        let (format, key_type) = {
            let (topology, topic) = (&self.plan.topology, parse(topic));
            (topology.format_of(&topic), topology.key_type_of(&topic))
        };
        let decode = |found: &Found| {
            let key = key_type.parse(found.key.as_deref())?;
            let value = found.value.as_deref().map(|value| format.decode(Some(value)));
            Ok::<_, Reject>((key, value.transpose()?.unwrap_or_default()))
        };
        let found = self.read_raw(topic);
        let read = found
            .iter()
            .map(|found| decode(found).unwrap_or_else(|reject| panic!("{topic}: {}: {found:?}", reject.message())));
        read.collect()
    }

    /// Messages of a topic, with headers, as a committed reader finds them.
    ///
    /// # Panics
    /// When there is no such topic.
    #[must_use]
    pub fn read_raw(&mut self, topic: &str) -> Vec<Found> {
        self.run();
        let world = self.world();
        let name = parse(topic);
        assert!(world.log.partition_count(&name).is_some(), "there is no topic {topic}");
        world.log.read(&name)
    }

    /// A row as committed: its version and its values as JSON text per column; `None` when there is none.
    ///
    /// # Panics
    /// When no step uses such a table.
    #[must_use]
    pub fn row_of(&mut self, table: &str, key: impl Into<Key>) -> Option<RowRead> {
        self.run();
        let spec = self.table(table).table;
        self.world().database.get(&spec, key)
    }

    /// The partitions that stand still, with their reasons.
    #[must_use]
    pub fn halts(&mut self) -> Vec<Halt> {
        self.run();
        self.world().instances.iter().flat_map(|instance| instance.status.halts()).collect()
    }

    /// Records that could not be read and were skipped, by the code of their reject, in the order of the codes.
    #[must_use]
    pub fn unreadable(&mut self) -> Vec<(String, u64)> {
        self.run();
        let mut counts = BTreeMap::new();
        for ((_, code), found) in
            self.world().instances.iter().flat_map(|instance| instance.status.unreadable.by_code())
        {
            *counts.entry(code).or_default() += found.count;
        }
        counts.into_iter().collect()
    }

    /// Number of records decided and committed by all instances, dead ones included.
    #[must_use]
    pub fn records_committed(&mut self) -> u64 {
        self.world().instances.iter().map(|instance| instance.status.value(Counter::Records)).sum()
    }
}
