//! `demo` from outside: it kills its worker, recovers, and its audit finds nothing.

use crate::cli::tidegate;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Any free port, so that demos may run side by side.
const PORT: [&str; 2] = ["--set", "http.address=127.0.0.1:0"];

fn demo(arguments: &[&str]) -> serde_json::Value {
    let output = tidegate(&[&["demo", "-o", "json"], arguments, &PORT].concat(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{text}\n{errors}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: standard output is not one object: {text}"))
}

#[track_caller]
fn assert_clean(summary: &serde_json::Value) {
    for figure in ["missing", "twice", "unknown", "altered", "out_of_order", "repeated_algorithm_runs"] {
        assert_eq!(summary[figure], 0, "{figure} in {summary}");
    }
    assert_eq!(summary["contradictions"], serde_json::json!([]), "{summary}");
    assert_eq!(summary["records"], summary["row_versions"], "{summary}");
    assert_eq!(summary["announced"], summary["in_topic"], "{summary}");
    assert_eq!(summary["crashes"], summary["recovered"], "{summary}");
}

#[test]
fn crashes_lose_nothing_repeat_nothing_and_run_nothing_again() {
    let summary = demo(&["--seconds", "12", "--crash-every-ms", "3000"]);
    assert_clean(&summary);
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert!(number("crashes") >= 2, "{summary}");
    assert!(number("published_from_outbox") > 0, "no crash lay between commit and notification: {summary}");
    assert!(number("records") > 1_000 && number("algorithm_runs") == number("records"), "{summary}");
    let share = summary["announced"].as_f64().unwrap() / summary["records"].as_f64().unwrap();
    assert!((0.15..0.25).contains(&share), "{share}");
}

#[test]
fn what_is_kept_is_gone_on_with() {
    let folder = std::env::temp_dir().join(format!("tidegate-it-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("demo.db").display().to_string();
    let run = || demo(&["--seconds", "2", "--rate", "200", "--no-crashes", "--db-filename", &file]);
    let (first, second) = (run(), run());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_clean(&first);
    assert_clean(&second);
    assert!(second["records"].as_u64() > first["records"].as_u64(), "{first} {second}");
    assert!(second["announced"].as_u64() > first["announced"].as_u64(), "{first} {second}");
}

#[test]
fn sigterm_works_off_the_rest_and_audits() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["demo", "--no-crashes"])
        .args(PORT)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    for words in
        ["1,000 rows", "500 notifications/s", "page     http://127.0.0.1:", "0 missing, 0 twice, 0 out of order"]
    {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
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
