//! The state of a task beside its rows: its stores with their caches, the restore of one, and the questions about them.

pub(crate) mod slots;

pub(crate) mod access;
pub(crate) mod cache;
pub(crate) mod kept;
pub(crate) mod stores;

pub(crate) mod due;

pub(crate) mod restore;

pub(crate) mod question;
