//! The configuration keys that a topic has.

/// The configuration names of Apache Kafka 4.3 (`org.apache.kafka.common.config.TopicConfig`), sorted. A broker may have
/// more; a file of ours may not, because no broker refuses a misspelt name before `apply`.
const KEYS: [&str; 33] = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// `Err` with the end of a sentence when no topic has such a key.
pub(super) fn check(key: &str) -> Result<(), String> {
    if KEYS.contains(&key) {
        return Ok(());
    }
    Err(format!("unknown configuration key{}", crate::settings::suggestion(key, KEYS)))
}
