//! The pipeline `usage` as a service: `cargo run --example usage -- topics validate --dir topics/usage`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::usage::topology())
}
