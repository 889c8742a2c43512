//! Readings over HTTP, into the topic of a roll-up: as JSON, and in InfluxDB's line protocol, so that Telegraf and Home Assistant
//! write as they are. What is wrong is told by its line, and the rest is taken. A repeat changes nothing.
//!
//! | path | body |
//! |---|---|
//! | `POST /api/readings` | an array, or an object a line: `{"device": …, "at_ms": …, "metrics": {…}}`; without `at_ms` it is the time of arrival |
//! | `POST /api/v2/write?precision=` | lines, whose times are in `ns` (default), `us`, `ms` or `s` |
//!
//! | code | meaning |
//! |---|---|
//! | 200, 204 | everything was written and acknowledged |
//! | 400 | some was not taken, and the answer says which and why; the rest was written and acknowledged |
//! | 401, 403 | a token is needed that writes: [`access`](super::access) |
//! | 413 | the body has more than 8 MiB, also when it is unpacked |
//! | 429 | too much is under way: again after `Retry-After` |
//! | 503 | the brokers do not acknowledge it |

use super::access::{Asker, challenge};
use super::client;
use super::graph::chosen;
use super::refused::Refused;
use super::shared::Shared;
use super::view::{Untaken, View};
use crate::flow::rollup::{Measured, Point, RollUp};
use crate::ports::Clock as _;
use crate::ports::clock::SystemClock;
use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

/// What a request with lines may name; what InfluxDB's clients say of their buckets is not looked at.
pub(super) const PARAMETERS: [&str; 7] = ["rollup", "precision", "bucket", "org", "db", "rp", "orgID"];

/// Bytes of a body, as it came and unpacked.
const BODY_MAX: usize = 8 << 20;
/// The time for a body to come.
const BODY_WAIT: Duration = Duration::from_secs(20);
/// The bytes of one record's value.
const RECORD_BYTES: usize = 64 << 10;
/// How far a reading may lie ahead; beyond it the pipeline would refuse it.
const AHEAD_MS: i64 = 300_000;
/// Refusals that an answer lists.
const REFUSALS_MAX: usize = 100;
/// The tags of a line that name its device; the first one that it has.
const DEVICE_TAGS: [&str; 4] = ["device", "device_id", "entity_id", "host"];

/// Readings of a device at a time, and where they stood.
struct Item {
    line: usize,
    device: String,
    measured: Measured,
}

/// What is not taken, and why.
type Refusal = (usize, String);

/// A body: what it says, and what is wrong with it.
#[derive(Default)]
struct Parsed {
    items: Vec<Item>,
    refused: Vec<Refusal>,
}

/// `/api/readings`.
pub(super) async fn readings(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let parse = |rollup: &RollUp, _: &str, text: &str, now_ms| Ok(from_json(rollup, text, now_ms));
    answered(shared, query, headers, body, &["rollup"], parse, StatusCode::OK).await
}

/// `/api/v2/write`.
pub(super) async fn lines(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let parse = |rollup: &RollUp, precision: &str, text: &str, now_ms| {
        let unit_ns = match precision {
            "" | "ns" | "n" => 1,
            "us" | "u" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            other => return Err(format!("precision: expected ns, us, ms or s, and not {other:?}")),
        };
        Ok(from_lines(rollup, text, unit_ns, now_ms))
    };
    answered(shared, query, headers, body, &PARAMETERS, parse, StatusCode::NO_CONTENT).await
}

async fn answered(
    shared: Shared,
    query: Option<String>,
    headers: HeaderMap,
    body: Body,
    known: &[&str],
    parse: impl FnOnce(&RollUp, &str, &str, i64) -> Result<Parsed, String> + Send + 'static,
    well: StatusCode,
) -> Response {
    let asked = match client::parameters(query.as_deref().unwrap_or_default(), known) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error),
    };
    let bytes = match tokio::time::timeout(BODY_WAIT, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            return refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body has more than {BODY_MAX} bytes, or was cut off"),
            );
        }
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
    };
    let is_packed = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let answered = tokio::task::spawn_blocking(move || {
        let text = match unpacked(&bytes, is_packed) {
            Ok(text) => text,
            Err((code, error)) => return refused(code, &error),
        };
        let now_ms = SystemClock::default().now().0;
        let view = &*shared.view;
        let may = chosen(view, asked.get("rollup").map(String::as_str)).and_then(|rollup| {
            let asker = Asker::of(view, rollup, &headers)?;
            asker.must_write().map(|()| (rollup, asker))
        });
        let (rollup, asker) = match may {
            Ok(may) => may,
            Err(refused) => return challenge(refused),
        };
        let precision = asked.get("precision").map(String::as_str).unwrap_or_default();
        match parse(rollup, precision, &text, now_ms) {
            Ok(mut parsed) => match parsed.narrow(view, rollup, &asker) {
                Ok(()) => take(view, rollup, parsed, well),
                Err(refused) => challenge(refused),
            },
            Err(error) => refused(StatusCode::BAD_REQUEST, &error),
        }
    });
    answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn unpacked(bytes: &[u8], is_packed: bool) -> Result<String, (StatusCode, String)> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    if !is_packed {
        return String::from_utf8(bytes.to_vec()).map_err(|_| bad("the body is no UTF-8 text".into()));
    }
    let mut text = String::new();
    let limit = BODY_MAX as u64 + 1;
    let read = flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_string(&mut text);
    read.map_err(|error| bad(format!("the body is no gzip of a UTF-8 text: {error}")))?;
    if text.len() > BODY_MAX {
        return Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {BODY_MAX} bytes when it is unpacked"),
        ));
    }
    Ok(text)
}

/// One object of JSON.
#[derive(Deserialize)]
struct Told {
    device: String,
    at_ms: Option<i64>,
    metrics: BTreeMap<String, f64>,
}

fn from_json(rollup: &RollUp, text: &str, now_ms: i64) -> Parsed {
    let mut parsed = Parsed::default();
    let told: Vec<(usize, Result<Told, serde_json::Error>)> = if text.trim_start().starts_with('[') {
        match serde_json::from_str::<Vec<Value>>(text) {
            Ok(values) => (1..).zip(values.into_iter().map(serde_json::from_value)).collect(),
            Err(error) => vec![(1, Err(error))],
        }
    } else {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(number, line)| (number, serde_json::from_str(line))).collect()
    };
    for (line, told) in told {
        match told {
            Ok(Told { device, at_ms, metrics }) => {
                let measured = Measured { at_ms: at_ms.unwrap_or(now_ms), metrics };
                parsed.add(rollup, Item { line, device, measured }, now_ms);
            }
            Err(error) => parsed.refused.push((line, error.to_string())),
        }
    }
    parsed
}

fn from_lines(rollup: &RollUp, text: &str, unit_ns: i64, now_ms: i64) -> Parsed {
    let mut parsed = Parsed::default();
    for (line, text) in (1..).zip(text.lines()) {
        match parse_lines(text).next() {
            None => {}
            Some(Err(error)) => parsed.refused.push((line, error.to_string())),
            Some(Ok(found)) => match item(rollup, line, &found, unit_ns, now_ms) {
                Ok(item) => parsed.add(rollup, item, now_ms),
                Err(error) => parsed.refused.push((line, error)),
            },
        }
    }
    parsed
}

/// A line as readings of a device: its fields that are metrics, by the measurement's name, by their own, or by both.
fn item(rollup: &RollUp, line: usize, found: &ParsedLine<'_>, unit_ns: i64, now_ms: i64) -> Result<Item, String> {
    let device = DEVICE_TAGS.iter().find_map(|tag| found.tag_value(tag));
    let device = device.ok_or_else(|| format!("it has none of the tags {}", DEVICE_TAGS.join(", ")))?.to_string();
    let measurement = found.series.measurement.to_string();
    let (mut metrics, mut unknown) = (BTreeMap::new(), Vec::new());
    for (field, value) in &found.field_set {
        #[expect(clippy::cast_precision_loss, reason = "as JSON numbers are read")]
        let value = match value {
            FieldValue::F64(value) => *value,
            FieldValue::I64(value) => *value as f64,
            FieldValue::U64(value) => *value as f64,
            FieldValue::Boolean(value) => f64::from(u8::from(*value)),
            FieldValue::String(_) => continue,
        };
        let own = field.to_string();
        let names = [if own == "value" { measurement.clone() } else { own.clone() }, format!("{measurement}_{own}")];
        match names.iter().find(|name| rollup.metric(name).is_some()) {
            Some(name) => drop(metrics.insert(name.clone(), value)),
            None => unknown.extend(names.into_iter().next()),
        }
    }
    if metrics.is_empty() {
        return Err(match unknown.first() {
            Some(name) => format!("{} has no metric {name}", rollup.name),
            None => "it has no field that is a number".into(),
        });
    }
    let at_ms = match found.timestamp {
        Some(at) => i64::try_from((i128::from(at) * i128::from(unit_ns)).div_euclid(1_000_000)).unwrap_or(i64::MAX),
        None => now_ms,
    };
    Ok(Item { line, device, measured: Measured { at_ms, metrics } })
}

impl Parsed {
    /// Takes readings that the pipeline will take.
    fn add(&mut self, rollup: &RollUp, item: Item, now_ms: i64) {
        match unfit(rollup, &item, now_ms) {
            Some(error) => self.refused.push((item.line, error)),
            None => self.items.push(item),
        }
    }

    /// Refuses readings of devices that are not in sight.
    fn narrow(&mut self, view: &dyn View, rollup: &RollUp, asker: &Asker) -> Result<(), Refused> {
        let devices = self.items.iter().map(|item| item.device.clone()).collect();
        let seen = asker.in_sight(view, rollup, devices)?;
        let (seen, hidden): (Vec<Item>, Vec<Item>) =
            std::mem::take(&mut self.items).into_iter().partition(|item| seen.contains(&item.device));
        self.items = seen;
        let refusal = |item: Item| (item.line, format!("no device {} is in sight", item.device));
        self.refused.extend(hidden.into_iter().map(refusal));
        self.refused.sort_by_key(|(line, _)| *line);
        Ok(())
    }

    /// The records: a device's readings in their order, some kilobytes in each.
    fn records(&self) -> Vec<(String, Vec<u8>)> {
        let mut by_device: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
        for Item { device, measured, .. } in &self.items {
            by_device.entry(device).or_default().push(measured);
        }
        let mut records = Vec::new();
        for (device, all) in by_device {
            let mut value = Vec::new();
            for measured in all {
                let Ok(one) = serde_json::to_vec(measured) else { continue }; // numbers are finite
                if value.len() + one.len() > RECORD_BYTES && !value.is_empty() {
                    value.push(b']');
                    records.push((device.to_owned(), std::mem::take(&mut value)));
                }
                value.push(if value.is_empty() { b'[' } else { b',' });
                value.extend_from_slice(&one);
            }
            value.push(b']');
            records.push((device.to_owned(), value));
        }
        records
    }
}

/// Why readings would be a dead letter.
fn unfit(
    rollup: &RollUp,
    Item { device, measured: Measured { at_ms, metrics }, .. }: &Item,
    now_ms: i64,
) -> Option<String> {
    if device.is_empty() || device.contains('\0') {
        return Some(format!("{device:?} names no device"));
    }
    if *at_ms < 0 || *at_ms > now_ms.saturating_add(AHEAD_MS) {
        return Some(format!("its time {at_ms} lies before 1970, or more than {} s ahead", AHEAD_MS / 1_000));
    }
    if metrics.is_empty() {
        return Some("it has no metrics".into());
    }
    metrics.iter().find_map(|(name, value)| {
        let Some(metric) = rollup.metric(name) else { return Some(format!("{} has no metric {name}", rollup.name)) };
        metric.bucket(Point { at_ms: *at_ms, value: *value }).err().map(|error| format!("{name}: {error}"))
    })
}

fn take(view: &dyn View, rollup: &RollUp, parsed: Parsed, well: StatusCode) -> Response {
    let records = parsed.records();
    let (taken, mut wrong) = (parsed.items.len(), parsed.refused);
    if !records.is_empty() {
        match view.ingest(rollup, records) {
            Ok(()) => {}
            Err(Untaken::Full) => {
                rollup.count_refused();
                let response = refused(StatusCode::TOO_MANY_REQUESTS, "too much is under way");
                return ([(RETRY_AFTER, HeaderValue::from_static("1"))], response).into_response();
            }
            Err(Untaken::Failed(error)) => {
                let response = refused(StatusCode::SERVICE_UNAVAILABLE, &error);
                return ([(RETRY_AFTER, HeaderValue::from_static("5"))], response).into_response();
            }
        }
    }
    if wrong.is_empty() {
        return match well {
            StatusCode::NO_CONTENT => well.into_response(),
            well => told(well, &json!({ "taken": taken, "refused": [] })),
        };
    }
    let count = wrong.len();
    wrong.truncate(REFUSALS_MAX);
    let (line, error) = wrong.first().cloned().unwrap_or_default();
    let message = format!("{count} of {} were refused, the others are written: line {line}: {error}", taken + count);
    let lines: Vec<Value> = wrong.into_iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
    told(
        StatusCode::BAD_REQUEST,
        &json!({ "code": "invalid", "message": message, "error": message, "taken": taken, "refused": lines }),
    )
}

fn refused(code: StatusCode, error: &str) -> Response {
    told(code, &json!({ "error": error, "message": error }))
}

fn told(code: StatusCode, value: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::rollup::{Between, Kind, Metered, Metric, Patience, Reading};
    use crate::flow::{Context, Reject, Topology};

    const NOW: i64 = 1_700_000_000_000;

    struct Home;

    impl Metered for Home {
        type Event = Vec<Measured>;

        fn readings(&self, measured: Vec<Measured>, _: &Context<'_>) -> Result<Vec<Reading>, Reject> {
            Ok(Measured::readings(measured))
        }

        fn metric(&self, name: &str) -> Option<Metric> {
            match name {
                "power" | "cpu_usage_idle" => Some(Metric::new(Kind::Gauge(Between::Step))),
                "mode" => Some(Metric::new(Kind::State)),
                _ => None,
            }
        }
    }

    fn rollup() -> RollUp {
        let mut topology = Topology::new("p");
        topology.source("readings").roll_up("home", Home, Patience::default());
        topology.roll_ups()[0].clone()
    }

    fn lines(parsed: &Parsed) -> (Vec<usize>, Vec<usize>) {
        let items = parsed.items.iter().map(|item| item.line).collect();
        (items, parsed.refused.iter().map(|(line, _)| *line).collect())
    }

    /// Sentence 10: of a batch as Telegraf writes it one line is wrong, and the others are taken.
    #[test]
    fn a_wrong_line_is_told_by_its_number_and_the_others_are_taken() {
        let text = "power,device=boiler,room=a\\ b value=5.5 1700000000000000000\n\
                    # a comment\n\
                    power,device=boiler value= 1700000000000000000\n\
                    cpu,host=pi usage_idle=98.5,usage_user=1i,name=\"x\" 1700000000500000000\n\
                    power value=1 1700000000000000000\n\
                    mode,entity_id=heat value=1.5 1700000000000000000\n\
                    state,device=a value=\"on\"\n\
                    \n\
                    power,device=late value=7i\n";
        let parsed = from_lines(&rollup(), text, 1, NOW);
        assert_eq!(lines(&parsed), (vec![1, 4, 9], vec![3, 5, 6, 7]));
        let records = parsed.records();
        let read = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        assert_eq!(
            records.iter().map(|(device, value)| (device.as_str(), read(value))).collect::<Vec<_>>(),
            [
                ("boiler", format!(r#"[{{"at_ms":{NOW},"metrics":{{"power":5.5}}}}]"#)),
                ("late", format!(r#"[{{"at_ms":{NOW},"metrics":{{"power":7.0}}}}]"#)),
                ("pi", format!(r#"[{{"at_ms":{},"metrics":{{"cpu_usage_idle":98.5}}}}]"#, NOW + 500)),
            ]
        );
        let seconds = from_lines(&rollup(), "power,device=a value=1 1700000000", 1_000_000_000, NOW);
        assert_eq!(seconds.items[0].measured.at_ms, NOW);
    }

    #[test]
    fn json_is_an_array_or_an_object_a_line() {
        let one = r#"{"device":"a","at_ms":1,"metrics":{"power":1}}"#;
        let array = from_json(&rollup(), &format!("[{one}, {{}}, {one}]"), NOW);
        assert_eq!(lines(&array), (vec![1, 3], vec![2]));
        let of_lines =
            from_json(&rollup(), &format!("{one}\n\nx\n{{\"device\":\"b\",\"metrics\":{{\"power\":2}}}}\n"), NOW);
        assert_eq!(lines(&of_lines), (vec![1, 4], vec![3]));
        assert_eq!(of_lines.items[1].measured.at_ms, NOW, "it has arrived now");
        for wrong in [
            r#"{"device":"","at_ms":1,"metrics":{"power":1}}"#,
            r#"{"device":"a","at_ms":1,"metrics":{}}"#,
            r#"{"device":"a","at_ms":1,"metrics":{"pressure":1}}"#,
            r#"{"device":"a","at_ms":-1,"metrics":{"power":1}}"#,
            r#"{"device":"a","at_ms":1700001000000,"metrics":{"power":1}}"#,
            "[",
        ] {
            assert_eq!(lines(&from_json(&rollup(), wrong, NOW)), (vec![], vec![1]), "{wrong}");
        }
    }

    #[test]
    fn a_devices_readings_are_records_of_some_kilobytes() {
        let line = |n: i64| format!(r#"{{"device":"a","at_ms":{n},"metrics":{{"power":{n}}}}}"#);
        let text: Vec<String> = (0..5_000).map(line).collect();
        let records = from_json(&rollup(), &text.join("\n"), NOW).records();
        assert!(records.len() > 1 && records.iter().all(|(_, value)| value.len() <= RECORD_BYTES + 100));
        let read: Vec<Measured> =
            records.iter().flat_map(|(_, value)| serde_json::from_slice::<Vec<Measured>>(value).unwrap()).collect();
        assert!(read.iter().map(|measured| measured.at_ms).eq(0..5_000));
    }

    #[test]
    fn a_packed_body_is_bounded_when_it_is_unpacked() {
        use std::io::Write as _;
        let packed = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpacked(&packed(b"power"), true), Ok("power".into()));
        assert_eq!(unpacked(&packed(&vec![b' '; BODY_MAX + 1]), true).unwrap_err().0, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(unpacked(b"power", true).unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(unpacked(b"\xff", false).unwrap_err().0, StatusCode::BAD_REQUEST);
    }
}
