//! The shipped service: the pipeline `scoring`.

/// librdkafka allocates for each message, and one thread frees what another allocated: 5 % less CPU a record than with
/// glibc's. It takes the place of C's `malloc` too. A binary of your own does the same.
#[cfg(feature = "kafka")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::scoring::topology())
}
