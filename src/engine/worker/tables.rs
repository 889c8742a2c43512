//! The reader of a task's table topics: to the end that they have when it starts, before the first record of its
//! stream.
//!
//! Otherwise a stream's backlog would be joined with a table that is still empty. The records are decided like any
//! others, with their own offsets and changelog records; only their way here differs: through a reader of whole
//! partitions, since a member of the group does not learn when it has come to an end behind which only markers or
//! aborted records lie. Records written to the table later come through the group, in the order of time.

use crate::engine::task::{Phase, State};
use crate::engine::worker::desk::Desk;
use crate::engine::worker::progress::Progress;
use crate::flow::record::{Chunk, NextOffset};
use crate::ports::Fault;
use crate::ports::changelog::ChangelogReader;
use crate::ports::source::TaskId;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The bound on the records that wait to be decided, and on those of one read: some milliseconds.
const SLICE: usize = 5_000;
/// The wait of a read for the log.
const WAIT: Duration = Duration::from_millis(20);
/// The pause until records are decided, or come, before the reading goes on.
const PAUSE: Duration = Duration::from_millis(5);

/// The reader of table topics, while a task of the worker catches up. It serves one at a time.
struct TableReader {
    reader: Box<dyn ChangelogReader>,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    task: TaskId,
    /// The number of the task's input.
    input: usize,
    /// Whether the reader is positioned at `position`: not at first, and not after a fault.
    is_placed: bool,
    /// Everything before it is queued or decided.
    position: NextOffset,
    /// The end for a committed reader when the reading began.
    end: NextOffset,
}

/// The table topics that tasks of a worker read before their streams.
#[derive(Default)]
pub(crate) struct TableReads(Option<TableReader>);

impl TableReads {
    /// Begins the table topics of a task whose stores are whole. False where there are none.
    pub(crate) fn enter(&mut self, desk: &mut Desk, id: TaskId) -> bool {
        if desk.tasks.get(&id).is_some_and(|task| task.sub_topology.tables.is_empty()) {
            return false;
        }
        // An earlier takeover of the task may have begun this.
        if let Some(tables) = &mut self.0 {
            tables.under_way = tables.under_way.filter(|under_way| under_way.task != id);
        }
        desk.go_on(id, Duration::ZERO, Phase::become_catching_up);
        true
    }

    /// Reads one slice of the table topics of `id`, which are whole when all their records are decided.
    pub(crate) fn step(&mut self, desk: &mut Desk, id: TaskId) -> Result<Progress, Fault> {
        let under_way = self.0.as_ref().and_then(|tables| tables.under_way);
        let progress = match under_way {
            Some(under_way) if under_way.task == id => self.catch_up_slice(desk, under_way)?,
            Some(other) if is_catching_up(desk, other.task) => Progress::Nowhere, // its turn comes
            _ => self.begin_table(desk, id, 0)?,
        };
        if progress == Progress::Nowhere {
            desk.wait_a_little(id, PAUSE);
        }
        Ok(progress)
    }

    /// Begins with the first table among the inputs from number `first` on; without one all are whole.
    fn begin_table(&mut self, desk: &mut Desk, task: TaskId, first: usize) -> Result<Progress, Fault> {
        let inputs = desk.tasks.get(&task).map_or(&[][..], |task| &task.inputs);
        let found = inputs.iter().enumerate().skip(first).find(|(_, input)| input.is_table);
        let Some((number, source, position)) = found.map(|(n, input)| (n, input.source.clone(), input.next_offset))
        else {
            if let Some(tables) = &mut self.0 {
                tables.reader.end();
                tables.under_way = None;
            }
            if !desk.tasks.keys().any(|other| *other != task && is_catching_up(desk, *other)) {
                self.0 = None;
            }
            return Ok(Progress::Whole);
        };
        let end = desk.wiring.group.bounds(&source, desk.wiring.settings.ask_wait)?.end;
        if self.0.is_none() {
            let Some(open) = &desk.wiring.changelogs else {
                return Err(Fault::fatal("the pipeline joins a table topic, which cannot be read"));
            };
            self.0 = Some(TableReader { reader: open()?, under_way: None });
        }
        if position < end {
            tracing::info!(partition = %source, from = position.0, to = end.0, "reading the table before the stream");
        }
        if let Some(tables) = &mut self.0 {
            tables.under_way = Some(UnderWay { task, input: number, is_placed: false, position, end });
        }
        Ok(Progress::Further)
    }

    fn catch_up_slice(&mut self, desk: &mut Desk, under_way: UnderWay) -> Result<Progress, Fault> {
        let now = desk.wiring.clock.elapsed();
        let UnderWay { task: id, input: number, is_placed, position, end } = under_way;
        let Some(task) = desk.tasks.get_mut(&id) else { return Ok(Progress::Nowhere) };
        let Some(input) = task.inputs.get_mut(number) else { return Ok(Progress::Nowhere) };
        if position >= end {
            return if input.queued() == 0 { self.begin_table(desk, id, number + 1) } else { Ok(Progress::Nowhere) };
        }
        if input.queued() >= SLICE {
            return Ok(Progress::Nowhere);
        }
        let Some(TableReader { reader, under_way: noted }) = &mut self.0 else { return Ok(Progress::Nowhere) };
        *noted = Some(UnderWay { is_placed: false, ..under_way }); // unless all of it succeeds
        if !is_placed {
            reader.begin(&input.source, position)?;
        }
        let mut chunk = Chunk::default();
        let position = reader.read(WAIT.min(desk.wiring.settings.ask_wait), SLICE, &mut |record| {
            chunk.push(record);
            true
        })?;
        *noted = Some(UnderWay { is_placed: true, position, ..under_way });
        let before = input.queued();
        input.push(chunk, now);
        input.seen_to = position;
        input.in_front.fetch_add(input.queued() - before, Ordering::AcqRel);
        Ok(Progress::of(position > under_way.position))
    }
}

fn is_catching_up(desk: &Desk, id: TaskId) -> bool {
    desk.tasks.get(&id).is_some_and(|task| task.state() == State::CatchingUp)
}
