//! The calls of a producer's transaction.

use crate::adapters::kafka::ffi::errors::{CallError, c_string, called};
use crate::adapters::kafka::ffi::membership::GroupMetadata;
use crate::adapters::kafka::ffi::texts::millis;
use crate::ports::source::Membership;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, TopicPartitionList};
use rdkafka_sys as sys;
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Adds offsets to the open transaction, in the name of a membership captured earlier.
///
/// # Errors
/// [`CallError`]; a name with a zero byte is `InvalidArgument`.
pub(in crate::adapters::kafka) fn send_offsets<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    membership: &Membership,
    wait: Duration,
) -> Result<(), CallError> {
    let group = c_string(membership.group())?;
    let member_id = c_string(membership.member_id())?;
    let instance_id = membership.instance_id().map(c_string).transpose()?;
    // SAFETY: the strings outlive the calls, which copy them; the metadata is destroyed after its use; client and list
    // are live.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata_new_with_genid(
            group.as_ptr(),
            membership.generation(),
            member_id.as_ptr(),
            instance_id.as_ref().map_or(ptr::null(), |id| id.as_ptr()),
        );
        let Some(metadata) = NonNull::new(metadata) else {
            return Err(CallError { code: Code::InvalidArgument, text: "no group metadata".into() });
        };
        let metadata = GroupMetadata { metadata };
        called(sys::rd_kafka_send_offsets_to_transaction(
            client.native_ptr(),
            offsets.ptr(),
            metadata.metadata.as_ptr(),
            millis(wait),
        ))
    }
}

/// Commits the open transaction, without rdkafka's flush before it, which may take as long again.
///
/// # Errors
/// [`CallError`].
pub(in crate::adapters::kafka) fn commit_transaction<C: ClientContext>(
    client: &Client<C>,
    wait: Duration,
) -> Result<(), CallError> {
    // SAFETY: a live client; the error is ours.
    unsafe { called(sys::rd_kafka_commit_transaction(client.native_ptr(), millis(wait))) }
}

/// Waits until all messages are acknowledged or have failed (rdkafka's own waits in steps of 100 ms:
/// docs/traps.md#a-flush-in-steps-of-100-ms).
/// Another thread must serve the delivery reports meanwhile.
///
/// # Errors
/// The code, `OperationTimedOut` above all.
pub(in crate::adapters::kafka) fn flush<C: ClientContext>(client: &Client<C>, wait: Duration) -> Result<(), Code> {
    // SAFETY: a live client.
    let error = unsafe { sys::rd_kafka_flush(client.native_ptr(), millis(wait)) };
    match Code::from(error) {
        Code::NoError => Ok(()),
        code => Err(code),
    }
}
