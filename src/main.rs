//! The shipped service: the pipeline `scoring`.

fn main() -> tidegate::Exit {
    tidegate::run(tidegate::pipelines::scoring::topology())
}
