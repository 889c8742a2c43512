//! The claim of a task: its sources and stores first, then step 1, which raises the epochs.

use crate::engine::protocol::decision::HaltReason;
use crate::engine::protocol::order::Step;
use crate::engine::task::{Phase, Task};
use crate::engine::worker::database::Database;
use crate::engine::worker::desk::Desk;
use crate::engine::worker::takeover::lane::Takeovers;
use crate::engine::worker::takeover::proof::wait_for_revoke;
use crate::flow::topology::CommitKind;
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;
use crate::ports::guard::{self, Guard};
use crate::ports::rows::{Claim, Claimed};
use crate::ports::source::TaskId;
use std::time::Duration;

impl Takeovers {
    /// Does the work before step 1: the topics of the sources, and the stores, which are opened but not read yet.
    pub(super) fn enter(&mut self, desk: &mut Desk, db: &mut Database, id: TaskId) -> Result<(), Fault> {
        let sources = desk.sources(id);
        let mut counts = Vec::with_capacity(sources.len());
        for source in &sources {
            let count = desk.wiring.group.partition_count(&source.topic, desk.wiring.settings.ask_wait)?;
            counts.push(count.ok_or_else(|| Fault::retry(format!("topic {}: is gone", source.topic)))?);
        }
        let Some(task) = desk.tasks.get_mut(&id) else { return Ok(()) };
        task.counts = counts;
        if let Some((number, message)) = miscounted(task) {
            if let Some(halt) = desk.halt_of(id, number, HaltReason::PartitionCountChanged, message) {
                desk.halt(id, halt);
            }
            return Ok(());
        }
        if !self.restores.keep_state(desk, &mut self.ids, id)? {
            return Ok(());
        }
        if is_to_claim(desk, id) && !guard::is_off(Guard::ClaimFirst) {
            return self.claim(desk, db, id);
        }
        let task = desk.tasks.get(&id);
        let is_ours = task.is_some_and(|task| desk.wiring.assignments.membership(id, task.assignment).is_some());
        if is_ours {
            desk.go_on(id, Duration::ZERO, Phase::become_reading_committed);
        } else {
            wait_for_revoke(desk, id, &moved());
        }
        Ok(())
    }

    /// Step 1: raises the epochs. A plain read of the epoch would fence nobody.
    pub(super) fn claim(&mut self, desk: &mut Desk, db: &mut Database, id: TaskId) -> Result<(), Fault> {
        let Some(task) = desk.tasks.get(&id) else { return Ok(()) };
        let Some(membership) = desk.wiring.assignments.membership(id, task.assignment) else {
            wait_for_revoke(desk, id, &moved());
            return Ok(());
        };
        let mut claims = Vec::new();
        for source in desk.sources(id) {
            let log_ids = self.ids.of(&desk.wiring, &source.topic)?;
            let count = desk.wiring.group.partition_count(&source.topic, desk.wiring.settings.ask_wait)?;
            let partition_count = count.ok_or_else(|| Fault::retry(format!("topic {}: is gone", source.topic)))?;
            let (generation, owner) = (membership.generation(), desk.wiring.owner.clone());
            claims.push(Claim { source, generation, adopts: None, owner, log_ids, partition_count });
        }
        failpoint!(K14);
        let mut claimed = db.rows.claim(&claims)?;
        if desk.tasks.get_mut(&id).is_some_and(|task| std::mem::take(&mut task.is_proved))
            && adopt(&mut claims, &claimed)
        {
            claimed = db.rows.claim(&claims)?;
        }
        let mut stale = None;
        if let Some(task) = desk.tasks.get_mut(&id) {
            for (input, claimed) in task.inputs.iter_mut().zip(claimed) {
                match claimed {
                    Claimed::Owned(position) => {
                        input.go_on_at(position.next_offset);
                        input.published = Some(position.published);
                        input.position = Some(position);
                    }
                    Claimed::Absent => input.position = None,
                    Claimed::Stale { generation } => stale = Some((input.source.clone(), generation)),
                }
            }
        }
        desk.wiring.hook.after(Step::Claim)?;
        if let Some((source, generation)) = stale {
            let ours = membership.generation();
            wait_for_revoke(
                desk,
                id,
                &Fault::fenced(format!("{source} is claimed by generation {generation}, ours is {ours}")),
            );
        } else {
            desk.go_on(id, Duration::ZERO, Phase::become_reading_committed);
        }
        Ok(())
    }
}

fn moved() -> Fault {
    Fault::fenced("the partition has moved")
}

/// Prepares claims over those that a later generation made. False where there is none: nothing is to be claimed anew.
///
/// The group has confirmed our generation after the later one was found, so ours counts again. The claim names each
/// later generation, so that a claim that comes late is refused if another instance has claimed since.
fn adopt(claims: &mut [Claim], claimed: &[Claimed]) -> bool {
    let mut is_any = false;
    for (claim, claimed) in claims.iter_mut().zip(claimed) {
        if let Claimed::Stale { generation } = claimed {
            tracing::warn!(partition = %claim.source, found = generation, ours = claim.generation, "the group counts its generations anew, most likely since it was deleted; the last claim is passed over by itself");
            claim.adopts = Some(*generation);
            is_any = true;
        }
    }
    is_any
}

/// The input whose topic has another partition count than the task rests on, with both counts. The task rests on the
/// count of its declaration, or on that of the lead topic where keys of several topics must meet in a store.
fn miscounted(task: &Task) -> Option<(usize, String)> {
    let sub = &task.sub_topology;
    let lead = task.counts.first().copied().unwrap_or(0);
    sub.sources().zip(&task.counts).enumerate().find_map(|(number, (topic, count))| {
        let declared = sub.declarations().find(|(declared, _)| *declared == topic).map(|(_, found)| found.count());
        if let Some(declared) = declared.filter(|declared| declared != count) {
            return Some((number, format!("{topic} is declared with {declared} partitions and has {count}")));
        }
        let differs = sub.is_stateful() && *count != lead;
        let lead_name = &sub.lead;
        differs.then(|| {
            (number, format!("{lead_name} has {lead} partitions and {topic}, which is read with it, {count}: equal keys do not meet"))
        })
    })
}

/// Whether the task has positions in the database to claim.
pub(super) fn is_to_claim(desk: &Desk, id: TaskId) -> bool {
    desk.tasks.get(&id).is_some_and(|task| match task.commit() {
        CommitKind::Rows => true,
        CommitKind::Log => false,
    })
}
