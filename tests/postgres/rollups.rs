//! The tables of roll-ups on a real server: they are made, cut into partitions and dropped. What else they do stands in the suite of
//! `tests/conformance/rollups.rs`.

use crate::server::{Fixture, now_ms};
use tidegate::adapters::postgres::PostgresRollUps;
use tidegate::ports::rollups::{Keep, RollUpTables as _};

const DAY_MS: i64 = 86_400_000;
const KEEP: Keep = Keep { quarters_days: Some(35), hours_days: Some(740) };

/// Each test has a roll-up of its own, in the schema that all share.
fn tables(name: &'static str) -> Option<(Fixture, PostgresRollUps)> {
    let fixture = Fixture::new(name)?;
    let mut tables = PostgresRollUps::new(&fixture.settings).unwrap();
    assert_eq!(tables.create(name).unwrap().len(), 7, "three tiers, two default partitions, devices, tokens");
    assert_eq!(tables.create(name).unwrap(), Vec::<String>::new(), "a second time there is nothing to do");
    Some((fixture, tables))
}

fn insert(fixture: &Fixture, tier: &str, device: &str, metric: &str, start_ms: i64) {
    fixture.sql(&format!(
        "INSERT INTO {}_{tier} (device, metric, start_ms, version, buckets) VALUES ('{device}', '{metric}', {start_ms}, 1, '')",
        fixture.name
    ));
}

fn partitions(fixture: &Fixture, tier: &str) -> i64 {
    fixture.number(&format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{}_{tier}'::regclass", fixture.name))
}

#[test]
fn partitions_are_made_ahead_and_dropped_whole_when_their_rows_are_not_kept_any_more() {
    let Some((fixture, mut tables)) = tables("rolled_parts") else { return };
    let now = now_ms();
    let (made, dropped) = tables.maintain(fixture.name, KEEP, now).unwrap();
    assert!(made > 12 && dropped == 0, "{made}, {dropped}");
    assert_eq!(tables.maintain(fixture.name, KEEP, now).unwrap(), (0, 0));
    let today = now - now % DAY_MS;
    for days in [0, 20, 400] {
        insert(&fixture, "quarters", "boiler", "power", today - days * DAY_MS);
    }
    let in_default =
        |fixture: &Fixture| fixture.number(&format!("SELECT count(*) FROM {}_quarters_default", fixture.name));
    assert_eq!(in_default(&fixture), 1, "no partition has what is older than what is kept");
    assert_eq!(tables.maintain(fixture.name, KEEP, now).unwrap(), (0, 0));
    assert_eq!(in_default(&fixture), 0, "and it is deleted");
    // A month later the row of twenty days ago is too old, with its partition.
    let (before, later) = (partitions(&fixture, "quarters"), now + 30 * DAY_MS);
    let (made, dropped) = tables.maintain(fixture.name, KEEP, later).unwrap();
    assert!(made >= 4 && dropped >= 3, "{made}, {dropped}");
    assert!(partitions(&fixture, "quarters") < before + i64::try_from(made).unwrap());
    let left = tables.rows(&format!("{}_quarters", fixture.name), ("boiler", "power"), (0, i64::MAX)).unwrap();
    assert_eq!(left.iter().map(|row| row.start_ms).collect::<Vec<_>>(), [today]);
    // A tier that is kept for good loses nothing.
    let good = Keep { quarters_days: None, hours_days: None };
    assert_eq!(tables.maintain(fixture.name, good, later + 400 * DAY_MS).unwrap().1, 0);
}

/// What the default partition has cannot be attached any more; it stays there, and nothing fails.
#[test]
fn a_range_of_which_the_default_partition_has_rows_gets_no_partition() {
    let Some((fixture, mut tables)) = tables("rolled_default") else { return };
    let now = now_ms();
    insert(&fixture, "quarters", "boiler", "power", now - now % DAY_MS);
    tables.maintain(fixture.name, KEEP, now).unwrap();
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM {}_quarters_default", fixture.name)), 1);
    insert(&fixture, "quarters", "boiler", "power", now - now % DAY_MS - 14 * DAY_MS);
    let table = format!("{}_quarters", fixture.name);
    assert_eq!(tables.rows(&table, ("boiler", "power"), (0, i64::MAX)).unwrap().len(), 2);
}
