//! The findings of `halted` for people.

use crate::app::failure::Failure;
use crate::app::halted::finding::Halted;
use crate::app::halted::instances::{Obstacle, Told};
use crate::app::table;
use crate::app::watch::standing::named;
use crate::engine::audit::RepairReport;
use std::io::Write;

/// Number of repairs at the end of the table for people.
const REPAIRS: usize = 10;

/// Halts first, then the partitions of which nothing, or not all, is known.
pub(super) fn write(found: &[Halted], told: &Told, out: &mut dyn Write) -> Result<(), Failure> {
    if found.is_empty() {
        writeln!(out, "{}", nothing_found(told))?;
    }
    alike(found, Halted::has_cause_of).iter().try_for_each(|halted| write_one(halted, out))?;
    write_open(told, out)
}

/// Those that are alike, together: in the order of the first of each.
fn alike<T>(all: impl IntoIterator<Item = T>, is_alike: impl Fn(&T, &T) -> bool) -> Vec<Vec<T>> {
    let mut out: Vec<Vec<T>> = Vec::new();
    for one in all {
        match out.iter_mut().find(|some| some.first().is_some_and(|first| is_alike(first, &one))) {
            Some(some) => some.push(one),
            None => out.push(vec![one]),
        }
    }
    out
}

/// One partition as it is called, several as `readings 0-3 7`.
fn names(all: &[&str]) -> String {
    let place =
        |name: &&str| name.rsplit_once('-').and_then(|(topic, n)| Some((topic.to_owned(), n.parse::<i32>().ok()?)));
    match all {
        [one] => (*one).to_owned(),
        all => named(&all.iter().filter_map(place).collect()),
    }
}

/// What the instances say, where the database says nothing: their halts first.
pub(super) fn write_told(told: &Told, out: &mut dyn Write) -> Result<(), Failure> {
    for some in alike(&told.halts, |(_, one), (_, other)| one == other) {
        let partitions: Vec<&str> = some.iter().map(|(partition, _)| partition.as_str()).collect();
        let Some((_, seen)) = some.first() else { continue };
        writeln!(out, "halted  {}  {}: {}", names(&partitions), seen.reason.label(), seen.detail)?;
    }
    write_open(told, out)
}

/// Partitions that wait, obstacles, and partitions of which nothing is known.
fn write_open(told: &Told, out: &mut dyn Write) -> Result<(), Failure> {
    for (partition, what) in &told.waiting {
        writeln!(out, "waiting  {partition}  {what}")?;
    }
    for Obstacle { about, sentence, cause, next } in &told.obstacles {
        writeln!(out, "obstacle  {about}  {sentence}: {cause}\n  next  {next}")?;
    }
    write_unknown(told, out)
}

/// The partitions of which it is not known whether they are halted, a line each.
pub(super) fn write_unknown(told: &Told, out: &mut dyn Write) -> Result<(), Failure> {
    for (partition, why) in &told.unknown {
        writeln!(out, "unknown  {partition}  {why}")?;
    }
    Ok(())
}

/// One line on what the absence of halts rests on.
fn nothing_found(told: &Told) -> String {
    let (members, unknown) = (told.members, told.unknown.len());
    let answered = if told.answered == 1 { "1 instance".into() } else { format!("{} instances", told.answered) };
    match unknown {
        0 if members == 0 => {
            "no partition is halted, by database and group. No instance runs: what only a running one sees \
                              (an altered row, a record in the wrong partition, an unreadable store) shows once it has \
                              started"
                .into()
        }
        0 => format!("no partition is halted, by database, group and the answers of {answered}"),
        _ => format!("no partition is known to be halted; of {unknown} it is not known, and {answered} answered"),
    }
}

/// Partitions that are halted for one cause.
fn write_one(all: &[&Halted], out: &mut dyn Write) -> Result<(), Failure> {
    let number = |n: Option<i64>| n.map_or_else(|| "none".into(), |n| n.to_string());
    let Some(first) = all.first() else { return Ok(()) };
    let sources: Vec<&str> = all.iter().map(|halted| halted.source.as_str()).collect();
    writeln!(out, "halted  {}  {}", names(&sources), first.reason)?;
    let each = |of: &dyn Fn(&Halted) -> String| {
        let told =
            |halted: &&Halted| if all.len() > 1 { format!("{}: {}", halted.source, of(halted)) } else { of(halted) };
        all.iter().map(told).collect::<Vec<_>>().join(", ")
    };
    writeln!(out, "  next offset in the database   {}", each(&|halted| number(halted.next_offset)))?;
    writeln!(out, "  committed offset in Kafka     {}", each(&|halted| number(halted.committed_offset)))?;
    writeln!(
        out,
        "  log                           {}",
        each(&|halted| format!("{} to {}", halted.log_start, halted.log_end))
    )?;
    if all.iter().any(|halted| !halted.companions.is_empty()) {
        let companions: Vec<&str> = all.iter().flat_map(|halted| &halted.companions).map(String::as_str).collect();
        let companions = if all.len() > 1 { names(&companions) } else { companions.join(" ") };
        writeln!(out, "  stands still with it          {companions}")?;
    }
    writeln!(out, "  most likely                   {}", first.cause)?;
    if let Some(detail) = &first.detail {
        writeln!(out, "  in detail                     {detail}")?;
    }
    writeln!(out, "  stop all instances, then choose one")?;
    for (place, choice) in first.choices.iter().enumerate() {
        if choice.command.is_none() {
            writeln!(out, "    by hand: {}", choice.effect)?;
            continue;
        }
        for command in commands(all, place) {
            writeln!(out, "    {command}")?;
        }
        writeln!(out, "      {}", choice.effect)?;
    }
    Ok(())
}

/// The commands of one choice: one for all partitions for which it is the same, since a command takes several.
fn commands(all: &[&Halted], place: usize) -> Vec<String> {
    let parts = all.iter().filter_map(|halted| {
        let command = halted.choices.get(place)?.command.as_ref()?;
        let (before, after) = command.split_once(&format!(" {}", halted.source))?;
        Some((before, halted.source.as_str(), after))
    });
    let is_alike =
        |(before, _, after): &(&str, &str, &str), other: &(&str, &str, &str)| (*before, *after) == (other.0, other.2);
    let whole = |some: Vec<(&str, &str, &str)>| {
        let sources: Vec<&str> = some.iter().map(|(_, source, _)| *source).collect();
        some.first().map(|(before, _, after)| format!("{before} {}{after}", sources.join(" ")))
    };
    alike(parts, is_alike).into_iter().filter_map(whole).collect()
}

pub(super) fn write_repairs(repairs: &[RepairReport], out: &mut dyn Write) -> Result<(), Failure> {
    if repairs.is_empty() {
        return Ok(());
    }
    let number = |n: Option<i64>| n.map_or_else(|| "none".into(), |n| n.to_string());
    let mut rows = vec![["REPAIRED", "AT", "BY", "COMMAND", "POSITION", "COMMITTED"].map(ToString::to_string)];
    for repair in repairs.iter().rev().take(REPAIRS) {
        rows.push([
            repair.source.clone(),
            repair.at.clone(),
            repair.who.clone(),
            repair.command.clone(),
            format!("{} -> {}", number(repair.next_offset_before), repair.next_offset),
            format!("{} -> {}", number(repair.committed_before), repair.committed),
        ]);
    }
    table::write(&rows, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::halted::instances::Seen;
    use crate::engine::protocol::decision::HaltReason;
    use crate::engine::protocol::remedy::Choice;

    #[test]
    fn what_the_absence_of_halts_rests_on_is_said() {
        let line = |members, answered, unknown: &[&str]| {
            let unknown = unknown.iter().map(|name| ((*name).to_owned(), "no answer".to_owned())).collect();
            let mut out = Vec::new();
            write(&[], &Told { unknown, members, answered, ..Told::default() }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(line(0, 0, &[]).contains("No instance runs"));
        assert_eq!(line(2, 2, &[]), "no partition is halted, by database, group and the answers of 2 instances\n");
        assert_eq!(
            line(2, 1, &["readings-3"]),
            "no partition is known to be halted; of 1 it is not known, and 1 instance answered\n\
             unknown  readings-3  no answer\n"
        );
        let [about, sentence, cause, next] = ["readings 0", "partitions stand", "a lock", "end it"].map(str::to_owned);
        let obstacles = [Obstacle { about, sentence, cause, next }].into();
        let mut out = Vec::new();
        write(&[], &Told { obstacles, members: 1, answered: 1, ..Told::default() }, &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        assert!(told.ends_with("\nobstacle  readings 0  partitions stand: a lock\n  next  end it\n"), "{told}");
    }

    #[test]
    fn what_the_instances_say_is_told_although_the_database_says_nothing() {
        let seen = Seen { reason: HaltReason::SchemaChanged, detail: "no column".into() };
        let halts = [("readings-1".to_owned(), seen)].into();
        let waiting = [("readings-2".to_owned(), "is being taken over".to_owned())].into();
        let mut out = Vec::new();
        write_told(&Told { halts, waiting, ..Told::default() }, &mut out).unwrap();
        let lines = "halted  readings-1  schema-changed: no column\nwaiting  readings-2  is being taken over\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn partitions_that_are_halted_for_one_cause_are_told_together_with_one_command_where_it_is_the_same() {
        let choice = |command: String, effect| Choice { command: Some(command), effect };
        let by_hand = Choice { command: None, effect: "mend the producer" };
        let halted = |number: i64, reason: HaltReason, detail: &str| Halted {
            source: format!("readings-{number}"),
            reason: reason.label(),
            next_offset: Some(number),
            committed_offset: None,
            committed_metadata: None,
            position_metadata: None,
            log_start: 0,
            log_end: 10 * number,
            companions: vec![format!("corrections-{number}")],
            cause: reason.cause(),
            detail: Some(detail.into()),
            choices: vec![
                by_hand.clone(),
                choice(format!("tidegate skip readings-{number} --to {number}"), "pass over it"),
                choice(format!("tidegate adopt readings-{number} --from-group"), "go on"),
            ],
        };
        let (reset, lost) = (HaltReason::GroupReset, HaltReason::DatabaseLost);
        let found = [halted(1, reset, "a"), halted(2, reset, "a"), halted(3, lost, "a"), halted(4, reset, "b")];
        let mut out = Vec::new();
        write(&found, &Told::default(), &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        let first: Vec<&str> = told.lines().take(14).collect();
        let expected = format!(
            "halted  readings 1-2  group-reset\n  \
               next offset in the database   readings-1: 1, readings-2: 2\n  \
               committed offset in Kafka     readings-1: none, readings-2: none\n  \
               log                           readings-1: 0 to 10, readings-2: 0 to 20\n  \
               stands still with it          corrections 1-2\n  \
               most likely                   {}\n  \
               in detail                     a\n  \
               stop all instances, then choose one\n    \
                 by hand: mend the producer\n    \
                 tidegate skip readings-1 --to 1\n    \
                 tidegate skip readings-2 --to 2\n      \
                   pass over it\n    \
                 tidegate adopt readings-1 readings-2 --from-group\n      \
                   go on",
            reset.cause()
        );
        assert_eq!(first.join("\n"), expected);
        let heads: Vec<&str> = told.lines().filter(|line| line.starts_with("halted")).collect();
        let others = ["halted  readings-3  database-lost", "halted  readings-4  group-reset"];
        assert_eq!(heads, [&["halted  readings 1-2  group-reset"][..], &others].concat());
        assert!(told.contains("\n  next offset in the database   3\n"), "{told}");

        let seen = |detail: &str| Seen { reason: HaltReason::SchemaChanged, detail: detail.into() };
        let halts = [("in-0", "a"), ("in-1", "a"), ("in-2", "b")].map(|(name, detail)| (name.to_owned(), seen(detail)));
        let mut out = Vec::new();
        write_told(&Told { halts: halts.into(), ..Told::default() }, &mut out).unwrap();
        let lines = "halted  in 0-1  schema-changed: a\nhalted  in-2  schema-changed: b\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn what_operators_did_stands_below_the_halts_the_latest_first_and_no_more_than_ten() {
        let mut told = Vec::new();
        write_repairs(&[], &mut told).unwrap();
        assert!(told.is_empty());
        let repair = |number: i64| RepairReport {
            source: format!("readings-{number}"),
            command: "adopt --from-group".into(),
            who: "ada@desk".into(),
            at: "2026-11-25T17:37:00Z".into(),
            next_offset_before: None,
            next_offset: 40 + number,
            committed_before: Some(7),
            committed: 40 + number,
        };
        write_repairs(&(1..=12).map(repair).collect::<Vec<_>>(), &mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = told.lines().map(words).collect();
        assert_eq!(lines[0], "REPAIRED AT BY COMMAND POSITION COMMITTED");
        let latest = "readings-12 2026-11-25T17:37:00Z ada@desk adopt --from-group none -> 52 7 -> 52";
        assert_eq!((lines[1].as_str(), lines.len()), (latest, 11), "{told}");
    }
}
