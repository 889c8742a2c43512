//! What tables of roll-ups do, in whatever database.

use crate::unique;
use tidegate::ports::rollups::{BucketRow, Described, Device, Grant, Keep, RollUpTables, WantedDevices};

const DAY_MS: i64 = 86_400_000;

/// Tables of roll-ups, which a pipeline would fill.
pub trait RollUpsBench {
    fn tables(&self) -> Box<dyn RollUpTables>;

    /// Puts a row of one byte into a tier's table, with version 1.
    fn insert(&self, table: &str, device: &str, metric: &str, start_ms: i64);
}

/// Each test has a roll-up of its own.
fn made(bench: &dyn RollUpsBench) -> (Box<dyn RollUpTables>, String) {
    let (mut tables, name) = (bench.tables(), unique("rolled").replace('-', "_"));
    let made = tables.create(&name).unwrap();
    for part in ["quarters", "hours", "days", "devices", "tokens"] {
        assert!(made.contains(&format!("{name}_{part}")), "{part} is not in {made:?}");
    }
    assert_eq!(tables.create(&name).unwrap(), Vec::<String>::new(), "a second time there is nothing to do");
    (tables, name)
}

pub fn rows_of_one_metric_come_in_the_order_of_time(bench: &dyn RollUpsBench) {
    let (mut tables, name) = made(bench);
    let table = format!("{name}_quarters");
    for start in [3, 1, 2, 4] {
        bench.insert(&table, "boiler", "power", start * DAY_MS);
    }
    bench.insert(&table, "boiler", "energy", 2 * DAY_MS);
    bench.insert(&table, "lamp", "power", 2 * DAY_MS);
    let rows = tables.rows(&table, ("boiler", "power"), (DAY_MS, 4 * DAY_MS)).unwrap();
    let row = |start| BucketRow { start_ms: start * DAY_MS, version: 1, buckets: vec![7] };
    assert_eq!(rows, [row(1), row(2), row(3)]);
    assert!(tables.rows("no_such_table", ("boiler", "power"), (0, 1)).is_err());
}

pub fn devices_are_those_with_readings_and_those_that_are_described(bench: &dyn RollUpsBench) {
    let (mut tables, name) = made(bench);
    for (device, metric) in [("boiler", "power"), ("boiler", "temperature"), ("lamp", "power")] {
        bench.insert(&format!("{name}_days"), device, metric, 0);
    }
    for start_ms in [20 * DAY_MS, 19 * DAY_MS] {
        bench.insert(&format!("{name}_quarters"), "boiler", "power", start_ms);
    }
    let described =
        |name: &str, home: &str| Described { name: Some(name.into()), home: Some(home.into()), ..Described::default() };
    let formerly =
        Described { formerly: vec!["meter-5".into(), "meter \"6\"".into()], ..described("Main METER", "h2") };
    for (device, described) in [("boiler", described("Hot water", "h1")), ("meter-7", formerly)] {
        let device = Device { device: device.into(), described };
        tables.describe(&name, &Device { described: Described::default(), ..device.clone() }).unwrap();
        tables.describe(&name, &device).unwrap();
        let only = WantedDevices { only: Some(vec![device.device.clone()]), limit: 1, ..WantedDevices::default() };
        assert_eq!(tables.devices(&name, &only).unwrap(), [device], "what was said last is kept");
    }
    let mut names = |wanted: WantedDevices| -> Vec<String> {
        let found = tables
            .devices(&name, &WantedDevices { limit: if wanted.limit == 0 { 10 } else { wanted.limit }, ..wanted });
        found.unwrap().into_iter().map(|device| device.device).collect()
    };
    let all = WantedDevices::default;
    assert_eq!(names(all()), ["boiler", "lamp", "meter-7"]);
    assert_eq!(names(WantedDevices { limit: 2, ..all() }), ["boiler", "lamp"]);
    assert_eq!(names(WantedDevices { search: Some("meter".into()), ..all() }), ["meter-7"]);
    assert_eq!(names(WantedDevices { search: Some("WATER".into()), ..all() }), ["boiler"]);
    assert_eq!(names(WantedDevices { search: Some("%".into()), ..all() }), Vec::<String>::new());
    assert_eq!(names(WantedDevices { home: Some("h1".into()), ..all() }), ["boiler"]);
    assert_eq!(names(WantedDevices { after: Some("boiler".into()), ..all() }), ["lamp", "meter-7"]);
    let only = |names: [&str; 3]| WantedDevices { only: Some(names.map(str::to_owned).into()), ..all() };
    assert_eq!(names(only(["lamp", "none", "meter-7"])), ["lamp", "meter-7"]);
    let listed = ["boiler", "lamp", "meter-7"].map(str::to_owned);
    let newest = tables.newest(&name, &listed).unwrap();
    let of: Vec<_> = newest
        .iter()
        .map(|newest| (newest.device.as_str(), newest.metric.as_str(), newest.row.as_ref().map(|row| row.start_ms)))
        .collect();
    let expected = [("boiler", "power", Some(20 * DAY_MS)), ("boiler", "temperature", None), ("lamp", "power", None)];
    assert_eq!(of, expected);
    assert_eq!(tables.delete(&name, "boiler").unwrap(), 5, "two days, two quarters, and what was said of it");
    assert!(tables.newest(&name, &listed[..1]).unwrap().is_empty());
    assert_eq!(tables.newest(&name, &listed[1..]).unwrap().len(), 1, "no other device is touched");
}

pub fn a_token_is_found_by_its_hash_until_it_is_taken_back_or_another_takes_its_place(bench: &dyn RollUpsBench) {
    let (mut tables, name) = made(bench);
    let grant =
        Grant { name: "ada".into(), home: Some("h1".into()), devices: Some(vec!["boiler".into()]), may_write: true };
    tables.make_token(&name, b"one", &grant).unwrap();
    assert_eq!(tables.grant(&name, b"one").unwrap(), Some(grant.clone()));
    assert_eq!(tables.grant(&name, b"two").unwrap(), None);
    tables.make_token(&name, b"two", &grant).unwrap();
    assert_eq!(tables.grant(&name, b"one").unwrap(), None);
    let all = Grant { name: "bob".into(), ..Grant::default() };
    tables.make_token(&name, b"three", &all).unwrap();
    assert_eq!(tables.tokens(&name).unwrap(), [grant, all]);
    assert!(tables.revoke(&name, "ada").unwrap() && !tables.revoke(&name, "ada").unwrap());
    assert_eq!(tables.grant(&name, b"two").unwrap(), None);
}

pub fn rows_are_kept_as_long_as_it_is_said_and_days_for_good(bench: &dyn RollUpsBench) {
    let (mut tables, name) = made(bench);
    let now_ms = 1_796_083_200_000 / DAY_MS * DAY_MS;
    for tier in ["quarters", "hours", "days"] {
        for days in [1, 34, 60, 900] {
            bench.insert(&format!("{name}_{tier}"), "boiler", "power", now_ms - days * DAY_MS);
        }
    }
    let mut left = |keep: Keep| {
        tables.maintain(&name, keep, now_ms).unwrap();
        ["quarters", "hours", "days"].map(|tier| {
            let rows = tables.rows(&format!("{name}_{tier}"), ("boiler", "power"), (0, i64::MAX)).unwrap();
            rows.iter().rev().map(|row| (now_ms - row.start_ms) / DAY_MS).collect::<Vec<i64>>()
        })
    };
    let all = vec![1, 34, 60, 900];
    assert_eq!(left(Keep { quarters_days: None, hours_days: None }), [all.clone(), all.clone(), all.clone()]);
    assert_eq!(left(Keep { quarters_days: Some(35), hours_days: Some(740) }), [vec![1, 34], vec![1, 34, 60], all]);
}
