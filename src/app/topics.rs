//! `topics validate`, `topics plan`, `topics apply`.

use crate::app::application::App;
use crate::app::cli::{ApplyArguments, Output, PlanArguments, TopicsArguments, TopicsCommand};
use crate::app::confirm::confirm;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::table;
use crate::flow::Topology;
use crate::ports::Fault;
use crate::ports::topics::TopicAdmin;
use crate::settings::{Need, Settings};
use crate::topics::{self, Finding, Outcome, Plan, Planned, TopicSpec};
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

pub(super) fn topics(app: &App, arguments: &TopicsArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let checked = check(&app.pipeline()?, arguments);
    match &arguments.command {
        TopicsCommand::Validate(output) => validate(&checked, output.output, out),
        TopicsCommand::Plan(flags) => {
            let (topics, settings) = (sound(checked)?, settings(app)?);
            let hint = environment_hint(arguments);
            let planned = plan(&topics, &mut *admin(&settings)?, flags, hint.as_deref(), out);
            planned.map_err(|failure| no_answer(failure, &settings))
        }
        TopicsCommand::Apply(flags) => {
            let (topics, settings) = (sound(checked)?, settings(app)?);
            let mut ask = || confirm("topics apply", "apply", &place(&settings));
            let hint = environment_hint(arguments);
            let applied = apply(&topics, &mut *admin(&settings)?, flags, (&mut ask, hint.as_deref()), out);
            applied.map_err(|failure| no_answer(failure, &settings))
        }
    }
}

/// Names the overlays of the folder where none was asked for: what was created with one differs from the files without it.
fn environment_hint(arguments: &TopicsArguments) -> Option<String> {
    let known = topics::environments(&arguments.dir);
    let is_forgotten = arguments.env.is_none() && !known.is_empty();
    is_forgotten.then(|| {
        let flags = known.iter().map(|name| format!("--env {name}")).collect::<Vec<_>>().join(" or ");
        format!("no --env was given: if these topics were made with {flags}, or are to be, give it each time")
    })
}

/// The cluster that is changed, for the question.
fn place(settings: &Settings) -> String {
    let (servers, path) = (&settings.kafka.bootstrap_servers, "kafka.bootstrap_servers");
    format!("the topics of the cluster at {servers} ({path}: {})", settings.origin_of(path))
}

fn settings(app: &App) -> Result<Settings, Failure> {
    app.settings_for(&[Need::Kafka])
}

/// Says why the cluster did not answer, where it did not.
#[cfg(feature = "kafka")]
fn no_answer(failure: Failure, settings: &Settings) -> Failure {
    match failure {
        Failure::Fault(fault) => crate::app::reach::kafka_said(fault, settings),
        other => other,
    }
}

#[cfg(not(feature = "kafka"))]
const fn no_answer(failure: Failure, _: &Settings) -> Failure {
    failure
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
fn check(pipeline: &Topology, arguments: &TopicsArguments) -> Result<Vec<TopicSpec>, Vec<Finding>> {
    let topics = topics::read(&arguments.dir, arguments.env.as_deref())?;
    let mut findings = topics::validate(&topics);
    findings.extend(topics::compare(pipeline, &topics, &arguments.dir));
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
    hint: Option<&str>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let plan = topics::plan(topics, admin, flags.allow_repartition)?;
    match flags.output.output {
        Output::Json => table::json(&plan, out)?,
        Output::Table => {
            show(&plan, out)?;
            write_hint(hint.filter(|_| plan.blocked() > 0), out)?;
        }
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
    let (changes, same, blocked) = (plan.changes.len(), plan.unchanged, plan.blocked());
    writeln!(out, "as described {same}, differences {changes}, blocked {blocked}")?;
    Ok(())
}

fn write_hint(hint: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    hint.map_or(Ok(()), |hint| writeln!(out, "{hint}")).map_err(Failure::from)
}

/// Asks a person whether to go on.
type Confirm<'c> = dyn FnMut() -> Result<bool, Failure> + 'c;

fn apply(
    topics: &[TopicSpec],
    admin: &mut dyn TopicAdmin,
    flags: &ApplyArguments,
    (confirm, hint): (&mut Confirm<'_>, Option<&str>),
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let is_json = flags.plan.output.output == Output::Json;
    if is_json && !flags.yes {
        return Err(Failure::message(
            "topics apply: -o json asks nobody, since its output is for programs; use --yes too",
        ));
    }
    let plan = topics::plan(topics, admin, flags.plan.allow_repartition)?;
    if !is_json {
        show(&plan, out)?;
    }
    let is_blocked = plan.blocked() > 0;
    if !plan.changes.is_empty() && !is_blocked && !flags.yes && !confirm()? {
        writeln!(out, "nothing was changed")?;
        return Ok(Exit::Failed);
    }
    let (mut failures, mut failed) = (Vec::new(), BTreeSet::new());
    topics::apply(topics, &plan, admin, &mut |topic, change, made| {
        if let Err(reason) = made {
            failures.push(format!("{}: {}: {reason}", topic.name, change.describe()));
            failed.insert((topic.name.to_string(), change.describe()));
        }
    });
    let mut made = plan.changes.clone();
    made.retain(|planned| !failed.contains(&(planned.topic.clone(), planned.change.describe())));
    let mut failed: BTreeSet<String> = failed.into_iter().map(|(topic, _)| topic).collect();
    match unseen(topics, &made, admin, LOOKS) {
        Ok(unseen) => failures.extend(unseen.into_iter().map(|planned| {
            failed.insert(planned.topic.clone());
            format!(
                "{}: {}: accepted, and the brokers do not show it after 10 s: something else sets it back, or they are slow; \
                 `topics plan` looks again",
                planned.topic,
                planned.change.describe()
            )
        })),
        Err(fault) => {
            failed.extend(made.iter().map(|planned| planned.topic.clone()));
            failures.push(format!("what was accepted could not be looked at: {fault}; `topics plan` looks again"));
        }
    }
    let outcome = Outcome::of(&plan, &failed);
    if is_json {
        table::json(&serde_json::json!({ "plan": plan, "outcome": outcome, "failures": failures }), out)?;
    } else {
        for failure in &failures {
            writeln!(out, "failed: {failure}")?;
        }
        if is_blocked {
            writeln!(
                out,
                "nothing was changed: none of the changes is made while one is blocked, since partitions stay once made"
            )?;
        }
        writeln!(out, "{outcome}")?;
        write_hint(hint.filter(|_| outcome.failed > 0), out)?;
    }
    Ok(if outcome.failed == 0 { Exit::Done } else { Exit::Failed })
}

/// The number of looks, 100 ms apart, for what was applied.
const LOOKS: usize = 100;

/// Waits until the brokers show what was `made`: they learn of it from the controller a moment later (0.4 s tried on
/// Kafka 4.3.1), and an instance that starts next should find the topics. Answers the changes that they do not show.
fn unseen(
    topics: &[TopicSpec],
    made: &[Planned],
    admin: &mut dyn TopicAdmin,
    looks: usize,
) -> Result<Vec<Planned>, Fault> {
    let mut unseen = made.to_vec();
    for look in 0..looks {
        if unseen.is_empty() {
            break;
        }
        if look > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        let left = topics::plan(topics, admin, true)?.changes;
        unseen.retain(|planned| {
            left.iter().any(|left| left.topic == planned.topic && left.change.is_as(&planned.change))
        });
    }
    Ok(unseen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::cli::OutputArguments;
    use crate::app::signals::Signals;
    use crate::pipelines::usage;
    use crate::settings::Sources;
    use crate::topics::fake::{Cluster, topic};

    fn flags(yes: bool, output: Output) -> ApplyArguments {
        ApplyArguments { yes, plan: PlanArguments { allow_repartition: false, output: OutputArguments { output } } }
    }

    const HINT: Option<&str> = Some("no --env was given");

    fn text(out: Vec<u8>) -> String {
        String::from_utf8(out).unwrap()
    }

    /// `run` demands the topics of the name that is set.
    #[test]
    fn the_folder_is_held_against_the_pipeline_by_the_name_that_is_set() {
        let findings = |flag: &str| {
            let sources = Sources { flags: vec![flag.into()], ..Sources::default() };
            let app = App { topology: usage::topology(), sources, signals: Signals::default() };
            let command = TopicsCommand::Validate(OutputArguments { output: Output::Table });
            let arguments = TopicsArguments { dir: "topics/usage".into(), env: None, command };
            let findings = check(&app.pipeline().unwrap(), &arguments).err().unwrap_or_default();
            findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(findings("pipeline.name=usage"), Vec::<String>::new());
        let told = findings("pipeline.name=usage-eu").join("\n");
        assert!(told.contains("usage-eu-usage-changelog"), "{told}");
    }

    #[test]
    fn a_plan_with_differences_ends_with_3_and_without_them_with_0() {
        let topics = [topic("readings")];
        let mut cluster = Cluster::default();
        let mut out = Vec::new();
        let exit = plan(&topics, &mut cluster, &flags(true, Output::Table).plan, None, &mut out).unwrap();
        assert_eq!(exit, Exit::Different);
        let expected = "TOPIC     CHANGE                             NOTE\n\
                        readings  create: 12 partitions, 3 replicas\n\
                        as described 0, differences 1, blocked 0\n";
        assert_eq!(text(out), expected);

        let mut out = Vec::new();
        let mut never = || panic!("asked in spite of --yes");
        let exit = apply(&topics, &mut cluster, &flags(true, Output::Table), (&mut never, None), &mut out).unwrap();
        assert_eq!(exit, Exit::Done);
        assert!(text(out).ends_with("ok 0, created 1, altered 0, failed 0\n"));
        let exit = plan(&topics, &mut cluster, &flags(true, Output::Json).plan, None, &mut Vec::new()).unwrap();
        assert_eq!(exit, Exit::Done);
    }

    #[test]
    fn a_no_changes_nothing() {
        let topics = [topic("readings")];
        let mut cluster = Cluster::default();
        let mut out = Vec::new();
        let exit =
            apply(&topics, &mut cluster, &flags(false, Output::Table), (&mut || Ok(false), None), &mut out).unwrap();
        assert_eq!(exit, Exit::Failed);
        assert!(text(out).ends_with("nothing was changed\n"));
        let left = plan(&topics, &mut cluster, &flags(true, Output::Json).plan, None, &mut Vec::new()).unwrap();
        assert_eq!(left, Exit::Different);
    }

    #[test]
    fn what_the_broker_refuses_fails_in_its_own_words() {
        let mut wanted = topic("readings");
        let mut cluster = Cluster::default();
        cluster.create(&wanted.to_new_topic()).unwrap();
        wanted.config.insert("retention.ms".into(), "5".into());
        cluster.refused = Some(("retention.ms", "Invalid value 5 for configuration retention.ms"));
        let mut out = Vec::new();
        let exit =
            apply(&[wanted], &mut cluster, &flags(true, Output::Table), (&mut || Ok(true), HINT), &mut out).unwrap();
        let out = text(out);
        assert_eq!(exit, Exit::Failed);
        let expected = "failed: readings: retention.ms: 1000 -> 5: Invalid value 5 for configuration retention.ms\n\
                        ok 0, created 0, altered 0, failed 1\nno --env was given\n";
        assert!(out.ends_with(expected), "{out}");
    }

    #[test]
    fn what_the_brokers_accept_and_never_show_is_not_taken_for_done() {
        let mut wanted = topic("readings");
        let mut cluster = Cluster::default();
        cluster.create(&wanted.to_new_topic()).unwrap();
        cluster.is_deaf = true;
        wanted.config.insert("retention.ms".into(), "5".into());
        let made = topics::plan(std::slice::from_ref(&wanted), &mut cluster, false).unwrap().changes;
        assert_eq!(unseen(std::slice::from_ref(&wanted), &made, &mut cluster, 2).unwrap(), made);
        cluster.is_deaf = false;
        let changes = std::collections::BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        cluster.alter_config(&wanted.name, &changes).unwrap();
        assert_eq!(unseen(&[wanted], &made, &mut cluster, 2).unwrap(), []);
    }

    #[test]
    fn what_is_blocked_is_told_with_its_reason_and_fails() {
        let mut wanted = topic("readings");
        let mut cluster = Cluster::default();
        cluster.create(&wanted.to_new_topic()).unwrap();
        wanted.partitions = 24;
        let mut out = Vec::new();
        let exit =
            apply(&[wanted], &mut cluster, &flags(true, Output::Table), (&mut || Ok(true), HINT), &mut out).unwrap();
        let out = text(out);
        assert_eq!(exit, Exit::Failed);
        assert!(out.contains("failed: readings: partitions: 12 -> 24: records of one key would go"), "{out}");
        assert!(out.contains("\nnothing was changed: none of the changes is made while one is blocked"), "{out}");
        assert!(out.ends_with("ok 0, created 0, altered 0, failed 1\nno --env was given\n"), "{out}");
    }

    #[test]
    fn while_one_change_is_blocked_no_partition_is_added_and_nobody_is_asked() {
        let (mut keyed, mut dead) = (topic("sales"), topic("sales-dlt"));
        dead.role = topics::Role::Dlt;
        let mut cluster = Cluster::default();
        for made in [&keyed, &dead] {
            cluster.create(&made.to_new_topic()).unwrap();
        }
        (keyed.partitions, dead.partitions) = (24, 24);
        let mut out = Vec::new();
        let mut never = || panic!("asked although nothing will be changed");
        let exit =
            apply(&[keyed, dead.clone()], &mut cluster, &flags(false, Output::Table), (&mut never, None), &mut out)
                .unwrap();
        let out = text(out);
        assert_eq!(exit, Exit::Failed);
        assert!(out.contains("failed: sales-dlt: partitions: 12 -> 24: not made, since another is blocked"), "{out}");
        assert!(out.ends_with("ok 0, created 0, altered 0, failed 2\n"), "{out}");
        let found = cluster.describe(&[dead.name]).unwrap();
        assert_eq!(found[0].as_ref().map(|found| found.partitions), Some(12));
    }

    #[test]
    fn the_files_are_compared_with_the_topics_that_the_named_pipeline_has() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("topics/usage");
        let command = TopicsCommand::Validate(OutputArguments { output: Output::Table });
        let arguments = TopicsArguments { dir, env: None, command };
        let topology = crate::pipelines::usage::topology();
        assert!(check(&topology, &arguments).is_ok());
        let findings = check(&topology.renamed("usage-eu"), &arguments).unwrap_err();
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|finding| finding.contains("usage-eu-usage-changelog: no file")), "{said:?}");
    }

    #[test]
    fn json_asks_nobody() {
        let mut cluster = Cluster::default();
        let mut never = || panic!("asked in the midst of the JSON");
        let refused =
            apply(&[topic("readings")], &mut cluster, &flags(false, Output::Json), (&mut never, None), &mut Vec::new());
        assert!(matches!(refused, Err(Failure::Message(text)) if text.contains("--yes")));
        assert_eq!(cluster.requests, 0);
    }
}
