//! Answers that a broker may give (F3): the requests of a transaction are refused in its place, once, ten times, or for
//! as long as it takes to see the class that `docs/errors.md` gives. When the broker answers for itself again, everything
//! moves on, and nothing is lost or published twice.
//!
//! A refused request was not carried out, as with a real broker. The same codes on librdkafka alone:
//! `adapters::kafka::refusals`.

use crate::rig::{Action, Feed, Instance, Proof, Proxy, Random, Request, World, say, until};
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, EndTxnRequest,
    EndTxnResponse, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};
use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const IDS: i64 = 1_000;
/// From the moment when the broker answers for itself again until every partition moves.
const BACK_WITHIN: Duration = Duration::from_secs(30);
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const ILLEGAL_GENERATION: i16 = 22;
/// Number of cells judged together.
const TOGETHER: usize = 40;
/// Number of cells that are enough for a change: two of each request.
const SAMPLE: usize = 12;

/// Each request with codes that a broker may answer it with and librdkafka treats differently.
const REFUSALS: [(ApiKey, &[&str]); 6] = [
    (
        ApiKey::InitProducerId,
        &[
            "COORDINATOR_LOAD_IN_PROGRESS",
            "NOT_COORDINATOR",
            "CONCURRENT_TRANSACTIONS",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "INVALID_TRANSACTION_TIMEOUT",
        ],
    ),
    (
        ApiKey::AddPartitionsToTxn,
        &[
            "COORDINATOR_NOT_AVAILABLE",
            "CONCURRENT_TRANSACTIONS",
            "UNKNOWN_TOPIC_OR_PART",
            "INVALID_TXN_STATE",
            "PRODUCER_FENCED",
            "TOPIC_AUTHORIZATION_FAILED",
        ],
    ),
    (
        ApiKey::Produce,
        &[
            "INVALID_MSG",
            "NOT_LEADER_FOR_PARTITION",
            "NOT_ENOUGH_REPLICAS",
            "KAFKA_STORAGE_ERROR",
            "OUT_OF_ORDER_SEQUENCE_NUMBER",
            "UNKNOWN_PRODUCER_ID",
            "INVALID_PRODUCER_EPOCH",
            "MSG_SIZE_TOO_LARGE",
            "INVALID_RECORD",
            "TOPIC_AUTHORIZATION_FAILED",
            "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        ],
    ),
    (
        ApiKey::AddOffsetsToTxn,
        &["NOT_COORDINATOR", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH", "GROUP_AUTHORIZATION_FAILED"],
    ),
    (
        ApiKey::TxnOffsetCommit,
        &[
            "COORDINATOR_LOAD_IN_PROGRESS",
            "REQUEST_TIMED_OUT",
            "ILLEGAL_GENERATION",
            "UNKNOWN_MEMBER_ID",
            "REBALANCE_IN_PROGRESS",
            "FENCED_INSTANCE_ID",
            "STALE_MEMBER_EPOCH",
            "INVALID_COMMIT_OFFSET_SIZE",
            "OFFSET_METADATA_TOO_LARGE",
            "GROUP_AUTHORIZATION_FAILED",
        ],
    ),
    (
        ApiKey::EndTxn,
        &[
            "COORDINATOR_NOT_AVAILABLE",
            "CONCURRENT_TRANSACTIONS",
            "INVALID_TXN_STATE",
            "INVALID_PRODUCER_ID_MAPPING",
            "PRODUCER_FENCED",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        ],
    ),
];

/// Times that the broker refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dose {
    Once,
    TenTimes,
    ForEver,
}

const DOSES: [Dose; 3] = [Dose::Once, Dose::TenTimes, Dose::ForEver];

impl Dose {
    fn count(self) -> u64 {
        match self {
            Self::Once => 1,
            Self::TenTimes => 10,
            Self::ForEver => u64::MAX,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    request: ApiKey,
    code: &'static str,
    dose: Dose,
}

/// Whether a start looks for it before it serves anything.
fn is_wrong_set_up(cell: Cell) -> bool {
    let told = ["INVALID_TRANSACTION_TIMEOUT", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"];
    cell.request == ApiKey::InitProducerId && told.contains(&cell.code)
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let dose = match self.dose {
            Dose::Once => "once",
            Dose::TenTimes => "10 times",
            Dose::ForEver => "for ever",
        };
        write!(f, "{:?} {} {dose}", self.request, self.code)
    }
}

/// Doses of one code stand together: refusals counted a minute long are spent by the second, which ends the process.
fn all() -> Vec<Cell> {
    let pairs = REFUSALS.iter().flat_map(|(request, codes)| codes.iter().map(|code| (*request, *code)));
    pairs.flat_map(|(request, code)| DOSES.map(|dose| Cell { request, code, dose })).collect()
}

/// Each request twice, with other codes and doses.
fn sample(seed: u64) -> Vec<Cell> {
    let mut random = Random::new(seed ^ 0xF3);
    let mut below = |end: usize| usize::try_from(random.below(end as u64)).unwrap();
    let shift = below(DOSES.len());
    let mut cell = |number: usize| {
        let (request, codes) = REFUSALS[number % REFUSALS.len()];
        let half = codes.len() / 2;
        let code = if number < REFUSALS.len() { below(half) } else { half + below(codes.len() - half) };
        Cell { request, code: codes[code], dose: DOSES[(number + number / REFUSALS.len() + shift) % DOSES.len()] }
    };
    (0..SAMPLE).map(&mut cell).collect()
}

/// A code as the document has it: its number and its class.
fn documented() -> HashMap<String, (i16, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let code = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        let (number, class) = (cells.get(2)?.parse().ok()?, *cells.get(4)?);
        Some((code.to_owned(), (number, class.to_owned())))
    });
    rows.collect()
}

/// The frame with which a broker refuses.
pub fn refusal(request: &Request, code: i16) -> Bytes {
    match request.api {
        ApiKey::InitProducerId => {
            let answer = InitProducerIdResponse::default().with_error_code(code);
            request.answered(&answer.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
        }
        ApiKey::AddPartitionsToTxn => {
            let asked: AddPartitionsToTxnRequest = request.body();
            let partition = |index: &i32| {
                let result = AddPartitionsToTxnPartitionResult::default();
                result.with_partition_index(*index).with_partition_error_code(code)
            };
            let topics = asked.v3_and_below_topics.iter().map(|topic| {
                let results = topic.partitions.iter().map(partition).collect();
                let result = AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone());
                result.with_results_by_partition(results)
            });
            let answer = AddPartitionsToTxnResponse::default();
            request.answered(&answer.with_results_by_topic_v3_and_below(topics.collect()))
        }
        ApiKey::Produce => {
            let asked: ProduceRequest = request.body();
            let partition = |index: i32| {
                let result = PartitionProduceResponse::default().with_index(index);
                result.with_error_code(code).with_base_offset(-1)
            };
            let topics = asked.topic_data.iter().map(|topic| {
                let results = topic.partition_data.iter().map(|data| partition(data.index)).collect();
                TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(results)
            });
            request.answered(&ProduceResponse::default().with_responses(topics.collect()))
        }
        ApiKey::AddOffsetsToTxn => request.answered(&AddOffsetsToTxnResponse::default().with_error_code(code)),
        ApiKey::TxnOffsetCommit => {
            let asked: TxnOffsetCommitRequest = request.body();
            let partition = |index: i32| {
                TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
            };
            let topics = asked.topics.iter().map(|topic| {
                let results = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
                TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(results)
            });
            request.answered(&TxnOffsetCommitResponse::default().with_topics(topics.collect()))
        }
        ApiKey::EndTxn => request.answered(&EndTxnResponse::default().with_error_code(code)),
        other => panic!("{other:?} is no request of a transaction"),
    }
}

/// Refuses the cell's requests; how often it has is counted. Where the first refusal ends a transaction the others of the
/// same transaction count for nothing: a transaction has many a `Produce`.
fn refuse(cell: Cell, code: i16, is_end: bool, given: Arc<AtomicU64>) -> impl FnMut(Request) -> Action + Send {
    // A producer has its id: another one is needed before it is asked for.
    let mut is_needed = cell.request == ApiKey::InitProducerId;
    let mut is_counted = false;
    move |request| {
        if is_needed && request.api == ApiKey::TxnOffsetCommit {
            is_needed = false;
            return Action::Answer(refusal(&request, ILLEGAL_GENERATION));
        }
        if matches!(request.api, ApiKey::InitProducerId | ApiKey::EndTxn) {
            is_counted = false; // one worker: another transaction comes
        }
        // The end of an abort is only logged.
        let is_it =
            request.api == cell.request && (request.api != ApiKey::EndTxn || request.body::<EndTxnRequest>().committed);
        let is_more = given.load(Ordering::SeqCst) < cell.dose.count();
        if !is_it || !(is_counted || is_more) {
            return Action::Forward(request);
        }
        if !is_counted {
            given.fetch_add(1, Ordering::SeqCst);
        }
        is_counted = is_end;
        Action::Answer(refusal(&request, code))
    }
}

/// One instance with one worker behind a proxy.
struct Stage {
    instance: Instance,
    proxy: Proxy,
    world: World, // last: the others need its servers
}

impl Stage {
    fn new() -> Option<Self> {
        let (mut world, proxy) = World::proxied("forged", IDS)?;
        world.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
        let short = [
            ("TIDEGATE_ENGINE__WORKERS", "1"),
            ("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "3000"),
            ("TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS", "3000"),
        ];
        world.settings.extend(short.map(|(name, value)| (name.into(), value.into())));
        let instance = world.instance("only");
        world.wait_owners(1);
        Some(Self { instance, proxy, world })
    }

    /// Refuses as `cell` says, and waits for the effect that the class promises; answers how often it was refused.
    fn play(&mut self, cell: Cell, code: i16, class: &str) -> u64 {
        if class == "Retry, counted" {
            self.wait_small_backlog();
        }
        let before = self.instance.log().len();
        let given = Arc::new(AtomicU64::new(0));
        let mut refuse = refuse(cell, code, class != "Retry", Arc::clone(&given));
        self.proxy.rule(move |request, _| refuse(request));
        let count = || given.load(Ordering::SeqCst);
        until(&format!("{cell} ends as {class}"), SEEN_WITHIN, || {
            let log = self.instance.log().split_off(before);
            let is_there = |words: &str| if log.contains(words) { Ok(()) } else { Err(format!("no {words:?}")) };
            let is_given = |least: u64| if count() >= least { Ok(()) } else { Err(format!("{} given", count())) };
            match (class, cell.dose) {
                ("Fatal", _) => is_there("Broker: "),
                ("Retry, counted", Dose::TenTimes | Dose::ForEver) => {
                    is_there("another instance uses transactional.id")
                }
                ("Fenced", Dose::ForEver) => is_there("the group refuses this member"),
                ("Corrupt", _) if halts(class, cell) => is_there("reason=\"unpublishable\""),
                ("Corrupt", Dose::TenTimes) => {
                    is_given(cell.dose.count()).and_then(|()| is_there("it becomes a dead letter"))
                }
                (_, Dose::ForEver) if cell.request == ApiKey::InitProducerId => is_given(3),
                (_, Dose::ForEver) => is_given(3).and_then(|()| is_there("a Kafka transaction failed")),
                (_, dose) => is_given(dose.count()),
            }
            .map_err(|error| format!("{error}; the log goes on with\n{log}"))
        });
        if ends(class, cell.dose) {
            self.end(cell, 1);
        }
        if class == "Fatal" && cell.dose == Dose::ForEver {
            self.instance = self.world.instance("only"); // a start does not help
            self.end(cell, if is_wrong_set_up(cell) { 78 } else { 1 });
        }
        self.proxy.open();
        count()
    }

    /// Waits until what is not published is little. A large transaction that is refused is halved before its refusals are counted,
    /// and those of a backlog, as a start has one, would all be spent on that.
    fn wait_small_backlog(&self) {
        until("little is unpublished", SEEN_WITHIN, || {
            match self.world.number("SELECT max(next_offset - published) FROM tidegate.position") {
                0..=4 => Ok(()),
                records => Err(format!("{records} records of a partition")),
            }
        });
    }

    fn end(&mut self, cell: Cell, code: i32) {
        let status = self.instance.end(SEEN_WITHIN);
        assert_eq!(status.code(), Some(code), "{cell}\n{}", self.instance.log());
    }

    /// Starts the process again where it has ended or has halted, and waits until everything moves.
    fn wait_back(&mut self, cell: Cell, class: &str) -> f64 {
        let began = Instant::now();
        if halts(class, cell) && self.instance.is_running() {
            let _ = self.instance.terminate(Duration::from_secs(15)); // its partitions stand still until it starts again
        }
        let is_over = !self.instance.is_running();
        assert_eq!(is_over, halts(class, cell) || ends(class, cell.dose), "{cell}\n{}", self.instance.log());
        if is_over {
            self.instance = self.world.instance("only");
        }
        self.world.wait_all_move();
        let took = began.elapsed();
        assert!(took <= BACK_WITHIN, "{cell}: back after {took:?}");
        took.as_secs_f64()
    }
}

/// Whether the process ends by itself.
fn ends(class: &str, dose: Dose) -> bool {
    class == "Fatal" || class == "Retry, counted" && dose != Dose::Once
}

/// Whether partitions halt: where no message is to blame, or where one after the other is.
fn halts(class: &str, cell: Cell) -> bool {
    let is_of_offsets = cell.request == ApiKey::TxnOffsetCommit;
    class == "Corrupt" && (cell.dose == Dose::ForEver || is_of_offsets && cell.dose == Dose::TenTimes)
}

#[test]
fn the_sample_has_each_request_twice() {
    for seed in 0..1_000 {
        let sample = sample(seed);
        for (request, _) in REFUSALS {
            let of_it: Vec<_> = sample.iter().filter(|cell| cell.request == request).collect();
            assert_eq!(of_it.len(), 2, "seed {seed}");
            assert!(of_it[0].code != of_it[1].code && of_it[0].dose != of_it[1].dose, "seed {seed}: {of_it:?}");
        }
    }
}

#[test]
fn each_refusal_ends_in_its_class_and_loses_nothing() {
    let seed = Random::seed("TIDEGATE_FORGED_SEED");
    let documented = documented();
    let plan = Proof::new("f3", seed).plan_or_sample(&all(), &sample(seed));
    for cells in plan.chunks(TOGETHER) {
        let Some(mut stage) = Stage::new() else { return };
        say(&format!("forged: TIDEGATE_FORGED_SEED={seed}, {} cells", cells.len()));
        let mut proof = Proof::new("f3", seed);
        let mut feed = Feed::new(&stage.world, IDS, seed);
        let mut is_time = true;
        feed.during(|| {
            stage.world.wait_all_move();
            for cell in cells {
                is_time = proof.begin(cell);
                if !is_time {
                    break;
                }
                let (code, class) = &documented[cell.code];
                let given = stage.play(*cell, *code, class);
                let back = stage.wait_back(*cell, class);
                stage.world.note(&format!("{cell}: {class}, {given} given, all back {back:.1} s later"));
                proof.end(&[("class", class.as_str().into()), ("given", given.into()), ("all_move_s", back.into())]);
            }
        });
        let (_, dead_letters) = stage.world.judge_with_dead_letters(&feed, Duration::from_secs(60));
        stage.world.note(&format!("{dead_letters} notices were refused for good and are dead letters"));
        proof.clean();
        if !is_time {
            return;
        }
    }
}
