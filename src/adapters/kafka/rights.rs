//! Rights of Kafka's access lists: the one that a refused request lacked, and the command that grants it.

use rdkafka::error::RDKafkaErrorCode as Code;
use std::fmt;

/// An operation, as `kafka-acls.sh` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Fetch records; take part in a group and commit its offsets.
    Read,
    /// Produce; use a transactional id.
    Write,
    /// Create a topic.
    Create,
    /// Delete a topic or its records.
    Delete,
    /// Add partitions.
    Alter,
    /// Ask about partitions and offsets. `Read`, `Write`, `Alter` and `Delete` imply it.
    Describe,
    /// Read settings.
    DescribeConfigs,
    /// Change settings.
    AlterConfigs,
}

/// A resource that rights are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
}

/// An operation on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right<'a> {
    operation: Operation,
    on: Resource<'a>,
}

impl<'a> Right<'a> {
    /// On a topic.
    #[must_use]
    pub const fn topic(operation: Operation, topic: &'a str) -> Self {
        Self { operation, on: Resource::Topic(topic) }
    }

    /// On a group.
    pub(super) const fn group(operation: Operation, group: &'a str) -> Self {
        Self { operation, on: Resource::Group(group) }
    }

    /// On a transactional id.
    pub(super) const fn transactional_id(id: &'a str) -> Self {
        Self { operation: Operation::Write, on: Resource::TransactionalId(id) }
    }

    /// Whether a refusal with `code` is about this kind of resource.
    const fn is_meant_by(&self, code: Code) -> bool {
        match self.on {
            Resource::Topic(_) => matches!(code, Code::TopicAuthorizationFailed),
            Resource::Group(_) => matches!(code, Code::GroupAuthorizationFailed),
            Resource::TransactionalId(_) => matches!(code, Code::TransactionalIdAuthorizationFailed),
        }
    }
}

/// The sentence about the missing right, with the command that grants it.
impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, on } = self;
        let (resource, option) = match on {
            Resource::Topic(name) => (format!("topic {name}"), format!("--topic {name}")),
            Resource::Group(name) => (format!("group {name}"), format!("--group {name}")),
            Resource::TransactionalId(id) => (format!("transactional id {id}"), format!("--transactional-id {id}")),
        };
        write!(
            f,
            "the user has no right {operation:?} on {resource}; `kafka-acls.sh --bootstrap-server HOST:PORT --add \
             --allow-principal User:NAME --operation {operation:?} {option}` grants it, and docs/operations.md lists all rights"
        )
    }
}

/// The right of `needs`, those of the request in the order in which a broker checks them, that a refusal with `code` says is
/// missing; `None` where the refusal is about something else.
pub(super) fn lacking<'a>(code: Code, needs: &[Right<'a>]) -> Option<Right<'a>> {
    needs.iter().find(|right| right.is_meant_by(code)).copied()
}

/// The operations of `needed` that are not among those allowed. `Describe` comes with `Read`, `Write`, `Alter` and `Delete`,
/// `DescribeConfigs` with `AlterConfigs`.
#[must_use]
pub fn not_allowed(needed: &[Operation], allowed: &[Operation]) -> Vec<Operation> {
    use Operation::{Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let implied = |operation: Operation| match operation {
        Describe => [Read, Write, Alter, Delete].iter().any(|other| allowed.contains(other)),
        DescribeConfigs => allowed.contains(&AlterConfigs),
        _ => false,
    };
    needed.iter().copied().filter(|operation| !allowed.contains(operation) && !implied(*operation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{AlterConfigs, Describe, DescribeConfigs, Read, Write};

    #[test]
    fn a_refusal_names_operation_resource_and_the_command_that_grants_it() {
        let needs = [
            Right::transactional_id("scoring-0-0"),
            Right::group(Read, "scoring"),
            Right::topic(Write, "large-changes"),
        ];
        let said = |code| lacking(code, &needs).map(|right| right.to_string()).unwrap_or_default();
        let table = [
            (
                Code::TransactionalIdAuthorizationFailed,
                "Write on transactional id scoring-0-0",
                "--operation Write --transactional-id scoring-0-0`",
            ),
            (Code::GroupAuthorizationFailed, "Read on group scoring", "--operation Read --group scoring`"),
            (
                Code::TopicAuthorizationFailed,
                "Write on topic large-changes",
                "--operation Write --topic large-changes`",
            ),
        ];
        for (code, right, command) in table {
            let said = said(code);
            assert!(said.contains(right) && said.contains(command), "{code}: {said}");
        }
        assert_eq!(said(Code::OperationTimedOut), "");
        assert_eq!(lacking(Code::GroupAuthorizationFailed, &[Right::topic(Read, "readings")]), None);
    }

    #[test]
    fn what_another_right_implies_is_not_missing() {
        assert_eq!(not_allowed(&[Describe, DescribeConfigs], &[Read, AlterConfigs]), []);
        assert_eq!(not_allowed(&[Write, DescribeConfigs], &[Describe]), [Write, DescribeConfigs]);
        assert_eq!(not_allowed(&[Read], &[Write, Describe]), [Read]);
    }
}
