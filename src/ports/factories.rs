//! Open readers of whole topics where one is needed: few takeovers and restores need one.

use crate::ports::Fault;
use crate::ports::changelog::ChangelogReader;
use crate::ports::history::TopicHistory;
use std::sync::Arc;

/// Opens a reader of whole topics, for the rare takeover after the group's offsets have expired.
pub type HistoryFactory = Arc<dyn Fn() -> Result<Box<dyn TopicHistory>, Fault> + Send + Sync>;

/// Opens a reader of changelogs, for restores.
pub type ChangelogFactory = Arc<dyn Fn() -> Result<Box<dyn ChangelogReader>, Fault> + Send + Sync>;
