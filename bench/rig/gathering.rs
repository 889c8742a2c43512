//! One job: a paced load that arrives as the Java client would send it: one request for the records of all partitions.
//!
//! librdkafka sends one request a partition. At 2,000 records/s and 8 partitions those were some 1,150 of the broker's
//! 1,560 produce requests a second: the load alone would decide the latency of the system under test.

use crate::Outcome;
use crate::load::pacer::now_us;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceResponse, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate::flow::key::partition_for;

/// The last version that names topics by name.
const VERSION: i16 = 12;
/// Longest time for the last answers.
const WAIT: Duration = Duration::from_secs(30);

/// Gathers records for `linger` and sends them in one request; several requests may be under way. Any refusal is an error
/// at [`Gathering::end`]: the broker is on this machine and nothing is sent twice. Time is looked at with each record, which
/// a steady load brings often enough.
pub struct Gathering {
    stream: TcpStream,
    topic: TopicName,
    partitions: i32,
    linger_us: u64,
    waiting: BTreeMap<i32, Vec<Record>>,
    waiting_since: Option<u64>,
    requests: usize,
    answered: Arc<AtomicUsize>,
    answers: JoinHandle<Outcome>,
}

impl Gathering {
    /// Connects to the leader of everything.
    pub fn start(broker: &str, topic: &str, partitions: i32, linger: Duration) -> Outcome<Self> {
        let stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        let reading = stream.try_clone()?;
        let answered = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&answered);
        let answers = std::thread::spawn(move || read_answers(reading, &counter));
        Ok(Self {
            stream,
            topic: TopicName(StrBytes::from_string(topic.into())),
            partitions,
            linger_us: u64::try_from(linger.as_micros())?,
            waiting: BTreeMap::new(),
            waiting_since: None,
            requests: 0,
            answered,
            answers,
        })
    }

    /// Adds one record, and sends what has gathered when its time has come.
    pub fn send(&mut self, key: &str, value: String, at_us: u64) -> Outcome {
        let partition = partition_for(key.as_bytes(), self.partitions);
        let of_partition = self.waiting.entry(partition).or_default();
        let place = i32::try_from(of_partition.len())?;
        of_partition.push(Record {
            transactional: false,
            control: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset: place.into(),
            sequence: NO_SEQUENCE + place, // must run with the offset, or each record becomes a batch
            timestamp: i64::try_from(at_us / 1_000)?,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(value.into()),
            headers: Default::default(),
        });
        let since = *self.waiting_since.get_or_insert(at_us);
        if now_us().saturating_sub(since) < self.linger_us { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Outcome {
        self.waiting_since = None;
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        let mut partition_data = Vec::with_capacity(self.waiting.len());
        for (partition, records) in std::mem::take(&mut self.waiting) {
            let mut batch = BytesMut::new();
            RecordBatchEncoder::encode(&mut batch, &records, &options)?;
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.freeze()));
            partition_data.push(data);
        }
        let data = TopicProduceData::default().with_name(self.topic.clone()).with_partition_data(partition_data);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
        let header = RequestHeader::default()
            .with_request_api_key(ApiKey::Produce as i16)
            .with_request_api_version(VERSION)
            .with_correlation_id(i32::try_from(self.requests)?)
            .with_client_id(Some(StrBytes::from_static_str("bench-load")));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, ProduceRequest::header_version(VERSION))?;
        request.encode(&mut frame, VERSION)?;
        let length = u32::try_from(frame.len() - 4)?.to_be_bytes();
        frame[..4].copy_from_slice(&length);
        self.stream.write_all(&frame)?;
        self.requests += 1;
        Ok(())
    }

    /// Sends what is left and waits until everything is acknowledged.
    pub fn end(mut self) -> Outcome {
        if !self.waiting.is_empty() {
            self.flush()?;
        }
        let until = Instant::now() + WAIT;
        while self.answered.load(Ordering::Acquire) < self.requests
            && Instant::now() < until
            && !self.answers.is_finished()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.stream.shutdown(Shutdown::Both)?;
        self.answers.join().map_err(|_| "the reader of the load's answers panicked")??;
        let answered = self.answered.load(Ordering::Acquire);
        if answered == self.requests {
            Ok(())
        } else {
            Err(format!("load: {answered} of {} answers", self.requests).into())
        }
    }
}

/// Reads answers until the connection ends, and counts them.
fn read_answers(mut stream: TcpStream, answered: &AtomicUsize) -> Outcome {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return Ok(()); // closed after the last one, or too early: the count shows which
        }
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        ResponseHeader::decode(&mut frame, ProduceResponse::header_version(VERSION))?;
        let response = ProduceResponse::decode(&mut frame, VERSION)?;
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        if let Some(refused) = partitions.find(|partition| partition.error_code != 0) {
            return Err(format!("load: partition {}: error {}", refused.index, refused.error_code).into());
        }
        answered.fetch_add(1, Ordering::AcqRel);
    }
}
