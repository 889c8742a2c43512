//! The runtime that drives one connection on the calling thread. It may be dropped on any thread, one of another runtime
//! included: a connection that is shared with a server of ours ends where its last owner does.

use crate::adapters::postgres::connection::open_files;
use crate::adapters::postgres::connection::trouble::elapsed;
use crate::ports::Fault;
use tokio::runtime::{Builder, Runtime};

/// See the module.
pub(super) struct Driver(Option<Runtime>);

impl Driver {
    pub(super) fn new() -> Result<Self, Fault> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            let why = if open_files::is_meant(&error) { open_files::sentence() } else { "no runtime starts".into() };
            Fault::fatal(format!("cannot connect to postgres: {why}")).because(error)
        })?;
        Ok(Self(Some(runtime)))
    }

    /// Drives `work` to its end. The runtime is there until the drop.
    pub(super) fn drive<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        self.0.as_ref().map_or_else(|| Err(elapsed()), |runtime| runtime.block_on(work))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A plain drop waits for the runtime's threads, and panics on a thread of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_be_dropped_on_a_thread_of_another_runtime() {
        let driver = Driver::new().unwrap();
        assert_eq!(driver.drive(async { Ok(7) }).unwrap(), 7);
        let other = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        other.block_on(other.spawn(async move { drop(driver) })).unwrap();
    }
}
