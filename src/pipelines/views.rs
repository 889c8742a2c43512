//! Counts the pages that each user views in a minute, and tells each count once, when the minute is over for good.
//!
//! Topics `views`, `views-minutes-changelog`, `views-minutes-timers-changelog` and `view-counts`, described in the folder
//! `topics/views`. The source is keyed by user. No database: the minutes that are not over lie in the store `minutes`, beside the
//! partition.
//!
//! A view that comes up to ten seconds late is counted. A minute is over once a later view of the same user says so, or once
//! nothing has come from the user for two minutes.

use crate::flow::window::{Tumbling, Window, Windowed};
use crate::flow::{Context, Reject, Topology};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
const LATE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(2);

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("views");
    let minutes = topology.source("views").window(Tumbling::of(MINUTE).grace(LATE)).idle_after(IDLE);
    minutes.aggregate("minutes", Count).to("view-counts");
    topology
}

/// The event.
#[derive(Deserialize)]
struct View {
    page: String,
}

/// What is kept of a minute.
#[derive(Serialize, Deserialize, Default)]
struct Viewed {
    views: u64,
    last_page: String,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct Minute {
    user: String,
    start_ms: i64,
    views: u64,
    last_page: String,
}

/// Counts the views of each minute.
struct Count;

impl Windowed for Count {
    type Event = View;
    type Value = Viewed;
    type Notices = Option<Minute>;

    fn add(&self, view: &View, viewed: &mut Viewed, _: &mut Context<'_>) -> Result<(), Reject> {
        viewed.views += 1;
        viewed.last_page.clone_from(&view.page);
        Ok(())
    }

    fn emit(&self, viewed: &Viewed, minute: &Window<'_>) -> Option<Minute> {
        let Viewed { views, ref last_page } = *viewed;
        let (user, last_page) = (minute.key.to_string(), last_page.clone());
        Some(Minute { user, start_ms: minute.start_ms, views, last_page })
    }
}
