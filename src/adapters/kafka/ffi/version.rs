//! The version of the linked library.

use crate::ports::fault::Fault;
use rdkafka_sys as sys;

/// Refuses to run with an older librdkafka than `version` (`0xMMmmrrff`).
///
/// # Errors
/// `Fatal`.
pub(in crate::adapters::kafka) fn version_at_least(version: i32) -> Result<(), Fault> {
    // SAFETY: takes nothing and reads a constant of the library.
    let found = unsafe { sys::rd_kafka_version() };
    if found < version {
        return Err(Fault::fatal(format!(
            "librdkafka {found:#010x} is too old, {version:#010x} is needed: older ones lose assignments on commit"
        )));
    }
    Ok(())
}
