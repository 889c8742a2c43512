//! The side of the driver that simulations and scripts use.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::halt::Halt;
use crate::engine::protocol::order::Step;
use crate::engine::query::from_hex;
use crate::engine::status::State;
use crate::flow::key::{Key, KeyType};
use crate::flow::record::{NextOffset, Partition, TopicPartition};
use crate::flow::row::Value;
use crate::flow::table::{ColumnSpec, ColumnType};
use crate::ports::Clock;
use crate::ports::rows::{Position, RowRead};
use crate::ports::source::TaskId;
use crate::ports::store::StoreId;
use crate::testing::death::survived;
use crate::testing::driver::TestDriver;
use crate::testing::driver::operation::Operation;
use crate::testing::driver::world::Instance;
use crate::testing::observed::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl TestDriver {
    /// Puts a row whose columns are given by name, with version 0.
    pub(in crate::testing) fn row_by_name(
        &mut self,
        table: &str,
        key: impl Into<Key>,
        row: &serde_json::Map<String, serde_json::Value>,
    ) {
        let values = self.values_by_name(table, row);
        self.act(Operation::Row { table: table.into(), key: key.into(), values });
    }

    fn values_by_name(&self, table: &str, row: &serde_json::Map<String, serde_json::Value>) -> Vec<Value> {
        let spec = self.table(table);
        let value = |column: &ColumnSpec| {
            let value =
                row.get(&column.name).unwrap_or_else(|| panic!("row for {table}: column {} is missing", column.name));
            let kind = column.accepts.first().copied().unwrap_or(ColumnType::Json);
            Value::of_json(kind, value)
                .unwrap_or_else(|| panic!("row for {table}, column {}: {value} is not {kind}", column.name))
        };
        spec.columns.iter().filter(|column| spec.is_written(&column.name)).map(value).collect()
    }

    /// Another program inserts a row given as JSON text, unless it is there; or it does so right before an instance would.
    /// Answers whether it is there from now on because of that.
    pub(in crate::testing) fn insert_by_name(&mut self, table: &str, key: &Key, row: &str, is_first: bool) -> bool {
        let Ok(row) = serde_json::from_str(row) else { return false };
        let (spec, values) = (self.table(table).table, self.values_by_name(table, &row));
        let database = &self.world().database;
        if is_first {
            database.insert_first(&spec, key.clone(), 0, &values);
            return false;
        }
        database.get(&spec, key.clone()).is_none() && database.put(&spec, key.clone(), 0, &values)
    }

    /// Another program deletes a row. Answers whether it was there.
    pub(in crate::testing) fn remove(&mut self, table: &str, key: &Key) -> bool {
        let spec = self.table(table).table;
        self.world().database.remove(&spec, key.clone())
    }

    /// The rows that another program was to insert right before an instance did, and has by now, as it inserted them.
    pub(in crate::testing) fn came_first(&mut self) -> Vec<(String, Key, Row)> {
        let rows = self.world().database.came_first().into_iter();
        let named = |(table, read): (String, RowRead)| {
            let key = read.key.clone();
            let (version, values) = self.by_name(&table, read);
            (table, key, Row { version, values: values.into_iter().collect() })
        };
        rows.map(named).collect()
    }

    fn by_name(&self, table: &str, row: RowRead) -> (i64, Vec<(String, Value)>) {
        let spec = self.table(table);
        let names: Vec<String> = spec.columns.iter().map(|column| column.name.clone()).collect();
        let names = names.into_iter().filter(|name| spec.is_written(name));
        (row.version, names.zip(row.values).collect())
    }

    /// The key of a table as it is printed.
    pub(in crate::testing) fn key_called(&self, table: &str, key: &str) -> Option<Key> {
        let parse = |kind: KeyType| kind.parse(Some(key.as_bytes())).ok();
        match self.table(table).table.key_type.column_type() {
            ColumnType::I64 => parse(KeyType::I64),
            ColumnType::Uuid => parse(KeyType::Uuid),
            ColumnType::Bytes => from_hex(key.strip_prefix("0x")?).map(Key::from),
            ColumnType::Json => Key::of_list(key),
            _ => parse(KeyType::Text),
        }
    }

    /// The simulated wall clock, in milliseconds since 1970.
    pub(in crate::testing) fn now_ms(&mut self) -> i64 {
        self.world().clock.now().0
    }

    /// A row's version and its values by column, as committed.
    pub(in crate::testing) fn named_row(&mut self, table: &str, key: &Key) -> Option<(i64, Vec<(String, Value)>)> {
        let spec = self.table(table).table;
        let row = self.world().database.get(&spec, key.clone())?;
        Some(self.by_name(table, row))
    }

    /// Every row of a table, by key, as committed.
    pub(in crate::testing) fn named_rows(&mut self, table: &str) -> Vec<(Key, Row)> {
        let spec = self.table(table);
        let names = spec.columns.iter().map(|column| column.name.clone());
        let names: Vec<String> = names.filter(|name| spec.is_written(name)).collect();
        let rows = self.world().database.all(&spec.table).into_iter();
        let row = |row: RowRead| {
            let values = names.iter().cloned().zip(row.values).collect();
            (row.key, Row { version: row.version, values })
        };
        rows.map(row).collect()
    }

    /// JSON text as the column's value.
    pub(in crate::testing) fn column_value(&self, table: &str, column: &str, json: &str) -> Option<Value> {
        let spec = self.table(table);
        let kind = spec.columns.iter().find(|found| found.name == column)?.accepts.first().copied()?;
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        if kind == ColumnType::Json && !value.is_null() {
            return Some(Value::Json(json.to_owned())); // digit for digit
        }
        Value::of_json(kind, &value)
    }

    /// Writes one column of a row as another program would: its version stays. Answers whether there is such a row.
    pub(in crate::testing) fn write_column(&mut self, table: &str, key: &Key, column: &str, json: &str) -> bool {
        let (spec, value) = (self.table(table), self.column_value(table, column, json));
        let mut stored = spec.columns.iter().filter(|found| spec.is_written(&found.name));
        let place = stored.position(|found| found.name == column);
        let row = self.world().database.get(&spec.table, key.clone());
        let (Some(value), Some(place), Some(mut row)) = (value, place, row) else { return false };
        if let Some(cell) = row.values.get_mut(place) {
            *cell = value;
        }
        self.world().database.put(&spec.table, key.clone(), row.version, &row.values)
    }

    pub(in crate::testing) fn instance_count(&mut self) -> usize {
        self.world().instances.len()
    }

    pub(in crate::testing) fn is_up(&mut self, instance: usize) -> bool {
        self.world().instances.get(instance).is_some_and(|instance| instance.member.is_some())
    }

    /// Steps one instance once. One that crashes and cannot start, since its database is away, stays down.
    pub(in crate::testing) fn step_one(&mut self, instance: usize) -> bool {
        let plan = self.plan.clone();
        self.world().step_one(&plan, instance).unwrap_or(true)
    }

    /// Starts an instance that is down, or one more. Answers whether it did.
    pub(in crate::testing) fn try_start(&mut self, instance: usize) -> bool {
        let plan = self.plan.clone();
        self.world().try_start(&plan, instance).is_ok()
    }

    /// Stops an instance politely; one that fails on the way is dead.
    pub(in crate::testing) fn stop_or_die(&mut self, instance: usize) {
        let world = self.world();
        let crashes = world.crash.count();
        let member = world.instances.get_mut(instance).and_then(|instance| instance.member.take());
        if let Some(Some(Err(fault))) = member.map(|member| survived(|| member.close())) {
            world.note_end(instance, crashes, &fault);
        }
    }

    /// Whether a disk that took no writes has halted a partition of the instance: a restart mends it.
    pub(in crate::testing) fn halts_by_disk(&mut self, instance: usize) -> bool {
        let halts = self.world().instances.get(instance).map(|instance| instance.status.halts()).unwrap_or_default();
        halts.iter().any(|halt| halt.reason == HaltReason::StoreUnwritable)
    }

    /// The commit steps at which instances died.
    pub(in crate::testing) fn crashed(&mut self) -> Vec<Step> {
        self.world().crash.crashed()
    }

    /// No crash is due any more.
    pub(in crate::testing) fn disarm(&mut self) {
        self.world().crash.disarm();
    }

    pub(in crate::testing) fn is_at_rest(&mut self) -> bool {
        let plan = self.plan.clone();
        self.world().is_settled(&plan) && self.is_served()
    }

    /// Whether every task is served, or reported as halted.
    fn is_served(&mut self) -> bool {
        let (subs, partitions) = (self.plan.topology.sub_topologies().len(), self.plan.partitions);
        let mut served = BTreeSet::new();
        let alive = self.world().instances.iter().filter(|instance| instance.member.is_some());
        for (task, status) in alive.flat_map(|instance| instance.status.tasks()) {
            if status.state == State::Running || status.halt.is_some() {
                served.insert(task);
            }
        }
        let tasks = (0..subs).flat_map(|sub_topology| (0..partitions).map(move |n| (sub_topology, Partition(n))));
        tasks.into_iter().all(|(sub_topology, partition)| served.contains(&TaskId { sub_topology, partition }))
    }

    /// The partitions that stand still now.
    pub(in crate::testing) fn standing(&mut self) -> Vec<Halt> {
        self.world().instances.iter().flat_map(|instance| instance.status.halts()).collect()
    }

    /// The partitions of one instance that stand still now.
    pub(in crate::testing) fn standing_at(&mut self, instance: usize) -> Vec<Halt> {
        self.world().instances.get(instance).map(|instance| instance.status.halts()).unwrap_or_default()
    }

    /// The instances that ended although nobody killed them, a sentence each.
    pub(in crate::testing) fn ended(&mut self) -> Vec<String> {
        self.world().ended.clone()
    }

    /// The position of a source partition in the database.
    pub(in crate::testing) fn position_at(&mut self, place: &TopicPartition) -> Option<Position> {
        let name = self.plan.topology.name().to_owned();
        self.world().database.position(&name, place)
    }

    /// D of a source partition: that of the database where its step has rows, K elsewhere.
    pub(in crate::testing) fn decided_to(&mut self, place: &TopicPartition) -> Option<NextOffset> {
        let topology = Arc::clone(&self.plan.topology);
        let sub = topology.sub_topologies().iter().find(|sub| sub.sources().any(|topic| *topic == place.topic))?;
        let (world, name) = (self.world(), topology.name());
        match sub.table() {
            Some(_) => world.database.position(name, place).map(|position| position.next_offset),
            None => world.log.committed(name, place).map(|committed| committed.next_offset),
        }
    }

    /// The content of the store on the disk of the instance that serves its task; `None` where nobody serves it.
    pub(in crate::testing) fn kept(&mut self, sub_topology: usize, id: &StoreId) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
        let task = TaskId { sub_topology, partition: id.partition };
        let is_owner = |instance: &&Instance| {
            let tasks = instance.status.tasks();
            tasks.iter().any(|(own, status)| *own == task && status.state == State::Running)
        };
        let owner = self.world().instances.iter().find(is_owner)?;
        Some(owner.stores.contents(id).into_iter().collect())
    }

    /// The state of every task, for a finding.
    pub(in crate::testing) fn states(&mut self) -> String {
        let tasks: Vec<_> = self.world().instances.iter().map(|instance| instance.status.tasks()).collect();
        format!("{tasks:?}")
    }
}
