//! The pipeline `attribution` as a service: `cargo run --example attribution -- topics validate --dir topics/attribution`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::attribution::topology())
}
