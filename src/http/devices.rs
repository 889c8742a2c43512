//! The devices of a roll-up: which there are, when they were last heard of, and what people say of them.
//!
//! | path | answer |
//! |---|---|
//! | `GET /api/devices?search=…&room=…&home=…&kind=…&after=…&limit=…` | devices by name, each with its metrics and the last reading that was told; `next` is the `after` of the next page |
//! | `PUT /api/devices/<device>` | keeps `{"name", "room", "home", "kind", "zone", "formerly"}`; the curves of the devices in `formerly` are the beginning of its own |
//! | `DELETE /api/devices/<device>` | deletes it from all tiers |

use super::access::{Asker, challenge};
use super::client;
use super::graph::chosen;
use super::refused::{Refused, body};
use super::shared::Shared;
use super::view::{View, with_tables};
use crate::flow::rollup::{Packed, RollUp, Tier};
use crate::ports::rollups::{Described, Device, NewestRow, WantedDevices};
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a question for devices may name.
pub(super) const PARAMETERS: [&str; 7] = ["rollup", "search", "room", "home", "kind", "after", "limit"];

/// Devices in an answer, unless the question says otherwise; and the most.
const LIMIT: u32 = 50;
const LIMIT_MAX: u32 = 500;
/// Bytes of a description.
const DESCRIPTION_MAX: usize = 16 << 10;

/// Works for whoever may: with the database, so not on the thread that serves.
async fn answered(
    shared: Shared,
    query: Option<String>,
    headers: HeaderMap,
    known: &'static [&'static str],
    work: impl FnOnce(&dyn View, &RollUp, &Asker, &BTreeMap<String, String>) -> Result<Response, Refused> + Send + 'static,
) -> Response {
    let asked = match client::parameters(query.as_deref().unwrap_or_default(), known) {
        Ok(asked) => asked,
        Err(error) => return Refused::bad(error).into_response(),
    };
    let Some(permit) = shared.reads.turn(true, false).await else {
        return Refused::unavailable("too many reads at a time").into_response();
    };
    let answered = tokio::task::spawn_blocking(move || {
        let view = &*shared.view;
        let answer = chosen(view, asked.get("rollup").map(String::as_str))
            .and_then(|rollup| work(view, rollup, &Asker::of(view, rollup, &headers)?, &asked));
        drop(permit);
        answer.unwrap_or_else(challenge)
    });
    answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// `GET /api/devices`.
pub(super) async fn list(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    answered(shared, query, headers, &PARAMETERS, |view, rollup, asker, asked| {
        let given = |name: &str| asked.get(name).filter(|text| !text.is_empty()).cloned();
        let limit = match asked.get("limit").map(|text| text.parse::<u32>()) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => return Err(Refused::bad(format!("limit: expected a whole number from 1 to {LIMIT_MAX}"))),
        };
        let wanted = WantedDevices {
            search: given("search"),
            room: given("room"),
            home: given("home"),
            kind: given("kind"),
            only: None,
            after: given("after"),
            limit,
        };
        told(view, rollup, asker, wanted).map(|value| body(StatusCode::OK, &value))
    })
    .await
}

fn told(view: &dyn View, rollup: &RollUp, asker: &Asker, wanted: WantedDevices) -> Result<Value, Refused> {
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let found = match asker.narrow(wanted) {
        Some(wanted) => with_tables(view, |tables| tables.devices(&rollup.name, &wanted))?,
        None => Vec::new(),
    };
    let names: Vec<String> = found.iter().map(|device| device.device.clone()).collect();
    let mut metrics: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for newest in with_tables(view, |tables| tables.newest(&rollup.name, &names))? {
        let last = last_of(rollup, &newest)?;
        metrics.entry(newest.device).or_default().insert(newest.metric, last);
    }
    let next = (found.len() == limit).then(|| names.last()).flatten();
    let mut of_one = |Device { device, described }: &Device| {
        let metrics = metrics.remove(device).unwrap_or_default();
        let last = metrics.values().filter_map(|last| last.get("at_ms")?.as_i64()).max();
        let Described { name, room, home, kind, zone, formerly } = described;
        json!({
            "device": device,
            "name": name,
            "room": room,
            "home": home,
            "kind": kind,
            "zone": zone,
            "formerly": formerly,
            "last_reading_ms": last,
            "metrics": metrics,
        })
    };
    Ok(json!({ "rollup": rollup.name, "devices": found.iter().map(&mut of_one).collect::<Vec<Value>>(), "next": next }))
}

/// The last reading of a metric that was told.
fn last_of(rollup: &RollUp, newest: &NewestRow) -> Result<Value, Refused> {
    let (Some(row), Some(metric)) = (&newest.row, rollup.metric(&newest.metric)) else { return Ok(json!({})) };
    let damaged = |error: String| Refused { code: StatusCode::INTERNAL_SERVER_ERROR, error };
    let slots = Packed::from(row.buckets.clone()).slots(row.start_ms, Tier::Quarters.bucket_ms());
    let slots = slots.map_err(|error| damaged(error.to_string()))?;
    let last = slots.values().next_back().map(|slot| slot.whole(&metric)).transpose();
    let last = last.map_err(|error| damaged(error.to_string()))?.flatten();
    Ok(last.map_or_else(|| json!({}), |bucket| json!({ "at_ms": bucket.last.at_ms, "value": bucket.last.value })))
}

/// `PUT /api/devices/<device>`.
pub(super) async fn describe(
    State(shared): State<Shared>,
    Path(device): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    description: Bytes,
) -> Response {
    answered(shared, query, headers, &["rollup"], move |view, rollup, asker, _| {
        asker.must_write()?;
        if description.len() > DESCRIPTION_MAX {
            return Err(Refused::bad(format!("a description has {DESCRIPTION_MAX} bytes at most")));
        }
        let described: Described =
            serde_json::from_slice(&description).map_err(|error| Refused::bad(error.to_string()))?;
        if let Some(zone) = described.zone.as_deref().filter(|zone| super::calendar::zone(zone).is_none()) {
            return Err(Refused::bad(format!("zone: expected a name as Europe/Berlin, and not {zone:?}")));
        }
        // Whoever is for one home makes no device of another one's, and takes none from there.
        if let Asker::Holder(grant, _) = asker
            && let Some(home) = &grant.home
            && described.home.as_ref() != Some(home)
        {
            return Err(Refused { code: StatusCode::FORBIDDEN, error: format!("the token is for the home {home}") });
        }
        let known = with_tables(view, |tables| {
            let only = std::iter::once(&device).chain(&described.formerly).cloned().collect();
            let limit = LIMIT_MAX;
            tables.devices(&rollup.name, &WantedDevices { only: Some(only), limit, ..WantedDevices::default() })
        })?;
        for own in known {
            asker.device(view, rollup, &own.device)?;
        }
        let device = Device { device, described };
        with_tables(view, |tables| tables.describe(&rollup.name, &device))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// `DELETE /api/devices/<device>`.
pub(super) async fn delete(
    State(shared): State<Shared>,
    Path(device): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    answered(shared, query, headers, &["rollup"], move |view, rollup, asker, _| {
        asker.must_write()?;
        asker.device(view, rollup, &device)?;
        let rows = with_tables(view, |tables| tables.delete(&rollup.name, &device))?;
        Ok(body(StatusCode::OK, &json!({ "rows": rows })))
    })
    .await
}
