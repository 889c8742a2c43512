//! `topics validate`, `topics plan`, `topics apply`.

use crate::app::application::App;
use crate::app::cli::{ApplyArguments, Output, PlanArguments, TopicsArguments, TopicsCommand};
use crate::app::confirm::confirm;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::table;
use crate::ports::topics::TopicAdmin;
use crate::settings::{Need, Settings};
use crate::topics::{self, Finding, Plan, TopicSpec};
use std::io::Write;
use std::time::Duration;

pub(super) fn topics(app: &App, arguments: &TopicsArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let checked = check(app, arguments);
    match &arguments.command {
        TopicsCommand::Validate(output) => validate(&checked, output.output, out),
        TopicsCommand::Plan(flags) => {
            let (topics, settings) = (sound(checked)?, settings(app)?);
            plan(&topics, &mut *admin(&settings)?, flags, out).map_err(|failure| no_answer(failure, &settings))
        }
        TopicsCommand::Apply(flags) => {
            let (topics, settings) = (sound(checked)?, settings(app)?);
            let mut ask = |out: &mut dyn Write| confirm("topics apply", "apply", out);
            let applied = apply(&topics, &mut *admin(&settings)?, flags, &mut ask, out);
            applied.map_err(|failure| no_answer(failure, &settings))
        }
    }
}

fn settings(app: &App) -> Result<Settings, Failure> {
    let settings = app.settings()?;
    settings.require(&[Need::Kafka])?;
    Ok(settings)
}

/// Says where the cluster was looked for, when it did not answer.
fn no_answer(failure: Failure, settings: &Settings) -> Failure {
    match failure {
        Failure::Fault(fault) if fault.is_retry() => {
            let (servers, path) = (&settings.kafka.bootstrap_servers, "kafka.bootstrap_servers");
            let origin = settings.origin_of(path);
            Failure::message(format!(
                "kafka: no answer from {servers}: is it running, and reachable from here?\n  {path}: {origin}\n  {fault}"
            ))
        }
        other => other,
    }
}

#[cfg(feature = "kafka")]
fn admin(settings: &Settings) -> Result<Box<dyn TopicAdmin>, Failure> {
    Ok(Box::new(crate::adapters::kafka::KafkaAdmin::connect(&settings.kafka)?))
}

#[cfg(not(feature = "kafka"))]
fn admin(_: &Settings) -> Result<Box<dyn TopicAdmin>, Failure> {
    Err(Failure::message("topics: this build has no Kafka adapter; build it with the feature `kafka`"))
}

/// Reads the folder and checks it by itself and against the pipeline.
fn check(app: &App, arguments: &TopicsArguments) -> Result<Vec<TopicSpec>, Vec<Finding>> {
    let topics = topics::read(&arguments.dir, arguments.env.as_deref())?;
    let mut findings = topics::validate(&topics);
    findings.extend(topics::compare(&app.topology, &topics, &arguments.dir));
    if findings.is_empty() { Ok(topics) } else { Err(findings) }
}

/// The topics, if nothing is wrong with them.
fn sound(checked: Result<Vec<TopicSpec>, Vec<Finding>>) -> Result<Vec<TopicSpec>, Failure> {
    checked.map_err(|findings| {
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        Failure::Message(format!("topics: not applied, because the folder is wrong\n  {}", lines.join("\n  ")))
    })
}

fn validate(
    checked: &Result<Vec<TopicSpec>, Vec<Finding>>,
    output: Output,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let (topics, findings) = match checked {
        Ok(topics) => (topics.as_slice(), [].as_slice()),
        Err(findings) => ([].as_slice(), findings.as_slice()),
    };
    let partitions: i32 = topics.iter().map(|topic| topic.partitions).sum();
    if output == Output::Json {
        let names: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
        table::json(&serde_json::json!({ "topics": names, "partitions": partitions, "findings": findings }), out)?;
    } else {
        for finding in findings {
            writeln!(out, "{finding}")?;
        }
        match findings.len() {
            0 => writeln!(out, "ok: {} topics, {partitions} partitions", topics.len())?,
            1 => writeln!(out, "1 finding")?,
            count => writeln!(out, "{count} findings")?,
        }
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Failed })
}

fn plan(
    topics: &[TopicSpec],
    admin: &mut dyn TopicAdmin,
    flags: &PlanArguments,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let plan = topics::plan(topics, admin, flags.allow_repartition)?;
    match flags.output.output {
        Output::Json => table::json(&plan, out)?,
        Output::Table => show(&plan, out)?,
    }
    Ok(if plan.changes.is_empty() { Exit::Done } else { Exit::Different })
}

fn show(plan: &Plan, out: &mut dyn Write) -> Result<(), Failure> {
    if !plan.changes.is_empty() {
        let mut rows = vec![["TOPIC", "CHANGE", "NOTE"].map(ToString::to_string)];
        rows.extend(plan.changes.iter().map(|planned| {
            let note = planned.blocked.as_ref().map_or_else(String::new, |reason| format!("blocked: {reason}"));
            [planned.topic.clone(), planned.change.describe(), note]
        }));
        table::write(&rows, out)?;
    }
    let blocked = plan.changes.iter().filter(|planned| planned.blocked.is_some()).count();
    let (changes, same) = (plan.changes.len(), plan.unchanged);
    writeln!(out, "as described {same}, differences {changes}, blocked {blocked}")?;
    Ok(())
}

fn apply(
    topics: &[TopicSpec],
    admin: &mut dyn TopicAdmin,
    flags: &ApplyArguments,
    confirm: &mut dyn FnMut(&mut dyn Write) -> Result<bool, Failure>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let is_json = flags.plan.output.output == Output::Json;
    let plan = topics::plan(topics, admin, flags.plan.allow_repartition)?;
    if !is_json {
        show(&plan, out)?;
    }
    if !plan.changes.is_empty() && !flags.yes && !confirm(out)? {
        writeln!(out, "nothing was changed")?;
        return Ok(Exit::Failed);
    }
    let mut failures = Vec::new();
    let outcome = topics::apply(topics, &plan, admin, &mut |topic, change, made| {
        if let Err(reason) = made {
            failures.push(format!("{}: {}: {reason}", topic.name, change.describe()));
        }
    });
    if outcome.created + outcome.altered > 0 {
        settle(topics, &plan, admin)?;
    }
    if is_json {
        table::json(&serde_json::json!({ "plan": plan, "outcome": outcome, "failures": failures }), out)?;
    } else {
        for failure in &failures {
            writeln!(out, "failed: {failure}")?;
        }
        writeln!(out, "{outcome}")?;
    }
    Ok(if outcome.failed == 0 { Exit::Done } else { Exit::Failed })
}

/// Waits until the brokers show what was applied, 10 s at most: they learn of it from the controller a moment later
/// (0.4 s tried on Kafka 4.3.1), and an instance that starts next should find the topics.
fn settle(topics: &[TopicSpec], applied: &Plan, admin: &mut dyn TopicAdmin) -> Result<(), Failure> {
    let is_still_to_come = |left: &Plan| {
        left.changes.iter().any(|change| applied.changes.iter().any(|made| made == change && made.blocked.is_none()))
    };
    for _ in 0..100 {
        if !is_still_to_come(&topics::plan(topics, admin, true)?) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::cli::OutputArguments;
    use crate::topics::fake::{Cluster, topic};

    fn flags(yes: bool, output: Output) -> ApplyArguments {
        ApplyArguments { yes, plan: PlanArguments { allow_repartition: false, output: OutputArguments { output } } }
    }

    fn text(out: Vec<u8>) -> String {
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plan_with_differences_ends_with_3_and_without_them_with_0() {
        let topics = [topic("readings")];
        let mut cluster = Cluster::default();
        let mut out = Vec::new();
        let exit = plan(&topics, &mut cluster, &flags(true, Output::Table).plan, &mut out).unwrap();
        assert_eq!(exit, Exit::Different);
        let expected = "TOPIC     CHANGE                             NOTE\n\
                        readings  create: 12 partitions, 3 replicas\n\
                        as described 0, differences 1, blocked 0\n";
        assert_eq!(text(out), expected);

        let mut out = Vec::new();
        let mut never = |_: &mut dyn Write| panic!("asked in spite of --yes");
        let exit = apply(&topics, &mut cluster, &flags(true, Output::Table), &mut never, &mut out).unwrap();
        assert_eq!(exit, Exit::Done);
        assert!(text(out).ends_with("ok 0, created 1, altered 0, failed 0\n"));
        let exit = plan(&topics, &mut cluster, &flags(true, Output::Json).plan, &mut Vec::new()).unwrap();
        assert_eq!(exit, Exit::Done);
    }

    #[test]
    fn a_no_changes_nothing() {
        let topics = [topic("readings")];
        let mut cluster = Cluster::default();
        let mut out = Vec::new();
        let exit = apply(&topics, &mut cluster, &flags(false, Output::Table), &mut |_| Ok(false), &mut out).unwrap();
        assert_eq!(exit, Exit::Failed);
        assert!(text(out).ends_with("nothing was changed\n"));
        let left = plan(&topics, &mut cluster, &flags(true, Output::Json).plan, &mut Vec::new()).unwrap();
        assert_eq!(left, Exit::Different);
    }

    #[test]
    fn what_is_blocked_is_told_with_its_reason_and_fails() {
        let mut wanted = topic("readings");
        let mut cluster = Cluster::default();
        cluster.create(&wanted.to_new_topic()).unwrap();
        wanted.partitions = 24;
        let mut out = Vec::new();
        let exit = apply(&[wanted], &mut cluster, &flags(true, Output::Table), &mut |_| Ok(true), &mut out).unwrap();
        let out = text(out);
        assert_eq!(exit, Exit::Failed);
        assert!(out.contains("failed: readings: partitions: 12 -> 24: records of one key would go"), "{out}");
        assert!(out.ends_with("ok 0, created 0, altered 0, failed 1\n"), "{out}");
    }
}
