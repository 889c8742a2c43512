//! The roll-up's own moments on real servers: a process is killed when readings are acknowledged and nobody is answered (K26), when a
//! partition is made or dropped (K28, K29), and when a device is deleted (K30, K31). What it leaves is whole, and whoever comes next does
//! the rest.

use crate::home::{now_ms, prepared, send};
use crate::rig::{Instance, World, until};
use crate::rolled::Record;
use sqlx::Row as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;

const DAY_MS: i64 = 86_400_000;
/// A week of 2020, of which nothing is kept.
const OLD_MS: [i64; 2] = [1_577_923_200_000, 1_578_528_000_000];

/// The partitions of both tiers that have some, with their bounds.
fn partitions(world: &World) -> Vec<String> {
    let text = "SELECT c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                WHERE i.inhparent IN ('home_quarters'::regclass, 'home_hours'::regclass) ORDER BY 1";
    world.sql(text).iter().map(|row| row.get(0)).collect()
}

fn migrate(world: &World, wish: &str) -> ExitStatus {
    let mut command = world.command("setpriv", &["--pdeathsig", "KILL"], &["migrate"]);
    command.env("FAILPOINT", wish).output().unwrap().status
}

#[test]
fn a_partition_that_was_half_made_or_dropped_is_made_or_dropped_by_the_next() {
    let Some(world) = prepared("upkeep-partitions") else { return };
    let whole = partitions(&world);
    assert!(whole.len() > 12, "{whole:?}");
    let today = now_ms() - now_ms() % DAY_MS;
    let row = |device: &str, start_ms: i64| {
        format!(
            "INSERT INTO home_quarters (device, metric, start_ms, version, buckets) VALUES ('{device}', 'power', {start_ms}, 1, '');"
        )
    };
    world.sql(&row("kept", today));
    let newest = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                  WHERE i.inhparent = 'home_quarters'::regclass AND c.relname <> 'home_quarters_default' ORDER BY 1 DESC LIMIT 2";
    let [from, to] = OLD_MS;
    let old = row("gone", from);
    let mut kills = 0;
    for point in ["K28", "K29"] {
        for nth in 1.. {
            // Two are missing, and one is too much.
            for missing in world.sql(newest) {
                world.sql(&format!("DROP TABLE {}", missing.get::<String, _>(0)));
            }
            world.sql(&format!(
                "CREATE TABLE home_quarters_old (LIKE home_quarters INCLUDING ALL); \
                 ALTER TABLE home_quarters ATTACH PARTITION home_quarters_old FOR VALUES FROM ({from}) TO ({to}); {old}"
            ));
            let status = migrate(&world, &format!("{point}=kill@{nth}"));
            let is_killed = !status.success();
            if is_killed {
                assert_eq!(status.signal(), Some(9), "{status} at {point}, {nth}");
                let is_last = (point, nth) == ("K29", 3);
                assert_eq!(partitions(&world) == whole, is_last, "{point}, {nth}: there is something left to do");
                assert!(migrate(&world, "").success(), "behind a kill at {point}, {nth}");
            }
            assert_eq!(partitions(&world), whole, "behind a kill at {point}, {nth}");
            let rows: Vec<String> =
                world.sql("SELECT device FROM home_quarters").iter().map(|row| row.get(0)).collect();
            assert_eq!(rows, ["kept"], "behind a kill at {point}, {nth}");
            if !is_killed {
                assert_eq!(nth, 4, "two are made and one is dropped");
                break;
            }
            kills += 1;
        }
    }
    world.note(&format!("{kills} kills"));
}

fn armed(world: &World, name: &str, wish: &str) -> Instance {
    let folder = world.folder().join(format!("state-{name}")).display().to_string();
    let instance = world.armed_instance(name, wish, &["--set", &format!("state.dir={folder}")]);
    until("it has a page", Duration::from_secs(30), || instance.page());
    instance
}

#[test]
fn a_device_is_deleted_from_all_tables_or_from_none() {
    let Some(world) = prepared("upkeep-delete") else { return };
    for device in ["boiler", "lamp"] {
        for tier in ["quarters", "hours", "days"] {
            world.sql(&format!(
                "INSERT INTO home_{tier} (device, metric, start_ms, version, buckets) VALUES ('{device}', 'power', 0, 1, '')"
            ));
        }
        world.sql(&format!("INSERT INTO home_devices (device) VALUES ('{device}')"));
    }
    let rows = |device: &str| {
        let of = |table: &str| format!("(SELECT count(*) FROM home_{table} WHERE device = '{device}')");
        world.number(&format!("SELECT {}", ["quarters", "hours", "days", "devices"].map(of).join(" + ")))
    };
    let killed = ["K30=kill@1", "K30=kill@2", "K30=kill@3", "K30=kill@4", "K31=kill@1"];
    for (number, wish) in killed.into_iter().enumerate() {
        let mut instance = armed(&world, &format!("killed-{number}"), wish);
        let answer = instance.delete("/api/devices/boiler").unwrap_or_default();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{wish}: {answer}");
        instance.wait_killed(Duration::from_secs(10));
        let left = if wish.starts_with("K30") { 4 } else { 0 };
        assert_eq!((rows("boiler"), rows("lamp")), (left, 4), "{wish}");
    }
    let instance = armed(&world, "next", "");
    let answer = instance.delete("/api/devices/boiler").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#"{"rows":0}"#), "it asks once more: {answer}");
    assert_eq!(rows("lamp"), 4);
}

#[test]
fn readings_of_which_nobody_was_told_count_once_when_they_are_sent_again() {
    let Some(world) = prepared("upkeep-ingest") else { return };
    let feed = KafkaFeed::connect(&world.kafka_settings()).unwrap();
    let at_ms = now_ms() - 3_600_000;
    let reading = format!(r#"{{"device":"boiler","at_ms":{at_ms},"metrics":{{"power":11}}}}"#);
    let mut instance = armed(&world, "first", "K26=kill@1");
    let answer = instance.post("/api/readings", &reading).unwrap_or_default();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    instance.wait_killed(Duration::from_secs(10));
    let instance = armed(&world, "second", "");
    let answer = instance.post("/api/readings", &reading).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Behind the time for which a quarter that has changed settles.
    let over = |n| Record { key: format!("over-{n}"), at: now_ms() + 30_000, value: "[]".into() };
    send(&feed, &(0..64).map(over).collect::<Vec<_>>());
    until("it is told once", Duration::from_secs(40), || {
        let path = format!("/api/series?device=boiler&metric=power&from={}&to={}", at_ms - 1, at_ms + 1);
        let answer = instance.json(&path)?;
        let columns = answer["columns"].as_array().ok_or_else(|| answer.to_string())?;
        let told = |name: &str| columns.iter().filter_map(|column| column[name].as_f64()).sum::<f64>();
        let rows = world.number("SELECT count(*) FROM home_quarters WHERE device = 'boiler'");
        if (told("n"), told("sum"), rows) == (1.0, 11.0, 1) { Ok(()) } else { Err(format!("{rows} rows, {answer}")) }
    });
    until("its repeat is counted", Duration::from_secs(10), || {
        let status = instance.status()?;
        let counts = &status["roll_ups"][0];
        if counts["repeated_readings"] == 1 { Ok(()) } else { Err(counts.to_string()) }
    });
}
