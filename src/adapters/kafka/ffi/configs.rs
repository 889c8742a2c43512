//! Settings of topics and brokers. rdkafka drops the error of each resource: what a broker had refused looked changed.

use crate::adapters::kafka::ffi::errors::{CallError, c_string, called};
use crate::adapters::kafka::ffi::request::{pointers, request};
use crate::adapters::kafka::ffi::texts::{owned, text};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::time::Duration;

/// One setting in force.
pub(in crate::adapters::kafka) struct Entry {
    /// Kafka's name of it.
    pub(in crate::adapters::kafka) name: String,
    /// Its value.
    pub(in crate::adapters::kafka) value: String,
    /// It was set for this topic, and is no default.
    pub(in crate::adapters::kafka) is_own: bool,
}

/// A thing that has settings.
pub(in crate::adapters::kafka) enum Owner<'a> {
    Topic(&'a str),
    Broker(i32),
}

/// A resource, destroyed when it goes out of scope.
struct Resource(NonNull<sys::rd_kafka_ConfigResource_t>);

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { sys::rd_kafka_ConfigResource_destroy(self.0.as_ptr()) };
    }
}

impl Resource {
    fn new(of: &Owner<'_>) -> Result<Self, CallError> {
        let (kind, name) = match of {
            Owner::Topic(name) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, c_string(name)?),
            Owner::Broker(id) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER, c_string(&id.to_string())?),
        };
        // SAFETY: the name outlives the call, which copies it; the answer is null or ours.
        let made = NonNull::new(unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) });
        made.map(Self).ok_or_else(|| CallError::invalid("no such resource"))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), CallError> {
        let (name, value) = (c_string(name)?, c_string(value)?);
        let set = sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
        // SAFETY: the texts outlive the call, which copies them; the error is ours.
        unsafe {
            called(sys::rd_kafka_ConfigResource_add_incremental_config(
                self.0.as_ptr(),
                name.as_ptr(),
                set,
                value.as_ptr(),
            ))
        }
    }
}

/// The settings of a topic or broker, defaults included; secret ones have no value and are left out.
///
/// # Errors
/// That of the request, or of this resource.
pub(in crate::adapters::kafka) fn describe_config<C: ClientContext>(
    client: &Client<C>,
    of: &Owner<'_>,
    wait: Duration,
) -> Result<Vec<Entry>, CallError> {
    let resource = Resource::new(of)?;
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let answer = request(client, kind, wait, |parts| {
        let mut all = [resource.0.as_ptr()];
        // SAFETY: the call copies the resource.
        unsafe { sys::rd_kafka_DescribeConfigs(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue) };
    })?;
    // SAFETY: the event lives to the end of the function; resources, entries and texts are its own and are copied.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        let [found] = pointers(resources, count)[..] else { return Err(CallError::strange()) };
        answered(found)?;
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(found, &raw mut count);
        let entry = |entry: *const sys::rd_kafka_ConfigEntry_t| {
            let value = sys::rd_kafka_ConfigEntry_value(entry);
            let source = sys::rd_kafka_ConfigEntry_source(entry);
            (!value.is_null()).then(|| Entry {
                name: owned(text(sys::rd_kafka_ConfigEntry_name(entry))),
                value: owned(text(value)),
                is_own: source == sys::rd_kafka_ConfigSource_t::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG,
            })
        };
        Ok(pointers(entries, count).into_iter().filter_map(entry).collect())
    }
}

/// Sets the given settings of a topic, all or none, and touches no other.
///
/// # Errors
/// That of the request, or of this topic with the broker's own sentence.
pub(in crate::adapters::kafka) fn set_config<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    changes: &BTreeMap<String, String>,
    wait: Duration,
) -> Result<(), CallError> {
    let mut resource = Resource::new(&Owner::Topic(topic))?;
    changes.iter().try_for_each(|(name, value)| resource.set(name, value))?;
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
    let answer = request(client, kind, wait, |parts| {
        let mut all = [resource.0.as_ptr()];
        // SAFETY: the call copies the resource.
        unsafe { sys::rd_kafka_IncrementalAlterConfigs(parts.client, all.as_mut_ptr(), 1, parts.options, parts.queue) };
    })?;
    // SAFETY: the event lives to the end of the function; its resources are its own.
    unsafe {
        let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(CallError::strange());
        }
        let mut count = 0;
        let resources = sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
        let [found] = pointers(resources, count)[..] else { return Err(CallError::strange()) };
        answered(found)
    }
}

/// # Safety
/// The resource lives during the call.
unsafe fn answered(resource: *const sys::rd_kafka_ConfigResource_t) -> Result<(), CallError> {
    // SAFETY: the caller's promise; the text is copied.
    unsafe {
        match Code::from(sys::rd_kafka_ConfigResource_error(resource)) {
            Code::NoError => Ok(()),
            code => Err(CallError { code, text: owned(text(sys::rd_kafka_ConfigResource_error_string(resource))) }),
        }
    }
}
