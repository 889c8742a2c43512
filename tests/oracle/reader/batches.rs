//! The batches of one partition as the broker keeps them, with the markers that end transactions. No client library shows
//! markers, and what a committed reader is shown is what the oracle wants to hold against them; so this speaks the protocol
//! itself: `Fetch` version 4, read_uncommitted, of whose records only the batch headers are looked at.
//!
//! Layout of a batch, big-endian (KIP-98): base offset 8, length 4, leader epoch 4, magic 1, crc 4, attributes 2, last
//! offset delta 4, timestamps 16, producer id 8, producer epoch 2, sequence 4, count 4, records. A marker is a batch with
//! the control bit and one record whose key is version 2 and type 2: 0 abort, 1 commit.

use crate::laws::Fate;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);
const FETCH: i16 = 1;
const FETCH_VERSION: i16 = 4;
const BYTES_MAX: i32 = 8 << 20;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const COMMIT: i16 = 1;

/// The offsets of one batch, and what became of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) fate: Fate,
    /// The producer, and the marker that ended the transaction; `None` outside transactions and in an open one.
    pub(super) ended_by: Option<(i64, i64)>,
}

/// Reads a partition whole, from its leader.
pub(super) fn read(address: &str, topic: &str, partition: i32, start: i64, end: i64) -> Result<Vec<Batch>, String> {
    let failed = |error: std::io::Error| format!("{address}, {topic}-{partition}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(WAIT)).map_err(failed)?;
    let mut fates = Fates::default();
    let mut next = start;
    while next < end {
        stream.write_all(&request(topic, partition, next)).map_err(failed)?;
        let mut size = [0; 4];
        stream.read_exact(&mut size).map_err(failed)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(|error| error.to_string())?;
        let mut answer = vec![0; size];
        stream.read_exact(&mut answer).map_err(failed)?;
        let before = next;
        for raw in raw_batches(records(&answer)?)? {
            // The first may begin before the offset asked for.
            if raw.last >= next {
                next = raw.last + 1;
                fates.take(&raw);
            }
        }
        if next == before {
            return Err(format!("{topic}-{partition}: nothing at {next}, the end is {end}"));
        }
    }
    Ok(fates.batches)
}

fn request(topic: &str, partition: i32, offset: i64) -> Vec<u8> {
    let mut body = Vec::new();
    let mut put = |bytes: &[u8]| body.extend_from_slice(bytes);
    let length = |text: &str| u16::try_from(text.len()).unwrap_or(0).to_be_bytes();
    put(&FETCH.to_be_bytes());
    put(&FETCH_VERSION.to_be_bytes());
    put(&1_i32.to_be_bytes()); // correlation
    put(&length("oracle"));
    put(b"oracle");
    put(&(-1_i32).to_be_bytes()); // no replica
    put(&1_000_i32.to_be_bytes()); // ms to wait
    put(&1_i32.to_be_bytes()); // for a byte
    put(&BYTES_MAX.to_be_bytes());
    put(&[0]); // read_uncommitted
    put(&1_i32.to_be_bytes());
    put(&length(topic));
    put(topic.as_bytes());
    put(&1_i32.to_be_bytes());
    put(&partition.to_be_bytes());
    put(&offset.to_be_bytes());
    put(&BYTES_MAX.to_be_bytes());
    let mut out = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
    out.append(&mut body);
    out
}

/// The records of the one partition in an answer.
fn records(answer: &[u8]) -> Result<&[u8], String> {
    let mut rest = Cursor(answer);
    rest.skip(4 + 4 + 4)?; // correlation, throttling, one topic
    let name = rest.number::<2>().map(i16::from_be_bytes)?;
    rest.skip(usize::try_from(name).unwrap_or(0) + 4 + 4)?; // one partition, its number
    let error = rest.number::<2>().map(i16::from_be_bytes)?;
    if error != 0 {
        return Err(format!("fetch: error {error}"));
    }
    rest.skip(8 + 8)?; // high watermark, last stable offset
    let aborted = rest.number::<4>().map(i32::from_be_bytes)?;
    rest.skip(usize::try_from(aborted).unwrap_or(0) * 16)?;
    let length = rest.number::<4>().map(i32::from_be_bytes)?;
    let length = usize::try_from(length).unwrap_or(0);
    rest.0.get(..length).ok_or_else(|| "fetch: cut short".into())
}

struct Raw {
    first: i64,
    last: i64,
    producer: i64,
    is_transactional: bool,
    /// Whether a marker commits.
    marker: Option<bool>,
}

/// The whole batches; the last one may be cut short.
fn raw_batches(bytes: &[u8]) -> Result<Vec<Raw>, String> {
    let mut rest = Cursor(bytes);
    let mut out = Vec::new();
    while rest.0.len() > 12 {
        let first = rest.number::<8>().map(i64::from_be_bytes)?;
        let length = rest.number::<4>().map(i32::from_be_bytes)?;
        let Some(body) = rest.0.get(..usize::try_from(length).unwrap_or(0)) else { break };
        rest.skip(body.len())?;
        let mut body = Cursor(body);
        body.skip(4 + 1 + 4)?; // leader epoch, magic, crc
        let attributes = body.number::<2>().map(i16::from_be_bytes)?;
        let last = first + i64::from(body.number::<4>().map(i32::from_be_bytes)?);
        body.skip(8 + 8)?; // timestamps
        let producer = body.number::<8>().map(i64::from_be_bytes)?;
        body.skip(2 + 4 + 4)?; // epoch, sequence, count
        let marker = if attributes & CONTROL == 0 { None } else { Some(is_commit(body)?) };
        out.push(Raw { first, last, producer, is_transactional: attributes & TRANSACTIONAL != 0, marker });
    }
    Ok(out)
}

/// The one record of a marker: length, attributes, deltas and the key's length, one byte each at this size, then the key.
fn is_commit(mut record: Cursor<'_>) -> Result<bool, String> {
    record.skip(1 + 1 + 1 + 1 + 1 + 2)?;
    Ok(record.number::<2>().map(i16::from_be_bytes)? == COMMIT)
}

/// Joins batches with the markers that end them.
#[derive(Default)]
struct Fates {
    batches: Vec<Batch>,
    /// By producer, where the batches of its open transaction stand.
    open: HashMap<i64, Vec<usize>>,
}

impl Fates {
    fn take(&mut self, raw: &Raw) {
        if let Some(is_commit) = raw.marker {
            for index in self.open.remove(&raw.producer).unwrap_or_default() {
                let batch = &mut self.batches[index];
                batch.fate = if is_commit { Fate::Committed } else { Fate::Aborted };
                batch.ended_by = Some((raw.producer, raw.first));
            }
            return;
        }
        if raw.is_transactional {
            self.open.entry(raw.producer).or_default().push(self.batches.len());
        }
        let fate = if raw.is_transactional { Fate::Open } else { Fate::Committed };
        self.batches.push(Batch { first: raw.first, last: raw.last, fate, ended_by: None });
    }
}

/// Bytes not read yet.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.0 = self.0.get(count..).ok_or("an answer that is cut short")?;
        Ok(())
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (number, rest) = self.0.split_first_chunk::<N>().ok_or("an answer that is cut short")?;
        self.0 = rest;
        Ok(*number)
    }
}
