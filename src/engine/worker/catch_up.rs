//! Reads the table topics of a task to the end that they have when it starts, before the first record of its stream.
//!
//! Otherwise a stream's backlog would be joined with a table that is still empty. The records are decided like any others,
//! with their own offsets and changelog records; only their way here differs: through a reader of whole partitions, since a
//! member of the group is not told when it has come to an end, behind which only markers or aborted records may lie. What
//! is written to the table later comes through the group, in the order of time.

use crate::engine::task::{Phase, State};
use crate::engine::worker::Stage;
use crate::engine::worker::table_reader::{TableReader, UnderWay};
use crate::flow::record::Chunk;
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most records that wait to be decided, and of one read: some milliseconds.
const SLICE: usize = 5_000;
/// How long a read waits for the log.
const WAIT: Duration = Duration::from_millis(20);
/// The pause where records must be decided, or come, before it goes on.
const PAUSE: Duration = Duration::from_millis(5);

impl Stage {
    /// The stores are whole: the table topics come next, where there are any.
    pub(crate) fn go_on_with_tables(&mut self, id: TaskId) {
        if self.state.tasks.get(&id).is_some_and(|task| task.sub_topology.tables.is_empty()) {
            self.start(id);
            return;
        }
        // What an earlier takeover of the task had begun.
        if let Some(tables) = &mut self.state.tables {
            tables.under_way = tables.under_way.filter(|under_way| under_way.task != id);
        }
        self.go_on(id, Duration::ZERO, Phase::become_catching_up);
    }

    /// One slice of the table topics of `id`; the task runs when all are decided. True when it came any further.
    pub(crate) fn catch_up(&mut self, id: TaskId) -> Result<bool, Fault> {
        let under_way = self.state.tables.as_ref().and_then(|tables| tables.under_way);
        let has_come_further = match under_way {
            Some(under_way) if under_way.task == id => self.catch_up_slice(under_way)?,
            Some(other) if self.is_catching_up(other.task) => false, // its turn comes
            _ => self.begin_table(id, 0)?,
        };
        if !has_come_further {
            self.wait_a_little(id, PAUSE);
        }
        Ok(has_come_further)
    }

    fn is_catching_up(&self, id: TaskId) -> bool {
        self.state.tasks.get(&id).is_some_and(|task| task.state() == State::CatchingUp)
    }

    /// Begins with the first table among the inputs from number `first` on; without one the task starts.
    fn begin_table(&mut self, task: TaskId, first: usize) -> Result<bool, Fault> {
        let inputs = self.state.tasks.get(&task).map_or(&[][..], |task| &task.inputs);
        let found = inputs.iter().enumerate().skip(first).find(|(_, input)| input.is_table);
        let Some((number, source, position)) = found.map(|(n, input)| (n, input.source.clone(), input.next_offset))
        else {
            if let Some(tables) = &mut self.state.tables {
                tables.reader.end();
                tables.under_way = None;
            }
            self.start(task);
            if !self.state.tasks.values().any(|task| task.state() == State::CatchingUp) {
                self.state.tables = None;
            }
            return Ok(true);
        };
        let end = self.group.bounds(&source, self.settings.ask_wait)?.end;
        if self.state.tables.is_none() {
            let Some(open) = &self.changelogs else {
                return Err(Fault::fatal("the pipeline joins a table topic, which cannot be read"));
            };
            self.state.tables = Some(TableReader { reader: open()?, under_way: None });
        }
        if position < end {
            tracing::info!(partition = %source, from = position.0, to = end.0, "reading the table before the stream");
        }
        if let Some(tables) = &mut self.state.tables {
            tables.under_way = Some(UnderWay { task, input: number, is_placed: false, position, end });
        }
        Ok(true)
    }

    fn catch_up_slice(&mut self, under_way: UnderWay) -> Result<bool, Fault> {
        let now = self.clock.elapsed();
        let UnderWay { task: id, input: number, is_placed, position, end } = under_way;
        let Some(task) = self.state.tasks.get_mut(&id) else { return Ok(false) };
        let Some(input) = task.inputs.get_mut(number) else { return Ok(false) };
        if position >= end {
            return if input.queued() == 0 { self.begin_table(id, number + 1) } else { Ok(false) };
        }
        if input.queued() >= SLICE {
            return Ok(false);
        }
        let Some(TableReader { reader, under_way: noted }) = &mut self.state.tables else { return Ok(false) };
        *noted = Some(UnderWay { is_placed: false, ..under_way }); // unless it all goes well
        if !is_placed {
            reader.begin(&input.source, position)?;
        }
        let mut chunk = Chunk::default();
        let position = reader.read(WAIT.min(self.settings.ask_wait), SLICE, &mut |record| {
            chunk.push(record);
            true
        })?;
        *noted = Some(UnderWay { is_placed: true, position, ..under_way });
        let before = input.queued();
        input.push(chunk, now);
        task.queued.fetch_add(input.queued() - before, Ordering::AcqRel);
        Ok(position > under_way.position)
    }
}
