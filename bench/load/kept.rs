//! One job: values as a changelog keeps them: `[1][version][JSON]`, 1 meaning that the value does not expire.

use crate::Outcome;
use crate::load::events::Usage;
use crate::load::mix;
use serde::de::DeserializeOwned;

/// The envelope of a value of version 1 that does not expire.
const ENVELOPE: [u8; 2] = [1, 1];

/// Reads a kept value.
///
/// # Errors
/// Where it is not one of version 1 that does not expire.
pub fn read<V: DeserializeOwned>(value: &[u8]) -> Outcome<V> {
    let json = value.strip_prefix(&ENVELOPE).ok_or("a kept value does not begin as one of version 1 does")?;
    Ok(serde_json::from_slice(json)?)
}

/// The usage of a user before a restore, and its kept value of 32 bytes.
pub fn before_restore(seed: u64, user: u64) -> (Usage, Vec<u8>) {
    let z = mix(seed ^ mix(user));
    let usage = Usage { count: 10_000_000 + z % 90_000_000, units: 100 + z % 900, ..Usage::default() };
    let json = format!("{{\"count\":{},\"units\":{}}}", usage.count, usage.units);
    (usage, [&ENVELOPE[..], json.as_bytes()].concat())
}
