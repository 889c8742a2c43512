//! A drawn pipeline as a service: `DRAWN` names the file that has it, as the generator prints it.

#[allow(dead_code, reason = "a service draws nothing and judges nothing")]
mod pipeline;

use pipeline::{Asked, PipelineDraw};

fn main() -> tidegate::Exit {
    let path = std::env::var("DRAWN").expect("DRAWN names the file of a drawn pipeline");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let pipeline: PipelineDraw = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    tidegate::run(pipeline.topology(&Asked::default()))
}
