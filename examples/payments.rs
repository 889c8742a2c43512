//! The pipeline `payments` as a service: `cargo run --example payments -- topics validate --dir topics/payments`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::payments::topology())
}
