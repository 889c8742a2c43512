//! The page of graphs in a real Chromium: `graphs.mjs` looks at what is drawn, clicks, drags and types. The rows are those that the engine
//! made of a month of readings, on its models. Needs SYSTEM_TESTS=1, node and chromium; says that it was skipped otherwise.
#![allow(clippy::disallowed_methods, reason = "the page compares with the clock of the machine")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate::engine::status::Status;
use tidegate::flow::rollup::{
    Between, Kind, Measured, Metered, Metric, Patience, Reading, RollUp, SeriesKey, Tier, TierRow,
};
use tidegate::flow::row::from_values;
use tidegate::flow::{Context, Key, Reject, Topology};
use tidegate::http::{About, View, serve};
use tidegate::ports::rollups::{BucketRow, Described, Device, Grant, Keep, NewestRow, RollUpTables, WantedDevices};
use tidegate::ports::{Clock as _, Fault};
use tidegate::testing::{Sent, TestDriver};

const QUARTER_MS: i64 = 900_000;
const DAY_MS: i64 = 86_400_000;
const DAYS: i64 = 33;

struct Home;

impl Metered for Home {
    type Event = Vec<Measured>;

    fn readings(&self, measured: Vec<Measured>, _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
        Ok(Measured::readings(measured))
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        match name {
            "power" => Some(Metric::new(Kind::Gauge(Between::Step))),
            "energy" => Some(Metric::new(Kind::counter())),
            _ => None,
        }
    }
}

fn topology() -> Topology {
    let mut topology = Topology::new("home");
    topology.source("readings").roll_up("home", Home, Patience::default());
    topology
}

/// The tables after a month.
struct Tables {
    rows: BTreeMap<(String, String, String), Vec<BucketRow>>,
    devices: Vec<Device>,
}

impl Tables {
    /// A boiler that reads all the time, and a lamp that was away for two days.
    fn new(now_ms: i64) -> Self {
        let mut driver = TestDriver::new(topology());
        // No reading may lie ahead of the driver's clock.
        let behind = now_ms - driver.clock().now().0;
        driver.advance(Duration::from_millis(u64::try_from(behind).unwrap_or(0)));
        let first = now_ms - now_ms % DAY_MS - DAYS * DAY_MS;
        let mut energy = 0.0;
        for at_ms in (first..now_ms).step_by(usize::try_from(QUARTER_MS).unwrap()) {
            for device in ["boiler", "lamp"] {
                let is_away = device == "lamp" && (now_ms - 4 * DAY_MS..now_ms - 2 * DAY_MS).contains(&at_ms);
                let hour = f64::from(i32::try_from(at_ms % DAY_MS / 3_600_000).unwrap());
                let power = 500.0 + 400.0 * (hour / 24.0 * std::f64::consts::TAU).sin();
                energy += power / 4_000.0;
                let metrics = BTreeMap::from([("power".to_owned(), power), ("energy".to_owned(), energy)]);
                let measured = if is_away { vec![] } else { vec![Measured { at_ms: at_ms + 1_000, metrics }] };
                let value = serde_json::to_vec(&measured).unwrap();
                let (key, timestamp_ms) = (Some(device.as_bytes().to_vec()), Some(at_ms + 1_000));
                driver.send_record("readings", Sent { key, value: Some(value), timestamp_ms, ..Sent::default() });
            }
        }
        driver.run();
        let mut rows: BTreeMap<(String, String, String), Vec<BucketRow>> = BTreeMap::new();
        for tier in Tier::ALL {
            for (device, metric) in [("boiler", "power"), ("boiler", "energy"), ("lamp", "power"), ("lamp", "energy")] {
                let begins = first - first % tier.row_ms();
                for start_ms in (begins..now_ms).step_by(usize::try_from(tier.row_ms()).unwrap()) {
                    let key = SeriesKey { device: device.into(), metric: metric.into(), start_ms };
                    let Some(row) = driver.row_of(&tier.table("home"), Key::of(&key).unwrap()) else { continue };
                    let tier_row: TierRow = from_values(&row.values).unwrap();
                    let own = rows.entry((tier.table("home"), device.into(), metric.into())).or_default();
                    own.push(BucketRow { start_ms, version: row.version, buckets: tier_row.buckets.into() });
                }
            }
        }
        let named = |device: &str, name: &str| Device {
            device: device.into(),
            described: Described { name: Some(name.into()), room: Some("cellar".into()), ..Described::default() },
        };
        Self { rows, devices: vec![named("boiler", "Hot water"), named("lamp", "Kitchen light")] }
    }

    fn of(&self, table: &str, device: &str, metric: &str) -> &[BucketRow] {
        self.rows.get(&(table.into(), device.into(), metric.into())).map_or(&[], Vec::as_slice)
    }
}

impl RollUpTables for Tables {
    fn rows(
        &mut self,
        table: &str,
        (device, metric): (&str, &str),
        (from, to): (i64, i64),
    ) -> Result<Vec<BucketRow>, Fault> {
        let rows = self.of(table, device, metric).iter();
        Ok(rows.filter(|row| (from..to).contains(&row.start_ms)).cloned().collect())
    }

    fn devices(&mut self, _: &str, wanted: &WantedDevices) -> Result<Vec<Device>, Fault> {
        let is_wanted = |device: &&Device| {
            let name = device.described.name.clone().unwrap_or_default().to_lowercase();
            let is_found = wanted.search.as_ref().is_none_or(|search| name.contains(&search.to_lowercase()));
            is_found && wanted.only.as_ref().is_none_or(|only| only.contains(&device.device))
        };
        Ok(self.devices.iter().filter(is_wanted).cloned().collect())
    }

    fn newest(&mut self, _: &str, devices: &[String]) -> Result<Vec<NewestRow>, Fault> {
        let mut newest = Vec::new();
        for device in devices {
            for metric in ["energy", "power"] {
                let row = self.of("home_quarters", device, metric).last().cloned();
                newest.push(NewestRow { device: device.clone(), metric: metric.into(), row });
            }
        }
        Ok(newest)
    }

    fn describe(&mut self, _: &str, _: &Device) -> Result<(), Fault> {
        Ok(())
    }

    fn delete(&mut self, _: &str, _: &str) -> Result<u64, Fault> {
        Ok(0)
    }

    fn grant(&mut self, _: &str, _: &[u8]) -> Result<Option<Grant>, Fault> {
        Ok(None)
    }

    fn make_token(&mut self, _: &str, _: &[u8], _: &Grant) -> Result<(), Fault> {
        Ok(())
    }

    fn tokens(&mut self, _: &str) -> Result<Vec<Grant>, Fault> {
        Ok(Vec::new())
    }

    fn revoke(&mut self, _: &str, _: &str) -> Result<bool, Fault> {
        Ok(false)
    }

    fn create(&mut self, _: &str) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }

    fn maintain(&mut self, _: &str, _: Keep, _: i64) -> Result<(usize, usize), Fault> {
        Ok((0, 0))
    }
}

struct Service {
    status: Status,
    topology: Topology,
    tables: Mutex<Tables>,
}

impl View for Service {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: "home".into(), place: "a test".into() }
    }

    fn roll_ups(&self) -> &[RollUp] {
        self.topology.roll_ups()
    }

    fn roll_up_tables(&self, work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>) -> Result<(), String> {
        work(&mut *self.tables.lock().unwrap()).map_err(|fault| fault.to_string())
    }

    fn wants_tokens(&self) -> bool {
        false
    }
}

#[test]
fn the_page_of_graphs_does_in_a_browser_what_hands_and_keys_ask_of_it() {
    if std::env::var("SYSTEM_TESTS").as_deref() != Ok("1") {
        println!("skipped: needs node and chromium, set SYSTEM_TESTS=1");
        return;
    }
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let tables = Mutex::new(Tables::new(now_ms));
    let service = Arc::new(Service { status: Status::default(), topology: topology(), tables });
    let server = serve("127.0.0.1:0".parse().unwrap(), service).unwrap();
    let (here, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser"), env!("CARGO_TARGET_TMPDIR"));
    if !here.join("node_modules").is_dir() {
        let installed =
            Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&here).status().unwrap();
        assert!(installed.success(), "npm ci");
    }
    let url = format!("http://{}", server.address());
    let ran = Command::new("node").args(["graphs.mjs", &url, folder]).current_dir(&here).status().unwrap();
    assert!(ran.success(), "what failed is printed above; the page as it was: {folder}/failed.png");
}
