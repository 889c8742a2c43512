//! Which path answers what.

use super::client::PIPELINE;
use super::shared::{Reads, Shared};
use super::view::View;
use super::{devices, graph, health, hosts, ingest, page, stores};
use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, map_response};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::{get, post, put};
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;

/// Everything comes from here; nothing inline, nothing from elsewhere, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is under `/api`, for programs.
const OPENAPI: &str = include_str!("openapi.json");

/// So many event streams at a time: far fewer than connections.
const STREAMS_MAX: usize = 32;

pub(super) fn router(view: Arc<dyn View>, reports: watch::Receiver<Arc<str>>) -> Router {
    // A name that no header can hold is told in the body alone.
    let pipeline = HeaderValue::from_str(&view.about().pipeline).ok();
    let hosts: Arc<[String]> = view.hosts().into();
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", &page::INDEX)))
        .route("/page.css", get(async || file("text/css; charset=utf-8", page::STYLES)))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", page::SCRIPT)))
        .route("/graphs", get(async || file("text/html; charset=utf-8", page::GRAPHS)))
        .route("/graphs.css", get(async || file("text/css; charset=utf-8", page::GRAPHS_STYLES)))
        .route("/graphs.js", get(async || file("text/javascript; charset=utf-8", page::GRAPHS_SCRIPT)))
        .route("/icon.svg", get(async || file("image/svg+xml", page::ICON)))
        .route("/events", get(events))
        .route("/status", get(status))
        .route("/stores", get(stores::list))
        .route("/stores/{store}", get(stores::many))
        .route("/stores/{store}/", get(stores::empty)) // the empty key
        .route("/stores/{store}/{key}", get(stores::one))
        .route("/api/series", get(graph::series))
        .route("/api/openapi.json", get(async || file("application/json", OPENAPI)))
        .route("/api/devices", get(devices::list))
        .route("/api/devices/{device}", put(devices::describe).delete(devices::delete))
        .route("/api/readings", post(ingest::readings))
        .route("/api/v2/write", post(ingest::lines))
        .route("/livez", get(livez))
        .route("/ping", get(livez))
        .route("/readyz", get(readyz))
        .route("/ready", get(readyz))
        .route("/startupz", get(startupz))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "nothing here; the page is at /, its numbers at /status, the stores at /stores\n")
        })
        .layer(from_fn(move |request, next| hosts::check(Arc::clone(&hosts), request, next)))
        .layer(map_response(move |response| ready(with_headers(response, pipeline.clone()))))
        .with_state(Shared {
            view,
            reads: Reads::default(),
            reports,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            pulse: Arc::default(),
        })
}

fn with_headers(mut response: Response, pipeline: Option<HeaderValue>) -> Response {
    if let Some(pipeline) = pipeline {
        response.headers_mut().insert(HeaderName::from_static(PIPELINE), pipeline);
    }
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type)], text).into_response()
}

async fn events(State(shared): State<Shared>) -> Response {
    let Ok(permit) = shared.streams.try_acquire_owned() else {
        let text = format!("{STREAMS_MAX} readers hear of events already; the same numbers are at /status\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], text).into_response();
    };
    let event = move |report: Arc<str>| {
        let _is_held = &permit; // as long as the stream lasts
        Ok::<_, Infallible>(Event::default().data(&*report))
    };
    Sse::new(WatchStream::new(shared.reports).map(event)).keep_alive(KeepAlive::default()).into_response()
}

async fn status(State(shared): State<Shared>) -> Response {
    let report = shared.reports.borrow().to_string();
    ([(CONTENT_TYPE, "application/json")], report).into_response()
}

async fn livez(State(shared): State<Shared>) -> Response {
    answer(shared.pulse.is_alive(shared.view.status()), "the polling thread stands still")
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let status = shared.view.status();
    answer(health::is_ready(status), &health::unready(status))
}

async fn startupz(State(shared): State<Shared>) -> Response {
    answer(health::is_started(shared.view.status()), "the group is not joined yet")
}

fn answer(is_well: bool, otherwise: &str) -> Response {
    if is_well {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What is described is served, with the parameters that its handler knows, and what is served is described.
    #[test]
    fn the_description_has_every_path_and_every_parameter() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let parameters = |path: &str, method: &str| -> BTreeSet<String> {
            let all = described["paths"][path][method]["parameters"].as_array().unwrap();
            let of_query = all.iter().filter(|parameter| parameter["in"] == "query");
            of_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
        };
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(parameters("/api/series", "get"), known(&graph::PARAMETERS));
        assert_eq!(parameters("/api/devices", "get"), known(&devices::PARAMETERS));
        assert_eq!(parameters("/api/v2/write", "post"), known(&ingest::PARAMETERS));
        assert_eq!(parameters("/api/readings", "post"), known(&["rollup"]));
        let source = include_str!("router.rs");
        let served = source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"/api/")?.split('"').next());
        let served: BTreeSet<String> =
            served.filter(|path| *path != "openapi.json").map(|path| format!("/api/{path}")).collect();
        let paths: BTreeSet<String> = described["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(paths, served);
    }
}
