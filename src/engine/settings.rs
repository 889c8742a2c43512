//! What can be tuned about the engine: declared with the other settings, which rules and files name.

pub use crate::settings::engine::{EngineSettings, MissingRow};
