//! The demo behind the page.

use super::home::devices::Device;
use super::pipeline::Pipeline;
use super::process::Process;
use super::recovery::Recoveries;
use crate::adapters::sqlite::SqliteRollUps;
use crate::engine::query::{Queries, Reading, Refusal, Wanted};
use crate::engine::status::Status;
use crate::flow::rollup::RollUp;
use crate::http::{About, Recovery, Server, Untaken, View, serve_near};
use crate::ports::Fault;
use crate::ports::rollups::RollUpTables;
use crate::ports::sink::Message;
use crate::settings::{Origin, Settings};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections for graphs, each in one hand at a time.
const READERS: usize = 2;

/// The page while it is served.
pub(super) struct Served {
    server: Server,
    page: Arc<Page>,
}

impl Served {
    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

impl Drop for Served {
    /// Closes the connections here: whoever drops the page last may be a thread of the server, which must not wait for them.
    fn drop(&mut self) {
        for reader in self.page.home.iter().flat_map(|home| &home.readers) {
            reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

/// Serves the page until the answer is dropped; where as `run` does.
pub(super) fn serve(settings: &Settings, scoring: &Process, home: Option<&Process>) -> Result<Served, Fault> {
    let address = settings.http.address;
    let is_default = settings.origin_of("http.address") == Origin::Default;
    let page = Arc::new(Page {
        status: Arc::clone(&scoring.status),
        recoveries: Arc::clone(&scoring.recoveries),
        home: home.map(Homes::new).transpose()?,
        is_open: address.ip().is_loopback(),
    });
    let server = serve_near(address, is_default, &(Arc::clone(&page) as Arc<dyn View>))?;
    Ok(Served { server, page })
}

struct Page {
    status: Arc<Status>,
    recoveries: Recoveries,
    home: Option<Homes>,
    /// Whether whoever asks is on this machine, and needs no token: there is nobody else to make one.
    is_open: bool,
}

/// The devices' tables, and their stores.
struct Homes {
    pipeline: Pipeline,
    readers: Vec<Mutex<Option<SqliteRollUps>>>,
    queries: Arc<Mutex<Option<Queries>>>,
}

impl Homes {
    fn new(process: &Process) -> Result<Self, Fault> {
        let pipeline = process.pipeline.clone();
        let readers = (0..READERS).map(|_| SqliteRollUps::new(&pipeline.rows).map(|tables| Mutex::new(Some(tables))));
        let readers = readers.collect::<Result<_, _>>()?;
        Ok(Self { pipeline, readers, queries: Arc::clone(&process.queries) })
    }

    /// The stores of the worker that runs now.
    fn queries(&self) -> Option<Queries> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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

    fn stores(&self) -> Vec<String> {
        self.home.as_ref().and_then(Homes::queries).map(|queries| queries.stores()).unwrap_or_default()
    }

    fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let queries = self.home.as_ref().and_then(Homes::queries);
        queries.ok_or(Refusal::UnknownStore { known: Vec::new() })?.read(store, wanted, is_gone)
    }

    fn roll_ups(&self) -> &[RollUp] {
        self.home.as_ref().map_or(&[][..], |home| home.pipeline.topology.roll_ups())
    }

    fn roll_up_tables(&self, work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>) -> Result<(), String> {
        let home = self.home.as_ref().ok_or("there are no devices: leave --devices 0 away")?;
        let free = home.readers.iter().find_map(|reader| reader.try_lock().ok());
        let mut reader = match free {
            Some(reader) => reader,
            None => {
                let first = home.readers.first().ok_or("there is no connection to the tables")?;
                first.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        let tables = reader.as_mut().ok_or("the demo is over")?;
        work(tables).map_err(|fault| fault.to_string())
    }

    fn wants_tokens(&self) -> bool {
        !self.is_open
    }

    /// Into the in-process log, which has it when the call returns. The demo's own devices are the feeder's.
    fn ingest(&self, rollup: &RollUp, records: Vec<(String, Vec<u8>)>) -> Result<(), Untaken> {
        let failed = |why: String| Untaken::Failed(why);
        let home = self.home.as_ref().ok_or_else(|| failed("there are no devices: leave --devices 0 away".into()))?;
        if let Some((device, _)) = records.iter().find(|(device, _)| Device::is_one(device)) {
            return Err(failed(format!("{device} is one of the demo's devices, which it feeds: call yours otherwise")));
        }
        let topic = rollup.topic.as_ref().ok_or_else(|| failed(format!("{} is not fed from outside", rollup.name)))?;
        let messages = records.iter().map(|(device, value)| Message {
            destination: topic,
            partition: None,
            key: Some(device.as_bytes()),
            value: Some(value),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        });
        let messages: Vec<Message<'_>> = messages.collect();
        let Pipeline { log, clock, .. } = &home.pipeline;
        log.produce_all(&messages, clock.now()).map_err(|fault| failed(fault.to_string()))
    }

    fn last_recovery(&self) -> Option<Recovery> {
        let recoveries = self.recoveries.lock().unwrap_or_else(PoisonError::into_inner);
        let last = recoveries.last()?;
        Some(Recovery {
            number: recoveries.len(),
            took_ms: last.took_ms(),
            published: last.published,
            repeated: last.repeated,
        })
    }
}
