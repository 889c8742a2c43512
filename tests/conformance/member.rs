//! A member of a group under test: polls its source and remembers what it heard.

use crate::eventually;
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate::flow::record::{Chunk, NextOffset, Record, TopicPartition};
use tidegate::ports::source::{Listener, Membership, Source, TaskId};

/// A record as heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub task: TaskId,
    pub topic: usize,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// The reports of a source, in order of time where order matters.
#[derive(Default)]
pub struct Notes {
    pub tasks: BTreeSet<TaskId>,
    pub membership: Option<Membership>,
    pub revoked: Vec<TaskId>,
    pub lost: Vec<TaskId>,
    pub records: Vec<Heard>,
    pub chunk: Chunk,
    pub out_of_range: Vec<(TaskId, usize, String)>,
    /// Tasks that were assigned while they were ours already: must stay empty.
    pub twice: Vec<TaskId>,
}

impl Listener for Notes {
    fn assigned(&mut self, tasks: &[TaskId], membership: Membership) {
        self.twice.extend(tasks.iter().filter(|task| self.tasks.contains(task)));
        self.tasks.extend(tasks);
        self.membership = Some(membership);
    }

    fn revoked(&mut self, tasks: &[TaskId]) {
        tasks.iter().for_each(|task| assert!(self.tasks.remove(task), "revoked what was not assigned: {task:?}"));
        self.revoked.extend(tasks);
    }

    fn lost(&mut self, tasks: &[TaskId]) {
        self.tasks.retain(|task| !tasks.contains(task));
        self.lost.extend(tasks);
    }

    fn record(&mut self, task: TaskId, topic: usize, record: Record<'_>) {
        assert!(self.tasks.contains(&task), "a record of a task that is not ours: {task:?}");
        self.chunk.push(&record);
        self.records.push(Heard {
            task,
            topic,
            offset: record.offset.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
        });
    }

    fn out_of_range(&mut self, task: TaskId, topic: usize, message: &str) {
        self.out_of_range.push((task, topic, message.into()));
    }
}

/// A source with its notes.
pub struct Member {
    pub source: Box<dyn Source>,
    pub notes: Notes,
}

impl Member {
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, notes: Notes::default() }
    }

    /// Polls once, briefly.
    pub fn poll(&mut self) {
        let told = self.source.poll(Duration::from_millis(5), 1000, &mut self.notes);
        if let Err(fault) = told {
            assert!(fault.is_retry(), "poll failed: {fault}");
        }
        assert_eq!(self.notes.twice, [], "assigned twice");
    }

    /// Polls until it has `count` tasks.
    #[track_caller]
    pub fn own(&mut self, count: usize) {
        eventually(&format!("{count} tasks"), || {
            self.poll();
            (self.notes.tasks.len() == count && self.notes.membership.is_some()).then_some(())
        });
    }

    /// Polls until it has heard `count` records in all, and a little longer to see that no more come.
    #[track_caller]
    pub fn hear(&mut self, count: usize) -> Vec<String> {
        eventually(&format!("{count} records"), || {
            self.poll();
            (self.notes.records.len() >= count).then_some(())
        });
        self.linger();
        assert_eq!(self.notes.records.len(), count, "{:?}", self.notes.records);
        self.values()
    }

    /// Polls for a while, in which nothing must come.
    pub fn linger(&mut self) {
        (0..20).for_each(|_| self.poll());
    }

    /// The values heard, as text.
    pub fn values(&self) -> Vec<String> {
        self.notes.records.iter().map(|heard| text(heard.value.as_deref())).collect()
    }

    /// Starts, once the source is ready for it.
    #[track_caller]
    pub fn start(&mut self, positions: &[(TopicPartition, i64)]) {
        let positions: Vec<_> = positions.iter().map(|(place, offset)| (place.clone(), NextOffset(*offset))).collect();
        eventually("start", || match self.source.start(&positions) {
            Ok(()) => Some(()),
            Err(fault) => {
                assert!(fault.is_retry(), "start failed: {fault}");
                self.poll();
                None
            }
        });
    }

    pub fn membership(&self) -> Membership {
        self.notes.membership.clone().expect("assigned")
    }

    pub fn close(&mut self) {
        self.source.close(&mut self.notes);
    }
}

pub fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}
