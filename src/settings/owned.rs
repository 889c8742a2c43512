//! librdkafka properties that nobody may set in `kafka.properties`, because the guarantee rests on them or because they
//! have a key of their own.

/// Properties that have a key of their own.
pub(crate) const ELSEWHERE: [(&str, &str); 5] = [
    ("bootstrap.servers", "kafka.bootstrap_servers"),
    ("group.protocol", "kafka.group_protocol"),
    ("metadata.broker.list", "kafka.bootstrap_servers"),
    ("session.timeout.ms", "kafka.session_timeout_ms"),
    ("transaction.timeout.ms", "kafka.transaction_timeout_ms"),
];

/// Properties of the engine, each with the reason. Aliases are listed too.
pub(crate) const FIXED: [(&str, &str); 30] = [
    ("acks", "it is all"),
    ("allow.auto.create.topics", "it is false: a topic made by accident has one partition and one replica"),
    ("auto.commit.enable", "offsets are committed with the outputs, never by a timer"),
    ("auto.offset.reset", "it is error: pipeline.start decides where a new group begins"),
    ("client.id", "it is derived, so that broker logs name the worker"),
    ("debug", "the transactional producer reads its own debug log to find silent retries"),
    ("delivery.report.only.error", "the engine counts failures only"),
    ("delivery.timeout.ms", "it follows from kafka.transaction_timeout_ms"),
    ("enable.auto.commit", "offsets are committed with the outputs, never by a timer"),
    ("enable.auto.offset.store", "offsets are committed with the outputs, never by a timer"),
    ("enable.gapless.guarantee", "transactions replace it"),
    ("enable.idempotence", "it is true: without it a retry may write a record twice"),
    ("enable.partition.eof", "the engine switches it where it needs it"),
    ("enabled_events", "the engine reads librdkafka's event queue"),
    ("group.id", "it is the pipeline's name (pipeline.name)"),
    ("group.instance.id", "members join without one, so that a member that leaves is replaced at once"),
    ("group.remote.assignor", "the companions follow the lead topic whatever the broker's assignor is"),
    ("isolation.level", "it is read_committed: what was rolled back must not be read"),
    ("log.connection.close", "the transactional producer must see lost connections"),
    ("log.queue", "the transactional producer reads its own debug log to find silent retries"),
    ("log.thread.name", "the engine reads log lines by their form"),
    ("log_level", "the transactional producer reads its own debug log to find silent retries"),
    ("max.in.flight", "idempotence sets it"),
    ("max.in.flight.requests.per.connection", "idempotence sets it"),
    ("message.timeout.ms", "it follows from kafka.transaction_timeout_ms"),
    ("partition.assignment.strategy", "it is cooperative-sticky: others stop the world at every join"),
    ("partitioner", "it is murmur2_random, as Java producers partition"),
    ("request.required.acks", "acks is all"),
    ("transactional.id", "it follows from pipeline, instance slot and worker"),
    ("max.poll.interval.ms", "a revoke may take a fifth of it, which the engine relies on"),
];

/// Refuses what is not the user's to set.
///
/// # Errors
/// The reason and the way out.
pub(super) fn check(name: &str) -> Result<(), String> {
    if let Some((_, path)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
        return Err(format!("has a key of its own: {path}"));
    }
    if let Some((_, reason)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        return Err(format!("belongs to the engine: {reason}; remove it"));
    }
    Ok(())
}
