//! The acts that a schedule is made of, with the records, failures and disasters in them.

use serde::{Deserialize, Serialize};

/// The commit steps at which an instance may die, by name.
pub const COMMIT_STEPS: [&str; 15] = [
    "Claim",
    "ReadCommitted",
    "PublishRemainder",
    "OpenDatabase",
    "MovePosition",
    "Apply",
    "WriteRows",
    "WriteOutbox",
    "CommitDatabase",
    "OpenKafka",
    "Produce",
    "Flush",
    "SendOffsets",
    "CommitKafka",
    "WriteStore",
];

/// A record to be sent. Text only, so that a schedule can be printed and read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// The topic.
    pub topic: String,
    /// The partition; by murmur2 of the key where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value; none is a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Option<String>)>,
    /// The record's timestamp in milliseconds after the simulated now.
    #[serde(default)]
    pub after_ms: i64,
}

/// A call of a producer that fails; see [`SinkFault`](crate::adapters::memory::SinkFault).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// A transaction cannot be opened.
    Begin,
    /// A message cannot be queued.
    Send,
    /// A delivery fails.
    Flush,
    /// The offsets cannot be added.
    Offsets,
    /// The commit fails.
    Commit,
    /// The commit's answer is lost, and it was done.
    CommitAnswer,
    /// The commit was repeated in silence.
    Taint,
    /// The producer cannot be replaced.
    Renew,
}

/// All of them.
pub const FAILURES: [Failure; 8] = [
    Failure::Begin,
    Failure::Send,
    Failure::Flush,
    Failure::Offsets,
    Failure::Commit,
    Failure::CommitAnswer,
    Failure::Taint,
    Failure::Renew,
];

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Every instance has this number of turns.
    Turns(u16),
    /// This number of milliseconds passes.
    Pass(u64),
    /// A record is sent.
    Send(Sending),
    /// Somebody else writes one column of a row: table, key, column, value as JSON text.
    Write(String, String, String, String),
    /// Somebody else inserts a row that is missing: table, key, columns as JSON text.
    Insert(String, String, String),
    /// The same right before an instance inserts it, which has found it missing.
    InsertFirst(String, String, String),
    /// Somebody else deletes a row: table, key.
    Delete(String, String),
    /// The instance that next reaches the commit step for the nth time (from 1) dies there, and is started again.
    Crash(String, usize),
    /// An instance is killed, and stays down.
    Kill(usize),
    /// An instance leaves the group politely, and stays down.
    Stop(usize),
    /// An instance that is down starts, or one more.
    Start(usize),
    /// An instance has no turns until it is thawed.
    Freeze(usize),
    /// A frozen instance goes on.
    Thaw(usize),
    /// The workers of a frozen instance alone go on for some turns: they do not hear of a rebalance.
    Zombie(usize, u16),
    /// The disk of an instance that is down is lost.
    LoseDisk(usize),
    /// The next commit of the database fails.
    CommitFails,
    /// The answer to the next commit of the database is lost; whether it was done.
    CommitAnswerLost(bool),
    /// The nth read of the outbox from now on (from 1) fails.
    OutboxReadFails(usize),
    /// The database does not answer, or answers again.
    DatabaseDown(bool),
    /// A call of some producer fails.
    Fail(Failure),
    /// This number of starts of deliveries fail.
    StartsFail(usize),
    /// Every instance leaves politely, and a release starts whose stores have no time to live.
    EverLasting,
    /// Commit requests of dead producers arrive.
    LateCommits,
    /// The group throws a member out: the nth of those it has.
    Expire(usize),
    /// The disk of an instance takes no writes, or takes them again.
    DiskFull(usize, bool),
    /// The disk of an instance answers no reads, or answers again.
    DiskBlocked(usize, bool),
    /// A named threshold has another value.
    Threshold(String, i64),
    /// A disaster may halt partitions, and a command must mend them. At the end every instance is started again.
    Disaster(Disaster),
    /// The same while instances run: nobody dies of it, and at the end the instances are started again one after the
    /// other.
    Living(Disaster),
}

/// A disaster that no restart mends: some partitions may stand still afterwards, and only they.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disaster {
    /// Every instance dies, and the group is deleted or has expired: its offsets are gone, its generations begin again.
    GroupDeleted,
    /// Every instance dies, and the group has another protocol: its offsets stay, its generations begin again.
    GroupBegunAgain,
    /// The offset of a source partition is gone.
    OffsetLost(String, i32),
    /// Somebody sets the offset of a source partition.
    OffsetReset(String, i32, i64),
    /// Retention passes so many records of a source partition.
    InputsDeleted(String, i32, i64),
    /// Every instance dies, and a source is deleted and created again.
    Recreated(String),
    /// The database is as it was at the last [`Disaster::Backup`], if there was one.
    Restored,
    /// The database is backed up.
    Backup,
    /// Every instance dies, and the changelog of the nth store is deleted and created again.
    ChangelogLost(usize),
    /// Every instance leaves politely, and the offset of a source partition goes back by one, as with a group that was restored.
    OffsetBack(String, i32),
    /// Every instance leaves politely, and a partition of the changelog of the nth store loses so many of its last offsets.
    ChangelogCut(usize, i32, i64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::order::{TAKEOVER, THROUGH_DATABASE, THROUGH_LOG};
    use std::collections::BTreeSet;

    #[test]
    fn an_instance_may_die_at_every_commit_step() {
        let steps = TAKEOVER.iter().chain(&THROUGH_DATABASE).chain(&THROUGH_LOG);
        let steps: BTreeSet<String> = steps.map(|step| format!("{step:?}")).collect();
        assert_eq!(steps, COMMIT_STEPS.iter().map(|step| (*step).to_owned()).collect());
    }
}
