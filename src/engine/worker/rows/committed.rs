//! A committed batch: D moves, and the relay gets the messages to publish.

use crate::engine::outbound::limits::AWAITS_LIMIT;
use crate::engine::outbound::publication::{Part, Publication, Through};
use crate::engine::status::Counter;
use crate::engine::task::Task;
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::rows::lane::RowsLane;
use crate::engine::worker::rows::prepared::{Advance, Prepared};
use crate::flow::record::Offset;
use crate::ports::rows::Counts;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

impl RowsLane {
    /// Moves D past a committed batch and hands its messages to the relay. Messages of a task that has left or must
    /// prove itself since (the commit was in doubt for a while) are published by the next takeover.
    pub(super) fn finish(&mut self, desk: &mut Desk, db: &mut Database, prepared: Prepared) {
        let Prepared { advances, rows, outgoing, had_enough } = prepared;
        let now = desk.wiring.clock.elapsed();
        db.answered(&*desk.wiring.clock);
        self.commits += 1;
        if had_enough {
            self.portion.had_enough(advances.iter().map(|advance| advance.reached.records).sum());
        } else {
            self.portion.committed(desk.wiring.settings.batch_rows);
        }
        self.suspects.clear();
        desk.wiring.status.add(Counter::DatabaseCommits, 1);
        let mut publication = Publication { rows, outgoing, ..Publication::default() };
        let mut moved = BTreeSet::new();
        let mut halts = Vec::new();
        for advance in advances {
            for (offset, reject) in &advance.reached.unreadable {
                desk.wiring.status.skip_unreadable(&advance.source, *offset, reject);
            }
            let counts = Counts { row_changes: advance.reached.changed, ..advance.reached.counts };
            desk.wiring.status.count(counts);
            desk.wiring.status.streams.decided(&advance.source.topic, counts);
            desk.wiring.status.declared.held(&advance.source, &advance.reached.held);
            let Advance { task: id, assignment, input: number, epoch, source, from, to, published, reached } = advance;
            if reached.fired > 0 {
                self.turn_committed(id);
            }
            let is_here = |task: &&mut Task| task.assignment == assignment && task.state().is_deciding();
            let Some(task) = desk.tasks.get_mut(&id).filter(is_here) else {
                publication.remove(&source);
                continue;
            };
            if from != to {
                let (source, marks) = (source.clone(), task.marks.get(number).cloned());
                let through = Through::Database { epoch };
                let part = Part { task: id, assignment, source, through, from, to, marks, batch: 0 };
                publication.parts.push(part);
                moved.insert(id);
            }
            if published > from {
                publication.cut(&source, published); // an operator said that this part was published
            }
            let Some(input) = task.inputs.get_mut(number) else { continue };
            input.next_offset = to;
            if let Some(position) = &mut input.position {
                position.published = published.min(to);
            }
            // A record that waits for a limit has not been taken: how often it failed alone still counts.
            let awaits_limit = reached.retry.as_deref() == Some(AWAITS_LIMIT) && from == to;
            input.set_aside = input.set_aside.take().filter(|_| awaits_limit);
            input.committed_in = self.commits;
            input.consume(reached.records);
            input.in_front.fetch_sub(reached.records, Ordering::AcqRel);
            if reached.records > 0 {
                input.attempts = 0;
            }
            if let Some(code) = reached.retry {
                if code == AWAITS_LIMIT {
                    input.await_limit(now);
                    continue;
                }
                let pause = desk.wiring.settings.retry_backoff * 2_u32.pow(input.attempts.min(5));
                input.attempts += 1;
                input.blocked_until = now + pause;
                tracing::info!(partition = %input.source, offset = to.0, code, attempts = input.attempts, "a record will be offered again");
            }
            if let Some((reason, sentence)) = reached.halt {
                halts.push((id, number, reason, sentence, Offset(to.0).next()));
            }
            desk.show(id);
        }
        for id in moved {
            let Some(task) = desk.tasks.get_mut(&id) else { continue };
            if let Some(keyed) = &mut task.keyed {
                let batch = keyed.seal(task.inputs.iter().map(|input| input.next_offset).collect());
                publication.number(id, batch);
            }
        }
        if !publication.parts.is_empty() {
            desk.wiring.hand_over(publication);
        }
        for (id, number, reason, sentence, past) in halts {
            if let Some(halt) = desk.halt_at(id, number, reason, sentence, None, Some(past)) {
                desk.halt(id, halt);
            }
        }
    }
}
