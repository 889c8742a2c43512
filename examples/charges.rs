//! The pipeline `charges` as a service: `cargo run --example charges -- topics validate --dir topics/charges`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::charges::topology())
}
