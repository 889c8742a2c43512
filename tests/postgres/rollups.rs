//! The tables of roll-ups on a real server: they are made, cut into partitions and dropped; devices, tokens and buckets are found.

use crate::server::{Fixture, now_ms};
use tidegate::adapters::postgres::PostgresRollUps;
use tidegate::ports::rollups::{Described, Device, Grant, Keep, RollUpTables as _, WantedDevices};

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

#[test]
fn devices_are_those_with_readings_and_those_that_are_described_and_a_search_finds_them() {
    let Some((fixture, mut tables)) = tables("rolled_devices") else { return };
    let today = now_ms() - now_ms() % DAY_MS;
    for (device, metric) in [("boiler", "power"), ("boiler", "temperature"), ("lamp", "power")] {
        insert(&fixture, "days", device, metric, 0);
    }
    insert(&fixture, "quarters", "boiler", "power", today);
    insert(&fixture, "quarters", "boiler", "power", today - DAY_MS);
    let described =
        |name: &str, home: &str| Described { name: Some(name.into()), home: Some(home.into()), ..Described::default() };
    for (device, name, home) in [("boiler", "Hot water", "h1"), ("meter-7", "Main METER", "h2")] {
        let device = Device { device: device.into(), described: described(name, home) };
        tables.describe(fixture.name, &device).unwrap();
        tables.describe(fixture.name, &device).unwrap();
    }
    let mut names = |wanted: WantedDevices| -> Vec<String> {
        let found = tables.devices(fixture.name, &WantedDevices { limit: 10.max(wanted.limit), ..wanted }).unwrap();
        found.into_iter().map(|device| device.device).collect()
    };
    let all = WantedDevices::default;
    assert_eq!(names(all()), ["boiler", "lamp", "meter-7"]);
    assert_eq!(names(WantedDevices { search: Some("meter".into()), ..all() }), ["meter-7"]);
    assert_eq!(names(WantedDevices { search: Some("WATER".into()), ..all() }), ["boiler"]);
    assert_eq!(names(WantedDevices { search: Some("%".into()), ..all() }), Vec::<String>::new());
    assert_eq!(names(WantedDevices { home: Some("h1".into()), ..all() }), ["boiler"]);
    assert_eq!(names(WantedDevices { after: Some("boiler".into()), ..all() }), ["lamp", "meter-7"]);
    assert_eq!(names(WantedDevices { only: Some(vec!["lamp".into(), "none".into()]), ..all() }), ["lamp"]);
    let devices = ["boiler", "lamp", "meter-7"].map(str::to_owned);
    let newest = tables.newest(fixture.name, &devices).unwrap();
    let of: Vec<_> = newest
        .iter()
        .map(|newest| (newest.device.as_str(), newest.metric.as_str(), newest.row.as_ref().map(|row| row.start_ms)))
        .collect();
    assert_eq!(of, [("boiler", "power", Some(today)), ("boiler", "temperature", None), ("lamp", "power", None)]);
    assert_eq!(tables.delete(fixture.name, "boiler").unwrap(), 5);
    assert!(tables.newest(fixture.name, &devices[..1]).unwrap().is_empty());
}

#[test]
fn a_token_is_found_by_its_hash_until_it_is_taken_back_or_another_takes_its_place() {
    let Some((fixture, mut tables)) = tables("rolled_tokens") else { return };
    let grant =
        Grant { name: "ada".into(), home: Some("h1".into()), devices: Some(vec!["boiler".into()]), may_write: true };
    tables.make_token(fixture.name, b"one", &grant).unwrap();
    assert_eq!(tables.grant(fixture.name, b"one").unwrap(), Some(grant.clone()));
    assert_eq!(tables.grant(fixture.name, b"two").unwrap(), None);
    tables.make_token(fixture.name, b"two", &grant).unwrap();
    assert_eq!(tables.grant(fixture.name, b"one").unwrap(), None);
    assert_eq!(tables.tokens(fixture.name).unwrap(), [grant]);
    assert!(tables.revoke(fixture.name, "ada").unwrap() && !tables.revoke(fixture.name, "ada").unwrap());
    assert_eq!(tables.grant(fixture.name, b"two").unwrap(), None);
}
