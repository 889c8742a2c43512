//! Compares the decided outbox rows with the messages in the topics, one row and one message at a time. Pure: the
//! caller does the reading.
//!
//! Every outbox row below K stands in its topic once and with the same bytes, headers included. No message stands there
//! without an outbox row, unless it is older than the outbox is kept or was not decided before the outbox was read.
//! Each source partition's messages stand in their order within each partition of an output topic. And P <= K <= D.
//! The audit and the oracle of the system tests both judge by this.

use crate::engine::outbound::message::{headers_of, id_of, partition_of, sequence_of};
use crate::flow::record::{Header, NextOffset, Offset, Partition, Timestamp, TopicName, TopicPartition};
use crate::ports::history::Found;
use crate::ports::rows::OutboxRow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// One offset a source partition.
type Positions = HashMap<TopicPartition, NextOffset>;

/// A comparison in progress: first [`Comparison::expect`] every outbox row, then [`Comparison::find`] every message,
/// then ask for the [`Comparison::missing`] ones.
#[derive(Debug)]
pub struct Comparison {
    pipeline: String,
    /// K, read before the outbox.
    committed: Positions,
    /// D, read before the outbox.
    decided: Positions,
    expected: HashMap<String, Expected>,
    /// The offsets that the outbox keeps and the times of their decision, the first and the last of each run of equal
    /// times.
    kept: BTreeMap<TopicPartition, Vec<(i64, Timestamp)>>,
    /// The pairs of those offsets between which rows were dropped.
    holes: HashMap<TopicPartition, Vec<(i64, i64)>>,
    /// The starts of the partitions of each topic.
    starts: HashMap<TopicName, Vec<NextOffset>>,
    /// The time of decision of the pipeline's oldest message in each partition of a topic.
    oldest_found: HashMap<(TopicName, i32), Timestamp>,
    /// The last place seen of each source partition and incarnation in each partition of an output topic.
    order: HashMap<(TopicName, i32, TopicPartition, i32), (Offset, i32)>,
    /// Topics of whose records no outbox tells.
    without_rows: BTreeSet<TopicName>,
}

/// The outbox's side of one message.
#[derive(Debug)]
struct Expected {
    destination: TopicName,
    digest: u64,
    is_published: bool,
    found: usize,
    /// Its partition in its topic, where that is known.
    partition: Option<i32>,
    decided_at: Timestamp,
}

/// The reason why a message that was published was not found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// Nothing explains it.
    Unexplained,
    /// Older records than any that remains were deleted from its partition.
    Deleted,
    /// Its partition holds no record as old as it is, and nothing was deleted from it: either it is another topic under
    /// the same name, or the message is lost.
    NothingAsOld,
}

/// One of the pipeline's messages, compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compared {
    /// The source and number in its id.
    pub origin: Origin,
    /// Whether the outbox has its row.
    pub standing: Standing,
    /// Whether it was found before.
    pub is_repeated: bool,
    /// Whether it is in another topic, or has other bytes, than its row.
    pub is_altered: bool,
    /// Whether it stands behind a later record of its source partition.
    pub is_out_of_order: bool,
}

/// The source and number of the notice that a message carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The source partition of its input.
    pub source: TopicPartition,
    /// The offset of its input.
    pub offset: Offset,
    /// The number of the notice among those of its input.
    pub seq: i32,
    /// The incarnation of the source partition.
    pub incarnation: i32,
}

/// The outbox's knowledge of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has its row.
    Kept,
    /// Its row is no longer kept: not compared.
    BeyondRetention,
    /// Its input was not decided when the outbox was about to be read.
    NotDecided,
    /// Its row should be there, and is not.
    Unknown,
}

/// A position that breaks the order of P, K and D.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misplaced {
    /// P > K: the database claims more to be published than the group has.
    PublishedBeyondCommitted,
    /// K > D: the group has passed inputs that the database has not decided.
    CommittedBeyondDecided,
}

/// P <= K <= D, where `published` was read before K and `decided` after it.
#[must_use]
pub fn misplaced(published: NextOffset, committed: Option<NextOffset>, decided: NextOffset) -> Vec<Misplaced> {
    let Some(committed) = committed else { return Vec::new() };
    let laws = [
        (published > committed, Misplaced::PublishedBeyondCommitted),
        (committed > decided, Misplaced::CommittedBeyondDecided),
    ];
    laws.into_iter().filter_map(|(is_broken, law)| is_broken.then_some(law)).collect()
}

impl Comparison {
    /// Begins with K of every source partition, which must have been read before the outbox.
    #[must_use]
    pub fn new(pipeline: &str, committed: Positions) -> Self {
        Self {
            pipeline: pipeline.into(),
            committed,
            decided: Positions::new(),
            expected: HashMap::new(),
            kept: BTreeMap::new(),
            holes: HashMap::new(),
            starts: HashMap::new(),
            oldest_found: HashMap::new(),
            order: HashMap::new(),
            without_rows: BTreeSet::new(),
        }
    }

    /// Leaves out what records of these topics led to: steps without rows have read them, of which no outbox tells.
    #[must_use]
    pub fn leaving_out(mut self, without_rows: BTreeSet<TopicName>) -> Self {
        self.without_rows = without_rows;
        self
    }

    /// Takes the starts of the partitions of a topic: before the first row, and once more when the topic was read.
    pub fn begins(&mut self, topic: &TopicName, starts: Vec<NextOffset>) {
        self.starts.insert(topic.clone(), starts);
    }

    /// Takes one row of the outbox. Changelog records are left out: their topics are compacted.
    pub fn expect(&mut self, row: &OutboxRow) {
        if sequence_of(row).is_some() {
            return;
        }
        let is_published = self.committed.get(&row.source).is_some_and(|k| !k.is_before(row.source_offset));
        let digest = digest(row.key.as_deref(), row.value.as_deref(), &headers_of(&self.pipeline, row));
        self.keep(row);
        let (destination, decided_at) = (row.destination.clone(), row.created_at);
        let count = self.starts.get(&destination).and_then(|starts| i32::try_from(starts.len()).ok());
        let partition = partition_of(row, count).map(|partition| partition.0);
        let expected = Expected { destination, digest, is_published, found: 0, partition, decided_at };
        self.expected.insert(id_of(&self.pipeline, row), expected);
    }

    /// Notes the time of decision of the row, one batch in two numbers. The rows of a source come in the order of their
    /// offsets.
    fn keep(&mut self, row: &OutboxRow) {
        let kept = (row.source_offset.0, row.created_at);
        if let Some(all) = self.kept.get_mut(&row.source) {
            let is_inner = |(_, at): &(i64, Timestamp)| *at == kept.1;
            if all.len() > 1 && all.iter().rev().take(2).all(is_inner) {
                all.pop();
            }
            all.push(kept);
        } else {
            self.kept.insert(row.source.clone(), vec![kept]);
        }
    }

    /// Takes ranges of time whose rows are no longer kept, although older ones are: one source that was behind has kept
    /// the older ones of all.
    pub fn dropped(&mut self, gaps: &[(Timestamp, Timestamp)]) {
        for (source, kept) in &self.kept {
            let ends = kept.iter().skip(1).map(|(offset, at)| (*offset, *at)).chain([(i64::MAX, Timestamp(i64::MAX))]);
            let pairs = kept.iter().copied().zip(ends);
            let is_hole = |((_, from), (_, to)): &((i64, Timestamp), (i64, Timestamp))| {
                gaps.iter().any(|(start, end)| from <= start && end <= to)
            };
            let holes = pairs.filter(is_hole).map(|((from, _), (to, _))| (from, to)).collect();
            self.holes.insert(source.clone(), holes);
        }
    }

    /// Ends the reading of the outbox: takes D as it stood before. Rows decided while the outbox was read may be absent
    /// without fault, and so may those of a partition that had no position yet, whose D is 0.
    pub fn expected_all(&mut self, decided: Positions) {
        self.decided = decided;
    }

    /// The number of rows that the outbox keeps, and the number of them that must be in their topics.
    #[must_use]
    pub fn expected_count(&self) -> (usize, usize) {
        (self.expected.len(), self.expected.values().filter(|expected| expected.is_published).count())
    }

    /// Compares one message as a committed reader finds it; `None` when it is another pipeline's. Messages of each
    /// partition must come in offset order.
    pub fn find(&mut self, topic: &TopicName, found: &Found) -> Option<Compared> {
        let id = found.id()?;
        let origin = origin_of(&self.pipeline, id)?;
        if self.without_rows.contains(&origin.source.topic) && !self.expected.contains_key(id) {
            return None; // a row is there where a release before had rows here
        }
        let (source, place) = (&origin.source, (origin.offset, origin.seq));
        let lane = (topic.clone(), found.partition, source.clone(), origin.incarnation);
        let last = self.order.entry(lane).or_insert(place);
        let is_out_of_order = place < *last;
        *last = place.max(*last);
        let (mut is_repeated, mut is_altered) = (false, false);
        let standing = if let Some(expected) = self.expected.get_mut(id) {
            expected.found += 1;
            is_repeated = expected.found > 1;
            let digest = digest(found.key.as_deref(), found.value.as_deref(), &found.headers);
            is_altered = expected.destination != *topic || expected.digest != digest;
            Standing::Kept
        } else if self.decided.get(source).is_some_and(|end| end.is_before(origin.offset)) {
            Standing::NotDecided
        } else if self.is_beyond_retention(source, origin.offset) {
            Standing::BeyondRetention
        } else {
            Standing::Unknown
        };
        let decided_at = match standing {
            Standing::Kept => self.expected.get(id).map(|expected| expected.decided_at),
            Standing::BeyondRetention => Some(Timestamp(i64::MIN)),
            Standing::NotDecided | Standing::Unknown => None,
        };
        if let Some(at) = decided_at {
            let oldest = self.oldest_found.entry((topic.clone(), found.partition)).or_insert(at);
            *oldest = at.min(*oldest);
        }
        Some(Compared { origin, standing, is_repeated, is_altered, is_out_of_order })
    }

    /// Ids and topics of the rows below K that were not found, sorted.
    #[must_use]
    pub fn missing(&self) -> Vec<(&str, &TopicName)> {
        let is_missing = |(_, expected): &(&String, &Expected)| expected.is_published && expected.found == 0;
        let missing = self.expected.iter().filter(is_missing);
        let mut out: Vec<_> = missing.map(|(id, expected)| (id.as_str(), &expected.destination)).collect();
        out.sort_unstable();
        out
    }

    /// The reason why a row is [missing](Comparison::missing), once all topics are read.
    #[must_use]
    pub fn absence(&self, id: &str) -> Absence {
        let Some(Expected { destination, partition: Some(partition), decided_at, .. }) = self.expected.get(id) else {
            return Absence::Unexplained;
        };
        let oldest = self.oldest_found.get(&(destination.clone(), *partition));
        let start = self.starts.get(destination).and_then(|starts| starts.get(usize::try_from(*partition).ok()?));
        match start {
            // A cut may go through the messages of one batch.
            Some(start) if start.0 > 0 && oldest.is_none_or(|oldest| decided_at <= oldest) => Absence::Deleted,
            Some(start) if start.0 == 0 && oldest.is_none_or(|oldest| decided_at < oldest) => Absence::NothingAsOld,
            _ => Absence::Unexplained,
        }
    }

    fn is_beyond_retention(&self, source: &TopicPartition, offset: Offset) -> bool {
        let oldest = |source| self.kept.get(source).and_then(|kept| kept.first());
        let is_in = |(from, to): &(i64, i64)| *from < offset.0 && offset.0 < *to;
        !self.kept.is_empty()
            && (oldest(source).is_none_or(|(oldest, _)| offset.0 < *oldest)
                || self.holes.get(source).is_some_and(|holes| holes.iter().any(is_in)))
    }
}

fn digest(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    for header in headers {
        (&header.name, &header.value).hash(&mut hasher);
    }
    hasher.finish()
}

/// Parses an id of Tidegate's; `None` when it is another pipeline's.
#[must_use]
pub fn origin_of(pipeline: &str, id: &str) -> Option<Origin> {
    let mut parts = id.strip_prefix(pipeline)?.strip_prefix('/')?.split('/');
    let topic = TopicName::parse(parts.next()?).ok()?;
    let partition = Partition(parts.next()?.parse().ok()?);
    let offset = Offset(parts.next()?.parse().ok()?);
    let seq = parts.next()?.parse().ok()?;
    let incarnation = parts.next().map_or(Some(0), |word| word.parse().ok())?;
    Some(Origin { source: TopicPartition::new(topic, partition), offset, seq, incarnation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    fn row(offset: i64) -> OutboxRow {
        OutboxRow {
            source: TopicPartition::new(topic("in"), Partition(0)),
            source_offset: Offset(offset),
            seq: 0,
            incarnation: 0,
            destination: topic("out"),
            key: Some(b"7".to_vec()),
            value: Some(offset.to_string().into_bytes()),
            headers: vec![Header::new("tg_version", *b"3")],
            created_at: Timestamp(0),
            timestamp: None,
        }
    }

    fn found(row: &OutboxRow) -> Found {
        let (key, value, headers) = (row.key.clone(), row.value.clone(), headers_of("p", row));
        Found { partition: 0, offset: 0, timestamp: Timestamp(0), key, value, headers }
    }

    /// The outbox keeps offsets 5 and 6; K is 6 and D is 7.
    fn comparison() -> Comparison {
        let at = |offset: i64| Positions::from([(row(0).source, NextOffset(offset))]);
        let mut comparison = Comparison::new("p", at(6));
        comparison.expect(&row(5));
        comparison.expect(&row(6));
        comparison.expected_all(at(7));
        comparison
    }

    #[test]
    fn what_a_step_without_rows_led_to_is_left_out_unless_a_row_of_a_release_before_tells_of_it() {
        let mut comparison = comparison().leaving_out([topic("in")].into());
        assert!(comparison.find(&topic("out"), &found(&row(5))).is_some());
        assert_eq!(comparison.find(&topic("out"), &found(&row(3))), None);
        assert!(comparison.missing().is_empty());
    }

    #[test]
    fn a_message_is_held_against_its_row_by_topic_bytes_and_headers() {
        let mut comparison = comparison();
        assert_eq!(comparison.expected_count(), (2, 1));
        assert_eq!(comparison.missing(), [("p/in/0/5/0", &topic("out"))]);
        let first = comparison.find(&topic("out"), &found(&row(5))).unwrap();
        assert_eq!((first.standing, first.is_repeated, first.is_altered), (Standing::Kept, false, false));
        assert!(comparison.missing().is_empty());
        assert!(comparison.find(&topic("out"), &found(&row(5))).unwrap().is_repeated);
        assert!(comparison.find(&topic("elsewhere"), &found(&row(6))).unwrap().is_altered);
        let mut other = found(&row(6));
        other.headers[0] = Header::new("tg_version", *b"4");
        assert!(comparison.find(&topic("out"), &other).unwrap().is_altered);
        other = found(&row(6));
        other.value = Some(b"other".to_vec());
        assert!(comparison.find(&topic("out"), &other).unwrap().is_altered);
    }

    #[test]
    fn a_message_without_a_row_is_old_too_new_or_unknown() {
        let mut comparison = comparison();
        let mut standing = |offset: i64| comparison.find(&topic("out"), &found(&row(offset))).unwrap().standing;
        assert_eq!((standing(4), standing(7)), (Standing::BeyondRetention, Standing::NotDecided));
        let mut none = Comparison::new("p", Positions::new());
        assert_eq!(none.find(&topic("out"), &found(&row(4))).unwrap().standing, Standing::Unknown);
        assert_eq!(Comparison::new("q", Positions::new()).find(&topic("out"), &found(&row(4))), None);
    }

    #[test]
    fn what_was_dropped_while_older_rows_were_kept_is_beyond_retention_and_nothing_else_is() {
        let at = |offset: i64| Positions::from([(row(0).source, NextOffset(offset))]);
        let mut comparison = Comparison::new("p", at(100));
        // Decided at 10 x offset: rows of 50 to 79 were dropped, those before stay because of another source.
        for offset in (0..5).chain(8..10) {
            comparison.expect(&OutboxRow { created_at: Timestamp(10 * offset), ..row(offset) });
        }
        comparison.expect(&OutboxRow { created_at: Timestamp(200), ..row(20) });
        comparison.dropped(&[(Timestamp(50), Timestamp(80)), (Timestamp(300), Timestamp(400))]);
        comparison.expected_all(at(100));
        let mut standing = |offset: i64| comparison.find(&topic("out"), &found(&row(offset))).unwrap().standing;
        assert_eq!([5, 7, 30].map(&mut standing), [Standing::BeyondRetention; 3]);
        assert_eq!([4, 9].map(&mut standing), [Standing::Kept; 2]);
        assert_eq!([12, 19].map(&mut standing), [Standing::Unknown; 2], "nothing of that time was dropped");
    }

    #[test]
    fn an_id_that_came_with_a_record_which_somebody_else_sent_on_is_not_ours() {
        let mut comparison = comparison();
        let mut forged = found(&row(5));
        forged.headers.push(Header::new("kafka_dlt-exception-fqcn", *b"java.lang.IllegalStateException"));
        assert_eq!(comparison.find(&topic("out"), &forged), None);
        let mut with_another = found(&row(5));
        with_another.headers.insert(0, Header::new("tg_id", *b"p/in/0/6/0"));
        assert_eq!(comparison.find(&topic("out"), &with_another).unwrap().origin.offset, Offset(5));
    }

    #[test]
    fn order_is_kept_within_an_output_partition_alone() {
        let mut comparison = comparison();
        let mut is_behind = |offset: i64, partition: i32| {
            let message = Found { partition, ..found(&row(offset)) };
            comparison.find(&topic("out"), &message).unwrap().is_out_of_order
        };
        assert!(!is_behind(6, 0) && !is_behind(5, 1) && is_behind(5, 0) && !is_behind(6, 1));
    }

    #[test]
    fn p_must_not_pass_k_nor_k_pass_d() {
        let at = |p: i64, k: Option<i64>, d: i64| misplaced(NextOffset(p), k.map(NextOffset), NextOffset(d));
        assert_eq!((at(1, Some(2), 3), at(3, Some(3), 3), at(5, None, 3)), (vec![], vec![], vec![]));
        assert_eq!(at(3, Some(2), 3), [Misplaced::PublishedBeyondCommitted]);
        assert_eq!(at(1, Some(4), 3), [Misplaced::CommittedBeyondDecided]);
    }

    #[test]
    fn a_hole_of_the_outbox_ends_before_the_rows_around_it() {
        let at = |offset: i64| Positions::from([(row(0).source, NextOffset(offset))]);
        let mut comparison = Comparison::new("p", at(100));
        for offset in [1, 8] {
            comparison.expect(&OutboxRow { created_at: Timestamp(10 * offset), ..row(offset) });
        }
        comparison.dropped(&[(Timestamp(10), Timestamp(80))]);
        comparison.expected_all(at(100));
        let mut standing = |offset: i64, seq| {
            comparison.find(&topic("out"), &found(&OutboxRow { seq, ..row(offset) })).unwrap().standing
        };
        assert_eq!(standing(4, 0), Standing::BeyondRetention);
        assert_eq!([standing(1, 1), standing(8, 1)], [Standing::Unknown; 2], "their own rows are there");
    }

    #[test]
    fn a_row_is_taken_for_older_than_its_topic_only_where_nothing_as_old_is_left_there() {
        let mut comparison = Comparison::new("p", Positions::from([(row(0).source, NextOffset(9))]));
        comparison.begins(&topic("out"), vec![NextOffset(0)]);
        for offset in 5..8 {
            comparison.expect(&OutboxRow { created_at: Timestamp(offset), ..row(offset) });
        }
        comparison.expect(&OutboxRow { seq: 1, created_at: Timestamp(6), ..row(6) });
        comparison.find(&topic("out"), &found(&row(6)));
        let absences = ["p/in/0/5/0", "p/in/0/6/1", "p/in/0/7/0"].map(|id| comparison.absence(id));
        assert_eq!(absences, [Absence::NothingAsOld, Absence::Unexplained, Absence::Unexplained]);
    }
}
