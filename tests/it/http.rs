//! The page, the numbers and the probes over a real socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tidegate::engine::status::{Counter, Status};
use tidegate::flow::key::partition_for;
use tidegate::http::{About, Recovery, Server, View, serve, serve_near};
use tidegate::pipelines::{sessions, usage};
use tidegate::ports::Clock;
use tidegate::ports::clock::SystemClock;
use tidegate::testing::TestDriver;

#[derive(Default)]
struct Fake {
    status: Status,
}

impl View for Fake {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: "scoring".into(), place: "a test".into() }
    }

    fn last_recovery(&self) -> Option<Recovery> {
        Some(Recovery { number: 2, took_ms: 31, published: 37, repeated: 0 })
    }
}

/// The view of `run`: no crash of its own to report.
#[derive(Default)]
struct Service(Status);

impl View for Service {
    fn status(&self) -> &Status {
        &self.0
    }

    fn about(&self) -> About {
        About { pipeline: "scoring".into(), place: "a test".into() }
    }
}

fn start() -> (Arc<Fake>, Server) {
    let fake = Arc::new(Fake::default());
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&fake) as Arc<dyn View>).unwrap();
    (fake, server)
}

fn request(address: SocketAddr, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// Status code, head and body.
pub fn get(server: &Server, path: &str) -> (u16, String, String) {
    let mut text = String::new();
    request(server.address(), path).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.into())
}

#[test]
fn probes_follow_the_polling_thread() {
    let (fake, server) = start();
    let codes = |paths: [&str; 5]| paths.map(|path| get(&server, path).0);
    let paths = ["/livez", "/ping", "/readyz", "/ready", "/startupz"];
    assert_eq!(codes(paths), [200, 200, 503, 503, 503], "nothing has been polled yet");
    fake.status.add(Counter::Polls, 1);
    assert_eq!(codes(paths), [200, 200, 503, 503, 200]);
    assert_eq!(get(&server, "/readyz").2, "the group has not taken this instance in\n");
    fake.status.set_member(true);
    assert_eq!(codes(paths), [200; 5], "an idle instance is ready");
    assert_eq!(get(&server, "/nothing").0, 404);
}

#[test]
fn the_page_brings_its_own_files_and_forbids_all_others() {
    let (_, server) = start();
    let (code, head, page) = get(&server, "/");
    assert_eq!(code, 200);
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self';"), "{head}");
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("<script>"), "nothing inline");
    for (path, kind) in [("/page.js", "text/javascript"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml")] {
        assert!(page.contains(&format!("=\"{}\"", &path[1..])), "{path}, relative: a proxy may add a prefix");
        let (code, head, _) = get(&server, path);
        assert!(code == 200 && head.contains(kind), "{path}: {head}");
    }
    // Every place that the script fills is there.
    let script = get(&server, "/page.js").2;
    for id in ["tasks", "halts", "recovery", "curve", "state", "stores", "letter-list", "partitioning-list"] {
        assert!(page.contains(&format!("id=\"{id}\"")) && script.contains(id), "{id}");
    }
    assert!(script.contains("dd[data-suffix]"), "the tiles");
    for (id, suffix) in [("records", ""), ("p99_ms", " ms")] {
        assert!(page.contains(&format!("<dd id=\"{id}\" data-suffix=\"{suffix}\">")), "{id}");
    }
}

/// A name whose owner lets it lead here, while a script of his runs in a browser of this machine.
#[test]
fn a_question_by_a_name_of_somebody_else_is_refused_but_for_the_probes() {
    let (_, server) = start();
    let code = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text.split(' ').nth(1).unwrap().parse::<u16>().unwrap(), text)
    };
    for path in ["/", "/status", "/events", "/stores", "/stores/usage/ada", "/nothing"] {
        let (code, text) = code(path, "evil.example:8230");
        assert!(code == 421 && text.contains("http.hosts"), "{path}: {text}");
    }
    assert_eq!(code("/livez", "evil.example").0, 200);
    assert_eq!([code("/status", "localhost:1").0, code("/status", "[::1]").0], [200, 200]);
}

#[test]
fn numbers_come_once_a_second_as_events_and_as_json() {
    let (fake, server) = start();
    fake.status.add(Counter::Records, 3_500);
    fake.status.add(Counter::Announced, 702);
    fake.status.age_at_publication.add(Duration::from_millis(4));
    let mut numbers = Vec::new();
    for line in request(server.address(), "/events").lines().map_while(Result::ok) {
        if let Some(json) = line.strip_prefix("data: ") {
            numbers.push(serde_json::from_str::<serde_json::Value>(json).unwrap());
        }
        if numbers.len() == 3 {
            break;
        }
    }
    let last = &numbers[2];
    assert_eq!(
        (&last["pipeline"], &last["records"], &last["announced"]),
        (&"scoring".into(), &3500.into(), &702.into())
    );
    assert_eq!(last["last_recovery"]["published"], 37);
    assert!(numbers.iter().any(|numbers| numbers["records_per_s"] == 3_500 && numbers["p50_ms"].is_number()));
    assert!(last["p50_ms"].is_null() && last["records_per_s"] == 0, "nothing happened in the last second");
    let (code, head, body) = get(&server, "/status");
    assert!(code == 200 && head.contains("application/json"), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["records"], 3500);
}

#[test]
fn a_service_does_not_report_the_recovery_that_only_the_demo_sees() {
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::new(Service::default())).unwrap();
    let status: serde_json::Value = serde_json::from_str(&get(&server, "/status").2).unwrap();
    assert!(status.get("last_recovery").is_none() && status["records"] == 0, "{status}");
}

#[test]
fn a_pipeline_without_keyed_state_has_nothing_to_tell_of_it() {
    let (_, server) = start();
    let status: serde_json::Value = serde_json::from_str(&get(&server, "/status").2).unwrap();
    for name in ["dead_letter_codes", "declared", "undeclared", "restores", "needless_shuffles"] {
        assert_eq!(status[name], serde_json::json!([]), "{name}");
    }
    assert_eq!(get(&server, "/stores/usage/ada").0, 404, "this pipeline keeps no store");
}

/// A status of the engine's behind the page.
struct Driven(Arc<Status>);

impl View for Driven {
    fn status(&self) -> &Status {
        &self.0
    }

    fn about(&self) -> About {
        About { pipeline: "driven".into(), place: "a test".into() }
    }
}

/// The answer of `/status` for the driver's first instance.
fn reported(driver: &mut TestDriver) -> serde_json::Value {
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::new(Driven(driver.status(0)))).unwrap();
    serde_json::from_str(&get(&server, "/status").2).unwrap()
}

#[test]
fn a_declared_source_is_told_with_its_violations_and_what_was_not_shuffled() {
    let mut driver = TestDriver::new(sessions::topology()).partitions(12);
    for user in ["ada", "bob"] {
        driver.send("clicks", user, serde_json::json!({}));
    }
    driver.run();
    let wrong = (partition_for(b"eve", 12) + 1) % 12;
    driver.send_to("clicks", wrong, Some(b"eve"), Some(b"{}"));
    driver.run();
    let clicks = driver.read_raw("clicks");
    let planted = clicks.iter().find(|click| click.key.as_deref() == Some(b"eve")).unwrap();
    let status = reported(&mut driver);
    let violation = serde_json::json!({
        "source": format!("clicks-{wrong}"), "count": 1, "first_offset": planted.offset,
        "expected_partition": partition_for(b"eve", 12),
    });
    assert_eq!(
        status["declared"],
        serde_json::json!([{"source": "clicks", "checked": 3, "bytes_not_shuffled": 10, "violations": [violation]}])
    );
}

#[test]
fn a_source_that_declares_nothing_and_lies_otherwise_is_told() {
    let mut driver = TestDriver::new(tidegate::pipelines::orders::topology()).partitions(12);
    let wrong = (partition_for(b"eve", 12) + 1) % 12;
    driver.send_to("orders", wrong, Some(b"eve"), Some(b"{}"));
    driver.run();
    let told = &reported(&mut driver)["undeclared"];
    let by_crc32 = u64::from(tidegate::flow::key::crc32_partition_for(b"eve", 12) == wrong);
    let orders = serde_json::json!(
        {"source": "orders", "assumed": "murmur2", "checked": 1, "elsewhere": 1, "by_crc32": by_crc32}
    );
    assert_eq!(told, &serde_json::json!([orders]));
}

#[test]
fn stores_and_a_shuffle_to_remove_are_told() {
    let mut driver = TestDriver::new(usage::topology()).partitions(1);
    for n in 0..2_000 {
        let user = format!("u{}", n % 7);
        driver.send("events", user.as_str(), serde_json::json!({"userId": user, "units": 1.0}));
    }
    driver.advance(Duration::from_secs(6));
    driver.run();
    let status = reported(&mut driver);
    assert_eq!(status["needless_shuffles"], serde_json::json!([{"source": "events", "sampled": 125}]));
    let tasks = status["tasks"].as_array().unwrap();
    let stores = |sub_topology: u64| &tasks.iter().find(|task| task["sub_topology"] == sub_topology).unwrap()["stores"];
    assert_eq!(stores(0), &serde_json::json!([]), "the step that re-keys keeps nothing");
    assert_eq!((&stores(1)[0]["store"], &stores(1)[0]["keys"]), (&"usage".into(), &7.into()));
    assert!(stores(1)[0]["bytes"].as_u64().unwrap() > 7, "{status}");
}

#[test]
fn the_probes_answer_however_many_connections_and_readers_there_are() {
    let (_, server) = start();
    let readers: Vec<_> = (0..40).map(|_| request(server.address(), "/events")).collect();
    let _idle: Vec<TcpStream> = (0..260).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let clock = SystemClock::default();
    let began = clock.elapsed();
    assert_eq!(get(&server, "/livez").0, 200);
    assert!(clock.elapsed() - began < Duration::from_secs(2));
    drop(readers);
}

#[test]
fn event_streams_are_bounded_and_their_places_come_back() {
    let (_, server) = start();
    let first = |mut reader: BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        (line.contains(" 200 "), reader)
    };
    let open = || first(request(server.address(), "/events"));
    let readers: Vec<_> = (0..32).map(|_| open()).collect();
    assert!(readers.iter().all(|(is_open, _)| *is_open));
    let (code, head, body) = get(&server, "/events");
    assert!(code == 503 && head.contains("retry-after: 5") && body.contains("/status"), "{head}{body}");
    drop(readers);
    let is_open = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        open().0
    });
    assert!(is_open);
}

#[test]
fn a_dropped_server_frees_its_address_even_with_listeners() {
    let (fake, server) = start();
    let address = server.address();
    let mut events = request(address, "/events");
    let error = serve(address, Arc::clone(&fake) as Arc<dyn View>).unwrap_err().to_string();
    assert!(error.contains("is in use by another process") && error.contains("http.address="), "{error}");
    let view = Arc::clone(&fake) as Arc<dyn View>;
    assert!(serve_near(address, false, &view).is_err(), "a port that was asked for is demanded");
    let beside = serve_near(address, true, &view).unwrap();
    assert!(beside.address().ip() == address.ip() && beside.address().port() != address.port());
    drop(server);
    let mut rest = String::new();
    events.read_to_string(&mut rest).ok();
    // A test beside this one may get the port meanwhile, and gives it back.
    let again = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        serve(address, Arc::clone(&fake) as Arc<dyn View>).ok()
    });
    assert!(again.is_some());
}
