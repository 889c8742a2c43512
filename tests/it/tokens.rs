//! Stores of a pipeline with roll-ups over HTTP: nothing of them without a token, of some devices with one for these, and all of it with
//! one for all; also where another instance has to be asked, which looks at the token once more.

use crate::cli::tidegate;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::engine::query::{Entry, Keys, Reading, Refusal, Standing, Wanted};
use tidegate::engine::status::Status;
use tidegate::flow::Topology;
use tidegate::flow::rollup::RollUp;
use tidegate::http::access::hash_of;
use tidegate::http::{About, Server, StoreReader, View, serve};
use tidegate::pipelines::home;
use tidegate::ports::clock::SystemClock;
use tidegate::ports::rollups::{BucketRow, Described, Device, Grant, Keep, NewestRow, RollUpTables, WantedDevices};
use tidegate::ports::{Clock as _, Fault};
use tidegate::testing::{Sent, TestDriver};

/// Keys and values.
type Kept = Vec<(Vec<u8>, String)>;

/// One of two instances: the second one has all keys, which lie in partition 1.
struct Home {
    status: Status,
    topology: Topology,
    is_second: bool,
    other: Mutex<Option<String>>,
    stores: BTreeMap<&'static str, Kept>,
    tables: Mutex<Tables>,
    wants_tokens: bool,
}

/// Tokens by their text; the devices are the boiler of the home h1 and the lamp of h2.
struct Tables(Vec<(&'static str, Grant)>);

impl View for Home {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: "home".into(), place: "a test".into() }
    }

    fn stores(&self) -> Vec<String> {
        self.stores.keys().map(|store| (*store).to_owned()).collect()
    }

    fn owners(&self, _: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        let other = self.other.lock().unwrap().clone();
        partitions.iter().filter_map(|partition| Some((*partition, other.clone()?))).collect()
    }

    fn read(&self, store: &str, wanted: &Wanted, _: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let known = || Refusal::UnknownStore { known: self.stores() };
        let kept = self.stores.get(store).ok_or_else(known)?;
        let mut reading = Reading { pipeline: "home".into(), cluster_id: "one".into(), ..Reading::default() };
        if !self.is_second {
            reading.elsewhere.push(1);
            return Ok(reading);
        }
        reading.partitions.push(Standing {
            partition: 1,
            changelog_next_offset: 4,
            inputs: Vec::new(),
            staleness_ms: 0,
            is_caught_up: true,
            keys: Some(1),
            unwritten_keys: Some(0),
            bytes: Some(32),
        });
        let is_wanted = |key: &[u8]| match wanted {
            Wanted::Key { key: wanted, .. } => key == wanted.as_bytes(),
            Wanted::Many { keys: Keys::Prefix(prefix), .. } => key.starts_with(prefix.as_bytes()),
            Wanted::Many { keys: Keys::Range { .. }, .. } => true,
            Wanted::Size => false,
        };
        let entry = |(key, value): &(Vec<u8>, String)| {
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let value = serde_json::from_str(value).unwrap();
            Entry { key: format!("0x{hex}"), key_bytes: Some(hex), version: 1, value, partition: 1 }
        };
        reading.entries.extend(kept.iter().filter(|(key, _)| is_wanted(key)).map(entry));
        Ok(reading)
    }

    fn roll_ups(&self) -> &[RollUp] {
        self.topology.roll_ups()
    }

    fn roll_up_tables(&self, work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>) -> Result<(), String> {
        work(&mut *self.tables.lock().unwrap()).map_err(|fault| fault.to_string())
    }

    fn wants_tokens(&self) -> bool {
        self.wants_tokens
    }
}

impl RollUpTables for Tables {
    fn rows(&mut self, _: &str, _: (&str, &str), _: (i64, i64)) -> Result<Vec<BucketRow>, Fault> {
        Ok(Vec::new())
    }

    fn devices(&mut self, _: &str, wanted: &WantedDevices) -> Result<Vec<Device>, Fault> {
        let device = |(device, home): (&str, &str)| {
            let described = Described { home: Some(home.into()), ..Described::default() };
            Device { device: device.into(), described }
        };
        let is_wanted = |device: &Device| {
            wanted.only.as_ref().is_none_or(|only| only.contains(&device.device))
                && (wanted.home.is_none() || wanted.home == device.described.home)
        };
        Ok([("boiler", "h1"), ("lamp", "h2")].map(device).into_iter().filter(is_wanted).collect())
    }

    fn newest(&mut self, _: &str, _: &[String]) -> Result<Vec<NewestRow>, Fault> {
        Ok(Vec::new())
    }

    fn describe(&mut self, _: &str, _: &Device) -> Result<(), Fault> {
        Ok(())
    }

    fn delete(&mut self, _: &str, _: &str) -> Result<u64, Fault> {
        Ok(0)
    }

    fn grant(&mut self, _: &str, hash: &[u8]) -> Result<Option<Grant>, Fault> {
        Ok(self.0.iter().find(|(token, _)| hash_of(token) == hash).map(|(_, grant)| grant.clone()))
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

fn tokens() -> Vec<(&'static str, Grant)> {
    let grant = |name: &str| Grant { name: name.into(), ..Grant::default() };
    vec![
        ("tg_all", grant("all")),
        ("tg_h1", Grant { home: Some("h1".into()), ..grant("home") }),
        ("tg_boiler", Grant { devices: Some(vec!["boiler".into()]), ..grant("device") }),
    ]
}

/// The minutes of two devices as the pipeline keeps them, with a reading of each a minute ago; and when that was.
fn minutes() -> (Kept, i64) {
    let mut driver = TestDriver::new(home::topology());
    let now = SystemClock::default().now();
    driver.clock().set(now);
    let at_ms = now.0 - 60_000;
    for device in ["boiler", "lamp"] {
        let value = json!([{ "at_ms": at_ms, "metrics": { "power": 420.5 } }]).to_string().into_bytes();
        let (key, timestamp_ms) = (Some(device.as_bytes().to_vec()), Some(at_ms));
        driver.send_record("home-readings", Sent { key, value: Some(value), timestamp_ms, ..Sent::default() });
    }
    let found = driver.read_raw("home-home-minutes-changelog");
    let kept = found.into_iter().filter_map(|found| {
        let value = found.value?;
        let json = if value.first() == Some(&1) { value.get(2..)? } else { value.get(10..)? };
        Some((found.key?, String::from_utf8(json.to_vec()).unwrap()))
    });
    (kept.collect(), at_ms)
}

fn start(is_second: bool, wants_tokens: bool, tokens: Vec<(&'static str, Grant)>) -> (Arc<Home>, Server) {
    let (minutes, _) = minutes();
    let watched = vec![(b"boiler".to_vec(), r#"{"seen":1}"#.to_owned())];
    let stores = BTreeMap::from([
        ("home-late", minutes.clone()),
        ("home-minutes", minutes),
        ("home-timers", watched.clone()),
        ("home-watched", watched.clone()),
        ("others", watched), // of another step of the pipeline
    ]);
    let (status, topology, other) = (Status::default(), home::topology(), Mutex::default());
    let tables = Mutex::new(Tables(tokens));
    let home = Arc::new(Home { status, topology, is_second, other, stores, tables, wants_tokens });
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&home) as Arc<dyn View>).unwrap();
    (home, server)
}

/// Two instances that know each other.
fn pair(wants_tokens: bool, of_second: Vec<(&'static str, Grant)>) -> [Server; 2] {
    let ((first, one), (second, two)) = (start(false, wants_tokens, tokens()), start(true, wants_tokens, of_second));
    let told = |server: &Server| tidegate::http::place::told(&server.address().to_string());
    *first.other.lock().unwrap() = told(&two);
    *second.other.lock().unwrap() = told(&one);
    [one, two]
}

/// Asks with headers: the code, and the answer with its head.
fn ask(server: &Server, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn ask_with(server: &Server, path: &str, token: &str) -> (u16, String) {
    ask(server, path, &[("Authorization", &format!("Bearer {token}"))])
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

const ALL_PATHS: [&str; 9] = [
    "/stores",
    "/stores/home-minutes",
    "/stores/home-minutes?prefix=boiler%00",
    "/stores/home-minutes?size=true",
    "/stores/home-late?first=a",
    "/stores/home-timers",
    "/stores/home-watched/boiler",
    "/stores/others/boiler",
    "/stores/others/",
];

#[test]
fn nobody_reads_a_store_of_a_pipeline_with_roll_ups_without_a_token_not_even_as_another_instance() {
    for server in &pair(true, tokens()) {
        for path in ALL_PATHS {
            for headers in [
                &[][..],
                &[("x-tidegate-forwarded", "1")],
                &[("Authorization", "Bearer tg_none")],
                &[("x-tidegate-forwarded", "1"), ("Authorization", "Basic tg_all")],
            ] {
                let (code, answer) = ask(server, path, headers);
                assert_eq!(code, 401, "{path} {headers:?}: {answer}");
                assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
                assert!(!answer.contains("entries") && !answer.contains("keys"), "{path}: {answer}");
            }
        }
    }
}

#[test]
fn a_token_for_some_devices_reads_their_minutes_and_nothing_else_whichever_instance_has_them() {
    for server in &pair(true, tokens()) {
        for token in ["tg_boiler", "tg_h1", "tg_all"] {
            for store in ["home-minutes", "home-late"] {
                let (code, answer) = ask_with(server, &format!("/stores/{store}?prefix=boiler%00"), token);
                assert_eq!(code, 200, "{token}: {answer}");
                assert_eq!(body(&answer)["entries"].as_array().unwrap().len(), 1, "{token}: {answer}");
            }
        }
        for token in ["tg_boiler", "tg_h1"] {
            let (code, answer) = ask_with(server, "/stores/home-minutes?prefix=lamp%00", token);
            assert_eq!((code, body(&answer)["error"].as_str()), (404, Some("no device lamp is in sight")), "{token}");
            for path in ALL_PATHS.into_iter().filter(|path| !path.contains("%00")).chain([
                "/stores/home-minutes?prefix=boiler",
                "/stores/home-minutes?prefix=",
                "/stores/home-minutes?first=boiler%00&last=boiler%01",
                "/stores/home-timers?prefix=boiler%00",
            ]) {
                let (code, answer) = ask_with(server, path, token);
                assert_eq!(code, 403, "{token} {path}: {answer}");
                assert!(answer.contains("prefix=<device>%00"), "{answer}");
            }
        }
        for path in ALL_PATHS {
            let (code, answer) = ask_with(server, path, "tg_all");
            let is_found = if path == "/stores/others/" { 404 } else { 200 };
            assert_eq!(code, is_found, "{path}: {answer}");
        }
    }
}

#[test]
fn the_owner_of_a_partition_is_asked_for_open_quarters_with_the_token_of_whoever_asks() {
    let (_, at_ms) = minutes();
    let path = "/api/series?device=boiler&metric=power&from=now-1h";
    let open = |of_second: Vec<(&'static str, Grant)>| {
        let [one, _two] = pair(true, of_second);
        let (code, answer) = ask_with(&one, path, "tg_boiler");
        assert_eq!(code, 200, "{answer}");
        body(&answer)["open"].clone()
    };
    let told = open(tokens());
    assert!(told["last_reading_ms"].as_i64().is_some_and(|told| (told - at_ms).abs() < 60_000), "{told}");
    // The owner looks at it itself: it has been taken back meanwhile.
    let told = open(Vec::new());
    let error = told["error"].as_str().unwrap_or_default();
    assert!(error.contains("its owner answers: the token is none, or was taken back"), "{told}");
}

#[test]
fn where_nobody_is_asked_for_a_token_the_stores_are_open() {
    for server in &pair(false, tokens()) {
        for path in ALL_PATHS.into_iter().filter(|path| *path != "/stores/others/") {
            assert_eq!(ask(server, path, &[]).0, 200, "{path}");
        }
    }
}

#[test]
fn other_programs_and_the_command_line_read_stores_with_a_token() {
    let [one, _two] = pair(true, tokens());
    let address = one.address().to_string();
    let reader = || -> StoreReader<Value> { StoreReader::new(&address, "home", "home-watched") };
    assert_eq!(reader().token("tg_all").get("boiler").unwrap(), Some(json!({ "seen": 1 })));
    let fault = reader().get("boiler").unwrap_err();
    assert!(!fault.is_retry() && fault.to_string().contains("a token is needed"), "{fault}");
    assert!(!format!("{:?}", reader().token("tg_all")).contains("tg_all"), "a token is not printed");

    let run = |text: &str| {
        let path = std::env::temp_dir().join(format!("tidegate-token-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        let all = ["--set", "pipeline.name=home", "state", "--address", &address, "--token-file", file];
        let output = tidegate(&[&all[..], &["get", "home-watched", "boiler"]].concat(), &[]);
        std::fs::remove_file(&path).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run("tg_all\n");
    assert!(code == Some(0) && out.contains(r#"{"seen":1}"#), "{err}");
    let (code, _, err) = run("tg_boiler\n");
    assert!(code == Some(1) && err.starts_with("state: the token is for some devices"), "{err}");
    let (code, _, err) = run("\n");
    assert!(
        code == Some(1) && err.contains("it holds no token; write what `tidegate token create` prints there"),
        "{err}"
    );
    let all = ["--set", "pipeline.name=home", "state", "--address", &address, "get", "home-watched", "boiler"];
    let err = String::from_utf8(tidegate(&all, &[]).stderr).unwrap();
    assert!(err.starts_with("state: a token is needed"), "{err}");
}
