//! The pipeline `orders` as a service: `cargo run --example orders -- topics validate --dir topics/orders`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::orders::topology())
}
