//! The pipeline `sessions` as a service: `cargo run --example sessions -- topics validate --dir topics/sessions`.
//!
//! `SESSIONS_ON_VIOLATION` is what to do with a record in the wrong partition: `stop` (the default), `warn` or `repartition`,
//! which needs the topics `sessions-clicks-repartition` and `sessions-clicks-repartition-dlt`.

use tidegate::flow::OnViolation;

fn main() -> tidegate::Exit {
    let policy = match std::env::var("SESSIONS_ON_VIOLATION").as_deref() {
        Err(_) | Ok("stop") => OnViolation::Stop,
        Ok("warn") => OnViolation::Warn,
        Ok("repartition") => OnViolation::Repartition,
        Ok(other) => {
            eprintln!("SESSIONS_ON_VIOLATION is {other:?}: use stop, warn or repartition");
            return tidegate::Exit::Misconfigured;
        }
    };
    tidegate::run(tidegate::pipelines::sessions::with_policy(policy))
}
