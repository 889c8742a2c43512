//! `state get`, `state list`, `state size`: asks a running instance for what its stores hold.

use crate::app::application::{App, as_set};
use crate::app::cli::{Output, SpanArguments, StateArguments, StateCommand};
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::table;
use crate::http::client::{Answer as Reply, encode, get};
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Longest time for an instance's answer: longer than it waits for its workers and for others.
const ANSWER: Duration = Duration::from_secs(15);

/// How to find an instance.
const ADVICE: &str = "name one that runs with --address, as it prints it at its start (page  http://…)";

pub(super) fn state(app: &App, arguments: &StateArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(&[])?;
    let topology = as_set(&app.topology, &settings)?;
    let (address, origin) = match &arguments.address {
        Some(address) => (address.clone(), "--address".to_owned()),
        None => (settings.http.address.to_string(), format!("http.address: {}", settings.origin_of("http.address"))),
    };
    if !address.contains(':') {
        let sentence = "expected host:port, as an instance prints it at its start (page  http://…)";
        return Err(Failure::message(format!("state: {address:?} ({origin}): {sentence}")));
    }
    let path = match &arguments.command {
        StateCommand::Get { store, key, span, .. } => {
            format!("/stores/{}/{}{}", encode(store), encode(key), query(&of_span(span)))
        }
        StateCommand::List { store, prefix, first, last, span, limit, from, .. } => {
            let limit = Some(limit.to_string());
            let keys = [("prefix", prefix), ("first", first), ("last", last), ("limit", &limit), ("from", from)];
            format!("/stores/{}{}", encode(store), query(&[&keys[..], &of_span(span)].concat()))
        }
        StateCommand::Size { .. } => "/stores".into(),
        // Asks no instance, and is handled before this.
        StateCommand::Rebuild(_) => return Err(Failure::message("state rebuild: no instance does that")),
    };
    let authorization = arguments.token_file.as_deref().map(authorization_of).transpose()?;
    let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
    let Reply { code, pipeline, body } = get(&address, &path, &headers, ANSWER).map_err(|error| {
        Failure::message(format!("state: no instance answers at {address} ({error}, {origin}); {ADVICE}"))
    })?;
    if pipeline.as_deref() != Some(topology.name()) {
        let who = pipeline.map_or_else(|| "another program".into(), |name| format!("pipeline {name}"));
        return Err(Failure::message(format!(
            "state: at {address} ({origin}) answers {who}, and no instance of {}; {ADVICE}",
            topology.name()
        )));
    }
    let answer: Value = serde_json::from_str(&body)
        .map_err(|_| Failure::message(format!("state: {address} answers {code}, and not as Tidegate does")))?;
    let output = match &arguments.command {
        StateCommand::Get { output, .. } | StateCommand::List { output, .. } | StateCommand::Size { output } => {
            output.output
        }
        StateCommand::Rebuild(_) => Output::Table,
    };
    if output == Output::Json {
        out.write_all(body.as_bytes())?;
    } else if code == 200 {
        match &arguments.command {
            StateCommand::Size { .. } => sizes(&answer, out)?,
            _ => entries(&answer, out)?,
        }
    }
    match answer.get("error").and_then(Value::as_str) {
        Some(_) if output == Output::Json => Ok(Exit::Failed),
        Some(error) => Err(Failure::message(format!("state: {error}{}", reasons(&answer)))),
        None => Ok(Exit::Done),
    }
}

/// The header for the token in a file.
fn authorization_of(file: &Path) -> Result<String, Failure> {
    let read = if file == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) };
    let failed = |why: &str| {
        let file = file.display();
        Failure::message(format!("state: --token-file {file}: {why}; write what `tidegate token create` prints there"))
    };
    let text = read.map_err(|error| failed(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(failed("it holds no token"));
    }
    Ok(format!("Bearer {token}"))
}

fn of_span(span: &SpanArguments) -> [(&'static str, &Option<String>); 2] {
    [("since", &span.since), ("until", &span.until)]
}

/// The parameters that have a value, as the end of a path.
fn query(parameters: &[(&str, &Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

/// Values as the stores hold them, a line each.
fn entries(answer: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = vec![["KEY", "PARTITION", "VALUE"].map(ToString::to_string)];
    rows.extend(
        items(answer, "entries").map(|entry| [text(entry, "key"), text(entry, "partition"), text(entry, "value")]),
    );
    table::write(&rows, out)?;
    for partition in items(answer, "partitions") {
        let inputs: Vec<String> = items(partition, "inputs")
            .map(|input| format!("{} up to {}", text(input, "source"), text(input, "next_offset")))
            .collect();
        let owner =
            partition.get("owner").and_then(Value::as_str).map_or(String::new(), |owner| format!(", at {owner}"));
        let is_caught_up = partition.get("is_caught_up").and_then(Value::as_bool).unwrap_or(false);
        let age = if is_caught_up {
            "all of it proved".into()
        } else {
            format!("proved {} ms ago", text(partition, "staleness_ms"))
        };
        writeln!(out, "partition {}: {}, {age}{owner}", text(partition, "partition"), inputs.join(", "))?;
    }
    if answer.get("has_more").and_then(Value::as_bool) == Some(true) {
        writeln!(out, "there are more: go on with --from {}", text(answer, "next"))?;
    }
    Ok(())
}

fn sizes(answer: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    if items(answer, "stores").next().is_none() {
        writeln!(out, "the pipeline keeps no stores")?;
        return Ok(());
    }
    let mut rows = vec![["STORE", "PARTITION", "KEYS", "UNWRITTEN", "BYTES", "OWNER"].map(ToString::to_string)];
    for store in items(answer, "stores") {
        for partition in items(store, "partitions") {
            let owner = partition.get("owner").and_then(Value::as_str).unwrap_or("this instance");
            rows.push([
                text(store, "store"),
                text(partition, "partition"),
                text(partition, "keys"),
                text(partition, "unwritten_keys"),
                text(partition, "bytes"),
                owner.into(),
            ]);
        }
        for missing in items(store, "missing") {
            let owner = missing.get("owner").and_then(Value::as_str).unwrap_or("-");
            let unread = || "-".to_string();
            let partition = text(missing, "partition");
            rows.push([text(store, "store"), partition, unread(), unread(), text(missing, "reason"), owner.into()]);
        }
    }
    table::write(&rows, out)
}

/// Why partitions could not be read, as the end of a sentence.
fn reasons(answer: &Value) -> String {
    let missing =
        items(answer, "missing").map(|m| format!("\n  partition {}: {}", text(m, "partition"), text(m, "reason")));
    missing.collect()
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".into(),
    }
}
