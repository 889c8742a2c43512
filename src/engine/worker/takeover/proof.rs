//! The proof that a task is still ours, by writing K unchanged, and the consequence of a refusal.

use crate::engine::mailbox::ToRelay;
use crate::engine::protocol::consequence::{self, Consequence, Moment};
use crate::engine::protocol::ownership::AssignmentId;
use crate::engine::task::{Phase, State, Task};
use crate::engine::worker::desk::Desk;
use crate::engine::worker::takeover::pace::AGAIN;
use crate::ports::Fault;
use crate::ports::guard::{self, Guard};
use crate::ports::source::TaskId;
use std::time::Duration;

/// The time that a stale task waits for its revoke before it asks the group again whether it is still a member: a proof
/// may also be refused because of a rebalance that left the partition here.
const STALE: Duration = Duration::from_millis(500);

/// Waits for the revoke, because another member has the task. If none comes, the group confirms that we are a member.
pub(super) fn wait_for_revoke(desk: &mut Desk, id: TaskId, fault: &Fault) {
    if desk.tasks.get(&id).is_some_and(|task| !task.waiting.has_begun()) {
        tracing::info!(task = ?id, error = %fault, "waiting for the revoke");
    }
    desk.note_failed_step(id, fault);
    desk.go_on(id, STALE, Phase::become_stale);
}

/// Proves membership by a round trip that writes K unchanged: the group still gives us the partition although the
/// database fenced us. A refusal means that we are stale.
pub(super) fn prove(desk: &mut Desk, id: TaskId) {
    if guard::is_off(Guard::Reclaim) {
        desk.go_on(id, STALE, Phase::become_stale);
        return;
    }
    let Some(assignment) = desk.tasks.get(&id).map(|task| task.assignment) else { return };
    let sources = desk.sources(id);
    if desk.go_on(id, Duration::ZERO, Phase::become_proving) {
        desk.wiring.send_to_relay(ToRelay::Prove { task: id, assignment, sources });
    }
}

/// Begins the takeover anew once the relay holds nothing of the task, at once or when its next publication is due.
pub(crate) fn prove_in_time(desk: &mut Desk, id: TaskId) {
    let until = desk.tasks.get(&id).map_or(Duration::ZERO, |task| task.put_off_until);
    match until.checked_sub(desk.wiring.clock.elapsed()).filter(|pause| !pause.is_zero()) {
        Some(pause) => {
            desk.go_on(id, pause, Phase::become_put_off);
        }
        None => prove(desk, id),
    }
}

/// Takes the group's answer to a proof.
pub(crate) fn proved(desk: &mut Desk, id: TaskId, assignment: AssignmentId, outcome: Result<(), Fault>) {
    let is_asked = |task: &&mut Task| task.assignment == assignment && task.state() == State::Proving;
    let Some(task) = desk.tasks.get_mut(&id).filter(is_asked) else { return };
    task.is_proved = outcome.is_ok();
    match outcome {
        Ok(()) => {
            desk.go_on(id, Duration::ZERO, Phase::become_claiming);
        }
        Err(fault) if consequence::of(&fault, Moment::Prove) == Consequence::AwaitRevoke => {
            wait_for_revoke(desk, id, &fault);
        }
        Err(fault) => {
            desk.note_failed_step(id, &fault);
            desk.go_on(id, AGAIN, Phase::become_stale);
        }
    }
}
