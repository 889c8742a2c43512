//! The ports in memory: a model, and it says so.
