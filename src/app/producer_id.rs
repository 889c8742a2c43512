//! Names of the producers of an instance.

/// The `transactional.id` of a worker's producer: a new holder of the name fences the previous one.
pub(super) fn transactional_id(pipeline: &str, slot: &str, worker: usize, producer: usize) -> String {
    format!("{pipeline}-{slot}-{worker}-{producer}")
}
