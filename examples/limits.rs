//! The pipeline `limits` as a service: `cargo run --example limits -- topics validate --dir topics/limits`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::limits::topology())
}
