//! A world for one test: servers, a folder, the binary as it was when the test began.

#[cfg(feature = "failpoints")]
use super::database_proxy::DatabaseProxy;
#[cfg(feature = "failpoints")]
use super::proxy::Proxy;
use super::servers::{Kafka, Postgres};
use super::{Instance, say, sql};
#[cfg(feature = "failpoints")]
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::KafkaSettings;
#[cfg(feature = "rocksdb")]
use tidegate::adapters::kafka::{KafkaAdmin, TopicSpec};

/// Room for worlds at a time: for two of those that are busy, since many tests have bounds of seconds.
const ROOM: usize = 4;
/// What a world takes: its processes are busy on 0.25 to 0.7 of a core, as measured.
const USUAL: usize = 2;
/// What a world of [`WAITERS`] takes.
const WAITING: usize = 1;
/// Worlds that mostly wait for the ends of times: busy on 0.11 to 0.22 of a core.
const WAITERS: [&str; 6] = ["admitted", "byhand", "obstacles", "quota", "slot-set", "written"];

/// The usual filter of the log, and a line for each partition that is taken over, which tests wait for.
const LOG: &str = "info,sqlx=warn,tidegate::engine::worker::takeover=debug";

static FREE: Mutex<usize> = Mutex::new(ROOM);
static FREED: Condvar = Condvar::new();

/// A permit for so much of [`ROOM`].
pub struct Permit(usize);

impl Permit {
    /// Waits for the room of a usual world.
    pub fn usual() -> Self {
        Self::take(USUAL)
    }

    /// Waits for the room of this world.
    fn of(name: &str, brokers: &str) -> Self {
        Self::take(if brokers == "1" && WAITERS.contains(&name) { WAITING } else { USUAL })
    }

    fn take(room: usize) -> Self {
        let mut free = FREED.wait_while(FREE.lock().unwrap(), |free| *free < room).unwrap();
        *free -= room;
        Self(room)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *FREE.lock().unwrap() += self.0;
        FREED.notify_all(); // they may want different numbers
    }
}

/// Servers and a folder of one test's own.
pub struct World {
    name: &'static str,
    began: Instant,
    folder: PathBuf,
    binary: PathBuf,
    pub kafka: Kafka,
    pub postgres: Postgres,
    /// Environment of every process of ours.
    pub settings: Vec<(String, String)>,
    /// Guards that instances go without, as `epoch,offset`, see `src/ports/guard.rs`.
    pub guard_off: String,
    _permit: Permit, // last: dropped after the servers are gone
}

/// Whether real servers are wanted; says so when they are not.
pub fn is_wanted(name: &str) -> bool {
    let is_wanted = std::env::var("SYSTEM_TESTS").is_ok_and(|value| value == "1");
    if !is_wanted {
        say(&format!("SKIPPED {name}: set SYSTEM_TESTS=1 to run it on a real Kafka and a real PostgreSQL"));
    }
    is_wanted
}

/// The binary under test. Another worktree's build may replace the binary at any time: copied once, at the first need.
pub fn binary() -> PathBuf {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| copied(Path::new(env!("CARGO_BIN_EXE_tidegate")), "tidegate")).clone()
}

/// The pipeline of `examples/<name>.rs` as a binary, which `cargo build --examples` leaves beside ours. Copied once, since
/// a file that runs cannot be written.
pub(super) fn example(name: &str) -> PathBuf {
    static COPIES: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(copy) = copies.get(name) {
        return copy.clone();
    }
    let built = Path::new(env!("CARGO_BIN_EXE_tidegate")).with_file_name("examples").join(name);
    assert!(built.exists(), "{} is not there: cargo build --examples, with the features of the tests", built.display());
    let copy = copied(&built, &format!("example-{name}"));
    copies.insert(name.into(), copy.clone());
    copy
}

fn copied(from: &Path, name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tidegate-system-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let copy = folder.join(name);
    std::fs::copy(from, &copy).unwrap();
    copy
}

impl World {
    /// Topics applied, database migrated, table `accounts` with the ids 1 to `ids`. `None` when servers are not wanted.
    pub fn new(name: &'static str, ids: i64) -> Option<Self> {
        let world = Self::bare(name)?;
        world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
        Some(world.with_accounts(ids))
    }

    /// The same on three brokers, each record on all of them.
    pub fn on_three_brokers(name: &'static str, ids: i64) -> Option<Self> {
        let world = is_wanted(name).then(|| Self::start(name, binary(), "3"))?;
        Some(world.with_three_copies(ids))
    }

    /// The same with no other world beside it: for times that are short.
    #[cfg(feature = "failpoints")]
    pub fn alone_on_three_brokers(name: &'static str, ids: i64) -> Option<Self> {
        let alone = || Self::start_with(Permit::take(ROOM), name, binary(), |folder| Kafka::start(folder, "3"));
        is_wanted(name).then(alone).map(|world| world.with_three_copies(ids))
    }

    fn with_three_copies(self, ids: i64) -> Self {
        self.ok(&["topics", "apply", "--yes"]);
        self.with_accounts(ids)
    }

    /// Makes a [`World::new`] in which the processes of ours reach the broker through a proxy. The test's own requests
    /// and records pass by it.
    #[cfg(feature = "failpoints")]
    pub fn proxied(name: &'static str, ids: i64) -> Option<(Self, Proxy)> {
        let mut world =
            is_wanted(name).then(|| Self::start_on(name, binary(), |folder| Kafka::start_proxied(folder, "1")))?;
        let proxy = Proxy::start(&world.kafka.proxies());
        let bootstrap = world.settings.iter_mut().find(|(name, _)| name == "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS");
        bootstrap.unwrap().1 = proxy.bootstrap.clone();
        world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
        Some((world.with_accounts(ids), proxy))
    }

    /// Makes a [`World::new`] in which the processes of ours reach the database through a proxy. The test's own
    /// statements pass by it.
    #[cfg(feature = "failpoints")]
    pub fn database_proxied(name: &'static str, ids: i64) -> Option<(Self, DatabaseProxy)> {
        let mut world = Self::bare(name)?;
        let proxy = DatabaseProxy::start(&world.postgres.url);
        world.settings.push(("TIDEGATE_DATABASE__URL".into(), proxy.url.clone())); // the last one counts
        world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
        Some((world.with_accounts(ids), proxy))
    }

    pub fn with_accounts(self, ids: i64) -> Self {
        self.ok(&["migrate"]);
        self.sql(&accounts(ids));
        self
    }

    /// Nothing but servers.
    pub fn bare(name: &'static str) -> Option<Self> {
        is_wanted(name).then(|| Self::start(name, binary(), "1"))
    }

    /// Nothing but servers, with variables of `kafka.sh`.
    pub fn with_kafka(name: &'static str, variables: &[(&str, &str)]) -> Option<Self> {
        is_wanted(name).then(|| Self::start_on(name, binary(), |folder| Kafka::start_with(folder, variables)))
    }

    /// The pipeline of an example, and nothing prepared for it.
    pub fn example(name: &'static str, pipeline: &str) -> Option<Self> {
        is_wanted(name).then(|| Self::start(name, example(pipeline), "1"))
    }

    /// The same with variables of `kafka.sh`.
    #[cfg(feature = "failpoints")]
    pub fn example_with_kafka(name: &'static str, pipeline: &str, variables: &[(&str, &str)]) -> Option<Self> {
        let kafka = |folder: &Path| Kafka::start_with(folder, variables);
        is_wanted(name).then(|| Self::start_on(name, example(pipeline), kafka))
    }

    /// The same on three brokers.
    #[cfg(feature = "failpoints")]
    pub fn example_on_three_brokers(name: &'static str, pipeline: &str) -> Option<Self> {
        is_wanted(name).then(|| Self::start(name, example(pipeline), "3"))
    }

    /// The pipeline of an example with its topics applied, and no database to talk to.
    #[cfg(feature = "rocksdb")]
    pub fn keyed(name: &'static str, pipeline: &str) -> Option<Self> {
        let mut world = Self::example(name, pipeline)?;
        world.settings.retain(|(name, _)| name != "TIDEGATE_DATABASE__URL");
        world.ok(&["topics", "--dir", &format!("topics/{pipeline}"), "apply", "--env", "dev", "--yes"]);
        Some(world)
    }

    /// Creates topics, and waits until they are there: a broker learns of them a little later than its controller, and an instance
    /// ends where one is missing.
    #[cfg(feature = "rocksdb")]
    pub fn create(&self, topics: &[TopicSpec]) {
        let admin = KafkaAdmin::connect(&self.kafka_settings()).unwrap();
        admin.create(topics).unwrap();
        super::until("the topics are there", Duration::from_secs(30), || {
            let found = admin.names().map_err(|fault| fault.to_string())?;
            let missing = topics.iter().find(|topic| !found.contains(&topic.name));
            missing.map_or(Ok(()), |topic| Err(format!("{} is not there yet", topic.name)))
        });
    }

    fn start(name: &'static str, binary: PathBuf, brokers: &str) -> Self {
        Self::start_with(Permit::of(name, brokers), name, binary, |folder| Kafka::start(folder, brokers))
    }

    fn start_on(name: &'static str, binary: PathBuf, kafka: impl FnOnce(&Path) -> Kafka + Send) -> Self {
        Self::start_with(Permit::of(name, "1"), name, binary, kafka)
    }

    fn start_with(
        permit: Permit,
        name: &'static str,
        binary: PathBuf,
        kafka: impl FnOnce(&Path) -> Kafka + Send,
    ) -> Self {
        let began = Instant::now();
        let folder = binary.with_file_name(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (kafka, postgres) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| kafka(&folder.join("kafka")));
            let postgres = Postgres::start(&folder.join("postgres"));
            (kafka.join().unwrap(), postgres)
        });
        let settings = [
            ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap.clone()),
            ("TIDEGATE_DATABASE__URL", postgres.url.clone()),
            ("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "6000".into()),
            ("TIDEGATE_STATE__DIR", folder.join("state-any").display().to_string()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { name, began, folder, binary, kafka, postgres, settings, guard_off: String::new(), _permit: permit }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command of ours; no setting comes in from outside.
    pub fn command(&self, program: &str, before: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(before).arg(&self.binary).args(arguments);
        self.surround(&mut command);
        command
    }

    /// Runs a line as a person would type it, 60 s at most; no terminal is there to be asked on.
    pub fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60", "sh", "-c", line]).stdin(Stdio::null());
        self.surround(&mut command);
        command.output().unwrap()
    }

    /// The folder of the sources, and the settings of this world alone.
    fn surround(&self, command: &mut Command) {
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") && name != "TIDEGATE_LOG" {
                command.env_remove(name);
            }
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
    }

    /// Runs a command of ours to its end, 60 s at most.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command("timeout", &["-k", "1", "60"], arguments).output().unwrap()
    }

    /// Runs [`World::run`], which must end with 0; answers standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The broker assigns the partitions, and sets the session, see `tests/servers/kafka.sh`.
    #[cfg(feature = "failpoints")]
    pub fn let_broker_assign(&mut self) {
        self.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
        self.settings.push(("TIDEGATE_KAFKA__GROUP_PROTOCOL".into(), "consumer".into()));
    }

    /// Starts `tidegate run`. By the test's own thread: the instance goes when that thread goes.
    pub fn instance(&self, name: &str) -> Instance {
        self.instance_with(name, &[])
    }

    /// With a folder of its own for the stores, which outlives the instance.
    #[cfg(feature = "rocksdb")]
    pub fn stateful_instance(&self, name: &str) -> Instance {
        let folder = self.folder.join(format!("state-{name}")).display().to_string();
        self.instance_with(name, &["--set", &format!("state.dir={folder}")])
    }

    /// With more arguments in front of `run`.
    pub fn instance_with(&self, name: &str, arguments: &[&str]) -> Instance {
        self.armed_instance(name, "", arguments)
    }

    /// Which kills or pauses itself at a crash point, as `K21=kill@3`, see `src/ports/failpoint.rs`.
    pub fn armed_instance(&self, name: &str, failpoint: &str, arguments: &[&str]) -> Instance {
        let mut arguments = arguments.to_vec();
        arguments.push("run");
        // Tests under nohup would hand its deafness down.
        let before = ["--default-signal=HUP", "setpriv", "--pdeathsig", "KILL"];
        let mut command = self.command("env", &before, &arguments);
        command.env("FAILPOINT", failpoint).env("GUARD_OFF", &self.guard_off);
        if std::env::var_os("TIDEGATE_LOG").is_none() {
            command.env("TIDEGATE_LOG", LOG);
        }
        Instance::start(name, command, &self.folder.join(format!("{name}.log")))
    }

    pub fn kafka_settings(&self) -> KafkaSettings {
        KafkaSettings { bootstrap_servers: self.kafka.bootstrap.clone(), ..KafkaSettings::default() }
    }

    pub fn sql(&self, text: &str) -> Vec<PgRow> {
        sql::sql(&self.postgres.url, text)
    }

    pub fn number(&self, text: &str) -> i64 {
        sql::number(&self.postgres.url, text)
    }

    /// The sum of all D: with a feed that is not transactional, the number of records taken.
    pub fn taken(&self) -> i64 {
        self.number("SELECT coalesce(sum(next_offset), 0)::bigint FROM tidegate.position")
    }

    pub fn wait_taken(&self, records: i64, within: Duration) {
        super::until(&format!("{records} records taken"), within, || {
            let taken = self.taken();
            if taken >= records { Ok(()) } else { Err(format!("{taken} taken")) }
        });
    }

    /// Waits until every partition has moved on from where it is now.
    #[cfg(feature = "failpoints")]
    pub fn wait_all_move(&self) {
        // By name: others may be created meanwhile.
        let positions = || -> BTreeMap<String, i64> {
            let rows = self.sql("SELECT topic || '-' || partition, next_offset FROM tidegate.position");
            rows.iter().map(|row| (row.try_get_unchecked(0).unwrap(), row.try_get_unchecked(1).unwrap())).collect()
        };
        let before = positions();
        super::until("every partition moves", Duration::from_secs(60), || {
            let now = positions();
            let still: Vec<_> = before.iter().filter(|(name, at)| now.get(*name).is_none_or(|now| now <= at)).collect();
            if still.is_empty() { Ok(()) } else { Err(format!("{} of {} stand: {still:?}", still.len(), now.len())) }
        });
    }

    /// Waits until the positions are spread over so many instances. Each has claimed what it owns.
    pub fn wait_owners(&self, count: usize) {
        let ask = "SELECT DISTINCT owner FROM tidegate.position";
        super::until(&format!("{count} owners"), Duration::from_secs(40), || {
            let owners = sql::try_sql(&self.postgres.url, ask).map_err(|error| error.to_string())?.len();
            if owners == count { Ok(()) } else { Err(format!("{owners} owners")) }
        });
    }

    pub fn note(&self, text: &str) {
        say(&format!("{} {:6.1} s  {text}", self.name, self.began.elapsed().as_secs_f64()));
    }
}

impl World {
    /// Reads every line that processes of ours have written, see [`super::lines`]. The logs stay where one is at fault.
    fn judge_lines(&self) {
        let secrets = self.secrets();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
                if let Some(fault) = super::lines::fault_of(&log, &secrets) {
                    panic!("{}: {fault}", path.display());
                }
            }
        }
    }

    /// The passwords among the settings.
    fn secrets(&self) -> Vec<String> {
        let of_url = |value: &str| {
            let (_, rest) = value.split_once("://")?;
            let (_, password) = rest.rsplit_once('@')?.0.split_once(':')?;
            Some(password.to_owned())
        };
        let secret = |(name, value): &(String, String)| {
            if name.ends_with("PASSWORD") { Some(value.clone()) } else { of_url(value) }
        };
        self.settings.iter().filter_map(secret).filter(|secret| secret.len() > 5).collect()
    }
}

/// The table of the shipped pipeline.
pub fn accounts(ids: i64) -> String {
    format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, score double precision NOT NULL, version bigint NOT NULL);
         INSERT INTO accounts SELECT id, 0, 0 FROM generate_series(1, {ids}) id"
    )
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.note(&format!("FAILED; logs are in {}", self.folder.display()));
        } else {
            self.judge_lines();
            self.note("done");
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                let path = entry.path(); // the servers remove their own folders
                let is_state = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state-"));
                let _ = if is_state { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            }
        }
    }
}
