//! A checkpoint as bytes.
//!
//! ```text
//!  [version 1][next_offset i64][at i64][cluster id][topic id][inputs u32]{[topic][partition i32][next_offset i64]}…
//! ```
//! Numbers are big-endian; each text is its length as u16 and its UTF-8. Nothing may be missing and nothing may follow. The
//! offset of an input is -1 where the checkpoint has none.

use crate::flow::record::{NextOffset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::source::LogIds;
use crate::ports::store::Checkpoint;

/// First byte. Raised when a reader of the old form would misread the new one.
const VERSION: u8 = 1;
/// The offset of an input that has none.
const NONE: i64 = -1;

/// The bytes of a checkpoint, or why there are none: a text is longer than 65,535 bytes, where Kafka allows 249.
pub(super) fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, String> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&checkpoint.next_offset.0.to_be_bytes());
    out.extend_from_slice(&checkpoint.at.0.to_be_bytes());
    put_text(&mut out, &checkpoint.log_ids.cluster_id)?;
    put_text(&mut out, &checkpoint.log_ids.topic_id)?;
    let count =
        u32::try_from(checkpoint.inputs.len()).map_err(|_| "the checkpoint names too many inputs".to_owned())?;
    out.extend_from_slice(&count.to_be_bytes());
    for (place, next_offset) in &checkpoint.inputs {
        put_text(&mut out, place.topic.as_str())?;
        out.extend_from_slice(&place.partition.0.to_be_bytes());
        out.extend_from_slice(&next_offset.map_or(NONE, |at| at.0).to_be_bytes());
    }
    Ok(out)
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), String> {
    let length = u16::try_from(text.len()).map_err(|_| format!("the checkpoint has a name of {} bytes", text.len()))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// The checkpoint that was encoded, or why it cannot be read.
pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Reader(rest).checkpoint().ok_or_else(|| "the checkpoint cannot be read".to_owned()),
        Some((version, _)) => Err(format!(
            "the checkpoint has version {version}, this release knows {VERSION}: start the release that wrote it, \
             or move the state folder away"
        )),
        None => Err("the checkpoint is empty".into()),
    }
}

/// The bytes left to read. Each read answers `None` where they end early or hold something else.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn checkpoint(mut self) -> Option<Checkpoint> {
        let (next_offset, at) = (NextOffset(self.number()?), Timestamp(self.number()?));
        let log_ids = LogIds { cluster_id: self.text()?.into(), topic_id: self.text()?.into() };
        let mut inputs = Vec::new();
        for _ in 0..u32::from_be_bytes(self.array()?) {
            let topic = TopicName::parse(self.text()?).ok()?;
            let place = TopicPartition::new(topic, Partition(i32::from_be_bytes(self.array()?)));
            let at = self.number()?;
            inputs.push((place, (at >= 0).then_some(NextOffset(at))));
        }
        self.0.is_empty().then_some(Checkpoint { next_offset, log_ids, at, inputs })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(inputs: usize) -> Checkpoint {
        let input = |number: usize| {
            let topic = TopicName::parse(&format!("topic-{number}")).unwrap();
            let at = (number != 1).then_some(NextOffset(i64::MAX));
            (TopicPartition::new(topic, Partition(i32::try_from(number).unwrap())), at)
        };
        Checkpoint {
            next_offset: NextOffset(1 << 40),
            log_ids: LogIds { cluster_id: "klüster".into(), topic_id: String::new() },
            at: Timestamp(-1),
            inputs: (0..inputs).map(input).collect(),
        }
    }

    #[test]
    fn a_checkpoint_round_trips() {
        for inputs in [0, 1, 300] {
            let before = checkpoint(inputs);
            assert_eq!(decode(&encode(&before).unwrap()).unwrap(), before);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_readable() {
        let bytes =
            b"\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x08\0\x01c\0\x01t\0\0\0\x01\0\x02in\0\0\0\x03\0\0\0\0\0\0\0\x09";
        let found = decode(bytes).unwrap();
        let input = TopicPartition::new(TopicName::parse("in").unwrap(), Partition(3));
        assert_eq!((found.next_offset, found.at), (NextOffset(7), Timestamp(8)));
        assert_eq!(found.log_ids, LogIds { cluster_id: "c".into(), topic_id: "t".into() });
        assert_eq!(found.inputs, [(input, Some(NextOffset(9)))]);
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = encode(&checkpoint(2)).unwrap();
        let mut cases: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        cases.push([whole.as_slice(), b"x"].concat());
        cases.push([b"\x02", &whole[1..]].concat());
        cases.push([&whole[..17], &[0xff; 60]].concat());
        for bytes in cases {
            assert!(decode(&bytes).is_err(), "{bytes:?}");
        }
        let newer = decode(&[2, 0]).unwrap_err();
        assert!(newer.contains("version 2"), "{newer}");
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        let mut long = checkpoint(0);
        long.log_ids.topic_id = "x".repeat(65_536);
        assert!(encode(&long).is_err());
    }
}
