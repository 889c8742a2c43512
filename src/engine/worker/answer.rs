//! The answers to questions about the stores of a worker, some between two batches.

use crate::engine::state::cache::CLOCK;
use crate::engine::state::question::{
    Answer, Asked, Found, InputPosition, Question, SLICE_BYTES, SLICE_KEYS, Standing, Unready,
};
use crate::engine::task::State;
use crate::engine::worker::desk::Desk;
use crate::ports::Fault;
use crate::ports::source::TaskId;
use std::collections::VecDeque;
use std::time::Duration;

/// The questions of a worker, oldest first.
#[derive(Default)]
pub(crate) struct Questions(VecDeque<Question>);

impl Questions {
    pub(crate) fn take(&mut self, question: Question) {
        self.0.push_back(question);
    }

    /// Answers the oldest questions, within the bound of one slice of work, and drops those that nobody waits for any
    /// more. True when there was a question.
    pub(crate) fn answer_some(&mut self, desk: &mut Desk) -> bool {
        let mut cost = 0;
        while cost < SLICE_KEYS
            && let Some(Question { task, store, asked, answer, is_open }) = self.0.pop_front()
        {
            if is_open.strong_count() > 0 {
                cost += asked.cost();
                let _ = answer.send(answer_to(desk, task, store, &asked)); // the asking thread may have given up
            }
        }
        cost > 0
    }
}

fn answer_to(desk: &mut Desk, id: TaskId, store: usize, asked: &Asked) -> Result<Answer, Fault> {
    let partition = id.partition.0;
    let unready = |state| {
        let restore = desk.wiring.status.restores().remove(&id);
        let seconds_left = restore.and_then(|restore| restore.seconds_left());
        Ok(Answer::Unready(Unready { partition, state, seconds_left }))
    };
    let Some(task) = desk.tasks.get_mut(&id) else { return unready("moving") };
    if !matches!(task.state(), State::Running | State::Leaving) {
        return unready(task.state().label());
    }
    let is_caught_up = task.is_caught_up();
    let Some(keyed) = &mut task.keyed else { return unready(task.state().label()) };
    let now = keyed.proved_time();
    let Some(kept) = keyed.kept.get_mut(store) else { return unready(task.state().label()) };
    let mut found: Vec<Found> = Vec::new();
    let mut next = None;
    match asked {
        Asked::Keys(keys) => {
            // A store's own clock is no entry of the user.
            for key in keys.iter().filter(|key| key.as_slice() != CLOCK) {
                kept.cache.proved(key, now, &mut |value| {
                    found.extend(value.map(|value| (key.clone(), value.to_vec())));
                })?;
            }
        }
        Asked::Slice { from, to, count_max } => {
            let mut bytes = 0;
            next = kept.cache.page_proved(from, to.as_deref(), now, SLICE_KEYS, &mut |key, value| {
                bytes += key.len() + value.len();
                let fits = found.is_empty() || (found.len() < *count_max && bytes <= SLICE_BYTES);
                if fits {
                    found.push((key.to_vec(), value.to_vec()));
                }
                fits
            })?;
        }
        Asked::Size => {}
    }
    let size = matches!(asked, Asked::Size).then(|| kept.cache.size()).transpose()?;
    let proved_at = task.inputs.iter().map(|input| input.published_at).max().unwrap_or_default();
    let input = |input: &crate::engine::task::Input| InputPosition {
        source: input.source.to_string(),
        next_offset: input.known().0,
    };
    Ok(Answer::Partition(
        found,
        next,
        Standing {
            partition,
            changelog_next_offset: kept.proved_end.0,
            inputs: task.inputs.iter().map(input).collect(),
            staleness_ms: millis(desk.wiring.clock.elapsed().saturating_sub(proved_at)),
            is_caught_up,
            keys: size.map(|size| size.keys),
            unwritten_keys: size.map(|_| kept.cache.unwritten_count() as u64),
            bytes: size.map(|size| size.bytes),
        },
    ))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
