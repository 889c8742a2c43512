//! The pipeline `home` as a service: `cargo run --features rocksdb --example home -- topics validate --dir topics/home`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::home::topology())
}
