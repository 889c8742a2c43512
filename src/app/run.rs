//! `run`: the service on Kafka and PostgreSQL, until it is told to stop.

use crate::adapters::kafka::{KafkaHistory, KafkaSink, KafkaSource};
use crate::app::App;
use crate::app::exit::Exit;
use crate::app::failure::Failure;
use crate::app::logging;
use crate::app::maintenance::Maintenance;
use crate::app::service::Service;
use crate::engine::commit::{Hook, NoHook};
use crate::engine::status::Status;
use crate::engine::supervisor::{HistoryFactory, Member, Ports, WorkerPorts, subscription};
#[cfg(feature = "http")]
use crate::http::{self, About, Server, View};
use crate::ports::Fault;
use crate::ports::clock::SystemClock;
use crate::ports::history::TopicHistory;
use crate::ports::schema::Schema as _;
use crate::settings::Need;
#[cfg(feature = "http")]
use crate::settings::Origin;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::Write;
#[cfg(feature = "http")]
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often signals and the member's health are looked at.
const WATCH: Duration = Duration::from_millis(50);
/// How long the workers may take to end after the group was left: well within a grace period of 30 s.
const DRAIN: Duration = Duration::from_secs(20);

pub(super) fn run(app: &App, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = app.settings()?;
    settings.require(&[Need::Kafka, Need::Database])?;
    logging::start(&settings);
    let service = Service::new(&app.topology, settings);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::message(format!("signals cannot be handled: {error}")))?;
    }

    // Everything that can be wrong is found before anything is written or any group is joined.
    let errors = service.kafka.errors();
    if !errors.is_empty() {
        return Err(Failure::Setup(errors));
    }
    let database = |fault| service.database_said(fault);
    let mut schema = service.schema().map_err(database)?;
    schema.verify().map_err(database)?;
    let mut rows = Vec::new();
    let tables = service.topology.tables();
    let engine = service.engine();
    for _ in 0..engine.workers {
        let mut connection = service.rows().map_err(database)?;
        crate::ports::rows::Rows::bind(&mut connection, &tables).map_err(database)?;
        rows.push(connection);
    }
    let log = service.topic_history().map_err(|fault| service.kafka_said(fault))?;
    service.check_topics(&*log.group())?;
    drop(log);

    for table in &tables {
        schema.note_baseline(&table.table).map_err(database)?;
    }
    schema.maintain().map_err(database)?;
    let maintenance = Maintenance::start(&service, schema, &stop).map_err(database)?;
    let status = Arc::new(Status::default());
    let member = member(&service, &maintenance, rows, &status).map_err(|fault| service.kafka_said(fault))?;
    #[cfg(feature = "http")]
    let page = page(&service, &status, &maintenance)?;
    let running = member.spawn();
    writeln!(
        out,
        "tidegate {}  {}  ·  instance {} slot {}",
        env!("CARGO_PKG_VERSION"),
        service.topology.name(),
        maintenance.owner,
        maintenance.slot
    )?;
    #[cfg(feature = "http")]
    writeln!(out, "  page  http://{}", page.address())?;
    out.flush()?;
    while !stop.load(Ordering::Acquire) && !running.is_stopping() {
        std::thread::sleep(WATCH);
    }
    tracing::info!("stopping: no more input; what is committed is published, then the group is left");
    running.stop();
    let result = running.join(DRAIN);
    stop.store(true, Ordering::Release);
    maintenance.end();
    result?;
    Ok(Exit::Done)
}

/// The page and the probes. A second instance on one host finds the default port taken and gets a free one; a port that
/// was asked for is demanded.
#[cfg(feature = "http")]
fn page(service: &Service, status: &Arc<Status>, maintenance: &Maintenance) -> Result<Server, Fault> {
    let about = About {
        pipeline: service.topology.name().into(),
        place: format!("instance {} slot {}", maintenance.owner, maintenance.slot),
    };
    let view = Arc::new(Page { status: Arc::clone(status), about });
    let address = service.settings.http.address;
    match http::serve(address, Arc::clone(&view) as Arc<dyn View>) {
        Err(fault) if service.settings.origin_of("http.address") == Origin::Default => {
            tracing::info!(error = %fault, "the default address is taken; serving the page on a free port");
            http::serve(SocketAddr::new(address.ip(), 0), view)
        }
        served => served,
    }
}

/// This process behind the page.
#[cfg(feature = "http")]
struct Page {
    status: Arc<Status>,
    about: About,
}

#[cfg(feature = "http")]
impl View for Page {
    fn status(&self) -> &Status {
        &self.status
    }

    fn about(&self) -> About {
        self.about.clone()
    }
}

fn member(
    service: &Service,
    maintenance: &Maintenance,
    rows: Vec<crate::adapters::postgres::PostgresRows>,
    status: &Arc<Status>,
) -> Result<Member, Fault> {
    let name = service.topology.name();
    let mut workers = Vec::with_capacity(rows.len());
    for (number, rows) in rows.into_iter().enumerate() {
        let open = |producer: usize| {
            let transactional_id = format!("{name}-{}-{number}-{producer}", maintenance.slot);
            Ok::<_, Fault>(Box::new(KafkaSink::open(&service.kafka, &transactional_id)?))
        };
        workers.push(WorkerPorts { rows: Box::new(rows), sink: open(0)?, spare: Some(open(1)?) });
    }
    let (kafka, group) = (service.kafka.clone(), name.to_owned());
    let history: HistoryFactory =
        Arc::new(move || Ok(Box::new(KafkaHistory::connect(&kafka, &group)?) as Box<dyn TopicHistory>));
    let ports = Ports {
        source: Box::new(KafkaSource::join(&service.kafka, &subscription(&service.topology), None)?),
        workers,
        clock: Arc::new(SystemClock::default()),
        history: Some(history),
        stores: None,
        changelogs: None,
        owner: maintenance.owner.clone(),
    };
    let hook: Arc<dyn Hook> = Arc::new(NoHook);
    Member::new(&Arc::new(service.topology.clone()), service.engine(), ports, Arc::clone(status), &hook)
}
