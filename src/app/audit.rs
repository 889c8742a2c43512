//! `audit`: compares positions, row versions, outbox and topics.

use crate::app::application::App;
use crate::app::cli::{Output, OutputArguments};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::service::Service;
use crate::app::{logging, table};
use crate::engine::audit::{AuditReport, Findings, audit as run_audit};
use crate::ports::schema::Schema as _;
use crate::settings::Need;
use std::io::Write;

pub(super) fn audit(app: &App, arguments: OutputArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    app.with_rows("audit")?;
    let settings = app.settings_for(&[Need::Kafka, Need::Database])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;
    let said = |fault| service.database_said(fault);
    service.schema().and_then(|mut schema| schema.verify()).map_err(said)?;
    let mut rows = service.row_history().map_err(said)?;
    let mut log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    let report = run_audit(&service.topology, &mut rows, &mut log)?;
    match arguments.output {
        Output::Json => table::json(&report, out)?,
        Output::Table => write(&report, out)?,
    }
    Ok(if report.is_clean() { Exit::Done } else { Exit::Failed })
}

/// The report for people: partitions, then the sums in one line, then every finding.
pub(super) fn write(report: &AuditReport, out: &mut dyn Write) -> Result<(), Failure> {
    let number = |n: Option<i64>| n.map_or_else(|| "-".into(), |n| n.to_string());
    let mut rows = vec![["SOURCE", "POSITION", "COMMITTED", "END"].map(ToString::to_string)];
    for p in &report.partitions {
        let (d, end) = (p.next_offset.to_string(), p.end_offset.to_string());
        rows.push([p.source.clone(), d, number(p.committed_offset), end]);
    }
    table::write(&rows, out)?;
    writeln!(out, "{}", summary(report))?;
    let kinds: [(&str, &Findings); 5] = [
        ("missing", &report.missing),
        ("twice", &report.twice),
        ("unknown", &report.unknown),
        ("altered", &report.altered),
        ("out of order", &report.out_of_order),
    ];
    for (kind, found) in kinds {
        for id in &found.ids {
            writeln!(out, "{kind}  {id}")?;
        }
    }
    if report.deleted > 0 {
        writeln!(out, "deleted  {} published messages are gone with the beginning of their topics", report.deleted)?;
    }
    for contradiction in &report.contradictions {
        writeln!(out, "contradiction  {contradiction}")?;
    }
    Ok(())
}

/// The report in one line.
pub(super) fn summary(report: &AuditReport) -> String {
    let versions = report.row_versions.map_or_else(|| "not compared".into(), |sum| sum.to_string());
    let AuditReport { records, row_changes, dead_letters, published, outbox_rows, in_topics, .. } = report;
    format!(
        "audit  {records} in, {row_changes} row changes, {versions} row versions · {published} published of {outbox_rows} kept, \
         {in_topics} in the topics ({dead_letters} dead letters) · {} missing, {} twice, {} unknown, {} altered, {} out of order",
        report.missing.count, report.twice.count, report.unknown.count, report.altered.count, report.out_of_order.count
    )
}
