//! The declaration that a source makes of its own partitioning, and the check of each record against it.
//!
//! A false declaration splits the state of one id over two partitions: a wrong answer, worse than a slow one. So the
//! engine compares every record, before it touches a row or a store; the hash costs far less than the decoding.

use crate::flow::effect::Reject;
use crate::flow::key::{crc32_partition_for, partition_for};
use crate::flow::net::in_net;
use crate::flow::record::Offset;
use std::fmt;
use std::sync::Arc;

/// A partitioner of the user's own: key bytes and partition count in, partition number out.
pub type CustomHash = Arc<dyn Fn(&[u8], i32) -> i32 + Send + Sync>;

/// The hash by which a source's producers choose a partition for a key.
#[derive(Clone)]
pub enum KeyHash {
    /// Kafka's Java client, and librdkafka with `partitioner=murmur2_random`.
    Murmur2,
    /// librdkafka's default, `consistent_random`.
    Crc32,
    /// Any other, under a name for people.
    Custom(&'static str, CustomHash),
}

impl KeyHash {
    /// The partition of `key` among `count` partitions.
    #[must_use]
    pub fn partition(&self, key: &[u8], count: i32) -> i32 {
        match self {
            Self::Murmur2 => partition_for(key, count),
            Self::Crc32 => crc32_partition_for(key, count),
            Self::Custom(_, hash) => hash(key, count),
        }
    }

    /// The same as [`KeyHash::partition`], with a panic in a hash of the user's own returned as an error.
    ///
    /// # Errors
    /// A dead letter with the code `panic`.
    pub(crate) fn place(&self, key: &[u8], count: i32) -> Result<i32, Reject> {
        match self {
            Self::Custom(_, hash) => in_net(|| Ok(hash(key, count))),
            Self::Murmur2 | Self::Crc32 => Ok(self.partition(key, count)),
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2",
            Self::Crc32 => "crc32",
            Self::Custom(name, _) => name,
        }
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reaction to a record that lies in another partition than declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnViolation {
    /// Count it, log the first, handle it where it lies.
    Warn,
    /// Halt the partition in front of it. The default: a wrong answer is worse than a slow one.
    #[default]
    Stop,
    /// Send it to the partition where it belongs, through a repartition topic kept for this purpose.
    Repartition,
}

/// A source's declaration: its key decides the partition, by a known hash over a known number of partitions.
///
/// ```
/// use tidegate::flow::{Declared, OnViolation};
/// let declared = Declared::murmur2(12).on_violation(OnViolation::Warn);
/// ```
#[derive(Clone, Debug)]
pub struct Declared {
    pub(crate) hash: KeyHash,
    pub(crate) count: i32,
    pub(crate) on_violation: OnViolation,
}

impl Declared {
    /// Partitioned by `hash` over `count` partitions; a violation stops its partition.
    #[must_use]
    pub const fn new(hash: KeyHash, count: i32) -> Self {
        Self { hash, count, on_violation: OnViolation::Stop }
    }

    /// Declares the partitioning of Java producers.
    #[must_use]
    pub const fn murmur2(count: i32) -> Self {
        Self::new(KeyHash::Murmur2, count)
    }

    /// Declares the partitioning that librdkafka's producers use by default.
    #[must_use]
    pub const fn crc32(count: i32) -> Self {
        Self::new(KeyHash::Crc32, count)
    }

    /// Chooses the reaction to a record that lies elsewhere.
    #[must_use]
    pub const fn on_violation(mut self, policy: OnViolation) -> Self {
        self.on_violation = policy;
        self
    }

    /// The partition in which a record with this key belongs.
    ///
    /// # Errors
    /// [`Reject::Unreadable`] where it has no key; a dead letter where a hash of the user's own panics.
    pub(crate) fn place(&self, key: Option<&[u8]>) -> Result<i32, Reject> {
        let key = key.ok_or_else(|| Reject::unreadable("null-key", "the record has no key"))?;
        self.hash.place(key, self.count)
    }

    /// Why a partition halts in front of the record at `offset`, which belongs in partition `expected`.
    pub(crate) fn violation(&self, offset: Offset, expected: i32) -> String {
        format!(
            "offset {offset}: its key belongs into partition {expected} by {} over {} partitions; it had no effect",
            self.hash.name(),
            self.count
        )
    }

    /// The hash.
    #[must_use]
    pub const fn hash(&self) -> &KeyHash {
        &self.hash
    }

    /// The partition count.
    #[must_use]
    pub const fn count(&self) -> i32 {
        self.count
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> OnViolation {
        self.on_violation
    }
}
