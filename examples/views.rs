//! The pipeline `views` as a service: `cargo run --example views -- topics validate --dir topics/views`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::views::topology())
}
