//! `describe`: what the pipeline reads, writes and needs, from its declaration alone.

use crate::app::cli::{Output, OutputArguments};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::table;
use crate::flow::table::ColumnSpec;
use crate::flow::topology::{StepKind, SubTopology};
use crate::flow::{KeyType, Topology};
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
    table: TableDescription,
    destination: Option<String>,
    dead_letter_topics: Vec<String>,
    commit: &'static str,
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
            sub_topologies: subs.map(|(number, sub)| SubDescription::new(number, sub)).collect(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "pipeline {}", self.pipeline)?;
        writeln!(out, "  consumer group     {}", self.consumer_group)?;
        writeln!(out, "  transactional ids  {}", self.transactional_ids)?;
        for ThresholdDescription { name, at_least, setting } in &self.thresholds {
            writeln!(out, "  threshold          {name}: announced from {at_least} on (setting {setting})")?;
        }
        self.sub_topologies.iter().try_for_each(|sub| sub.write(out))
    }
}

impl SubDescription {
    fn new(number: usize, sub: &SubTopology) -> Self {
        let StepKind::Rows(_) = &sub.step;
        let spec = sub.table();
        let columns = spec.columns.iter().map(ColumnDescription::new);
        Self {
            number,
            lead: sub.lead.to_string(),
            companions: sub.companions.iter().map(ToString::to_string).collect(),
            copartition_group: sub.sources().map(ToString::to_string).collect(),
            table: TableDescription {
                name: spec.table.name.clone(),
                key_column: spec.table.key_column.clone(),
                key_type: spec.table.key_type,
                version_column: spec.table.version_column.clone(),
                columns: columns.collect(),
            },
            destination: sub.destination.as_ref().map(ToString::to_string),
            dead_letter_topics: sub.sources().map(|topic| Topology::dead_letter_topic(topic).to_string()).collect(),
            commit: "through the database",
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "\nsub-topology {}", self.number)?;
        let companions = self.companions.iter().map(|topic| format!("{topic} (companion)"));
        let topics: Vec<_> = std::iter::once(format!("{} (lead)", self.lead)).chain(companions).collect();
        writeln!(out, "  reads              {}", topics.join(", "))?;
        if !self.companions.is_empty() {
            writeln!(
                out,
                "  co-partitioned     {}: equal partition counts, equal keys",
                self.copartition_group.join(", ")
            )?;
        }
        let table = &self.table;
        writeln!(out, "  updates            {} by {} ({})", table.name, table.key_column, column_type(table.key_type))?;
        for column in &table.columns {
            let null = if column.nullable { ", may be null" } else { "" };
            writeln!(out, "    column           {} {}{null}", column.name, column.types.join(" or "))?;
        }
        let version = table.version_column.as_deref().map_or("none".into(), |name| format!("{name} bigint"));
        writeln!(out, "    version          {version}")?;
        writeln!(
            out,
            "  announces in       {}",
            self.destination.as_deref().unwrap_or("no topic: the rows are the result")
        )?;
        writeln!(out, "  dead letters in    {}", self.dead_letter_topics.join(", "))?;
        writeln!(out, "  commits            {}: rows, outbox and position first, then Kafka", self.commit)?;
        Ok(())
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

const fn column_type(key: KeyType) -> &'static str {
    match key {
        KeyType::I64 => "bigint, as decimal text in the record's key",
        KeyType::I64BigEndian => "bigint, as eight bytes in the record's key",
        KeyType::Uuid => "uuid, as text in the record's key",
        KeyType::Text => "text",
    }
}
