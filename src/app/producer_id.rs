//! How the producers of an instance are called.

/// The `transactional.id` of a worker's producer: who has it fences whoever had it before.
pub(super) fn transactional_id(pipeline: &str, slot: &str, worker: usize, producer: usize) -> String {
    format!("{pipeline}-{slot}-{worker}-{producer}")
}
