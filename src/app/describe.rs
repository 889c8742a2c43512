//! `describe`: what the pipeline reads, writes and needs, from its declaration and the settings of its name and thresholds.

use crate::app::cli::{Output, OutputArguments};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::table;
use crate::flow::store::StoreSpec;
use crate::flow::table::{ColumnSpec, TableSpec};
use crate::flow::topology::{StepKind, SubTopology};
use crate::flow::{KeyType, OnUnreadable, OnViolation, Topology};
use serde::Serialize;
use std::io::Write;

pub(super) fn describe(topology: &Topology, arguments: OutputArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let description = Description::new(topology);
    match arguments.output {
        Output::Json => table::json(&description, out)?,
        Output::Table => description.write(out)?,
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Description {
    pipeline: String,
    consumer_group: String,
    transactional_ids: String,
    thresholds: Vec<ThresholdDescription>,
    sub_topologies: Vec<SubDescription>,
}

#[derive(Serialize)]
struct ThresholdDescription {
    name: String,
    at_least: f64,
    setting: String,
}

#[derive(Serialize)]
struct SubDescription {
    number: usize,
    lead: String,
    companions: Vec<String>,
    /// Topics that need equal partition counts and equal keys.
    copartition_group: Vec<String>,
    table: Option<TableDescription>,
    /// The companions that are kept as tables.
    joins: Vec<JoinDescription>,
    stores: Vec<StoreDescription>,
    /// Partitioning that the code declares for its topics.
    declared: Vec<DeclaredDescription>,
    /// Why its records go through Kafka once more.
    shuffle: Option<String>,
    destinations: Vec<String>,
    dead_letter_topics: Vec<String>,
    /// What comes of records of its streams that cannot be read.
    unreadable: String,
    commit: &'static str,
}

#[derive(Serialize)]
struct StoreDescription {
    name: String,
    changelog: String,
    version: u8,
    time_to_live_ms: Option<u64>,
    has_timers: bool,
}

#[derive(Serialize)]
struct JoinDescription {
    topic: String,
    store: String,
}

#[derive(Serialize)]
struct DeclaredDescription {
    topic: String,
    hash: &'static str,
    partitions: i32,
    on_violation: &'static str,
    /// Where records go that lie elsewhere.
    astray_topic: Option<String>,
}

#[derive(Serialize)]
struct TableDescription {
    name: String,
    key_column: String,
    key_type: KeyType,
    version_column: Option<String>,
    columns: Vec<ColumnDescription>,
}

#[derive(Serialize)]
struct ColumnDescription {
    name: String,
    types: Vec<String>,
    nullable: bool,
}

impl Description {
    fn new(topology: &Topology) -> Self {
        let name = topology.name();
        let thresholds = topology.thresholds().iter().map(|threshold| ThresholdDescription {
            name: threshold.name().into(),
            at_least: threshold.value(),
            setting: format!("pipeline.thresholds.{}", threshold.name()),
        });
        let subs = topology.sub_topologies().iter().enumerate();
        Self {
            pipeline: name.into(),
            consumer_group: name.into(),
            transactional_ids: format!("{name}-<slot>-<worker>-<producer>"),
            thresholds: thresholds.collect(),
            sub_topologies: subs.map(|(number, sub)| SubDescription::new(topology, number, sub)).collect(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "pipeline {}", self.pipeline)?;
        writeln!(out, "  consumer group     {}", self.consumer_group)?;
        writeln!(out, "  transactional ids  {}", self.transactional_ids)?;
        for ThresholdDescription { name, at_least, setting } in &self.thresholds {
            writeln!(out, "  threshold          {name}: published from {at_least} on (setting {setting})")?;
        }
        self.sub_topologies.iter().try_for_each(|sub| sub.write(out))
    }
}

impl SubDescription {
    fn new(topology: &Topology, number: usize, sub: &SubTopology) -> Self {
        let astray = topology.astray_topic(sub).map(|topic| topic.to_string());
        Self {
            number,
            lead: sub.lead.to_string(),
            companions: sub.companions.iter().map(ToString::to_string).collect(),
            copartition_group: sub.sources().map(ToString::to_string).collect(),
            table: sub.table().map(TableDescription::new),
            joins: sub
                .tables
                .iter()
                .map(|table| JoinDescription { topic: table.topic.to_string(), store: table.store.to_string() })
                .collect(),
            stores: sub.stores.iter().map(|store| StoreDescription::new(topology, store)).collect(),
            declared: sub
                .declarations()
                .map(|(topic, declared)| DeclaredDescription {
                    topic: topic.to_string(),
                    hash: declared.hash().name(),
                    partitions: declared.count(),
                    on_violation: match declared.policy() {
                        OnViolation::Warn => "warn",
                        OnViolation::Stop => "stop",
                        OnViolation::Repartition => "repartition",
                    },
                    astray_topic: astray.clone().filter(|_| *topic == sub.lead),
                })
                .collect(),
            shuffle: match &sub.rekeys {
                Some(step) => Some(format!(
                    "key_by {step:?}: {} is not partitioned by this key, so that its records must meet elsewhere",
                    sub.lead
                )),
                None if !sub.chains.is_empty() => {
                    let names: Vec<String> = sub.chains.iter().map(|name| format!("{name:?}")).collect();
                    Some(format!("chains {}: each reads a copy of {} at its own pace", names.join(", "), sub.lead))
                }
                None => None,
            },
            destinations: sub.destinations.iter().map(ToString::to_string).collect(),
            dead_letter_topics: sub.sources().map(|topic| Topology::dead_letter_topic(topic).to_string()).collect(),
            unreadable: sub.on_unreadable.to_string(),
            commit: match sub.step {
                StepKind::Rows(_) => "through the database",
                StepKind::Log(_) => "through the log",
            },
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "\nsub-topology {}", self.number)?;
        let is_table = |topic: &String| self.joins.iter().any(|join| join.topic == *topic);
        let kind = |topic: &String| if is_table(topic) { "table" } else { "companion" };
        let companions = self.companions.iter().map(|topic| format!("{topic} ({})", kind(topic)));
        let topics: Vec<_> = std::iter::once(format!("{} (lead)", self.lead)).chain(companions).collect();
        writeln!(out, "  reads              {}", topics.join(", "))?;
        if !self.companions.is_empty() {
            writeln!(
                out,
                "  co-partitioned     {}: equal partition counts, equal keys, one partitioner",
                self.copartition_group.join(", ")
            )?;
        }
        for DeclaredDescription { topic, hash, partitions, on_violation, astray_topic } in &self.declared {
            let of = if *topic == self.lead { String::new() } else { format!("{topic}: ") };
            writeln!(
                out,
                "  declared           {of}{hash} of the key over {partitions} partitions; a violation: {on_violation}"
            )?;
            if let Some(topic) = astray_topic {
                writeln!(out, "    sent on in       {topic}")?;
            }
        }
        for JoinDescription { topic, store } in &self.joins {
            writeln!(out, "  joins              {topic}, the last value of each key, kept in {store}")?;
        }
        self.table.iter().try_for_each(|table| table.write(out))?;
        for StoreDescription { name, changelog, version, time_to_live_ms, has_timers } in &self.stores {
            let life = time_to_live_ms.map_or(String::new(), |ms| format!(", kept {ms} ms"));
            let timers = if *has_timers { ", timers" } else { "" };
            writeln!(out, "  keeps              {name} (version {version}{life}{timers}), changelog {changelog}")?;
        }
        let destinations = self.destinations.join(", ");
        if let Some(shuffle) = &self.shuffle {
            writeln!(out, "  shuffles into      {destinations}")?;
            writeln!(out, "    because          {shuffle}")?;
        } else {
            let result = match (destinations.is_empty(), &self.table) {
                (false, _) => destinations.as_str(),
                (true, Some(_)) => "no topic: the rows are the result",
                (true, None) => "no topic: the stores are the result",
            };
            writeln!(out, "  publishes in       {result}")?;
        }
        writeln!(out, "  dead letters in    {}", self.dead_letter_topics.join(", "))?;
        if self.unreadable != OnUnreadable::DeadLetter.to_string() {
            writeln!(out, "  unreadable         {}", self.unreadable)?;
        }
        let order = if self.table.is_some() {
            "rows, outbox and position first, then Kafka"
        } else {
            "outputs, changelogs and offsets in one Kafka transaction"
        };
        writeln!(out, "  commits            {}: {order}", self.commit)?;
        Ok(())
    }
}

impl TableDescription {
    fn new(spec: &TableSpec) -> Self {
        Self {
            name: spec.table.name.clone(),
            key_column: spec.table.key_columns().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            key_type: spec.table.key_type,
            version_column: spec.table.version_column.clone(),
            columns: spec.columns.iter().map(ColumnDescription::new).collect(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "  updates            {} by {} ({})", self.name, self.key_column, column_type(self.key_type))?;
        for column in &self.columns {
            let null = if column.nullable { ", may be null" } else { "" };
            writeln!(out, "    column           {} {}{null}", column.name, column.types.join(" or "))?;
        }
        let version = self.version_column.as_deref().map_or("none".into(), |name| format!("{name} bigint"));
        writeln!(out, "    version          {version}")?;
        Ok(())
    }
}

impl StoreDescription {
    fn new(topology: &Topology, store: &StoreSpec) -> Self {
        Self {
            name: store.name.to_string(),
            changelog: topology.changelog_topic(store).map(|topic| topic.to_string()).unwrap_or_default(),
            version: store.version,
            time_to_live_ms: store.time_to_live.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            has_timers: store.timers.is_some(),
        }
    }
}

impl ColumnDescription {
    fn new(column: &ColumnSpec) -> Self {
        Self {
            name: column.name.clone(),
            types: column.accepts.iter().map(ToString::to_string).collect(),
            nullable: column.is_nullable,
        }
    }
}

fn column_type(key: KeyType) -> String {
    let spelt = match key {
        KeyType::I64 => "decimal text in the record's key",
        KeyType::I64BigEndian => "eight bytes in the record's key",
        KeyType::I32BigEndian => "four bytes in the record's key",
        KeyType::Uuid => "text in the record's key",
        KeyType::UuidBytes => "sixteen bytes in the record's key",
        KeyType::Text => return "text".into(),
        KeyType::Bytes => return "bytea, the record's key".into(),
        KeyType::Fields(_) => return "fields of the record's JSON key".into(),
        KeyType::Field(name) | KeyType::TextField(name) | KeyType::UuidField(name) => {
            return format!("{}, in the field {name} of the record's JSON key", key.column_type());
        }
    };
    format!("{}, as {spelt}", key.column_type())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Algorithm, Context, Declared, Reject, TableTopic};

    struct Pair;

    impl Algorithm for Pair {
        type Event = (i64, i64);
        type Row = ();
        type Notices = Option<i64>;

        fn apply(&self, _: (i64, i64), (): &mut (), _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            Ok(None)
        }
    }

    #[test]
    fn a_join_is_told_with_its_co_partitioned_topics_and_the_store_of_its_table() {
        let mut topology = Topology::new("shop");
        let users = TableTopic::new("users").kept_in("accounts").declared(Declared::murmur2(6));
        topology.source("sales").key_by("by-user", |sale: &i64| *sale).join(users).process(Pair).to("told");
        let mut out = Vec::new();
        Description::new(&topology).write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "sub-topology 1
  reads              shop-by-user-repartition (lead), users (table)
  co-partitioned     shop-by-user-repartition, users: equal partition counts, equal keys, one partitioner
  declared           users: murmur2 of the key over 6 partitions; a violation: stop
  joins              users, the last value of each key, kept in accounts
  keeps              accounts (version 1), changelog shop-accounts-changelog
  publishes in       told
  dead letters in    shop-by-user-repartition-dlt, users-dlt
";
        assert!(text.contains(expected), "{text}");
    }
}
