//! The demo behind the page.

use super::recovery::Recoveries;
use crate::engine::status::Status;
use crate::http::{About, Recovery, Server, View, serve_near};
use crate::ports::Fault;
use crate::settings::{Origin, Settings};
use std::sync::{Arc, PoisonError};

/// Serves the page until the answer is dropped; where as `run` does.
pub(super) fn serve(settings: &Settings, status: &Arc<Status>, recoveries: &Recoveries) -> Result<Server, Fault> {
    let is_default = settings.origin_of("http.address") == Origin::Default;
    let page = Page { status: Arc::clone(status), recoveries: Arc::clone(recoveries) };
    serve_near(settings.http.address, is_default, &(Arc::new(page) as Arc<dyn View>))
}

struct Page {
    status: Arc<Status>,
    recoveries: Recoveries,
}

impl View for Page {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        About {
            pipeline: crate::pipelines::scoring::topology().name().into(),
            place: "demo: in-process log, SQLite rows; a model, not for production".into(),
        }
    }

    fn last_recovery(&self) -> Option<Recovery> {
        let recoveries = self.recoveries.lock().unwrap_or_else(PoisonError::into_inner);
        let last = recoveries.last()?;
        Some(Recovery {
            number: recoveries.len(),
            took_ms: u64::try_from(last.took.as_millis()).unwrap_or(u64::MAX),
            published: last.published,
            repeated: last.repeated,
        })
    }
}
