//! How often what was drawn met each other: features of pipelines among themselves, and outcomes of records with faults.

use crate::pipeline::{Does, Event, Join, Place, Policy, StepDraw, SubDraw};
use crate::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tidegate::testing::{Act, Disaster};

type Names = BTreeSet<String>;

/// Counts of pairs over many runs.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    features: BTreeMap<(String, String), u64>,
    faults: BTreeMap<(String, String), u64>,
}

impl Pairs {
    /// Counts one run. `crashed`: the commit steps at which an instance really died.
    pub fn add(&mut self, scenario: &Scenario, crashed: &[String]) {
        let features = features(scenario);
        for (number, one) in features.iter().enumerate() {
            for other in features.iter().skip(number + 1) {
                *self.features.entry((one.clone(), other.clone())).or_default() += 1;
            }
        }
        let faults = faults(scenario, crashed);
        for outcome in outcomes(scenario) {
            for fault in &faults {
                *self.faults.entry((outcome.clone(), fault.clone())).or_default() += 1;
            }
        }
    }

    /// Adds what another thread has counted.
    pub fn merge(&mut self, other: Self) {
        for (pair, count) in other.features {
            *self.features.entry(pair).or_default() += count;
        }
        for (pair, count) in other.faults {
            *self.faults.entry(pair).or_default() += count;
        }
    }

    /// Two tables in Markdown.
    pub fn tables(&self) -> String {
        format!(
            "### Features with features\n\n{}\n### Outcomes with faults\n\n{}",
            table(&self.features, true),
            table(&self.faults, false)
        )
    }
}

fn table(pairs: &BTreeMap<(String, String), u64>, is_symmetric: bool) -> String {
    let of = |pick: fn(&(String, String)) -> &String| pairs.keys().map(pick).collect::<BTreeSet<_>>();
    let (mut rows, mut columns) = (of(|pair| &pair.0), of(|pair| &pair.1));
    if is_symmetric {
        rows.extend(columns.clone());
        columns.clone_from(&rows);
    }
    let mut out = String::from("| |");
    for name in &columns {
        let _ = write!(out, " {name} |");
    }
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(columns.len()));
    for row in rows {
        let _ = write!(out, "| {row} |");
        for column in &columns {
            let pair = (row.clone(), (*column).clone());
            let mirrored = (pair.1.clone(), pair.0.clone());
            let count = pairs.get(&pair).or_else(|| pairs.get(&mirrored).filter(|_| is_symmetric));
            let _ = match count {
                Some(count) => write!(out, " {count} |"),
                None => write!(out, " |"),
            };
        }
        out.push('\n');
    }
    out
}

fn features(scenario: &Scenario) -> Names {
    let Scenario { pipeline, knobs, .. } = scenario;
    let subs = &pipeline.subs;
    let any = |holds: &dyn Fn(&SubDraw) -> bool| subs.iter().any(holds);
    let updates = |table: u8| subs.iter().filter(|sub| sub.step == StepDraw::Update(table)).count();
    let facts: [(&str, bool); 33] = [
        ("update", updates(0) + updates(1) > 0),
        ("two tables", updates(0) > 0 && updates(1) > 0),
        ("two steps on a table", updates(0) > 1 || updates(1) > 1),
        ("aggregate", any(&|sub| sub.step == StepDraw::Aggregate)),
        ("process", any(&|sub| sub.step == StepDraw::Process)),
        ("join", any(&|sub| sub.join == Join::Inner)),
        ("left join", any(&|sub| sub.join == Join::Left)),
        ("with", any(&|sub| sub.companion == Some(false))),
        ("and", any(&|sub| sub.companion == Some(true))),
        ("declared, warn", any(&|sub| !sub.rekeys && sub.declared == Some(Policy::Warn))),
        ("declared, stop", any(&|sub| !sub.rekeys && sub.declared == Some(Policy::Stop))),
        ("declared, repartition", any(&|sub| !sub.rekeys && sub.declared == Some(Policy::Repartition))),
        ("keys by", any(&|sub| sub.rekeys)),
        ("own store", any(&|sub| sub.has_store)),
        ("own store beside rows", any(&|sub| sub.has_store && matches!(sub.step, StepDraw::Update(_)))),
        ("time to live", any(&|sub| sub.ttl_ms.is_some() && (sub.has_store || sub.step == StepDraw::Aggregate))),
        ("filter", any(&|sub| sub.has_filter)),
        ("threshold", any(&|sub| sub.threshold.is_some())),
        ("step behind a step", any(&|sub| sub.lead.starts_with("out"))),
        ("one topic of two steps", subs.iter().filter(|sub| sub.destination.as_deref() == Some("out")).count() > 1),
        ("no topic", any(&|sub| sub.destination.is_none())),
        ("without versions", !pipeline.is_versioned),
        ("text keys", pipeline.has_text_keys),
        ("missing rows skipped", knobs.missing_row % 3 == 0),
        ("missing rows retried", knobs.missing_row % 3 == 2),
        ("batches of one", knobs.batch_rows == 1),
        ("transactions of one", knobs.transaction_rows == 1 || knobs.log_messages == 1),
        ("one row ahead", knobs.unpublished_rows == 1),
        ("flushed at once", knobs.flush_ms == 0),
        ("three instances", knobs.instances == 3),
        ("three workers", knobs.workers == 3),
        ("small outputs", knobs.message_bytes > 0),
        ("four partitions", pipeline.partitions == 4),
    ];
    facts.iter().filter(|(_, holds)| *holds).map(|(name, _)| (*name).to_owned()).collect()
}

fn outcomes(scenario: &Scenario) -> Names {
    let mut out = Names::new();
    for act in &scenario.acts {
        let Act::Send(sending) = act else { continue };
        let mut note = |name: &str| {
            out.insert(name.to_owned());
        };
        let is_table = sending.topic.ends_with("-users");
        match sending.key.as_deref() {
            None => note("no key"),
            Some("abc" | "007" | "") => note("bad key"),
            Some("99") => note("no row"),
            _ => {}
        }
        match sending.after_ms {
            i64::MIN..0 => note("late"),
            1..=10_000 => note("early"),
            10_001.. => note("ahead of time"),
            0 => {}
        }
        if !sending.headers.is_empty() {
            note("foreign header");
        }
        let Some(value) = &sending.value else {
            note(if is_table { "table tombstone" } else { "tombstone" });
            continue;
        };
        if is_table {
            note(if value.len() > 1 { "table value" } else { "bad table value" });
            continue;
        }
        // The trap of a record that panics while it is read is not sprung here.
        let plain = value.replace(r#""trap":true"#, r#""trap":false"#);
        let Ok(event) = serde_json::from_str::<Event>(&plain) else {
            note("bad value");
            continue;
        };
        if event.notices > 1 {
            note("several notices");
        }
        if !event.pad.is_empty() {
            note("large record");
        }
        note(match event.does {
            Does::Change => "change",
            Does::Nothing => "nothing",
            Does::Skip => "skip",
            Does::Reject => "reject",
            Does::Retry(_) => "retry",
            Does::RetryForEver => "retry for ever",
            Does::RetryUnlessRefused => "retry behind a refusal",
            Does::Panic(Place::Decode) => "panic in decoding",
            Does::Panic(Place::Apply) => "panic in apply",
            Does::Panic(Place::Notices) => "panic in notices",
            Does::Panic(Place::Filter) => "panic in a filter",
            Does::Panic(Place::Magnitude) => "panic in a magnitude",
            Does::Panic(Place::EncodeNotice) => "panic in a notice's encoding",
            Does::Panic(Place::EncodeRow) => "panic in a row's encoding",
            Does::Panic(Place::Key) => "panic in keys",
            Does::Die => "dies",
            Does::NotFinite => "not finite",
            Does::Refused => "refused by the database",
            Does::Delete => "delete",
            Does::Large(_) => "large notice",
        });
    }
    out
}

fn faults(scenario: &Scenario, crashed: &[String]) -> Names {
    let mut out: Names = crashed.iter().map(|step| format!("crash after {step}")).collect();
    for act in &scenario.acts {
        let name = match act {
            Act::Turns(_) | Act::Pass(_) | Act::Send(_) | Act::Crash(..) | Act::Start(_) | Act::Thaw(_) => continue,
            Act::Write(..) => "another writer".into(),
            Act::Kill(_) => "kill".into(),
            Act::Stop(_) => "stop".into(),
            Act::Freeze(_) => "freeze".into(),
            Act::Zombie(..) => "zombie".into(),
            Act::LoseDisk(_) => "disk lost".into(),
            Act::CommitFails => "commit fails".into(),
            Act::CommitAnswerLost(is_applied) => {
                format!("commit answer lost, {}", if *is_applied { "done" } else { "not done" })
            }
            Act::DatabaseDown(_) => "database down".into(),
            Act::Fail(failure) => format!("producer: {failure:?}"),
            Act::LateCommits => "late commits".into(),
            Act::Expire(_) => "thrown out".into(),
            Act::DiskFull(..) => "disk full".into(),
            Act::DiskBlocked(..) => "disk fails".into(),
            Act::Threshold(..) => "threshold changes".into(),
            Act::Disaster(disaster) => match disaster {
                Disaster::GroupDeleted => "group deleted".into(),
                Disaster::GroupBegunAgain => "generations begin again".into(),
                Disaster::OffsetLost(..) => "offset lost".into(),
                Disaster::OffsetReset(..) => "offset reset".into(),
                Disaster::InputsDeleted(..) => "inputs deleted".into(),
                Disaster::Recreated(_) => "topic recreated".into(),
                Disaster::Restored => "database set back".into(),
                Disaster::Backup => continue,
                Disaster::ChangelogLost(_) => "changelog lost".into(),
            },
        };
        out.insert(name);
    }
    out
}
