//! Reads of stores: by key, by prefix, and their sizes. What another instance owns is asked of that instance, once: a
//! forwarded question is not forwarded again.
//!
//! | code | meaning |
//! |---|---|
//! | 200 | the proved values, each partition with its position and staleness |
//! | 400 | the key or the query is none of this store |
//! | 404 | no such key; or no such store, with the names that there are |
//! | 503 | a partition is being restored or moved; `Retry-After` says when to ask again, the body what is known |

use super::client;
use super::router::Shared;
use super::view::View;
use crate::engine::query::{Elsewhere, Entry, Reading, Refusal, Standing, Unready, Wanted};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Set on a question that comes from another instance.
const FORWARDED: &str = "x-tidegate-forwarded";
/// How long another instance may take for each step of its answer.
const FORWARD_WAIT: Duration = Duration::from_secs(5);
/// Entries of an answer, unless the question says otherwise; and the most that may be asked for.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// The longest time that a client is told to wait.
const RETRY_S_MAX: f64 = 60.0;

/// What is told of a store.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    store: String,
    /// Keys and values in key order.
    entries: Vec<Entry>,
    /// Whether there are more keys than were asked for.
    has_more: bool,
    /// The partitions that were read.
    partitions: Vec<Told>,
    /// The partitions that were not.
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// The instance that answered; null for the one that was asked.
    owner: Option<String>,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Debug, Serialize, Deserialize)]
struct Missing {
    partition: i32,
    /// What keeps it from being read.
    reason: String,
    owner: Option<String>,
    seconds_left: Option<f64>,
}

pub(super) async fn list(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    blocking(move || {
        let view = &*shared.view;
        let gather = |store: String| Gather { view, store: &store, wanted: Wanted::Size, limit: 0 }.run(&headers);
        let answers: Result<Vec<Answer>, Refusal> = view.stores().into_iter().map(gather).collect();
        match answers {
            Ok(stores) => body(StatusCode::OK, &json!({ "stores": stores })),
            Err(refusal) => refused(&refusal),
        }
    })
    .await
}

pub(super) async fn many(
    State(shared): State<Shared>,
    Path(store): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (wanted, limit) = match wanted(query.as_deref().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(message) => return body(StatusCode::BAD_REQUEST, &json!({ "error": message })),
    };
    blocking(move || Gather { view: &*shared.view, store: &store, wanted, limit }.respond(&headers)).await
}

pub(super) async fn one(
    State(shared): State<Shared>,
    Path((store, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let wanted = Wanted::Key(key);
    blocking(move || Gather { view: &*shared.view, store: &store, wanted, limit: LIMIT_MAX }.respond(&headers)).await
}

/// Workers and other instances are asked on a thread that may wait.
async fn blocking(answer: impl FnOnce() -> Response + Send + 'static) -> Response {
    let answered = tokio::task::spawn_blocking(answer).await;
    answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// `prefix=…`, `limit=…` or `size=true`.
fn wanted(query: &str) -> Result<(Wanted, usize), String> {
    let (mut prefix, mut limit, mut is_size) = (String::new(), LIMIT, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = client::decode(value).ok_or_else(|| format!("{name}: no UTF-8 text in % notation"))?;
        match name {
            "prefix" => prefix = value,
            "limit" => {
                let number = value.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
                limit = number.ok_or_else(|| format!("limit: expected a whole number from 1 to {LIMIT_MAX}"))?;
            }
            "size" => is_size = value == "true",
            _ => return Err(format!("{name}: unknown; there are prefix, limit and size")),
        }
    }
    // One more than is told, so that it is known whether there are more.
    let wanted = if is_size { Wanted::Size } else { Wanted::Prefix { prefix, count_max: limit + 1 } };
    Ok((wanted, limit))
}

/// One question, put to this process and, for what it does not own, to others.
struct Gather<'a> {
    view: &'a dyn View,
    store: &'a str,
    wanted: Wanted,
    limit: usize,
}

impl Gather<'_> {
    fn respond(&self, headers: &HeaderMap) -> Response {
        let answer = match self.run(headers) {
            Ok(answer) => answer,
            Err(refusal) => return refused(&refusal),
        };
        let is_key = matches!(self.wanted, Wanted::Key(_));
        let is_found = is_key && !answer.entries.is_empty(); // wherever else it might have lain
        if !answer.missing.is_empty() && !is_found {
            let seconds = answer.missing.iter().filter_map(|missing| missing.seconds_left).fold(1.0, f64::max);
            let retry_after = seconds.ceil().min(RETRY_S_MAX).to_string();
            let mut response = told(StatusCode::SERVICE_UNAVAILABLE, "not every partition can be read now", &answer);
            if let Ok(value) = retry_after.parse() {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            return response;
        }
        if is_key && !is_found {
            return told(StatusCode::NOT_FOUND, "no such key", &answer);
        }
        body(StatusCode::OK, &answer)
    }

    fn run(&self, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let Reading { entries, partitions, elsewhere, unready } = self.view.read(self.store, &self.wanted)?;
        let partitions = partitions.into_iter().map(|standing| Told { owner: None, standing }).collect();
        let missing = unready.into_iter().map(Missing::from).collect();
        let mut answer = Answer { store: self.store.into(), entries, has_more: false, partitions, missing };
        if headers.contains_key(FORWARDED) {
            answer.missing.extend(elsewhere.into_iter().map(Missing::from));
        } else {
            self.ask_others(elsewhere, &mut answer);
        }
        answer.entries.sort_by(|a, b| (&a.key, a.partition).cmp(&(&b.key, b.partition)));
        answer.partitions.sort_by_key(|told| told.standing.partition);
        if answer.entries.len() > self.limit {
            answer.entries.truncate(self.limit);
            answer.has_more = true;
        }
        Ok(answer)
    }

    fn ask_others(&self, elsewhere: Vec<Elsewhere>, answer: &mut Answer) {
        let mut by_owner: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for place in elsewhere {
            match place.owner {
                Some(owner) => by_owner.entry(owner).or_default().push(place.partition),
                None => answer.missing.push(place.into()),
            }
        }
        for (owner, partitions) in by_owner {
            match client::get(&owner, &self.path(), Some((FORWARDED, "1")), FORWARD_WAIT) {
                Ok((_, text)) => answer.add(&owner, &partitions, serde_json::from_str(&text).ok()),
                Err(error) => {
                    tracing::debug!(owner, %error, "another instance did not answer for its partitions");
                    answer.add(&owner, &partitions, None);
                }
            }
        }
    }

    fn path(&self) -> String {
        let store = client::encode(self.store);
        match &self.wanted {
            Wanted::Key(key) => format!("/stores/{store}/{}", client::encode(key)),
            Wanted::Prefix { prefix, .. } => {
                format!("/stores/{store}?prefix={}&limit={}", client::encode(prefix), self.limit)
            }
            Wanted::Size => format!("/stores/{store}?size=true"),
        }
    }
}

impl Answer {
    /// Takes what `owner` told of `partitions`; of others it was not asked.
    fn add(&mut self, owner: &str, partitions: &[i32], told: Option<Self>) {
        let mut left = partitions.to_vec();
        if let Some(told) = told {
            self.has_more |= told.has_more;
            self.entries.extend(told.entries.into_iter().filter(|entry| partitions.contains(&entry.partition)));
            for Told { standing, .. } in told.partitions {
                if left.contains(&standing.partition) {
                    left.retain(|partition| *partition != standing.partition);
                    self.partitions.push(Told { owner: Some(owner.into()), standing });
                }
            }
            for missing in told.missing {
                if left.contains(&missing.partition) {
                    left.retain(|partition| *partition != missing.partition);
                    self.missing.push(Missing { owner: Some(owner.into()), ..missing });
                }
            }
        }
        let silent = |partition| Missing {
            partition,
            reason: "its owner did not answer".into(),
            owner: Some(owner.into()),
            seconds_left: None,
        };
        self.missing.extend(left.into_iter().map(silent));
    }
}

impl From<Unready> for Missing {
    fn from(unready: Unready) -> Self {
        let Unready { partition, state, seconds_left } = unready;
        Self { partition, reason: state.into(), owner: None, seconds_left }
    }
}

impl From<Elsewhere> for Missing {
    fn from(Elsewhere { partition, owner }: Elsewhere) -> Self {
        let reason = if owner.is_some() { "another instance owns it" } else { "nobody is known to own it" };
        Self { partition, reason: reason.into(), owner, seconds_left: None }
    }
}

fn refused(refusal: &Refusal) -> Response {
    let code = match refusal {
        Refusal::UnknownStore { .. } => StatusCode::NOT_FOUND,
        Refusal::BadKey(_) => StatusCode::BAD_REQUEST,
        Refusal::Unanswered(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = body(code, &json!({ "error": refusal.to_string() }));
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
    }
    response
}

/// An answer with the sentence that explains its code.
fn told(code: StatusCode, error: &str, answer: &Answer) -> Response {
    #[derive(Serialize)]
    struct Explained<'a> {
        error: &'a str,
        #[serde(flatten)]
        answer: &'a Answer,
    }
    body(code, &Explained { error, answer })
}

fn body(code: StatusCode, value: &impl Serialize) -> Response {
    // Texts, numbers and values that came from JSON: what cannot be said in JSON is not among them.
    let text = serde_json::to_string(value).unwrap_or_default();
    (code, [(CONTENT_TYPE, "application/json")], text + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_prefix_limit_or_size() {
        let prefix = |prefix: &str, count_max| Wanted::Prefix { prefix: prefix.into(), count_max };
        assert_eq!(wanted(""), Ok((prefix("", 101), 100)));
        assert_eq!(wanted("prefix=a%2Fb&limit=5"), Ok((prefix("a/b", 6), 5)));
        assert_eq!(wanted("size=true").unwrap().0, Wanted::Size);
        for wrong in ["limit=0", "limit=10001", "limit=x", "prefix=%ff", "prefx=a"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
