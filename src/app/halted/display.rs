//! The findings of `halted` for people.

use crate::app::failure::Failure;
use crate::app::halted::finding::Halted;
use crate::app::halted::instances::{Obstacle, Told};
use crate::app::table;
use crate::engine::audit::RepairReport;
use std::io::Write;

/// Number of repairs at the end of the table for people.
const REPAIRS: usize = 10;

/// Halts first, then the partitions of which nothing, or not all, is known.
pub(super) fn write(found: &[Halted], told: &Told, out: &mut dyn Write) -> Result<(), Failure> {
    if found.is_empty() {
        writeln!(out, "{}", nothing_found(told))?;
    }
    found.iter().try_for_each(|halted| write_one(halted, out))?;
    write_open(told, out)
}

/// What the instances say, where the database says nothing: their halts first.
pub(super) fn write_told(told: &Told, out: &mut dyn Write) -> Result<(), Failure> {
    for (partition, seen) in &told.halts {
        writeln!(out, "halted  {partition}  {}: {}", seen.reason.label(), seen.detail)?;
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

fn write_one(halted: &Halted, out: &mut dyn Write) -> Result<(), Failure> {
    let number = |n: Option<i64>| n.map_or_else(|| "none".into(), |n| n.to_string());
    writeln!(out, "halted  {}  {}", halted.source, halted.reason)?;
    writeln!(out, "  next offset in the database   {}", number(halted.next_offset))?;
    writeln!(out, "  committed offset in Kafka     {}", number(halted.committed_offset))?;
    writeln!(out, "  log                           {} to {}", halted.log_start, halted.log_end)?;
    if !halted.companions.is_empty() {
        writeln!(out, "  stands still with it          {}", halted.companions.join(" "))?;
    }
    writeln!(out, "  most likely                   {}", halted.cause)?;
    if let Some(detail) = &halted.detail {
        writeln!(out, "  in detail                     {detail}")?;
    }
    writeln!(out, "  stop all instances, then choose one")?;
    for choice in &halted.choices {
        match &choice.command {
            Some(command) => writeln!(out, "    {command}\n      {}", choice.effect)?,
            None => writeln!(out, "    by hand: {}", choice.effect)?,
        }
    }
    Ok(())
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
