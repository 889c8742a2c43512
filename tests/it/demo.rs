//! `demo` from outside: it kills its workers, recovers, shows the devices' graphs, and its audit finds nothing.

use crate::cli::tidegate;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Any free port, so that demos may run side by side.
const PORT: [&str; 2] = ["--set", "http.address=127.0.0.1:0"];

fn demo(arguments: &[&str]) -> Value {
    let output = tidegate(&[&["demo", "-o", "json"], arguments, &PORT].concat(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{text}\n{errors}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: standard output is not one object: {text}"))
}

#[track_caller]
fn assert_clean(summary: &Value) {
    for figure in ["missing", "twice", "unknown", "altered", "out_of_order", "repeated_algorithm_runs"] {
        assert_eq!(summary[figure], 0, "{figure} in {summary}");
    }
    assert_eq!(summary["contradictions"], json!([]), "{summary}");
    assert_eq!(summary["records"], summary["row_versions"], "{summary}");
    assert_eq!(summary["announced"], summary["in_topic"], "{summary}");
    assert_eq!(summary["crashes"], summary["recovered"], "{summary}");
    let roll_ups = &summary["roll_ups"];
    if !roll_ups.is_null() {
        assert_eq!((&roll_ups["wrong"], &roll_ups["findings"]), (&json!(0), &json!([])), "{summary}");
        assert_eq!((&roll_ups["dead_letters"], &roll_ups["crashes"]), (&json!(0), &roll_ups["recovered"]), "{summary}");
    }
}

#[test]
fn crashes_lose_nothing_repeat_nothing_and_run_nothing_again() {
    let summary = demo(&["--seconds", "12", "--crash-every-ms", "3000", "--devices", "12"]);
    assert_clean(&summary);
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert!(number("crashes") >= 2, "{summary}");
    assert!(number("published_from_outbox") > 0, "no crash lay between commit and notification: {summary}");
    assert!(number("records") > 1_000 && number("algorithm_runs") == number("records"), "{summary}");
    let share = summary["announced"].as_f64().unwrap() / summary["records"].as_f64().unwrap();
    assert!((0.15..0.25).contains(&share), "{share}");
    // Twelve devices have fifteen metrics: five with 720 hours, which are as many quarters, and the others with 60.
    let roll_ups = |name: &str| summary["roll_ups"][name].as_u64().unwrap();
    assert!(roll_ups("crashes") >= 1 && roll_ups("readings") > 4_200, "{summary}");
    assert!(roll_ups("buckets") > 2 * 4_000 && roll_ups("filled_ms") < 12_000, "{summary}");
}

#[test]
fn what_is_kept_is_gone_on_with() {
    let folder = std::env::temp_dir().join(format!("tidegate-it-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("demo.db").display().to_string();
    let run = || demo(&["--seconds", "2", "--rate", "200", "--no-crashes", "--devices", "8", "--db-filename", &file]);
    let (first, second) = (run(), run());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_clean(&first);
    assert_clean(&second);
    assert!(second["records"].as_u64() > first["records"].as_u64(), "{first} {second}");
    assert!(second["announced"].as_u64() > first["announced"].as_u64(), "{first} {second}");
    let readings = |summary: &Value| summary["roll_ups"]["readings"].as_u64().unwrap();
    assert!(readings(&first) > 700, "{first}");
    // What was fed before is not fed again: the month is there, and the devices send a few more.
    assert!((readings(&first)..readings(&first) + 700).contains(&readings(&second)), "{first} {second}");
}

#[test]
fn sigterm_works_off_the_rest_and_audits() {
    let (child, mut out) = spawn(&["--no-crashes", "--devices", "0"]);
    std::thread::sleep(Duration::from_millis(2_500));
    let text = ended(child, &mut out);
    for words in
        ["1,000 rows", "500 notifications/s", "page     http://127.0.0.1:", "0 missing, 0 twice, 0 out of order"]
    {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    assert!(!text.contains("graphs") && !text.contains("roll-ups"), "there are no devices:\n{text}");
}

/// A demo that runs until it is told to stop.
fn spawn(arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let mut child = command.arg("demo").args(arguments).args(PORT).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Stops it; answers what it has written since.
fn ended(mut child: Child, out: &mut BufReader<ChildStdout>) -> String {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    text
}

/// The first line with these words, and all in front of it.
fn line_with(out: &mut BufReader<ChildStdout>, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        assert!(out.read_line(&mut text).unwrap() > 0, "{words} is missing in\n{text}");
    }
    text
}

/// The code and the body of an answer.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    (code, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// What there is at a path, as JSON.
fn told(address: &str, path: &str) -> Value {
    let (code, body) = ask(address, "GET", path, "");
    assert_eq!(code, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// How many readings the columns of a graph have.
fn readings_of(graph: &Value) -> u64 {
    graph["columns"].as_array().unwrap().iter().filter_map(|column| column["n"].as_u64()).sum()
}

#[test]
fn a_month_of_devices_has_graphs_and_lists_through_crashes_and_takes_readings_of_ones_own() {
    let (child, mut out) = spawn(&["--devices", "12", "--crash-every-ms", "4000"]);
    let text = line_with(&mut out, "/graphs#device=home-001-boiler&metric=power");
    let address = text.split("page     http://").nth(1).unwrap().lines().next().unwrap().to_owned();
    line_with(&mut out, "the month of all devices is in its tables");

    assert!(ask(&address, "GET", "/graphs", "").1.contains("<script src="));
    let list = told(&address, "/api/devices?limit=5");
    let names: Vec<&str> =
        list["devices"].as_array().unwrap().iter().filter_map(|one| one["device"].as_str()).collect();
    assert_eq!(
        names,
        ["home-001-boiler", "home-001-door", "home-001-heating", "home-001-thermometer", "home-002-boiler"]
    );
    let boiler = &list["devices"][0];
    assert_eq!((&boiler["home"], &boiler["room"]), (&json!("home-001"), &json!("cellar")));
    assert!(boiler["metrics"]["power"]["value"].is_number() && boiler["metrics"]["energy"]["value"].is_number());
    assert_eq!(told(&address, "/api/devices?search=DOOR")["devices"].as_array().unwrap().len(), 3);

    let graph = |query: &str| told(&address, &format!("/api/series?device=home-001-boiler&metric=power&{query}"));
    let week = graph("from=now-7d&to=now-1d");
    // One an hour, and perhaps one more in the part of a column at the beginning.
    assert!(week["tier"] == "quarters" && (144..=145).contains(&readings_of(&week)), "{week}");
    let month = graph("from=now-29d&to=now-1d");
    assert!(month["tier"] == "hours" && (672..=673).contains(&readings_of(&month)), "{month}");
    let days = graph("from=now-20d&to=now-1d&aggregate=day");
    assert_eq!((&days["tier"], &days["reason"]), (&json!("days"), &Value::Null));
    let home = told(&address, "/api/series?home=home-001&metric=energy&from=now-7d&to=now-1d");
    let risen: f64 = home["columns"].as_array().unwrap().iter().filter_map(|column| column["total"].as_f64()).sum();
    assert_eq!(home["devices"], 4);
    assert!(risen >= 0.0 && (144..=145).contains(&readings_of(&home)), "{home}");

    // The end of the curve is that of the minutes in the store, also when the next worker has them.
    let open = || {
        (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(200));
            graph("from=now-15m")["open"]["last_reading_ms"].as_i64()
        })
    };
    let first = open().expect("readings of this quarter");
    let later = (0..100).any(|_| open().is_some_and(|last| last > first));
    assert!(later, "it sends every five seconds");

    // One's own device: what was measured a day ago is told once it has settled, and one of the demo's own is refused.
    let at_ms = first - 86_400_000;
    let reading = |device: &str| format!(r#"{{"device": "{device}", "at_ms": {at_ms}, "metrics": {{"power": 420}}}}"#);
    assert_eq!(ask(&address, "POST", "/api/readings", &reading("mine")).0, 200);
    let (code, refused) = ask(&address, "POST", "/api/readings", &reading("home-001-boiler"));
    assert!(code == 503 && refused.contains("call yours otherwise"), "{code} {refused}");
    let is_told = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(500));
        // The clock of its partition goes on with what comes.
        let now = r#"{"device": "mine", "metrics": {"temperature": 20}}"#;
        assert_eq!(ask(&address, "POST", "/api/readings", now).0, 200);
        readings_of(&told(&address, "/api/series?device=mine&metric=power&from=now-2d")) == 1
    });
    assert!(is_told, "a late reading is told");
    let described = r#"{"name": "My boiler", "home": "here"}"#;
    assert_eq!(ask(&address, "PUT", "/api/devices/mine", described).0, 204);
    assert_eq!(told(&address, "/api/devices?home=here")["devices"][0]["name"], "My boiler");

    let text = ended(child, &mut out);
    for words in [
        "worker of the roll-ups killed",
        "the roll-ups go on after",
        "12 devices, ",
        "each is what an offline computation says",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
}

/// Whoever is not on this machine sees no device: there is nobody to make tokens.
#[test]
fn graphs_are_for_this_machine_alone() {
    let arguments = ["demo", "--seconds", "2", "--devices", "4", "--no-crashes", "--set", "http.address=0.0.0.0:0"];
    let output = tidegate(&arguments, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("graphs   none: they are shown at an address of this machine alone"), "{text}");
}

#[test]
fn a_taken_port_is_told_with_the_fix() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = tidegate(&["demo", "--seconds", "1", "--set", &format!("http.address={address}")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "http: {address} is in use by another process; end that one, or choose another port, \
             for example --set http.address=127.0.0.1:0 for any free one\n"
        )
    );
}
