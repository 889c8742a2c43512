//! `run`: the service on Kafka, and on PostgreSQL where a step has rows, until a signal stops it.

use crate::adapters::kafka::{KafkaChangelog, KafkaHistory, KafkaSink, KafkaSource, TopicLimits, too_few_descriptors};
#[cfg(feature = "http")]
use crate::adapters::postgres::PostgresRollUps;
use crate::adapters::postgres::{PostgresSchema, refuse_lent_connections};
use crate::app::application::{App, check_client};
use crate::app::baseline;
use crate::app::cluster;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::fencer::DeadFencer;
#[cfg(feature = "http")]
use crate::app::intake::Intake;
use crate::app::logging;
use crate::app::maintenance::Maintenance;
#[cfg(feature = "http")]
use crate::app::maintenance::host_name;
use crate::app::producer_id::transactional_id;
use crate::app::renamed;
use crate::app::service::Service;
#[cfg(feature = "http")]
use crate::app::slot::Shown;
use crate::app::stores::{open_note, open_stores};
use crate::app::watch::Watch;
use crate::engine::member::{Member, Ports, WorkerPorts};
#[cfg(feature = "failpoints")]
use crate::engine::protocol::failpoints::Failpoints as ServiceHook;
use crate::engine::protocol::order::Hook;
#[cfg(not(feature = "failpoints"))]
use crate::engine::protocol::order::NoHook as ServiceHook;
#[cfg(feature = "http")]
use crate::engine::query::{Queries, Reading, Refusal, Wanted};
use crate::engine::status::Status;
#[cfg(feature = "http")]
use crate::flow::rollup::RollUp;
#[cfg(feature = "http")]
use crate::http::{self, About, Server, Untaken, View};
use crate::ports::Fault;
use crate::ports::changelog::ChangelogReader;
use crate::ports::clock::{Clock as _, SystemClock};
use crate::ports::factories::{ChangelogFactory, HistoryFactory};
use crate::ports::failpoint::failpoint;
use crate::ports::history::TopicHistory;
use crate::ports::note::Note;
#[cfg(feature = "http")]
use crate::ports::rollups::RollUpTables;
use crate::ports::rows::{NoRows, Rows};
use crate::ports::schema::Schema as _;
use crate::ports::sink::Sink;
use crate::ports::source::Subscription;
use crate::ports::store::Stores;
#[cfg(feature = "http")]
use crate::settings::{HttpSettings, Origin};
#[cfg(feature = "http")]
use std::collections::BTreeMap;
use std::io::Write;
#[cfg(feature = "http")]
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
#[cfg(feature = "http")]
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Interval at which signals and the member's health are looked at.
const WATCH: Duration = Duration::from_millis(50);
/// Longest time of a stop, from the signal until the member has ended or is left behind: 25 s with the steps that follow,
/// so that a grace period of 30 s never ends in a kill.
const DRAIN: Duration = Duration::from_secs(22);

pub(super) fn run(app: &App, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings_for(app.needs())?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings)?;

    // Everything that can be wrong is found before anything is written or any group is joined.
    check_client(&service.settings)?;
    if let Some(cause) = too_few_descriptors(service.engine().workers) {
        tracing::warn!(
            cause,
            "connections may fail for want of open files: raise RLIMIT_NOFILE (`ulimit -n`, LimitNOFILE of systemd), or lower \
             engine.workers"
        );
    }
    let stores = open_stores(&service)?;
    let Database { mut schema, rows } = Database::open(&service).map_err(|fault| service.database_said(fault))?;
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    cluster::check(&service)?;
    service.check_topics(&*log.group())?;
    drop(log);

    let database = |fault| service.database_said(fault);
    if let Some(schema) = &mut schema {
        schema.maintain().map_err(database)?;
        renamed::look(&service, schema).map_err(database)?;
        baseline::note(&service)?;
    }
    let maintenance = Maintenance::start(&service, schema, &app.signals).map_err(database)?;
    let status = Arc::new(Status::default());
    #[cfg(feature = "http")]
    let page = Page::serve(&service, &status, &maintenance)?;
    #[cfg(feature = "http")]
    let service = page.advertised(service);
    let note = open_note(&service);
    let member = member(&service, &maintenance, rows, stores, note.clone(), &status)
        .map_err(|fault| service.kafka_said(fault))?;
    #[cfg(feature = "http")]
    page.open_stores(member.queries());
    let running = member.spawn();
    writeln!(
        out,
        "tidegate {}  {}  ·  instance {} slot {}",
        env!("CARGO_PKG_VERSION"),
        service.topology.name(),
        maintenance.owner,
        maintenance.slot.last()
    )?;
    #[cfg(feature = "http")]
    writeln!(out, "  page  http://{}", page.server.address())?;
    out.flush()?;
    let (clock, mut watch) = (SystemClock::default(), Watch::new(status, service.topology.name()));
    while !app.signals.is_stopping() && !running.is_stopping() {
        std::thread::sleep(WATCH);
        watch.look(clock.elapsed());
    }
    tracing::info!(
        "stopping: no more input; what is committed is published, then the group is left; Ctrl-C ends the process at once"
    );
    failpoint!(K17);
    running.stop();
    let result = running.join(DRAIN);
    watch.end();
    if let Some(note) = note {
        note.end();
    }
    drop(maintenance); // the slot outlives the last request of its producers
    result?;
    Ok(Exit::Done)
}

/// The database's side of a run: one connection a worker. A pipeline without rows has no schema and asks for nothing.
struct Database {
    schema: Option<PostgresSchema>,
    rows: Vec<Box<dyn Rows>>,
}

impl Database {
    /// Compares Tidegate's tables and the pipeline's with what is needed.
    fn open(service: &Service) -> Result<Self, Fault> {
        let (tables, workers) = (service.topology.tables(), service.engine().workers);
        if tables.is_empty() {
            return Ok(Self { schema: None, rows: (0..workers).map(|_| Box::new(NoRows) as Box<dyn Rows>).collect() });
        }
        let mut schema = service.schema()?;
        schema.verify()?;
        schema.check_rights()?;
        let mut connections = Vec::with_capacity(workers);
        for _ in 0..workers {
            let mut rows = service.rows()?;
            rows.bind(&tables)?;
            connections.push(rows);
        }
        refuse_lent_connections(&schema, &connections)?;
        let rows = connections.into_iter().map(|rows| Box::new(rows) as Box<dyn Rows>).collect();
        Ok(Self { schema: Some(schema), rows })
    }
}

/// The page, the probes and the stores over HTTP.
#[cfg(feature = "http")]
struct Page {
    server: Server,
    view: Arc<Process>,
}

#[cfg(feature = "http")]
impl Page {
    /// Serves before the group is joined, since joining publishes the address to the group. A second instance on one host
    /// finds the default port taken and gets a free one; a port that was asked for is demanded.
    fn serve(service: &Service, status: &Arc<Status>, maintenance: &Maintenance) -> Result<Self, Fault> {
        let view = Arc::new(Process {
            status: Arc::clone(status),
            pipeline: service.topology.name().into(),
            owner: maintenance.owner.clone(),
            slot: maintenance.slot.shown(),
            hosts: hosts(&service.settings.http),
            queries: OnceLock::new(),
            roll_ups: service.topology.roll_ups().to_vec(),
            readers: Readers::new(service)?,
            wants_tokens: service.settings.http.login == crate::settings::Login::Token,
            intake: Intake::new(service.kafka.clone()),
        });
        let address = service.settings.http.address;
        let is_default = service.settings.origin_of("http.address") == Origin::Default;
        let server = http::serve_near(address, is_default, &(Arc::clone(&view) as Arc<dyn View>))?;
        Ok(Self { server, view })
    }

    /// The same service, with the address at which this instance can be asked for its stores: the group publishes it.
    fn advertised(&self, mut service: Service) -> Service {
        let set = service.settings.http.advertised_address.clone();
        let address = advertised(set, self.server.address(), &service.settings.kafka.bootstrap_servers);
        service.kafka.advertised_address = address.and_then(|address| http::place::told(&address)).unwrap_or_default();
        service
    }

    fn open_stores(&self, queries: Queries) {
        let _ = self.view.queries.set(queries); // called once
    }
}

/// The names under which this instance may be asked for, beside its addresses.
#[cfg(feature = "http")]
fn hosts(settings: &HttpSettings) -> Vec<String> {
    let advertised = settings.advertised_address.iter().filter_map(|place| Some(place.rsplit_once(':')?.0.to_owned()));
    let set = settings.hosts.iter().flat_map(|names| names.split(',')).map(|name| name.trim().to_owned());
    advertised.chain(set).chain([host_name()]).collect()
}

/// Where others reach a server that listens there: as the settings say, or else at its own address, or else, where it listens
/// at all addresses, at the one by which this machine reaches the brokers.
#[cfg(feature = "http")]
fn advertised(set: Option<String>, listening: SocketAddr, brokers: &str) -> Option<String> {
    let found = || {
        let ip = Some(listening.ip()).filter(|ip| !ip.is_unspecified()).or_else(|| route_to(brokers))?;
        Some(SocketAddr::new(ip, listening.port()).to_string())
    };
    set.or_else(found)
}

/// The address by which this machine reaches a server of the list. Connecting a datagram socket sends nothing.
#[cfg(feature = "http")]
fn route_to(servers: &str) -> Option<IpAddr> {
    servers.split(',').find_map(|server| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect(server.trim()).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// This process behind the page.
#[cfg(feature = "http")]
struct Process {
    status: Arc<Status>,
    pipeline: String,
    owner: String,
    slot: Shown,
    hosts: Vec<String>,
    /// There once the member is made.
    queries: OnceLock<Queries>,
    roll_ups: Vec<RollUp>,
    readers: Readers,
    wants_tokens: bool,
    intake: Intake,
}

/// Connections for graphs, each in one hand at a time; made when they are first needed.
#[cfg(feature = "http")]
struct Readers(Vec<Mutex<PostgresRollUps>>);

#[cfg(feature = "http")]
impl Readers {
    /// So many connections to the database.
    const COUNT: usize = 2;

    fn new(service: &Service) -> Result<Self, Fault> {
        let count = if service.topology.roll_ups().is_empty() { 0 } else { Self::COUNT };
        (0..count).map(|_| service.roll_up_tables().map(Mutex::new)).collect::<Result<_, _>>().map(Self)
    }

    /// Works with one that is free, or waits for the first one.
    fn with<T>(&self, work: impl FnOnce(&mut PostgresRollUps) -> Result<T, Fault>) -> Result<T, String> {
        let free = self.0.iter().find_map(|reader| reader.try_lock().ok());
        let mut reader = match free {
            Some(reader) => reader,
            None => {
                let first = self.0.first().ok_or("there are no roll-ups")?;
                first.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        work(&mut reader).map_err(|fault| fault.to_string())
    }
}

#[cfg(feature = "http")]
impl View for Process {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        let place = format!("instance {} slot {}", self.owner, self.slot.last());
        About { pipeline: self.pipeline.clone(), place }
    }

    fn hosts(&self) -> Vec<String> {
        self.hosts.clone()
    }

    fn stores(&self) -> Vec<String> {
        self.queries.get().map(Queries::stores).unwrap_or_default()
    }

    fn read(&self, store: &str, wanted: &Wanted, is_gone: &dyn Fn() -> bool) -> Result<Reading, Refusal> {
        let starting = || Refusal::Unanswered("this instance is starting".into());
        self.queries.get().ok_or_else(starting)?.read(store, wanted, is_gone)
    }

    fn owners(&self, store: &str, partitions: &[i32]) -> BTreeMap<i32, String> {
        self.queries.get().map(|queries| queries.owners(store, partitions)).unwrap_or_default()
    }

    fn roll_ups(&self) -> &[RollUp] {
        &self.roll_ups
    }

    fn roll_up_tables(&self, work: &mut dyn FnMut(&mut dyn RollUpTables) -> Result<(), Fault>) -> Result<(), String> {
        self.readers.with(|reader| work(reader))
    }

    fn wants_tokens(&self) -> bool {
        self.wants_tokens
    }

    fn ingest(&self, rollup: &RollUp, records: Vec<(String, Vec<u8>)>) -> Result<(), Untaken> {
        let other = || {
            Untaken::Failed(format!(
                "the records of {} are of a type of their own: write them into its topic",
                rollup.name
            ))
        };
        self.intake.take(rollup.topic.as_ref().ok_or_else(other)?, records)
    }

    fn doubt_owners(&self) {
        if let Some(queries) = self.queries.get() {
            queries.doubt_owners();
        }
    }
}

fn member(
    service: &Service,
    maintenance: &Maintenance,
    rows: Vec<Box<dyn Rows>>,
    stores: Option<Arc<dyn Stores>>,
    note: Option<Arc<dyn Note>>,
    status: &Arc<Status>,
) -> Result<Member, Fault> {
    let name = service.topology.name();
    let (mut workers, limits) = (Vec::with_capacity(rows.len()), TopicLimits::default());
    for (number, rows) in rows.into_iter().enumerate() {
        let open = |producer: usize| {
            let (name, slot) = (name.to_owned(), maintenance.slot.clone());
            let naming = move || Ok(transactional_id(&name, &slot.sure()?, number, producer));
            Ok::<_, Fault>(
                Box::new(KafkaSink::open_as(&service.kafka, Box::new(naming), limits.clone())?) as Box<dyn Sink>
            )
        };
        let (mut sink, mut spare) = (open(0)?, open(1)?);
        // Asked for here already: up to the join a signal ends the process at once.
        for topic in service.topology.outputs() {
            sink.message_bytes_max(&topic)?;
            spare.message_bytes_max(&topic)?;
        }
        workers.push(WorkerPorts { rows, sink, spare: Some(spare) });
    }
    maintenance.joins();
    let kafka = service.kafka.clone();
    let changelogs: ChangelogFactory =
        Arc::new(move || Ok(Box::new(KafkaChangelog::connect(&kafka)?) as Box<dyn ChangelogReader>));
    let (kafka, group) = (service.kafka.clone(), name.to_owned());
    let history: HistoryFactory =
        Arc::new(move || Ok(Box::new(KafkaHistory::connect(&kafka, &group)?) as Box<dyn TopicHistory>));
    let ports = Ports {
        source: Box::new(KafkaSource::join(&service.kafka, &Subscription::of(&service.topology), None)?),
        workers,
        clock: Arc::new(SystemClock::default()),
        history: Some(history),
        stores,
        changelogs: Some(changelogs),
        fencer: DeadFencer::of(service, &maintenance.owner),
        note,
        owner: maintenance.owner.clone(),
    };
    let hook: Arc<dyn Hook> = Arc::new(ServiceHook);
    Member::new(&Arc::new(service.topology.clone()), service.engine(), ports, Arc::clone(status), &hook)
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_the_names_that_are_set_and_that_of_its_machine() {
        let (advertised_address, hosts) = (Some("pod-3.tidegate:80".into()), Some("a.example, b".into()));
        let found = super::hosts(&HttpSettings { advertised_address, hosts, ..HttpSettings::default() });
        assert_eq!(found, ["pod-3.tidegate".into(), "a.example".into(), "b".into(), host_name()]);
    }

    #[test]
    fn others_are_told_what_is_set_or_the_address_itself_or_the_one_that_leads_to_the_brokers() {
        let at = |listening: &str, set: Option<&str>, brokers: &str| {
            advertised(set.map(str::to_owned), listening.parse().unwrap(), brokers)
        };
        let name = "pod-3.tidegate:80";
        assert_eq!(at("0.0.0.0:8230", Some(name), "127.0.0.1:9092").as_deref(), Some(name));
        assert_eq!(at("10.1.2.3:8230", None, "127.0.0.1:9092").as_deref(), Some("10.1.2.3:8230"));
        assert_eq!(at("0.0.0.0:8230", None, "nowhere:x, 127.0.0.1:9092").as_deref(), Some("127.0.0.1:8230"));
        assert_eq!(at("0.0.0.0:8230", None, "nowhere:x"), None);
    }
}
