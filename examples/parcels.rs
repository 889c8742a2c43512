//! The pipeline `parcels` as a service: `cargo run --example parcels -- topics validate --dir topics/parcels`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::parcels::topology())
}
