//! The consequence of a fault: the same fault means different things at different moments, and the table of this module
//! decides which.
//!
//! | moment | fenced | cannot be true | may be tried again |
//! |---|---|---|---|
//! | poll, idle, begin | again | again | again |
//! | take over | again | halt `schema-changed` | again |
//! | open a store, restore | again | halt `store-unreadable` | again |
//! | read a changelog | again | halt `changelog-truncated` | again |
//! | fill a store | halt `store-unwritable` | halt `store-unreadable` | halt `store-unwritable` |
//! | read a table | again | the log's bounds decide | again |
//! | read a store | again | halt `store-unreadable` | again |
//! | write a store | halt `store-unwritable` | halt `store-unreadable` | halt `store-unwritable` |
//! | batch | claim anew | a smaller batch | a smaller batch |
//! | commit | a smaller batch | a smaller batch | a smaller batch |
//! | settle a commit | again | claim anew | again |
//! | prove membership | the revoke is on its way | again | again |
//! | publish, renew a producer | again | again | again |
//!
//! A fatal fault ends the process, whatever was being done.

use crate::engine::protocol::decision::HaltReason;
use crate::ports::Fault;

/// The activity that a fault interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// Reading the log.
    Poll,
    /// A step of a takeover that asks the database or the group.
    TakeOver,
    /// Opening a store.
    OpenStore,
    /// Rebuilding a store from its changelog.
    Restore,
    /// Reading the changelog of a store that is being rebuilt.
    ReadChangelog,
    /// Writing the records of a changelog into its store.
    FillStore,
    /// Reading a table topic before the stream.
    ReadTable,
    /// Reading a store for a record.
    ReadStore,
    /// Writing a store.
    WriteStore,
    /// Opening the transaction of a batch: no record of the batch is to blame.
    BeginBatch,
    /// Deciding a batch, up to its commit.
    Batch,
    /// The COMMIT of a batch, which failed for certain.
    Commit,
    /// Asking whether a COMMIT without an answer took effect.
    Settle,
    /// Writing down P of an idle input.
    Idle,
    /// Proving to the group that this process owns a task.
    Prove,
    /// Publishing, and reading the committed offset after a failure.
    Publish,
    /// Replacing a producer.
    RenewProducer,
}

/// The consequence of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Consequence {
    /// The process ends with the message.
    End,
    /// The same operation is tried again, after a pause.
    Again,
    /// The task halts.
    Halt(HaltReason),
    /// The bounds of the log decide on what the task goes on with.
    AskBounds,
    /// A smaller batch is offered. A record that fails alone is set aside, and may become a dead letter or halt its
    /// partition.
    Smaller,
    /// The task proves that this process owns it, and claims anew.
    ClaimAnew,
    /// Another instance owns the task: the revoke is on its way.
    AwaitRevoke,
}

/// The consequence of `fault` at `moment`.
pub(crate) const fn of(fault: &Fault, moment: Moment) -> Consequence {
    match fault {
        Fault::Fatal(_) => Consequence::End,
        Fault::Fenced(_) => of_fenced(moment),
        Fault::Corrupt(_) => of_corrupt(moment),
        Fault::Retry(_) => of_retry(moment),
    }
}

const fn of_fenced(moment: Moment) -> Consequence {
    match moment {
        Moment::FillStore | Moment::WriteStore => Consequence::Halt(HaltReason::StoreUnwritable),
        Moment::Batch => Consequence::ClaimAnew,
        Moment::Commit => Consequence::Smaller,
        Moment::Prove => Consequence::AwaitRevoke,
        Moment::Poll
        | Moment::TakeOver
        | Moment::OpenStore
        | Moment::Restore
        | Moment::ReadChangelog
        | Moment::ReadTable
        | Moment::ReadStore
        | Moment::BeginBatch
        | Moment::Settle
        | Moment::Idle
        | Moment::Publish
        | Moment::RenewProducer => Consequence::Again,
    }
}

const fn of_corrupt(moment: Moment) -> Consequence {
    match moment {
        Moment::TakeOver => Consequence::Halt(HaltReason::SchemaChanged),
        Moment::OpenStore | Moment::Restore | Moment::FillStore | Moment::ReadStore | Moment::WriteStore => {
            Consequence::Halt(HaltReason::StoreUnreadable)
        }
        Moment::ReadChangelog => Consequence::Halt(HaltReason::ChangelogTruncated),
        Moment::ReadTable => Consequence::AskBounds,
        Moment::Batch | Moment::Commit => Consequence::Smaller,
        // The question has no answer, however often it is asked. The takeover decides instead: K beyond D halts.
        Moment::Settle => Consequence::ClaimAnew,
        Moment::Poll | Moment::BeginBatch | Moment::Idle | Moment::Prove | Moment::Publish | Moment::RenewProducer => {
            Consequence::Again
        }
    }
}

const fn of_retry(moment: Moment) -> Consequence {
    match moment {
        Moment::FillStore | Moment::WriteStore => Consequence::Halt(HaltReason::StoreUnwritable),
        Moment::Batch | Moment::Commit => Consequence::Smaller,
        Moment::Poll
        | Moment::TakeOver
        | Moment::OpenStore
        | Moment::Restore
        | Moment::ReadChangelog
        | Moment::ReadTable
        | Moment::ReadStore
        | Moment::BeginBatch
        | Moment::Settle
        | Moment::Idle
        | Moment::Prove
        | Moment::Publish
        | Moment::RenewProducer => Consequence::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Moment; 17] = [
        Moment::Poll,
        Moment::TakeOver,
        Moment::OpenStore,
        Moment::Restore,
        Moment::ReadChangelog,
        Moment::FillStore,
        Moment::ReadTable,
        Moment::ReadStore,
        Moment::WriteStore,
        Moment::BeginBatch,
        Moment::Batch,
        Moment::Commit,
        Moment::Settle,
        Moment::Idle,
        Moment::Prove,
        Moment::Publish,
        Moment::RenewProducer,
    ];

    #[test]
    fn a_fatal_fault_ends_the_process_whatever_was_being_done_and_no_other_does() {
        for moment in ALL {
            assert_eq!(of(&Fault::fatal("f"), moment), Consequence::End, "{moment:?}");
            for fault in [Fault::fenced("f"), Fault::corrupt("f"), Fault::retry("f")] {
                assert_ne!(of(&fault, moment), Consequence::End, "{moment:?} {fault:?}");
            }
        }
    }

    #[test]
    fn what_may_be_tried_again_halts_only_where_a_store_cannot_be_written() {
        for moment in ALL {
            let halts = matches!(of(&Fault::retry("f"), moment), Consequence::Halt(_));
            assert_eq!(halts, matches!(moment, Moment::FillStore | Moment::WriteStore), "{moment:?}");
        }
    }

    #[test]
    fn a_halt_over_what_cannot_be_true_names_whose_it_is() {
        let reason = |moment| match of(&Fault::corrupt("f"), moment) {
            Consequence::Halt(reason) => Some(reason.label()),
            _ => None,
        };
        let found: Vec<(Moment, &str)> = ALL.into_iter().filter_map(|moment| Some((moment, reason(moment)?))).collect();
        let expected = [
            (Moment::TakeOver, "schema-changed"),
            (Moment::OpenStore, "store-unreadable"),
            (Moment::Restore, "store-unreadable"),
            (Moment::ReadChangelog, "changelog-truncated"),
            (Moment::FillStore, "store-unreadable"),
            (Moment::ReadStore, "store-unreadable"),
            (Moment::WriteStore, "store-unreadable"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn ownership_is_asked_for_where_another_may_have_it_and_where_a_commit_cannot_be_settled() {
        let asks = |fault: fn() -> Fault| {
            let asked = [Consequence::ClaimAnew, Consequence::AwaitRevoke];
            ALL.into_iter().filter(|moment| asked.contains(&of(&fault(), *moment))).collect::<Vec<_>>()
        };
        assert_eq!(asks(|| Fault::fenced("f")), [Moment::Batch, Moment::Prove]);
        assert_eq!(asks(|| Fault::corrupt("f")), [Moment::Settle]);
        assert_eq!(asks(|| Fault::retry("f")), []);
    }
}
