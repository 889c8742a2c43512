//! The crash point (docs/glossary.md) behind each commit step: the hook of a service in the test build.

use crate::engine::protocol::order::{Hook, Step};
use crate::ports::Fault;
use crate::ports::failpoint::failpoint;

/// Ends or stops the process where a test asked for it, see [`failpoint`](crate::ports::failpoint).
#[derive(Debug, Default, Clone, Copy)]
pub struct Failpoints;

impl Hook for Failpoints {
    fn after(&self, step: Step) -> Result<(), Fault> {
        match step {
            Step::OpenDatabase | Step::MovePosition | Step::WriteRows => failpoint!(K2),
            Step::WriteOutbox => failpoint!(K3),
            Step::CommitDatabase => failpoint!(K5),
            Step::OpenKafka => failpoint!(K6),
            Step::Produce | Step::Flush => failpoint!(K8),
            Step::SendOffsets => failpoint!(K9),
            Step::CommitKafka => failpoint!(K11),
            Step::Claim | Step::ReadCommitted | Step::PublishRemainder => failpoint!(K14),
            // These steps are in both orders, or are named where they happen.
            Step::Apply | Step::WriteStore => {}
        }
        Ok(())
    }
}
