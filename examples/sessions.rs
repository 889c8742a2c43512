//! The pipeline `sessions` as a service: `cargo run --example sessions -- topics validate --dir topics/sessions`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::sessions::topology())
}
