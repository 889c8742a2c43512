//! The membership of a consumer in its group, as the client knows it.

use crate::adapters::kafka::ffi::texts::{owned, text};
use crate::ports::source::Membership;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;
use std::ptr::NonNull;

/// Group metadata of librdkafka.
pub(super) struct GroupMetadata {
    pub(super) metadata: NonNull<sys::rd_kafka_consumer_group_metadata_t>,
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.metadata.as_ptr()) };
    }
}

/// The membership of this consumer in its group, now.
///
/// # Errors
/// A sentence when it is no member.
pub(in crate::adapters::kafka) fn membership<C: ClientContext>(client: &Client<C>) -> Result<Membership, String> {
    // SAFETY: a live client; the answer is null or ours. The texts live as long as the metadata.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(client.native_ptr());
        let metadata = GroupMetadata { metadata: NonNull::new(metadata).ok_or("the client is in no group")? };
        let raw = metadata.metadata.as_ptr();
        let group = owned(text(sys::rd_kafka_consumer_group_metadata_group_id(raw)));
        let member_id = owned(text(sys::rd_kafka_consumer_group_metadata_member_id(raw)));
        let instance_id = owned(text(sys::rd_kafka_consumer_group_metadata_group_instance_id(raw)));
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(raw);
        Membership::new(&group, &member_id, generation, (!instance_id.is_empty()).then_some(instance_id.as_str()))
    }
}
