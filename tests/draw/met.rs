//! The contents of a scenario, by name: features of its pipeline and settings, outcomes of its records, faults.
//!
//! An outcome counts where it can come about: a record that makes a filter panic counts at a step with a filter. A fault
//! counts where it struck: a crash at the step at which an instance really died, a failing call that was really made.

use crate::pipeline::{
    BOOM, Does, Event, Hash, Join, Nothing, PairingDraw, Place, Policy, Routed, Spans, Spelling, StepDraw, SubDraw,
    Tables, Unread, Values, WindowDraw,
};
use crate::scenario::Scenario;
use std::collections::BTreeSet;
use tidegate::testing::{Act, COMMIT_STEPS, Disaster, FAILURES, Sending};

/// A feature: its name, and whether a scenario has it.
type Feature = (&'static str, fn(&Scenario) -> bool);

fn any(scenario: &Scenario, holds: impl Fn(&SubDraw) -> bool) -> bool {
    scenario.pipeline.subs.iter().any(holds)
}

fn updates(scenario: &Scenario, table: u8) -> usize {
    scenario.pipeline.subs.iter().filter(|sub| sub.step == StepDraw::Update(table)).count()
}

/// Whether a step keeps a value under each key that is no list of windows.
fn keeps_sums(sub: &SubDraw) -> bool {
    sub.step == StepDraw::Aggregate && !sub.gives_out()
}

fn pairing(scenario: &Scenario, holds: impl Fn(&PairingDraw) -> bool) -> bool {
    any(scenario, |sub| sub.pairing.as_ref().is_some_and(&holds))
}

fn windows(scenario: &Scenario, holds: impl Fn(&WindowDraw) -> bool) -> bool {
    any(scenario, |sub| sub.window.as_ref().is_some_and(&holds))
}

fn declares(scenario: &Scenario, policy: Policy) -> bool {
    any(scenario, |sub| sub.declared_as() == Some(policy))
}

fn has_tables(scenario: &Scenario, tables: Tables) -> bool {
    updates(scenario, 0) + updates(scenario, 1) > 0 && scenario.pipeline.tables == tables
}

pub const FEATURES: [Feature; 112] = [
    ("update", |s| updates(s, 0) + updates(s, 1) > 0),
    ("two tables", |s| updates(s, 0) > 0 && updates(s, 1) > 0),
    ("two steps on a table", |s| updates(s, 0) > 1 || updates(s, 1) > 1),
    ("aggregate", |s| any(s, |sub| sub.step == StepDraw::Aggregate)),
    ("process", |s| any(s, |sub| sub.step == StepDraw::Process)),
    ("join", |s| any(s, |sub| sub.join == Join::Inner)),
    ("left join", |s| any(s, |sub| sub.join == Join::Left)),
    ("join beside rows", |s| any(s, |sub| sub.join == Join::Inner && sub.has_rows())),
    ("left join beside rows", |s| any(s, |sub| sub.join == Join::Left && sub.has_rows())),
    ("two tables joined beside rows", |s| any(s, |sub| sub.has_two_tables() && sub.has_rows())),
    ("and beside rows", |s| any(s, |sub| sub.companion == Some(true) && sub.has_rows())),
    ("with", |s| any(s, |sub| sub.companion == Some(false))),
    ("and", |s| any(s, |sub| sub.companion == Some(true))),
    ("declared, warn", |s| declares(s, Policy::Warn)),
    ("declared, stop", |s| declares(s, Policy::Stop)),
    ("declared, repartition", |s| declares(s, Policy::Repartition)),
    ("keys by", |s| any(s, |sub| sub.rekeys)),
    ("own store", |s| any(s, |sub| sub.has_store)),
    ("own store beside rows", |s| any(s, |sub| sub.has_store && sub.has_rows())),
    ("time to live", |s| any(s, |sub| sub.ttl_ms.is_some() && (sub.has_store || keeps_sums(sub)))),
    ("filter", |s| any(s, |sub| sub.has_filter)),
    ("threshold", |s| any(s, |sub| sub.threshold.is_some())),
    ("step behind a step", |s| any(s, |sub| sub.lead.starts_with("out"))),
    ("one topic of two steps", |s| {
        s.pipeline.subs.iter().filter(|sub| sub.destination.as_deref() == Some("out")).count() > 1
    }),
    ("no topic", |s| any(s, |sub| sub.destination.is_none())),
    ("without versions", |s| !s.pipeline.is_versioned && updates(s, 0) + updates(s, 1) > 0),
    ("text keys", |s| s.pipeline.has_text_keys && updates(s, 0) + updates(s, 1) > 0),
    ("missing rows skipped", |s| s.knobs.missing_row % 3 == 0),
    ("missing rows retried", |s| s.knobs.missing_row % 3 == 2),
    ("batches of one", |s| s.knobs.batch_rows == 1),
    ("transactions of one", |s| s.knobs.transaction_rows == 1 || s.knobs.log_messages == 1),
    ("one row ahead", |s| s.knobs.unpublished_rows == 1),
    ("flushed at once", |s| s.knobs.flush_ms == 0),
    ("three instances", |s| s.knobs.instances == 3),
    ("three workers", |s| s.knobs.workers == 3),
    ("small inputs", |s| s.knobs.record_bytes > 0),
    ("small outputs", |s| s.knobs.message_bytes > 0),
    ("small dead letters", |s| s.knobs.letter_bytes > 0),
    ("small statements", |s| s.knobs.statement_rows > 0),
    ("verdicts", |s| s.knobs.verdicts),
    ("four partitions", |s| s.pipeline.partitions == 4),
    ("keys by, twice", |s| any(s, |sub| sub.rekeys && sub.rekeys_twice)),
    ("two tables joined", |s| any(s, SubDraw::has_two_tables)),
    ("table declared, warn", |s| any(s, |sub| sub.is_joined() && sub.table_declared == Some(Policy::Warn))),
    ("table declared, stop", |s| any(s, |sub| sub.is_joined() && sub.table_declared == Some(Policy::Stop))),
    ("time to live of a table", |s| any(s, |sub| sub.is_joined() && sub.table_ttl_ms.is_some())),
    ("table of a step", |s| any(s, |sub| sub.is_joined() && sub.table_of.is_some())),
    ("companion of a step", |s| any(s, |sub| sub.companion.is_some() && sub.companion_of.is_some())),
    ("dead letters read", |s| any(s, |sub| sub.lead.ends_with("-dlt"))),
    ("crc32", |s| any(s, |sub| sub.hash_said() == Hash::Crc32)),
    ("own hash", |s| any(s, |sub| sub.hash_said() == Hash::Own)),
    ("typed keys", |s| any(s, |sub| !sub.has_rows() && sub.is_typed && s.pipeline.read_keys(sub).is_some())),
    ("uuid keys", |s| s.pipeline.spelling == Spelling::Uuid),
    ("big-endian keys", |s| s.pipeline.spelling == Spelling::BigEndian),
    ("keys of four bytes", |s| s.pipeline.spelling == Spelling::Small),
    ("keys of sixteen bytes", |s| s.pipeline.spelling == Spelling::UuidBytes),
    ("raw keys", |s| s.pipeline.spelling == Spelling::Raw),
    ("fields of JSON keys", |s| s.pipeline.spelling == Spelling::Field),
    ("keys of two columns", |s| s.pipeline.spelling == Spelling::Compound),
    ("fields of JSON keys with a schema", |s| s.pipeline.spelling == Spelling::TextField),
    ("some columns", |s| any(s, |sub| sub.has_rows() && sub.is_slim)),
    ("two own stores", |s| any(s, |sub| sub.has_store && sub.has_last)),
    ("few bytes ahead", |s| s.knobs.unpublished_bytes > 0),
    ("small transactions", |s| s.knobs.transaction_bytes > 0),
    ("small caches", |s| s.knobs.cache_bytes > 0),
    ("offsets repeated, stores rebuilt", |s| s.knobs.recommit_ms > 0 || s.knobs.rebuild_ms > 0),
    ("starts at the end", |s| s.knobs.starts_at_end),
    ("gaps skipped", |s| s.knobs.skips_gaps),
    ("tables that keep what is written", |s| has_tables(s, Tables::Keep)),
    ("tables that round", |s| has_tables(s, Tables::Round)),
    ("versions shown to steps", |s| any(s, |sub| s.pipeline.shows_version(sub))),
    ("tumbling windows", |s| windows(s, |window| matches!(window.shape, Spans::Tumbling(_)))),
    ("hopping windows", |s| windows(s, |window| matches!(window.shape, Spans::Hopping(..)))),
    ("sessions", |s| windows(s, |window| matches!(window.shape, Spans::Session(_)))),
    ("windows of a join", |s| any(s, |sub| sub.window.is_some() && sub.is_joined())),
    ("windows corrected", |s| windows(s, |window| window.corrections_ms > 0)),
    ("windows given out early", |s| windows(s, |window| window.is_early && window.every_ms.is_none())),
    ("windows given out every so often", |s| windows(s, |window| window.every_ms.is_some())),
    ("late records skipped", |s| windows(s, |window| window.skips_late && !window.keeps_late)),
    ("windows of idle keys", |s| windows(s, |window| window.idle_ms.is_some())),
    ("windows by the partition's clock", |s| windows(s, |window| window.by_partition)),
    ("windows beside rows", |s| any(s, |sub| sub.window.is_some() && sub.has_rows())),
    ("windows that cannot be told", |s| windows(s, |window| window.is_fragile)),
    ("topics of late records", |s| windows(s, |window| window.keeps_late)),
    ("windows that update rows", |s| {
        let told = |sub: &SubDraw| sub.window.and(sub.destination.clone());
        let mut told = s.pipeline.subs.iter().filter_map(told);
        told.any(|topic| any(s, |sub| sub.has_rows() && sub.lead == topic))
    }),
    ("pairs of two streams", |s| pairing(s, |_| true)),
    ("late events of pairs skipped", |s| pairing(s, |drawn| drawn.skips_late && !drawn.keeps_late)),
    ("topics of late events of pairs", |s| pairing(s, |drawn| drawn.keeps_late)),
    ("lone events that cannot be told", |s| pairing(s, |drawn| drawn.is_fragile)),
    ("two topics joined as tables", |s| any(s, |sub| sub.joins_tables)),
    ("text", |s| any(s, |sub| sub.format == Values::Text)),
    ("bytes", |s| any(s, |sub| sub.format == Values::Bytes)),
    ("source rejected whole", |s| s.knobs.rejected.is_some()),
    ("route", |s| any(s, |sub| sub.routed == Some(Routed::Route))),
    ("branches", |s| any(s, |sub| sub.routed == Some(Routed::Branch))),
    ("chain", |s| any(s, |sub| sub.is_chain)),
    ("two chains of a source", |s| {
        let chains = || s.pipeline.subs.iter().filter(|sub| sub.is_chain);
        chains().any(|sub| chains().filter(|other| other.lead == sub.lead).count() > 1)
    }),
    ("merge", |s| any(s, |sub| sub.companion == Some(false) && sub.merges.is_some())),
    ("merge under other keys", |s| any(s, SubDraw::merges_rekeyed)),
    ("branches without the rest", |s| any(s, |sub| sub.routed == Some(Routed::BranchOnly))),
    ("unreadable records skipped", |s| any(s, |sub| sub.unread == Unread::Skip)),
    ("unreadable records halt", |s| any(s, |sub| sub.unread == Unread::Halt)),
    ("tombstones skipped", |s| any(s, |sub| sub.tombstones == Nothing::Skip)),
    ("tombstones are events", |s| any(s, |sub| sub.tombstones == Nothing::Event)),
    ("timers of an aggregate", |s| any(s, |sub| sub.has_timers && sub.step == StepDraw::Aggregate)),
    ("ticks", |s| any(s, |sub| sub.every_ms.is_some())),
    ("timers beside rows", |s| any(s, |sub| sub.has_timers && sub.has_rows())),
    ("timers of a process", |s| any(s, |sub| sub.has_timers && sub.step == StepDraw::Process)),
    ("missing rows made", |s| any(s, |sub| sub.inserts)),
    ("rows deleted", |s| any(s, |sub| sub.deletes)),
    ("a column that its table makes", |s| any(s, |sub| s.pipeline.has_made_column(sub))),
    ("roll-up", |s| s.pipeline.rolled_up.is_some()),
];

pub const OUTCOMES: [&str; 59] = [
    "change",
    "nothing",
    "delete",
    "several notices",
    "notice under a key of its own",
    "notice with a time of its own",
    "notice with a header of its own",
    "notice that is refused",
    "tombstone announced",
    "skip",
    "reject",
    "retry",
    "retry for ever",
    "retry behind a refusal",
    "panic in decoding",
    "panic in apply",
    "panic in notices",
    "panic in a filter",
    "panic in a magnitude",
    "panic in a route",
    "panic in a notice's encoding",
    "panic in a row's encoding",
    "panic in keys",
    "dies",
    "stalls",
    "panic in a hash",
    "not finite",
    "refused by the database",
    "made column changed",
    "large notice",
    "large record",
    "large header",
    "foreign header",
    "bad value",
    "tombstone",
    "no key",
    "bad key",
    "no row",
    "late",
    "early",
    "ahead of time",
    "wrong partition, warn",
    "wrong partition, stop",
    "wrong partition, sent on",
    "table value",
    "table tombstone",
    "bad table value",
    "timer set",
    "timer by the wall clock",
    "timer taken back",
    "timer that sets another",
    "timer that skips",
    "timer that fails",
    "timer that kills",
    "timer that stalls",
    "timer that the database refuses",
    "event of a pair",
    "panic in a pair",
    "value of a joined table",
];

/// The names of faults: crashes first, then those of [`OTHER_FAULTS`], then those of producers.
pub fn faults() -> Vec<String> {
    let crashes = COMMIT_STEPS.iter().map(|step| format!("crash after {step}"));
    let others = OTHER_FAULTS.iter().map(|name| (*name).to_owned());
    crashes.chain(others).chain(FAILURES.iter().map(|failure| format!("producer: {failure:?}"))).collect()
}

const OTHER_FAULTS: [&str; 38] = [
    "start fails",
    "time to live taken away",
    "offset went back",
    "changelog cut",
    "kill",
    "stop",
    "one more instance",
    "freeze",
    "zombie",
    "thrown out",
    "late commits",
    "disk lost",
    "disk full",
    "disk fails",
    "database down",
    "commit fails",
    "commit answer lost, done",
    "commit answer lost, not done",
    "another writer",
    "another deletes",
    "another inserts",
    "threshold changes",
    "group deleted",
    "generations begin again",
    "offset lost",
    "offset reset",
    "inputs deleted",
    "topic recreated",
    "changelog lost",
    "database set back",
    "offset lost, living",
    "offset reset, living",
    "inputs deleted, living",
    "topic recreated, living",
    "changelog lost, living",
    "database set back, living",
    "group deleted, disks lost",
    "offset lost, disks lost",
];

/// The time at which a simulation starts, in milliseconds since 1970.
const STARTS_MS: i64 = 1_767_225_600_000;

/// The step that reads a topic, and whether it reads it as a table.
pub fn reader<'a>(subs: &'a [SubDraw], topic: &str) -> Option<(&'a SubDraw, bool)> {
    subs.iter().find(|sub| sub.reads(topic)).map(|sub| (sub, sub.is_table(topic)))
}

/// Outcomes of a record, and oddities in it.
pub fn outcomes(scenario: &Scenario, sending: &Sending) -> Vec<&'static str> {
    let pipeline = &scenario.pipeline;
    let Some((sub, is_table)) = reader(&pipeline.subs, &sending.topic) else { return Vec::new() };
    let mut out = key_outcomes(scenario, sub, sending);
    match sending.after_ms {
        _ if is_table => {}
        i64::MIN..0 => out.push("late"),
        1..=10_000 => out.push("early"),
        10_001.. => out.push("ahead of time"),
        0 => {}
    }
    for (_, value) in &sending.headers {
        let is_large = value.as_ref().is_some_and(|value| value.len() > 1_000);
        out.push(if is_large { "large header" } else { "foreign header" });
    }
    if let (Some(at), true) = (sending.partition, sub.lead == sending.topic)
        && sending
            .key
            .as_ref()
            .is_some_and(|key| key != BOOM && pipeline.home(sub, key) != at.rem_euclid(pipeline.partitions))
    {
        out.extend(match sub.declared_as() {
            Some(Policy::Warn) => Some("wrong partition, warn"),
            Some(Policy::Stop) => Some("wrong partition, stop"),
            Some(Policy::Repartition) => Some("wrong partition, sent on"),
            None => None,
        });
    }
    match &sending.value {
        None => out.push(if is_table { "table tombstone" } else { "tombstone" }),
        Some(value) if is_table => out.push(if value.len() > 1 { "table value" } else { "bad table value" }),
        Some(value) => out.extend(value_outcomes(scenario, sub, value)),
    }
    out
}

fn key_outcomes(scenario: &Scenario, sub: &SubDraw, sending: &Sending) -> Vec<&'static str> {
    let is_rekeyed = sub.rekeys || (sub.merges_rekeyed() && sub.companion_topic() == sending.topic);
    let read = if is_rekeyed { None } else { scenario.pipeline.read_keys(sub) };
    match (sending.key.as_deref(), read) {
        (None, read) if read.is_some() || sub.declared_as().is_some() => vec!["no key"],
        (Some(BOOM), _) if sub.hash_said() == Hash::Own && sub.lead == sending.topic => vec!["panic in a hash"],
        (Some(key), Some(read)) => match read.parse(Some(key.as_bytes())) {
            Err(_) => vec!["bad key"],
            Ok(key) if sub.has_rows() && !scenario.row_keys().contains(&key) => vec!["no row"],
            Ok(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn value_outcomes(scenario: &Scenario, sub: &SubDraw, value: &str) -> Vec<&'static str> {
    let (knobs, tables) = (&scenario.knobs, scenario.pipeline.tables);
    if knobs.record_bytes > 0 && value.len() > knobs.record_bytes {
        return vec!["large record"];
    }
    // The trap of a record that panics while it is read is not sprung here.
    let plain = value.replace(r#""trap":true"#, r#""trap":false"#);
    let Ok(event) = serde_json::from_str::<Event>(&plain) else { return vec!["bad value"] };
    if sub.pairing.is_some() || sub.joins_tables {
        return vec![match event.does {
            Does::Panic(Place::Decode) => "panic in decoding",
            Does::Panic(Place::Notices) => "panic in a pair",
            _ if sub.joins_tables => "value of a joined table",
            _ => "event of a pair",
        }];
    }
    let mut out = Vec::new();
    out.extend(event.timer.as_ref().filter(|_| sub.has_timers).map(|timer| match (&*timer.name, timer.after_ms) {
        (_, None) => "timer taken back",
        (_, Some(_)) if timer.is_by_wall => "timer by the wall clock",
        ("again", _) => "timer that sets another",
        ("skip", _) => "timer that skips",
        ("refuse" | "panic", _) => "timer that fails",
        ("die", _) => "timer that kills",
        ("stall", _) if sub.has_rows() => "timer that stalls",
        ("exceed", _) if sub.has_rows() => "timer that the database refuses",
        _ => "timer set",
    }));
    let announces = event.notices > 0 && sub.destination.is_some() && sub.window.is_none();
    if event.notices > 1 && announces {
        out.push("several notices");
    }
    if event.notices > 0 && sub.window.is_none() {
        let own = &event.own;
        let all = [
            (announces && own.key.is_some(), "notice under a key of its own"),
            (announces && own.after_ms.is_some(), "notice with a time of its own"),
            (announces && own.header.is_some(), "notice with a header of its own"),
            (own.is_refused(STARTS_MS), "notice that is refused"),
            (announces && own.is_tombstone, "tombstone announced"),
        ];
        out.extend(all.into_iter().filter_map(|(is_so, name)| is_so.then_some(name)));
    }
    out.extend(match event.does {
        Does::Change | Does::Cure => Some("change"),
        Does::Touch if scenario.pipeline.has_made_column(sub) => Some("made column changed"),
        Does::Touch => Some("change"),
        Does::Nothing => Some("nothing"),
        Does::Skip => Some("skip"),
        Does::Reject => Some("reject"),
        Does::Retry(_) => Some("retry"),
        Does::RetryForEver => Some("retry for ever"),
        Does::RetryUnlessRefused => Some("retry behind a refusal").filter(|_| sub.has_rows() && tables != Tables::Keep),
        Does::Panic(Place::Decode) => Some("panic in decoding"),
        Does::Panic(Place::Apply) => Some("panic in apply"),
        Does::Panic(Place::Notices) => Some("panic in notices").filter(|_| sub.window.is_none()),
        Does::Panic(Place::Filter) => Some("panic in a filter").filter(|_| sub.has_filter && announces),
        Does::Panic(Place::Magnitude) => {
            Some("panic in a magnitude").filter(|_| sub.threshold.is_some() && announces && !sub.has_filter)
        }
        Does::Panic(Place::Route) => Some("panic in a route").filter(|_| {
            announces && sub.routed.is_some() && !sub.has_filter && sub.threshold.is_none() && !event.own.is_tombstone
        }),
        Does::Panic(Place::EncodeNotice) => {
            Some("panic in a notice's encoding").filter(|_| announces && !sub.has_filter && sub.threshold.is_none())
        }
        Does::Panic(Place::EncodeRow) => {
            Some("panic in a row's encoding").filter(|_| sub.step != StepDraw::Process && !sub.is_slim)
        }
        Does::Panic(Place::Key) => Some("panic in keys").filter(|_| sub.rekeys),
        Does::Die => Some("dies"),
        Does::Stall => Some("stalls").filter(|_| sub.has_rows()),
        Does::NotFinite => Some("not finite").filter(|_| announces && !sub.has_filter && sub.threshold.is_none()),
        Does::Refused => Some("refused by the database").filter(|_| sub.has_rows() && tables != Tables::Keep),
        Does::Delete => {
            Some("delete").filter(|_| sub.has_store || sub.deletes || (keeps_sums(sub) && sub.join == Join::No))
        }
        Does::Large(_) => Some("large notice").filter(|_| announces),
    });
    out
}

/// Everything that a scenario's records come to.
pub fn all_outcomes(scenario: &Scenario) -> BTreeSet<&'static str> {
    let sent = scenario.acts.iter().filter_map(|act| match act {
        Act::Send(sending) => Some(sending),
        _ => None,
    });
    sent.flat_map(|sending| outcomes(scenario, sending)).collect()
}

/// The fault that an act is, where it is one that can strike this pipeline.
pub fn fault(scenario: &Scenario, act: &Act) -> Option<String> {
    let has_rows = !scenario.pipeline.tables().is_empty();
    let is_stateful = scenario.pipeline.store_count() > 0;
    let name = match act {
        Act::Turns(_) | Act::Pass(_) | Act::Send(_) | Act::Thaw(_) => return None,
        Act::OutboxReadFails(_) => return None, // strikes at a takeover alone, whose death is counted
        Act::Start(instance) if *instance < scenario.knobs.instances => return None,
        Act::Start(_) => "one more instance",
        Act::Crash(step, _) => return Some(format!("crash after {step}")),
        Act::Write(..) => "another writer",
        Act::Delete(..) => "another deletes",
        Act::Insert(..) => "another inserts",
        Act::InsertFirst(..) => return None, // strikes where a record makes the row
        Act::Kill(_) => "kill",
        Act::Stop(_) => "stop",
        Act::Freeze(_) => "freeze",
        Act::Zombie(..) => "zombie",
        Act::LoseDisk(_) => "disk lost",
        Act::DiskFull(..) => "disk full",
        Act::DiskBlocked(..) => "disk fails",
        Act::CommitFails => "commit fails",
        Act::CommitAnswerLost(true) => "commit answer lost, done",
        Act::CommitAnswerLost(false) => "commit answer lost, not done",
        Act::DatabaseDown(_) => "database down",
        Act::Fail(failure) => return Some(format!("producer: {failure:?}")),
        Act::LateCommits => "late commits",
        Act::StartsFail(_) => "start fails",
        Act::EverLasting => "time to live taken away",
        Act::Expire(_) => "thrown out",
        Act::Threshold(..) => "threshold changes",
        Act::Disaster(disaster) | Act::Living(disaster) => {
            let name = match disaster {
                Disaster::GroupDeleted => "group deleted",
                Disaster::GroupBegunAgain => "generations begin again",
                Disaster::OffsetLost(..) => "offset lost",
                Disaster::OffsetReset(..) => "offset reset",
                Disaster::InputsDeleted(..) => "inputs deleted",
                Disaster::Recreated(_) => "topic recreated",
                Disaster::ChangelogLost(_) => "changelog lost",
                Disaster::OffsetBack(..) => "offset went back",
                Disaster::ChangelogCut(..) => "changelog cut",
                Disaster::Restored => "database set back",
                Disaster::Backup => return None,
            };
            let is_set_back = *disaster == Disaster::Restored;
            let is_living = matches!(act, Act::Living(_));
            let name = if is_living { format!("{name}, living") } else { name.to_owned() };
            return Some(name).filter(|_| has_rows || !is_set_back);
        }
    };
    let needs_rows = matches!(act, Act::CommitFails | Act::CommitAnswerLost(_) | Act::DatabaseDown(_));
    let needs_disk = matches!(act, Act::LoseDisk(_) | Act::DiskFull(..) | Act::DiskBlocked(..));
    Some(name.to_owned()).filter(|_| (has_rows || !needs_rows) && (is_stateful || !needs_disk))
}

/// The faults that struck. `crashed`: the commit steps at which instances really died. `unmet`: acts that are still to be
/// met by a call.
pub fn struck(scenario: &Scenario, crashed: &[String], unmet: &[Act]) -> BTreeSet<String> {
    let count = |acts: &[Act], act: &Act| acts.iter().filter(|other| *other == act).count();
    let mut out: BTreeSet<String> = crashed.iter().map(|step| format!("crash after {step}")).collect();
    let is_met = |act: &&Act| !matches!(act, Act::Crash(..)) && count(&scenario.acts, act) > count(unmet, act);
    out.extend(scenario.acts.iter().filter(is_met).filter_map(|act| fault(scenario, act)));
    let has_lost = |act: &Act| matches!(act, Act::LoseDisk(_));
    for (at, act) in scenario.acts.iter().enumerate() {
        let lost = scenario.acts.iter().take(at).rev().take_while(|act| has_lost(act)).count();
        let name = match act {
            Act::Disaster(Disaster::GroupDeleted) => "group deleted, disks lost",
            Act::Disaster(Disaster::OffsetLost(..)) => "offset lost, disks lost",
            _ => continue,
        };
        if lost >= scenario.knobs.instances && scenario.pipeline.store_count() > 0 {
            out.insert(name.to_owned());
        }
    }
    out
}
