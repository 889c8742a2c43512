//! The page with live numbers, the same numbers as JSON, the stores, and the probes. Reads
//! [`engine::status`](crate::engine::status) and [`engine::query`](crate::engine::query), decides nothing, and asks the database
//! for graphs alone.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page: plain HTML, styles and script of our own |
//! | `/graphs` | graphs of roll-ups |
//! | `/events` | server-sent events, one [`Report`] a second |
//! | `/status` | the last [`Report`] |
//! | `/stores` | the stores and how much they hold |
//! | `/stores/<name>?prefix=…&limit=…&from=…` | keys that begin so, with their values; `from` is the `next` of the page before |
//! | `/stores/<name>?first=…&last=…` | those from one key to another, both included |
//! | `/stores/<name>/<key>` | the value of a key, wherever it lies |
//! | `…since=…&until=…` | of both: the windows that have a part of this span of event time, of a windowed aggregate |
//! | `/api/series?device=…&metric=…&from=…&to=…&points=…` | a graph of a roll-up, from the database |
//! | `/api/devices?search=…` | the devices of a roll-up; `PUT` and `DELETE` of `/api/devices/<device>` describe and delete one |
//! | `/api/openapi.json` | all of `/api`, described for programs |
//! | `POST /api/readings`, `POST /api/v2/write` | readings for a roll-up, into its topic |
//! | `/livez` (`/ping`) | 200 while the polling thread goes round |
//! | `/readyz` (`/ready`) | 200 while the group has us and every partition that is ours takes records or stands halted; an idle pod is ready |
//! | `/startupz` | 200 from the first round of the polling thread on |
//!
//! Connections, event streams and reads at a time are bounded, and a slow request or reader is given up, so that nobody keeps
//! the probes or the pipeline waiting. What is asked for by a name that is not one of the instance's own is refused. What
//! belongs to a roll-up (`/api`, `/stores`) needs a token ([`access`]); nothing else here has a login, nor changes anything: bind it to an
//! address that only those reach who may read the numbers.

pub mod access;
mod admission;
mod calendar;
pub mod client;
mod connections;
mod csv;
mod devices;
mod graph;
mod health;
mod hosts;
mod ingest;
mod open;
mod page;
pub mod place;
mod question;
mod reader;
mod refused;
mod report;
mod router;
mod shared;
mod sources;
mod stores;
mod view;

pub use reader::{Entries, StoreReader};
pub use report::{HaltReport, InputReport, Number, Numbers, Report, RestoreReport, StoreReport, TaskReport};
pub use sources::{DeclaredReport, LettersReport, RollUpReport, ShuffleReport, UndeclaredReport, ViolationReport};
pub use view::{About, Recovery, Untaken, View};

use crate::ports::Fault;
use connections::{Bounds, Limited};
use report::Reporter;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How often numbers are taken.
const EVERY: Duration = Duration::from_secs(1);
/// Threads that wait for workers and other instances: one for each read that [`stores`] lets in.
const READERS: usize = 4 * shared::READS_MAX;

/// A running server. Ends when it is dropped, open event streams included.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Where it listens: the port too, if 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves `view` on a thread of its own.
///
/// # Errors
/// `Fatal` with the fix when the address cannot be listened on.
pub fn serve(address: SocketAddr, view: Arc<dyn View>) -> Result<Server, Fault> {
    let listener = TcpListener::bind(address).map_err(|error| cannot_listen(address, &error))?;
    let failed = |error: io::Error| Fault::fatal(format!("http: {address} cannot be served")).because(error);
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(READERS).thread_name("http").enable_all();
    let runtime = builder.build().map_err(failed)?;
    let (mut reporter, reports) = Reporter::new(Arc::clone(&view));
    runtime.spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            reporter.report();
        }
    });
    let listener = {
        let _inside = runtime.enter(); // where the socket is registered
        tokio::net::TcpListener::from_std(listener).map_err(failed)?
    };
    let router = router::router(view, reports);
    runtime.spawn(async move { axum::serve(Limited::new(listener, Bounds::default()), router).await });
    Ok(Server { address, runtime: Some(runtime) })
}

/// Serves `view` at `address`, or at a free port beside it where another process has it and nobody asked for it
/// (`is_default`).
///
/// # Errors
/// The same as [`serve`].
pub fn serve_near(address: SocketAddr, is_default: bool, view: &Arc<dyn View>) -> Result<Server, Fault> {
    match serve(address, Arc::clone(view)) {
        Err(fault) if is_default => {
            let served = serve(SocketAddr::new(address.ip(), 0), Arc::clone(view))?;
            tracing::warn!(
                address = %served.address(),
                error = %fault,
                "the default address is taken; the page has a free port, which `state` must be told (--address)"
            );
            Ok(served)
        }
        served => served,
    }
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Fault {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "http: {address} is in use by another process; end that one, or choose another port, \
             for example --set http.address={}:0 for any free one",
            address.ip()
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "http: {address} is no address of this machine; set http.address to one that is, or to 0.0.0.0:8230"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("http: {address} may not be listened on; set http.address to a port above 1023")
        }
        _ => format!("http: {address} cannot be listened on ({error}); set http.address to another"),
    };
    Fault::fatal(text)
}
