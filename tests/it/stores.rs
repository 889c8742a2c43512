//! Stores over HTTP and by the command line: codes, forwarding, what is missing.

use crate::cli::tidegate;
use crate::http::get;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tidegate::engine::query::{Elsewhere, Entry, InputPosition, Reading, Refusal, Standing, Unready, Wanted};
use tidegate::engine::status::Status;
use tidegate::http::{About, Server, View, serve};

/// An instance that owns partition 0 or 1 of the store `usage`, with one user in each.
struct Fake {
    status: Status,
    partition: i32,
    /// Where the other instance listens.
    other: Mutex<Option<String>>,
    is_restoring: bool,
}

const USERS: [&str; 2] = ["ada", "bob/ü"];

fn entry(partition: i32) -> Entry {
    let key = USERS[usize::try_from(partition).unwrap()].to_owned();
    let value = serde_json::from_str(r#"{"count":10,"units":12345678901234567890123}"#).unwrap();
    Entry { key, version: 1, value, partition }
}

fn standing(partition: i32) -> Standing {
    let inputs = vec![InputPosition { source: format!("usage-by-user-repartition-{partition}"), next_offset: 9 }];
    Standing {
        partition,
        changelog_next_offset: 4,
        inputs,
        staleness_ms: 40,
        is_caught_up: true,
        keys: Some(1),
        unwritten_keys: Some(0),
        bytes: Some(32),
    }
}

impl View for Fake {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About { pipeline: "usage".into(), place: "a test".into() }
    }

    fn stores(&self) -> Vec<String> {
        vec!["usage".into()]
    }

    fn read(&self, store: &str, wanted: &Wanted) -> Result<Reading, Refusal> {
        if store != "usage" {
            return Err(Refusal::UnknownStore { known: self.stores() });
        }
        let mut reading = Reading::default();
        let asked: Vec<i32> = match wanted {
            Wanted::Key(key) => vec![i32::from(key.starts_with('b'))],
            Wanted::Prefix { .. } | Wanted::Size => vec![0, 1],
        };
        for partition in asked {
            if partition != self.partition {
                reading.elsewhere.push(Elsewhere { partition, owner: self.other.lock().unwrap().clone() });
                continue;
            }
            if self.is_restoring {
                reading.unready.push(Unready { partition, state: "restoring", seconds_left: Some(6.2) });
                continue;
            }
            reading.partitions.push(standing(partition));
            let entry = entry(partition);
            let is_asked = match wanted {
                Wanted::Key(key) => *key == entry.key,
                Wanted::Prefix { prefix, .. } => entry.key.starts_with(prefix),
                Wanted::Size => false,
            };
            reading.entries.extend(is_asked.then_some(entry));
        }
        Ok(reading)
    }
}

fn start(partition: i32, is_restoring: bool) -> (Arc<Fake>, Server) {
    let fake = Arc::new(Fake { status: Status::default(), partition, other: Mutex::default(), is_restoring });
    let server = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&fake) as Arc<dyn View>).unwrap();
    (fake, server)
}

/// Two instances that know each other; the second one perhaps restores.
fn pair(is_restoring: bool) -> (Server, Server) {
    let ((first, one), (second, two)) = (start(0, false), start(1, is_restoring));
    *first.other.lock().unwrap() = Some(two.address().to_string());
    *second.other.lock().unwrap() = Some(one.address().to_string());
    (one, two)
}

fn ask(server: &Server, path: &str) -> (u16, String, Value) {
    let (code, head, body) = get(server, path);
    (code, head, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}")))
}

#[test]
fn any_instance_answers_for_every_key_and_names_the_owner() {
    let (one, two) = pair(false);
    let (code, _, here) = ask(&one, "/stores/usage/ada");
    assert_eq!(code, 200);
    assert_eq!((&here["entries"][0]["key"], &here["entries"][0]["value"]["count"]), (&json!("ada"), &json!(10)));
    let partition = &here["partitions"][0];
    assert_eq!((&partition["owner"], &partition["staleness_ms"]), (&Value::Null, &json!(40)));
    assert_eq!(partition["inputs"][0]["source"], "usage-by-user-repartition-0");

    let (code, _, there) = ask(&one, "/stores/usage/bob%2F%C3%BC");
    assert_eq!(code, 200, "{there}");
    assert_eq!(there["entries"][0]["partition"], 1);
    assert_eq!(there["partitions"][0]["owner"], two.address().to_string());
    let text = get(&one, "/stores/usage/bob%2F%C3%BC").2;
    assert!(text.contains("12345678901234567890123"), "a value is told as it was written: {text}");

    let (code, _, none) = ask(&two, "/stores/usage/anna");
    assert_eq!((code, &none["error"]), (404, &json!("no such key")));
    let (code, _, unknown) = ask(&one, "/stores/usages/ada");
    assert_eq!((code, &unknown["error"]), (404, &json!("no such store; there are usage")));
}

#[test]
fn a_prefix_and_the_sizes_come_from_all_instances() {
    let (one, _two) = pair(false);
    let (code, _, all) = ask(&one, "/stores/usage?prefix=");
    let keys: Vec<&Value> = all["entries"].as_array().unwrap().iter().map(|entry| &entry["key"]).collect();
    assert_eq!((code, keys), (200, vec![&json!("ada"), &json!("bob/ü")]));
    assert_eq!((&all["has_more"], all["partitions"].as_array().unwrap().len()), (&json!(false), 2));
    let (_, _, few) = ask(&one, "/stores/usage?limit=1");
    assert_eq!((few["entries"].as_array().unwrap().len(), &few["has_more"]), (1, &json!(true)));
    let (_, _, b) = ask(&one, "/stores/usage?prefix=b");
    assert_eq!(b["entries"][0]["key"], "bob/ü");
    let (code, _, sizes) = ask(&one, "/stores");
    assert_eq!((code, &sizes["stores"][0]["partitions"][1]["keys"]), (200, &json!(1)));
    assert_eq!(ask(&one, "/stores/usage?limt=1").0, 400);
}

#[test]
fn what_cannot_be_read_now_is_said_with_when_to_ask_again() {
    let (one, two) = pair(true);
    let (code, head, restoring) = ask(&two, "/stores/usage/bob");
    assert_eq!(code, 503);
    assert!(head.contains("retry-after: 7"), "{head}");
    assert_eq!(restoring["missing"][0]["reason"], "restoring");
    let (code, head, partly) = ask(&one, "/stores/usage");
    assert_eq!((code, &partly["entries"][0]["key"]), (503, &json!("ada")));
    assert_eq!(partly["missing"][0]["owner"], two.address().to_string());
    assert!(head.contains("retry-after: 7"), "{head}");
    drop(two);
    let (code, _, gone) = ask(&one, "/stores/usage/bob");
    assert_eq!((code, &gone["missing"][0]["reason"]), (503, &json!("its owner did not answer")));
}

#[test]
fn a_question_goes_round_no_loop() {
    let ((first, one), (second, two)) = (start(0, false), start(0, false));
    *first.other.lock().unwrap() = Some(two.address().to_string());
    *second.other.lock().unwrap() = Some(one.address().to_string());
    let (code, _, answer) = ask(&one, "/stores/usage/bob");
    assert_eq!((code, &answer["missing"][0]["reason"]), (503, &json!("another instance owns it")));
}

#[test]
fn the_command_line_asks_a_running_instance() {
    let (one, two) = pair(false);
    let address = one.address().to_string();
    let run = |arguments: &[&str]| {
        let mut all = vec!["state", "--address", &address];
        all.extend(arguments);
        let output = tidegate(&all, &[]);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run(&["get", "usage", "ada"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("ada  0          {\"count\":10"), "{out}");
    assert!(out.contains("partition 0: usage-by-user-repartition-0 up to 9, all of it proved\n"), "{out}");
    let (code, out, _) = run(&["get", "usage", "bob/ü", "-o", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["partitions"][0]["owner"]), (Some(0), &json!(two.address().to_string())));
    let (code, out, _) = run(&["list", "usage", "--limit", "1"]);
    assert!(code == Some(0) && out.contains("there are more"), "{out}");
    let (code, out, _) = run(&["size"]);
    assert!(code == Some(0) && out.contains("usage  0          1     0          32     this instance"), "{out}");
    let (code, _, err) = run(&["get", "usage", "anna"]);
    assert_eq!((code, err.as_str()), (Some(1), "state: no such key\n"));
    drop(one);
    let (code, _, err) = run(&["size"]);
    assert!(code == Some(1) && err.contains("no instance answers at") && err.contains("--address"), "{err}");
}
