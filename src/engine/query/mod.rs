//! Reads of stores from outside the pipeline: by key, by prefix, and their sizes. Nothing here changes anything.
//!
//! A store belongs to its worker, so a question travels to it through the worker's inbox. Between two batches a worker
//! answers at most one slice of a bounded number of keys and bytes, so that reads never keep it from committing; a long
//! answer is made of many slices, which are put together on the asking thread, and a question that nobody waits for any
//! more is dropped. Answers contain only proved state: committed in the changelog, and what would survive a crash right
//! now. A value that is still on its way is not seen, so a reader never sees one that is taken back.
//!
//! Each process answers for the partitions that it owns and names the owners of the others.

mod page;
mod place;
mod reading;

pub use reading::{Entry, Keys, Reading, Refusal, Span, Wanted, cut, from_hex, to_hex, within};

use crate::engine::mailbox::{Inboxes, ToExecutor};
use crate::engine::query::page::Page;
use crate::engine::query::place::{Place, unanswered};
use crate::engine::state::question::{Answer, Asked, Found, Question, Slice};
pub use crate::engine::state::question::{InputPosition, Standing, Unready};
use crate::flow::key::Range;
use crate::flow::record::{Partition, TopicName, TopicPartition};
use crate::flow::topology::Topology;
use crate::ports::source::{Group, TaskId};
use crate::ports::topics::no_topic;
use crate::ports::{Clock, Fault};
use crossbeam_channel::{Receiver, bounded};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The bound on one answer of all workers together: longer than any batch.
const ANSWER: Duration = Duration::from_secs(5);
/// The bound on the log's answer about the partition count of a topic, or the owners of its partitions.
const ASK: Duration = Duration::from_secs(2);
/// The time for which the group's answer about the owners counts; shorter once a failure has cast doubt on it.
const OWNERS_KEPT: Duration = Duration::from_secs(5);
const OWNERS_DOUBTED: Duration = Duration::from_secs(1);
/// The slices of one answer, shared out among the partitions; each has at least one.
const SLICES: usize = 256;

/// Reads the stores of one member of the group. Clones ask the same workers.
#[derive(Clone)]
pub struct Queries {
    topology: Arc<Topology>,
    group: Arc<dyn Group>,
    clock: Arc<dyn Clock>,
    inboxes: Inboxes,
    heard: Arc<Heard>,
}

/// The answers of the log: asked once, or seldom.
#[derive(Default)]
struct Heard {
    /// Partition counts of the first answer: where one changes, stateful tasks halt.
    counts: Mutex<HashMap<TopicName, i32>>,
    cluster_id: OnceLock<String>,
    owners: Mutex<Owners>,
}

/// The owners of partitions, by the group's last answer.
#[derive(Default)]
struct Owners {
    asked_at: Option<Duration>,
    is_doubtful: bool,
    addresses: BTreeMap<TopicPartition, String>,
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries").field("stores", &self.stores()).finish_non_exhaustive()
    }
}

impl Queries {
    pub(crate) fn new(topology: Arc<Topology>, group: Arc<dyn Group>, clock: Arc<dyn Clock>, inboxes: Inboxes) -> Self {
        Self { topology, group, clock, inboxes, heard: Arc::default() }
    }

    /// The names of the pipeline's stores.
    #[must_use]
    pub fn stores(&self) -> Vec<String> {
        let stores = self.topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
        stores.map(|store| store.name.to_string()).collect()
    }

    /// Reads the partitions of a store that this process owns. Blocks until its workers have answered, at most a few
    /// seconds, or until `is_gone` says that nobody waits for the answer any more.
    ///
    /// # Errors
    /// [`Refusal`]: there is no answer.
    pub fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let place = self.place(store).ok_or_else(|| Refusal::UnknownStore { known: self.stores() })?;
        let count = self.count(&place.sub.lead)?;
        let span = match wanted {
            Wanted::Key { span, .. } | Wanted::Many { span, .. } => *span,
            Wanted::Size => Span::default(),
        };
        place.check(span)?;
        let mut inquiry = Inquiry {
            queries: self,
            place,
            span,
            until: self.clock.elapsed() + ANSWER,
            is_gone,
            is_open: Arc::new(()),
            reading: Reading {
                pipeline: self.topology.name().into(),
                cluster_id: self.cluster_id(&place.sub.lead)?,
                ..Reading::default()
            },
        };
        match wanted {
            Wanted::Key { key, .. } => inquiry.keys(&place.candidates(key)?, count)?,
            Wanted::Many { keys, from, count_max, .. } => {
                let from = from.as_deref().unwrap_or_default();
                inquiry.page(&place.ranges(keys)?, from, *count_max, count)?;
            }
            Wanted::Size => inquiry.size(count)?,
        }
        Ok(inquiry.reading)
    }

    /// The addresses of the owners of these partitions of a store, as they gave them to the group. A partition is left
    /// out that nobody owns, or whose owner gave no address. The group is asked every few seconds at most.
    #[must_use]
    pub fn owners(&self, store: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        let Some(place) = self.place(store) else { return BTreeMap::new() };
        let mut owners = self.heard.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = if owners.is_doubtful { OWNERS_DOUBTED } else { OWNERS_KEPT };
        let now = self.clock.elapsed();
        if owners.asked_at.is_none_or(|asked_at| now.saturating_sub(asked_at) >= kept) {
            let found = self.group.addresses(ASK);
            owners.asked_at = Some(self.clock.elapsed());
            owners.is_doubtful = found.is_err();
            match found {
                Ok(addresses) => owners.addresses = addresses,
                Err(fault) => tracing::info!(error = %fault, "the group does not say who owns which partitions"),
            }
        }
        let address = |number: &i32| {
            let source = TopicPartition::new(place.sub.lead.clone(), Partition(*number));
            Some((*number, owners.addresses.get(&source)?.clone()))
        };
        partitions.iter().filter_map(address).collect()
    }

    /// Notes that an owner did not answer: the group is asked anew before long.
    pub fn doubt_owners(&self) {
        self.heard.owners.lock().unwrap_or_else(PoisonError::into_inner).is_doubtful = true;
    }

    fn place(&self, name: &str) -> Option<Place<'_>> {
        self.topology.sub_topologies().iter().enumerate().find_map(|(sub_topology, sub)| {
            let store = sub.stores.iter().position(|store| *store.name == *name)?;
            Some(Place { topology: &self.topology, sub_topology, sub, store })
        })
    }

    fn count(&self, lead: &TopicName) -> Result<i32, Refusal> {
        if let Some(count) = self.heard.counts.lock().unwrap_or_else(PoisonError::into_inner).get(lead) {
            return Ok(*count);
        }
        let count = self.group.partition_count(lead, ASK).map_err(|fault| unanswered(&fault))?;
        let count = count.ok_or_else(|| Refusal::Unanswered(no_topic(lead)))?;
        self.heard.counts.lock().unwrap_or_else(PoisonError::into_inner).insert(lead.clone(), count);
        Ok(count)
    }

    fn cluster_id(&self, lead: &TopicName) -> Result<String, Refusal> {
        if let Some(id) = self.heard.cluster_id.get() {
            return Ok(id.clone());
        }
        let id = self.group.log_ids(lead, ASK).map_err(|fault| unanswered(&fault))?.cluster_id;
        Ok(self.heard.cluster_id.get_or_init(|| id).clone())
    }
}

/// One question on its way through the partitions.
struct Inquiry<'a> {
    queries: &'a Queries,
    place: Place<'a>,
    /// The windows that are told.
    span: Span,
    until: Duration,
    is_gone: &'a dyn Fn() -> bool,
    /// Workers drop its questions once it has gone.
    is_open: Arc<()>,
    reading: Reading,
}

/// The channel of one partition's answers.
type Answers = Receiver<Result<Answer, Fault>>;

impl Inquiry<'_> {
    /// Asks all partitions that may have one of `keys` at once.
    fn keys(&mut self, keys: &[Vec<u8>], count: i32) -> Result<(), Refusal> {
        let hash = self.place.hash();
        let mut by_partition: BTreeMap<i32, Vec<Vec<u8>>> = BTreeMap::new();
        for key in keys {
            // A hash of the user's may name a partition that does not exist, or panic.
            let home =
                hash.as_ref().and_then(|hash| hash.place(key, count).ok()).filter(|home| (0..count).contains(home));
            let homes = home.map_or(0..count, |home| home..home + 1);
            homes.for_each(|home| by_partition.entry(home).or_default().push(key.clone()));
        }
        let asked = by_partition.into_iter().map(|(number, keys)| (Partition(number), Asked::Keys(keys)));
        self.all(asked.collect())
    }

    fn size(&mut self, count: i32) -> Result<(), Refusal> {
        self.all((0..count).map(|number| (Partition(number), Asked::Size)).collect())
    }

    /// Asks partitions each of which answers in one go.
    fn all(&mut self, asked: Vec<(Partition, Asked)>) -> Result<(), Refusal> {
        let asked: Vec<(Partition, Option<Answers>)> =
            asked.into_iter().map(|(partition, asked)| (partition, self.ask(partition, asked))).collect();
        for (partition, answers) in asked {
            if let Some(answers) = answers
                && let Some((found, _)) = self.hear(partition, &answers, true)?
            {
                for found in self.within(found, true) {
                    self.reading.entries.push(self.place.entry(found, partition)?);
                }
            }
        }
        self.reading.entries.sort_by_cached_key(|entry| (entry.bytes(), entry.partition));
        Ok(())
    }

    /// Asks partition by partition and slice by slice, but not for more than the page can hold. The ranges ascend.
    fn page(&mut self, ranges: &[Range], from: &[u8], count_max: usize, count: i32) -> Result<(), Refusal> {
        let mut page = Page::default();
        for partition in (0..count).map(Partition) {
            let slices = (SLICES / usize::try_from(count).unwrap_or(1).max(1)).max(1);
            if !self.page_of(partition, ranges, from, (slices, count_max), &mut page)? {
                // The partition was lost on the way: its entries so far are part of an answer that cannot be completed.
                page.entries.retain(|(_, number), _| *number != partition.0);
                self.reading.partitions.retain(|standing| standing.partition != partition.0);
            }
        }
        self.reading.next = page.next;
        let entries = page.entries.into_iter();
        let entries = entries.map(|((key, number), value)| self.place.entry((key, value), Partition(number)));
        self.reading.entries = entries.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The part of one partition, in so many slices at most; false where it did not answer.
    fn page_of(
        &mut self,
        partition: Partition,
        ranges: &[Range],
        from: &[u8],
        (mut slices, count_max): (usize, usize),
        page: &mut Page,
    ) -> Result<bool, Refusal> {
        let mut is_first = true;
        for (first, end) in ranges {
            let mut slice_from = Some(from.max(first).to_vec());
            while let Some(from) = slice_from {
                let ends = [end, &page.end].into_iter().flatten();
                let Some(to) = ends.min().cloned().map_or(Some(None), |end| (from < end).then_some(Some(end))) else {
                    break;
                };
                if slices == 0 {
                    page.end_at(from);
                    return Ok(true);
                }
                slices -= 1;
                let Some(answers) = self.ask(partition, Asked::Slice { from, to, count_max }) else { return Ok(false) };
                let Some((found, next)) = self.hear(partition, &answers, is_first)? else { return Ok(false) };
                is_first = false;
                page.add(self.within(found, false), partition, count_max);
                slice_from = next;
            }
        }
        Ok(true)
    }

    /// The windows that are asked for; where keys are named, one without any is told all the same.
    fn within(&self, found: Vec<Found>, are_named: bool) -> Vec<Found> {
        if self.span.is_all() {
            return found;
        }
        let kept = found.into_iter().map(|found| page::within(found, self.span));
        kept.filter_map(|(found, has_any)| (has_any || are_named).then_some(found)).collect()
    }

    /// Sends a question to the owner of a partition, where that is us.
    fn ask(&mut self, partition: Partition, asked: Asked) -> Option<Answers> {
        let task = TaskId { sub_topology: self.place.sub_topology, partition };
        let Some(inbox) = self.queries.inboxes.of(task) else {
            self.reading.elsewhere.push(partition.0);
            return None;
        };
        let (answer, answers) = bounded(1);
        let is_open = Arc::downgrade(&self.is_open);
        // If the worker has ended, its channel of answers has ended too.
        let _ = inbox.send(ToExecutor::Query(Question { task, store: self.place.store, asked, answer, is_open }));
        Some(answers)
    }

    /// Waits for an answer and notes the partition's progress, where the answer is the first of it: later slices have
    /// come at least as far.
    fn hear(&mut self, partition: Partition, answers: &Answers, is_first: bool) -> Result<Option<Slice>, Refusal> {
        let left = self.until.saturating_sub(self.queries.clock.elapsed());
        let wait = if (self.is_gone)() { Duration::ZERO } else { left };
        let unready = match answers.recv_timeout(wait) {
            Ok(Ok(Answer::Partition(found, next, standing))) => {
                if is_first {
                    self.reading.partitions.push(standing);
                }
                return Ok(Some((found, next)));
            }
            Ok(Ok(Answer::Unready(unready))) => unready,
            Ok(Err(fault)) => return Err(unanswered(&fault)),
            Err(error) => {
                // A worker that has just lost the partition drops the question, or has ended with its channel.
                let state = if error.is_timeout() { "busy" } else { "moving" };
                Unready { partition: partition.0, state, seconds_left: None }
            }
        };
        self.reading.unready.push(unready);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{NextOffset, Timestamp};
    use crate::ports::source::{Bounds, Committed, LogIds};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A group that counts how often it is asked, and at last does not answer.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Group for Counting {
        fn committed(&self, _: &[TopicPartition], _: Duration) -> Result<Vec<Option<Committed>>, Fault> {
            Ok(Vec::new())
        }

        fn bounds(&self, _: &TopicPartition, _: Duration) -> Result<Bounds, Fault> {
            Ok(Bounds { start: NextOffset(0), end: NextOffset(0) })
        }

        fn log_ids(&self, _: &TopicName, _: Duration) -> Result<LogIds, Fault> {
            Ok(LogIds::default())
        }

        fn partition_count(&self, _: &TopicName, _: Duration) -> Result<Option<i32>, Fault> {
            Ok(Some(2))
        }

        fn addresses(&self, _: Duration) -> Result<BTreeMap<TopicPartition, String>, Fault> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            if number == 2 {
                return Err(Fault::retry("no answer"));
            }
            let lead = TopicName::parse("usage-by-user-repartition").map_err(Fault::fatal)?;
            Ok(BTreeMap::from([(TopicPartition::new(lead, Partition(1)), format!("host:{number}"))]))
        }

        fn commit(&self, _: &[(TopicPartition, Committed)], _: Duration) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[derive(Default)]
    struct Hand(Mutex<Duration>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    /// Its new owner tells all of it.
    #[test]
    fn a_partition_that_leaves_between_two_slices_of_a_page_is_left_out_of_it() {
        let (inboxes, (inbox, questions)) = (Inboxes::default(), bounded(1));
        let task = TaskId { sub_topology: 1, partition: Partition(0) };
        inboxes.place(task, inbox);
        let group = Arc::new(Counting::default());
        let topology = Arc::new(crate::pipelines::usage::topology());
        let queries = Queries::new(topology, group, Arc::new(Hand::default()), inboxes.clone());
        let owner = std::thread::spawn(move || {
            let Ok(ToExecutor::Query(question)) = questions.recv() else { panic!() };
            inboxes.remove(task);
            let standing = Standing {
                partition: 0,
                changelog_next_offset: 0,
                inputs: Vec::new(),
                staleness_ms: 0,
                is_caught_up: true,
                keys: None,
                unwritten_keys: None,
                bytes: None,
            };
            let (found, next) = (vec![(b"a".to_vec(), b"\x01{}".to_vec())], Some(b"b".to_vec()));
            question.answer.send(Ok(Answer::Partition(found, next, standing))).unwrap();
        });
        let keys = Keys::Range { first: None, last: None };
        let wanted = Wanted::Many { keys, span: Span::default(), from: None, count_max: 10 };
        let reading = queries.read("usage", &wanted, &|| false).unwrap();
        owner.join().unwrap();
        assert_eq!((reading.entries.len(), reading.partitions.len(), reading.elsewhere), (0, 0, vec![0, 1]));
    }

    #[test]
    fn the_group_is_asked_for_owners_every_few_seconds_however_many_questions_there_are() {
        let (group, hand) = (Arc::new(Counting::default()), Arc::new(Hand::default()));
        let topology = Arc::new(crate::pipelines::usage::topology());
        let queries = Queries::new(
            topology,
            Arc::clone(&group) as Arc<dyn Group>,
            Arc::clone(&hand) as Arc<dyn Clock>,
            Inboxes::default(),
        );
        let owners = |seconds| {
            *hand.0.lock().unwrap() = Duration::from_secs(seconds);
            queries.owners("usage", &[0, 1])
        };
        let expected = |number: usize| BTreeMap::from([(1, format!("host:{number}"))]);
        for seconds in 0..5 {
            assert_eq!(owners(seconds), expected(0), "{seconds} s");
        }
        queries.doubt_owners();
        assert_eq!((owners(5), owners(5)), (expected(1), expected(1)));
        assert_eq!(owners(10), expected(1), "what was told holds while the group does not answer");
        assert_eq!((owners(10), owners(11)), (expected(1), expected(3)), "which is asked again soon");
        let reading = queries.read("usage", &Wanted::Size, &|| false).unwrap();
        assert_eq!(reading.elsewhere, [0, 1]);
        assert_eq!(group.0.load(Ordering::Relaxed), 4, "a read asks for no owners");
    }
}
