//! Memory as whole mebibytes: settings keep the unit in their name, Rust counts in bytes.

use serde::{Deserialize, Deserializer, Serializer};

const MEBIBYTE: usize = 1 << 20;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(super) fn serialize<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(bytes / MEBIBYTE).unwrap_or(u64::MAX))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::deserialize(deserializer).map(|mebibytes| mebibytes.saturating_mul(MEBIBYTE))
}
