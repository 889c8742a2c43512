//! One job: walk the refusals of `docs/errors.md` through librdkafka itself: its own mock cluster answers each request of a
//! transaction with the code, and the sink's fault must be of the class that the document gives.

use super::ffi::known_codes;
use super::{KafkaSettings, KafkaSink};
use crate::adapters::documented;
use crate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use crate::ports::fault::Fault;
use crate::ports::sink::{Message, Sink};
use crate::ports::source::{Committed, Membership};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr};
use std::time::Duration;

/// Each request with the codes of its refusal by a broker, without those after which librdkafka repeats it by itself.
const REFUSALS: &[(Request, &[&str])] = &[
    (
        Request::InitProducerId,
        &["TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "INVALID_TRANSACTION_TIMEOUT"],
    ),
    (
        Request::AddPartitionsToTxn,
        &[
            "TOPIC_AUTHORIZATION_FAILED",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "INVALID_TXN_STATE",
            "PRODUCER_FENCED",
            "INVALID_PRODUCER_EPOCH",
        ],
    ),
    (
        Request::Produce,
        &[
            "TOPIC_AUTHORIZATION_FAILED",
            "MSG_SIZE_TOO_LARGE",
            "RECORD_LIST_TOO_LARGE",
            "TOPIC_EXCEPTION",
            "INVALID_RECORD",
            "INVALID_TIMESTAMP",
            "UNSUPPORTED_COMPRESSION_TYPE",
            "UNSUPPORTED_FOR_MESSAGE_FORMAT",
            "INVALID_PRODUCER_EPOCH",
            "UNKNOWN_PRODUCER_ID",
            // What a broker says to this version of the request instead of TRANSACTION_ABORTABLE, as to those of offsets.
            "INVALID_TXN_STATE",
        ],
    ),
    (Request::AddOffsetsToTxn, &["GROUP_AUTHORIZATION_FAILED", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH"]),
    (
        Request::TxnOffsetCommit,
        &[
            "ILLEGAL_GENERATION",
            "UNKNOWN_MEMBER_ID",
            "FENCED_INSTANCE_ID",
            "REBALANCE_IN_PROGRESS",
            "STALE_MEMBER_EPOCH",
            "FENCED_MEMBER_EPOCH",
            "GROUP_AUTHORIZATION_FAILED",
            "TOPIC_AUTHORIZATION_FAILED",
            "INVALID_GROUP_ID",
            "OFFSET_METADATA_TOO_LARGE",
            "INVALID_COMMIT_OFFSET_SIZE",
            "INVALID_PRODUCER_EPOCH",
            "INVALID_TXN_STATE",
        ],
    ),
    (
        Request::EndTxn,
        &[
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "INVALID_TXN_STATE",
            "INVALID_PRODUCER_ID_MAPPING",
            "INVALID_PRODUCER_EPOCH",
            "PRODUCER_FENCED",
        ],
    ),
];

/// A cluster with one topic, and a sink that uses it.
fn opened() -> (MockCluster<'static, DefaultProducerContext>, KafkaSink, TopicName) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let settings = KafkaSettings {
        bootstrap_servers: cluster.bootstrap_servers(),
        transaction_timeout_ms: 5_000,
        ..KafkaSettings::default()
    };
    let sink = KafkaSink::open(&settings, "refused").unwrap();
    (cluster, sink, TopicName::parse("out").unwrap())
}

/// The next request of this kind is answered with the code of this name.
fn refuse(cluster: &MockCluster<'static, DefaultProducerContext>, request: Request, name: &str) {
    let (code, _) = known_codes().into_iter().find(|(_, known)| known == name).unwrap();
    cluster.request_errors(request, &[RDKafkaRespErr::try_from(code as i32).unwrap()]);
}

fn send(sink: &mut KafkaSink, topic: &TopicName) -> Result<(), Fault> {
    sink.send(&Message {
        destination: topic,
        partition: Some(Partition(0)),
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[],
        timestamp: None,
        is_tracked: false,
    })
}

/// One whole transaction.
fn transaction(sink: &mut KafkaSink, topic: &TopicName) -> Result<(), Fault> {
    sink.begin()?;
    send(sink, topic)?;
    sink.flush()?;
    let offset = Committed { next_offset: NextOffset(1), metadata: String::new() };
    let membership = Membership::new("group", "member", 1, None).map_err(Fault::fatal)?;
    sink.send_offsets(&[(TopicPartition::new(topic.clone(), Partition(0)), offset)], &membership)?;
    sink.commit()
}

/// The document's word.
fn class_of(fault: &Fault, sink: &KafkaSink) -> &'static str {
    match fault {
        Fault::Retry(_) if sink.is_fenced() => "Retry, counted",
        fault => fault.class(),
    }
}

#[test]
fn each_refusal_of_a_broker_ends_in_the_class_that_the_document_gives() {
    let (cluster, mut sink, topic) = opened();
    transaction(&mut sink, &topic).unwrap();
    let rows = documented::rows("Codes of a transaction");
    let mut wrong = Vec::new();
    for (request, name) in REFUSALS.iter().flat_map(|(request, names)| names.iter().map(move |name| (*request, name))) {
        sink.renew().unwrap(); // before the code is laid out: it may abort what the last one left open
        refuse(&cluster, request, name);
        let is_start = matches!(request, Request::InitProducerId);
        let result = if is_start { sink.renew() } else { transaction(&mut sink, &topic) };
        let (class, text) = match &result {
            Ok(()) => ("no error", String::new()),
            Err(fault) => (class_of(fault, &sink), fault.to_string()),
        };
        let expected = &rows[&format!("`{name}`")][3];
        if class != expected {
            wrong.push(format!("{name} of {request:?}: {class}, not {expected}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The first messages of a long batch may be refused while others are still being queued.
#[test]
fn a_message_after_the_end_of_its_transaction_tells_what_ended_it() {
    let (cluster, mut sink, topic) = opened();
    for (name, class) in [("TOPIC_AUTHORIZATION_FAILED", "Fatal"), ("PRODUCER_FENCED", "Retry, counted")] {
        sink.renew().unwrap();
        refuse(&cluster, Request::AddPartitionsToTxn, name);
        sink.begin().unwrap();
        let fault = (0..1_000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            send(&mut sink, &topic).err()
        });
        let fault = fault.expect("no message is refused");
        assert_eq!(class_of(&fault, &sink), class, "{name}: {fault}");
    }
}

#[test]
fn the_partitions_of_a_topic_are_counted_and_not_asked_for_with_each_message() {
    let (cluster, mut sink, out) = opened();
    let wide = TopicName::parse("wide").unwrap();
    cluster.create_topic("wide", 12, 1).unwrap();
    sink.begin().unwrap();
    assert_eq!((sink.partition_count(&out).unwrap(), sink.partition_count(&wide).unwrap()), (1, 12));
    send(&mut sink, &out).unwrap();
    sink.flush().unwrap();
    cluster.broker_down(1).unwrap();
    assert_eq!(sink.partition_count(&wide).unwrap(), 12, "the broker is away");
}
