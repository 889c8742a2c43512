//! What a task knows beside its rows: its stores with their caches, a restore of one, and what is asked of them.

pub(crate) mod slots;

pub(crate) mod cache;
pub(crate) mod stores;

pub(crate) mod restore;

pub(crate) mod question;
