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
    /// All ids with this prefix.
    TransactionalIds(&'a str),
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
    #[must_use]
    pub const fn group(operation: Operation, group: &'a str) -> Self {
        Self { operation, on: Resource::Group(group) }
    }

    /// `Write` on all transactional ids with a prefix.
    #[must_use]
    pub const fn transactional_ids(prefix: &'a str) -> Self {
        Self { operation: Operation::Write, on: Resource::TransactionalIds(prefix) }
    }

    /// `Write` on a transactional id, or on all that differ from it in the numbers of slot, worker and producer only: each of
    /// them is needed sooner or later.
    pub(super) fn transactional_id(id: &'a str) -> Self {
        let on = common_prefix(id).map_or(Resource::TransactionalId(id), Resource::TransactionalIds);
        Self { operation: Operation::Write, on }
    }

    /// Whether a refusal with `code` is about this kind of resource.
    const fn is_meant_by(&self, code: Code) -> bool {
        match self.on {
            Resource::Topic(_) => matches!(code, Code::TopicAuthorizationFailed),
            Resource::Group(_) => matches!(code, Code::GroupAuthorizationFailed),
            Resource::TransactionalId(_) | Resource::TransactionalIds(_) => {
                matches!(code, Code::TransactionalIdAuthorizationFailed)
            }
        }
    }
}

/// `scoring-` of `scoring-0-1-0` and of `scoring-repair`.
fn common_prefix(id: &str) -> Option<&str> {
    let numbers = || {
        let mut parts = id.rsplitn(4, '-');
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let are_numbers = parts.by_ref().take(3).filter(|part| is_number(part)).count() == 3;
        parts.next().filter(|name| are_numbers && !name.is_empty())
    };
    let name = id.strip_suffix("-repair").or_else(numbers)?;
    id.get(..=name.len())
}

/// Whom a right is to be granted to, and where, as the command of `kafka-acls.sh` names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grantee {
    servers: String,
    user: String,
}

impl Default for Grantee {
    /// The places of what is not known.
    fn default() -> Self {
        Self { servers: "HOST:PORT".into(), user: "NAME".into() }
    }
}

impl Grantee {
    /// At `servers`, separated by commas, the user of that name; what is empty is not known.
    pub(super) fn new(servers: String, user: &str) -> Self {
        let unknown = Self::default();
        Self {
            servers: if servers.is_empty() { unknown.servers } else { servers },
            user: if user.is_empty() { unknown.user } else { user.into() },
        }
    }
}

/// A word of a command, in quotes where a shell would read it otherwise.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+".contains(c);
    if text.chars().all(is_plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl Right<'_> {
    /// The sentence about the missing right, with the command that grants it.
    #[must_use]
    pub fn missing(&self, grantee: &Grantee) -> String {
        let Self { operation, on } = self;
        let (resource, option) = match on {
            Resource::Topic(name) => (format!("topic {name}"), format!("--topic {name}")),
            Resource::Group(name) => (format!("group {name}"), format!("--group {name}")),
            Resource::TransactionalId(id) => (format!("transactional id {id}"), format!("--transactional-id {id}")),
            Resource::TransactionalIds(prefix) => (
                format!("the transactional ids that begin with {prefix}"),
                format!("--resource-pattern-type prefixed --transactional-id {prefix}"),
            ),
        };
        let (servers, user) = (word(&grantee.servers), word(&format!("User:{}", grantee.user)));
        format!(
            "the user has no right {operation:?} on {resource}; `kafka-acls.sh --bootstrap-server {servers} --add \
             --allow-principal {user} --operation {operation:?} {option}` grants it, and docs/operations.md lists all rights"
        )
    }
}

/// The sentence about the missing right where it is not known who lacks it.
impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.missing(&Grantee::default()))
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
            Right::transactional_id("scoring-0-0-0"),
            Right::group(Read, "scoring"),
            Right::topic(Write, "large-changes"),
        ];
        let said = |code| lacking(code, &needs).map(|right| right.to_string()).unwrap_or_default();
        let table = [
            (
                Code::TransactionalIdAuthorizationFailed,
                "Write on the transactional ids that begin with scoring-;",
                "--operation Write --resource-pattern-type prefixed --transactional-id scoring-`",
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
    fn a_transactional_id_stands_for_all_of_its_pipeline() {
        for (id, prefix) in [
            ("scoring-0-1-0", Some("scoring-")),
            ("job-7-3-0-1", Some("job-7-")),
            ("scoring-repair", Some("scoring-")),
            ("scoring-0-0", None),
            ("scoring-a-0-0", None),
            ("0-0-0", None),
            ("scoring", None),
        ] {
            assert_eq!(common_prefix(id), prefix, "{id}");
        }
    }

    #[test]
    fn what_another_right_implies_is_not_missing() {
        assert_eq!(not_allowed(&[Describe, DescribeConfigs], &[Read, AlterConfigs]), []);
        assert_eq!(not_allowed(&[Write, DescribeConfigs], &[Describe]), [Write, DescribeConfigs]);
        assert_eq!(not_allowed(&[Read], &[Write, Describe]), [Read]);
    }
}
