//! Reads of stores: by key, by prefix, and their sizes. What another instance owns is asked of that instance, once: a
//! forwarded question is not forwarded again, and an answer of another pipeline or cluster is not believed. Reads at a time
//! are bounded, and one whose client has gone is given up.
//!
//! | code | meaning |
//! |---|---|
//! | 200 | the proved values, each partition with its position and staleness |
//! | 400 | the key or the query is none of this store |
//! | 401, 403 | a token is needed, or one that sees all devices: [`admission`] |
//! | 404 | no such key; or no such store, with the names that there are |
//! | 503 | a partition is being restored or moved; `Retry-After` says when to ask again, the body what is known |

use super::access::Credential;
use super::admission;
use super::question::{Asked, LIMIT_MAX, MANY, ONE, path};
use super::shared::Shared;
use super::view::View;
use super::{client, place};
use crate::engine::query::{Entry, Reading, Refusal, Span, Standing, Unready, Wanted, cut, from_hex, to_hex, within};
use crate::ports::Clock as _;
use crate::ports::clock::SystemClock;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Set on a question that comes from another instance.
const FORWARDED: &str = "x-tidegate-forwarded";
/// How long another instance may take for its answer.
const FORWARD_WAIT: Duration = Duration::from_secs(5);
/// How long all others may take together: less than a client waits.
const OTHERS_WAIT: Duration = Duration::from_secs(9);
/// So many other instances are asked at a time.
const FORWARDS_MAX: usize = 8;
/// The longest time that a client is told to wait.
const RETRY_S_MAX: f64 = 60.0;

/// What is told of a store.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Whose store it is: an address may have gone to an instance of another pipeline.
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    cluster: String,
    store: String,
    /// Keys and values, ascending by the keys' bytes.
    pub(super) entries: Vec<Entry>,
    /// Whether there are more keys than were told.
    has_more: bool,
    /// Where they begin, in hexadecimal digits: `from` of the next question.
    #[serde(default)]
    pub(super) next: Option<String>,
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
    let is_forwarded = headers.contains_key(FORWARDED);
    answered(shared, true, is_forwarded, move |view, is_gone| {
        if let Some(refused) = admission::refuse(view, &headers, None) {
            return refused;
        }
        let (others, credential) = (Others::default(), Credential::of(&headers));
        let gather = |store: String| {
            let (wanted, credential) = (Wanted::Size, &credential);
            Gather { view, store: &store, wanted, limit: 0, is_forwarded, is_gone, credential, others: &others }.run()
        };
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
    let asked = Asked::read(query.as_deref().unwrap_or_default(), MANY).and_then(Asked::many);
    let (wanted, limit) = match asked {
        Ok(wanted) => wanted,
        Err(message) => return body(StatusCode::BAD_REQUEST, &json!({ "error": message })),
    };
    let is_forwarded = headers.contains_key(FORWARDED);
    let asked = Question { store, wanted, limit, is_forwarded, headers };
    answered(shared, true, is_forwarded, move |view, is_gone| asked.respond(view, is_gone)).await
}

pub(super) async fn one(
    State(shared): State<Shared>,
    Path((store, key)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let wanted = match Asked::read(query.as_deref().unwrap_or_default(), ONE) {
        Ok(asked) => Wanted::Key { key, span: asked.span },
        Err(message) => return body(StatusCode::BAD_REQUEST, &json!({ "error": message })),
    };
    let (limit, is_forwarded) = (LIMIT_MAX, headers.contains_key(FORWARDED));
    let asked = Question { store, wanted, limit, is_forwarded, headers };
    answered(shared, false, is_forwarded, move |view, is_gone| asked.respond(view, is_gone)).await
}

pub(super) async fn empty(
    shared: State<Shared>,
    Path(store): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
) -> Response {
    one(shared, Path((store, String::new())), query, headers).await
}

/// What a request wants of a store.
struct Question {
    store: String,
    wanted: Wanted,
    limit: usize,
    is_forwarded: bool,
    headers: HeaderMap,
}

impl Question {
    fn respond(self, view: &dyn View, is_gone: &dyn Fn() -> bool) -> Response {
        let Self { store, wanted, limit, is_forwarded, headers } = self;
        if let Some(refused) = admission::refuse(view, &headers, Some((&store, &wanted))) {
            return refused;
        }
        let (store, credential, others) = (&store, &Credential::of(&headers), &Others::default());
        Gather { view, store, wanted, limit, is_forwarded, is_gone, credential, others }.respond()
    }
}

/// The entries of a store that are wanted, wherever they lie, for somebody who may read them; what keeps one of its partitions from being
/// read is an error. May block for seconds.
pub(super) fn gathered(
    view: &dyn View,
    store: &str,
    (wanted, limit): (Wanted, usize),
    credential: &Credential,
) -> Result<Vec<Entry>, String> {
    let (is_gone, others) = (|| false, Others::default());
    let (is_forwarded, is_gone, others) = (false, &is_gone, &others);
    let gather = Gather { view, store, wanted, limit, is_forwarded, is_gone, credential, others };
    let answer = gather.run().map_err(|refusal| refusal.to_string())?;
    match answer.missing.first() {
        None => Ok(answer.entries),
        Some(missing) => Err(format!("partition {}: {}", missing.partition, missing.reason)),
    }
}

/// Workers and other instances are asked on a thread that may wait. It is told when the client has gone: this future is
/// dropped then.
async fn answered(
    shared: Shared,
    is_long: bool,
    is_forwarded: bool,
    answer: impl FnOnce(&dyn View, &dyn Fn() -> bool) -> Response + Send + 'static,
) -> Response {
    let Some(permit) = shared.reads.turn(is_long, is_forwarded).await else {
        return refused(&Refusal::Unanswered("too many reads at a time".into()));
    };
    let client = Arc::new(());
    let is_there = Arc::downgrade(&client);
    let answered = tokio::task::spawn_blocking(move || {
        let answer = answer(&*shared.view, &|| is_there.strong_count() == 0);
        drop(permit);
        answer
    });
    let response = answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    drop(client);
    response
}

/// One question, put to this process and, for what it does not own, to others.
struct Gather<'a> {
    view: &'a dyn View,
    store: &'a str,
    wanted: Wanted,
    limit: usize,
    is_forwarded: bool,
    is_gone: &'a dyn Fn() -> bool,
    /// What other instances are asked with.
    credential: &'a Credential,
    others: &'a Others,
}

/// The time that the other instances may take for one question of a client, whatever the number of stores and of instances.
#[derive(Default)]
struct Others(SystemClock);

impl Others {
    /// What is left for the next ones; `None` at the end.
    fn left(&self) -> Option<Duration> {
        let left = OTHERS_WAIT.saturating_sub(self.0.elapsed()).min(FORWARD_WAIT);
        (!left.is_zero()).then_some(left)
    }
}

impl Gather<'_> {
    fn respond(&self) -> Response {
        let answer = match self.run() {
            Ok(answer) => answer,
            Err(refusal) => return refused(&refusal),
        };
        let is_key = matches!(self.wanted, Wanted::Key { .. });
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

    fn run(&self) -> Result<Answer, Refusal> {
        let reading = self.view.read(self.store, &self.wanted, self.is_gone)?;
        let Reading { pipeline, cluster_id, entries, next, partitions, elsewhere, unready } = reading;
        let mut answer = Answer {
            pipeline,
            cluster: cluster_id,
            store: self.store.into(),
            entries,
            partitions: partitions.into_iter().map(|standing| Told { owner: None, standing }).collect(),
            missing: unready.into_iter().map(Missing::from).collect(),
            ..Answer::default()
        };
        let mut ends: Vec<Vec<u8>> = next.into_iter().collect();
        if self.is_forwarded {
            let reason = "another instance owns it";
            answer.missing.extend(elsewhere.into_iter().map(|partition| Missing::of(partition, reason, None)));
        } else {
            self.ask_others(&elsewhere, &mut answer, &mut ends);
        }
        let (span, is_named) = match &self.wanted {
            Wanted::Key { span, .. } => (*span, true),
            Wanted::Many { span, .. } => (*span, false),
            Wanted::Size => (Span::default(), false),
        };
        // An instance of an earlier release tells all windows of a key.
        let entries = std::mem::take(&mut answer.entries).into_iter();
        answer.entries = entries.filter_map(|entry| within(entry, span, is_named)).collect();
        answer.partitions.sort_by_key(|told| told.standing.partition);
        answer.entries.sort_by_cached_key(|entry| (entry.bytes(), entry.partition));
        // Beyond the first end some partition may have keys that it has not told.
        if let Some(end) = ends.iter().min() {
            let at = answer.entries.partition_point(|entry| entry.bytes() < *end);
            answer.entries.truncate(at);
        }
        ends.extend(cut(&mut answer.entries, self.limit));
        answer.next = ends.iter().min().map(|next| to_hex(next));
        answer.has_more = answer.next.is_some();
        Ok(answer)
    }

    fn ask_others(&self, elsewhere: &[i32], answer: &mut Answer, ends: &mut Vec<Vec<u8>>) {
        if elsewhere.is_empty() {
            return;
        }
        let owners = self.view.owners(self.store, elsewhere);
        let mut by_owner: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in elsewhere {
            match owners.get(partition).map(|told| place::reachable(told)) {
                Some(Some(owner)) => by_owner.entry(owner).or_default().push(*partition),
                Some(None) => answer.missing.push(Missing::of(*partition, OUT_OF_REACH, None)),
                None => answer.missing.push(Missing::of(*partition, "nobody is known to own it", None)),
            }
        }
        let before = answer.missing.len();
        let by_owner: Vec<(&str, Vec<i32>)> = by_owner.into_iter().collect();
        for some in by_owner.chunks(FORWARDS_MAX) {
            if (self.is_gone)() {
                return;
            }
            let Some(within) = self.others.left() else {
                for (owner, partitions) in some {
                    answer.add(owner, partitions, Err(UNASKED.into()), ends);
                }
                continue;
            };
            let path = path(self.store, &self.wanted, self.limit);
            let told: Vec<Result<Answer, String>> = thread::scope(|scope| {
                let ask = |owner: &str| {
                    let (owner, path, credential) = (owner.to_owned(), &path, self.credential);
                    scope.spawn(move || ask(&owner, path, credential, within))
                };
                let asked: Vec<_> = some.iter().map(|(owner, _)| ask(owner)).collect();
                asked.into_iter().map(|asked| asked.join().unwrap_or_else(|_| Err(SILENT.into()))).collect()
            });
            for ((owner, partitions), told) in some.iter().zip(told) {
                answer.add(owner, partitions, told, ends);
            }
        }
        if answer.missing.get(before..).unwrap_or_default().iter().any(|missing| missing.seconds_left.is_none()) {
            self.view.doubt_owners();
        }
    }
}

const SILENT: &str = "its owner did not answer";
const UNASKED: &str = "its owner was not asked: other owners took all the time that there is";
const OUT_OF_REACH: &str =
    "its owner listens on its own machine only; set http.address, or http.advertised_address, to one that others reach";

/// Asks another instance.
fn ask(owner: &str, path: &str, credential: &Credential, within: Duration) -> Result<Answer, String> {
    /// An answer that tells nothing.
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let headers: Vec<(&str, &str)> = std::iter::once((FORWARDED, "1")).chain(credential.header()).collect();
    let answer = client::get(owner, path, &headers, within).map_err(|error| {
        tracing::debug!(owner, %error, "another instance did not answer for its partitions");
        SILENT.to_owned()
    })?;
    let text = &answer.body;
    serde_json::from_str(text).map_err(|_| match serde_json::from_str(text) {
        Ok(Refused { error }) => format!("its owner answers: {error}"),
        Err(_) => SILENT.into(),
    })
}

impl Answer {
    /// Takes what `owner` told of `partitions`; of others it was not asked.
    fn add(&mut self, owner: &str, partitions: &[i32], told: Result<Self, String>, ends: &mut Vec<Vec<u8>>) {
        let mut left = partitions.to_vec();
        let told = told.and_then(|told| {
            let is_ours = told.pipeline == self.pipeline && told.cluster == self.cluster && told.store == self.store;
            let (pipeline, cluster) = (&told.pipeline, &told.cluster);
            let reason = || format!("at its owner's address answers pipeline {pipeline:?} on cluster {cluster:?}");
            if is_ours { Ok(told) } else { Err(reason()) }
        });
        let mut reason = SILENT.to_owned();
        match told {
            Ok(told) => {
                ends.extend(told.next.as_deref().and_then(from_hex));
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
            Err(why) => reason = why,
        }
        self.missing.extend(left.into_iter().map(|partition| Missing::of(partition, &reason, Some(owner))));
    }
}

impl Missing {
    fn of(partition: i32, reason: &str, owner: Option<&str>) -> Self {
        Self { partition, reason: reason.into(), owner: owner.map(Into::into), seconds_left: None }
    }
}

impl From<Unready> for Missing {
    fn from(unready: Unready) -> Self {
        let Unready { partition, state, seconds_left } = unready;
        Self { partition, reason: state.into(), owner: None, seconds_left }
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
