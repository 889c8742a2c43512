//! Obstacles under load: each stands until an instance has told of it by each of its ways, with cause and next command, and goes
//! again. Two instances; when all cells are over, the oracle judges everything that was sent meanwhile.

use super::arena::{Facts, seconds};
use crate::forged::refusal;
use crate::load::{history, told};
use crate::reader::Told;
use crate::rig::{
    Action, Instance, Load, OpenTransaction, Proof, Proxy, Quota, Random, Session, Stranger, Telling, World,
    assert_tells, say, until,
};
use kafka_protocol::messages::ApiKey;
use sqlx::Row as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegate::ports::obstacle::ObstacleKind;

const NAMES: [&str; 2] = ["first", "second"];
const GROUP: &str = "load";
const SOURCE: &str = "load-readings";
const RECORDS_PER_SECOND: u64 = 300;
/// The two instances, and one more.
const GROUP_MAX: &str = "group.max.size=3";
/// A lock is waited for 5 s and a partition stands for 20 s before it is told; the rest is for a machine that does other things.
const WITHIN: Duration = Duration::from_secs(35);
/// Once its cause is gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Kafka's code for it.
const CONCURRENT_TRANSACTIONS: i16 = 51;
/// The watch looks once a second, and an answer of `/status` is kept for another.
const STATUS_AGE: Duration = Duration::from_secs(3);
/// Number of cells in `make test-servers`.
const SAMPLE: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    AnotherProtocol,
    FullGroup,
    ForeignMember,
    RowsLocked,
    QuotaOfReading,
    QuotaOfWriting,
    OpenTransaction,
    DatabaseLost,
    NotPublishing,
    SourceGone,
    AllRejected,
    OffsetUnread,
    SentAstray,
}

const CELLS: [Cell; 13] = [
    Cell::AnotherProtocol,
    Cell::FullGroup,
    Cell::ForeignMember,
    Cell::RowsLocked,
    Cell::QuotaOfReading,
    Cell::QuotaOfWriting,
    Cell::OpenTransaction,
    Cell::DatabaseLost,
    Cell::NotPublishing,
    Cell::SourceGone,
    Cell::AllRejected,
    Cell::OffsetUnread,
    Cell::SentAstray,
];

impl Cell {
    /// The obstacle that it puts up; none where the trouble is told by another way.
    const fn kind(self) -> Option<ObstacleKind> {
        Some(match self {
            Self::AnotherProtocol | Self::FullGroup => ObstacleKind::NotAdmitted,
            Self::ForeignMember => ObstacleKind::ForeignMember,
            Self::RowsLocked | Self::DatabaseLost | Self::OffsetUnread => ObstacleKind::StandsStill,
            Self::QuotaOfReading | Self::QuotaOfWriting => ObstacleKind::Throttled,
            Self::OpenTransaction => ObstacleKind::OpenTransaction,
            Self::NotPublishing => ObstacleKind::NotPublishing,
            Self::SourceGone => ObstacleKind::SourceGone,
            Self::AllRejected => ObstacleKind::AllRejected,
            Self::SentAstray => return None,
        })
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AnotherProtocol => "not admitted: a member speaks another protocol",
            Self::FullGroup => "not admitted: the group is full",
            Self::ForeignMember => "another program is a member and has partitions",
            Self::RowsLocked => "rows are locked by another session",
            Self::QuotaOfReading => "a quota on what is read",
            Self::QuotaOfWriting => "a quota on what is written",
            Self::OpenTransaction => "another program's transaction stays open in a source",
            Self::DatabaseLost => "the database is away",
            Self::NotPublishing => "a transaction hangs at its coordinator, and nothing is published",
            Self::SourceGone => "a source topic is deleted",
            Self::AllRejected => "every record of a source is rejected",
            Self::OffsetUnread => "a transaction hides a committed offset from a takeover",
            Self::SentAstray => "brokers send an instance on to a host that does not resolve",
        })
    }
}

/// How long it took until an obstacle was told, and the moment when its cause went.
type Shown = (Duration, Instant);

struct Stage {
    instances: [Instance; 2],
    proxy: Proxy,
    /// While it is set, the load has nothing that can be used for the companion topic.
    poison: Arc<AtomicBool>,
    world: World, // last: the others need its servers
}

impl Stage {
    fn begin() -> Option<Self> {
        let kafka = [("KAFKA_MORE", GROUP_MAX), ("KAFKA_ASTRAY", "1"), ("KAFKA_PROXIED", "1")];
        let mut world = World::load_with_kafka("obstructed", &kafka)?.with_spare();
        let proxy = Proxy::start(&world.kafka.proxies());
        world.settings.push(("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS".into(), proxy.bootstrap.clone())); // the last one counts
        Quota::exempt(&world, "tidegate-feed"); // quotas are for the instances
        let instances = NAMES.map(|name| world.instance(name));
        world.wait_owners(2);
        Some(Self { instances, proxy, poison: Arc::default(), world })
    }

    /// From now on, of both.
    fn tellings(&self, kind: ObstacleKind) -> Vec<Telling> {
        self.instances.iter().map(|instance| Telling::of(kind, instance)).collect()
    }

    /// Demands that one of the two tells, with these words.
    fn demand(&self, tellings: &[Telling], parts: &[&str]) -> (usize, Duration) {
        let instances: Vec<&Instance> = self.instances.iter().collect();
        let (at, line, took) = Telling::demand(tellings, &instances);
        assert_tells(&line, parts);
        (at, took)
    }

    /// Everything that `halted` says, whatever its exit code.
    fn halted(&self) -> String {
        let output = self.world.run(&["halted"]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn assert_readiness(&self, at: usize, parts: &[&str]) {
        assert_tells(&self.instances[at].readiness().unwrap(), parts);
    }

    fn terminate(instance: &mut Instance) {
        let (status, took) = instance.terminate(WITHIN);
        assert!(status.success(), "{} ended with {status} after {took:?}\n{}", instance.name, instance.log());
    }

    /// Puts successors in the places of both, who remember nothing of what was told.
    fn renew(&mut self) {
        for (instance, name) in self.instances.iter_mut().zip(NAMES) {
            Self::terminate(instance);
            *instance = self.world.instance(name);
        }
        self.world.wait_owners(2);
    }

    fn play(&mut self, cell: Cell) -> Facts {
        let kind = cell.kind();
        let (told, gone) = match cell {
            Cell::AnotherProtocol => self.another_protocol(),
            Cell::FullGroup => self.full_group(),
            Cell::ForeignMember => self.foreign_member(),
            Cell::RowsLocked => self.rows_locked(),
            Cell::QuotaOfReading => self.quota("consumer_byte_rate", 500),
            Cell::QuotaOfWriting => self.quota("producer_byte_rate", 200),
            Cell::OpenTransaction => self.open_transaction(),
            Cell::DatabaseLost => self.database_lost(),
            Cell::NotPublishing => self.not_publishing(),
            Cell::SourceGone => self.source_gone(),
            Cell::AllRejected => self.all_rejected(),
            Cell::OffsetUnread => self.offset_unread(),
            Cell::SentAstray => self.sent_astray(),
        };
        if let Some(kind) = kind {
            self.instances.iter().for_each(|instance| instance.wait_rid_of(kind, GONE_WITHIN));
        }
        let gone = gone.elapsed();
        self.world.wait_owners(2);
        let began = Instant::now();
        self.world.wait_all_move();
        let moved = began.elapsed();
        // A partition that stood for less when the cause went is told until it moves; `/status` is up to two seconds old.
        if let Some(kind) = kind {
            self.instances.iter().for_each(|instance| instance.wait_rid_of(kind, STATUS_AGE));
        }
        let said = self.halted();
        if let Some(kind) = kind {
            assert!(!said.contains(kind.sentence()), "{cell}: {said}");
        }
        if cell == Cell::SourceGone {
            self.begin_spare_anew();
        }
        for instance in &mut self.instances {
            assert!(instance.is_running(), "{cell}: {} ended by itself\n{}", instance.name, instance.log());
        }
        vec![("told_s", seconds(told)), ("gone_s", seconds(gone)), ("all_move_s", seconds(moved))]
    }

    /// Both are away when the other program joins, and neither is let in.
    fn another_protocol(&mut self) -> Shown {
        self.instances.iter_mut().for_each(Self::terminate);
        let stranger = Stranger::join(&self.world, GROUP, SOURCE, "range");
        let kind = ObstacleKind::NotAdmitted;
        let tellings: Vec<Telling> = NAMES.iter().map(|name| Telling::of_next(kind, &self.world, name)).collect();
        self.instances = NAMES.map(|name| self.world.instance(name));
        let (at, told) = self.demand(&tellings, &["speaks another protocol", "--group load --members"]);
        self.assert_readiness(at, &["HTTP/1.1 503", "speaks another protocol than cooperative-sticky"]);
        assert_tells(&self.halted(), &["obstacle  client another-program", "has 12 of its partitions"]);
        drop(stranger);
        (told, Instant::now())
    }

    /// A third fills the group, and a fourth is let in when the third has left.
    fn full_group(&mut self) -> Shown {
        let mut third = self.world.instance("third");
        let kind = ObstacleKind::NotAdmitted;
        third.wait_rid_of(kind, GONE_WITHIN); // it is ready
        let telling = Telling::of_next(kind, &self.world, "fourth");
        let mut fourth = self.world.instance("fourth");
        let (_, line, told) = Telling::demand(&[telling], &[&fourth]);
        assert_tells(&line, &["as many members as the broker's group.max.size allows", "run fewer instances"]);
        assert_tells(&fourth.readiness().unwrap(), &["HTTP/1.1 503", "group.max.size"]);
        Self::terminate(&mut third);
        let gone = Instant::now();
        fourth.wait_rid_of(kind, GONE_WITHIN);
        Self::terminate(&mut fourth);
        (told, gone)
    }

    /// What it is given no instance takes, and only `halted` sees it.
    fn foreign_member(&self) -> Shown {
        let stranger = Stranger::join(&self.world, GROUP, SOURCE, "cooperative-sticky");
        let began = Instant::now();
        until("halted names the other program", WITHIN, || {
            let said = self.halted();
            let is_told = ["obstacle  client another-program", "of its partitions", "  next  end it"]
                .iter()
                .all(|part| said.contains(part));
            if is_told { Ok(()) } else { Err(said) }
        });
        let told = began.elapsed();
        (0..2).for_each(|at| self.assert_readiness(at, &["HTTP/1.1 200"]));
        drop(stranger);
        (told, Instant::now())
    }

    /// Some of those that half of the load is for.
    fn rows_locked(&self) -> Shown {
        let tellings = self.tellings(ObstacleKind::StandsStill);
        let session =
            Session::begin(&self.world.postgres.url, "SELECT FROM things WHERE id BETWEEN 1 AND 50 FOR UPDATE");
        let (at, told) = self.demand(&tellings, &["load-", "lock", "pid "]);
        self.assert_readiness(at, &["HTTP/1.1 200"]);
        assert_tells(&self.halted(), &["obstacle  load-", ObstacleKind::StandsStill.sentence(), "  next  "]);
        session.rollback();
        (told, Instant::now())
    }

    fn quota(&self, name: &'static str, bytes: u64) -> Shown {
        let tellings = self.tellings(ObstacleKind::Throttled);
        let quota = Quota::set(&self.world, name, bytes);
        let (_, told) = self.demand(&tellings, &[name, "kafka-configs.sh"]);
        (0..2).for_each(|at| self.assert_readiness(at, &["HTTP/1.1 200"]));
        assert_tells(&self.halted(), &["the brokers slow this instance down", "  next  "]);
        quota.lift();
        (told, Instant::now())
    }

    fn open_transaction(&self) -> Shown {
        let transaction = OpenTransaction::record(&self.world, SOURCE, 5);
        let tellings = self.tellings(ObstacleKind::OpenTransaction);
        let parts = ["load-readings-5", "kafka-transactions.sh", "--topic load-readings --partition 5"];
        let (at, told) = self.demand(&tellings, &parts);
        self.assert_readiness(at, &["HTTP/1.1 200"]);
        assert_tells(&self.halted(), &["obstacle  load-readings-5  records are not shown", "  next  "]);
        transaction.abort();
        (told, Instant::now())
    }

    /// `halted` asks it too, and says that it does not answer.
    fn database_lost(&self) -> Shown {
        let tellings = self.tellings(ObstacleKind::StandsStill);
        self.world.postgres.stop();
        let (_, told) = self.demand(&tellings, &["load-", "is PostgreSQL running"]);
        let output = self.world.run(&["halted"]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_tells(&said, &["is PostgreSQL running", "database.url"]);
        self.world.postgres.restart();
        (told, Instant::now())
    }

    /// As a coordinator answers that cannot write the end of the transaction before. The database goes on meanwhile.
    fn not_publishing(&self) -> Shown {
        let tellings = self.tellings(ObstacleKind::NotPublishing);
        self.proxy.rule(|request, _| match request.api {
            ApiKey::InitProducerId | ApiKey::AddPartitionsToTxn | ApiKey::AddOffsetsToTxn | ApiKey::EndTxn => {
                Action::Answer(refusal(&request, CONCURRENT_TRANSACTIONS))
            }
            _ => Action::Forward(request),
        });
        let (at, told) =
            self.demand(&tellings, &["producer load-", "has not come back", "describe --transactional-id load-"]);
        self.assert_readiness(at, &["HTTP/1.1 200"]);
        let sentence = ObstacleKind::NotPublishing.sentence();
        assert_tells(&self.halted(), &["obstacle  producer load-", sentence, "  next  "]);
        self.world.wait_all_move();
        self.proxy.open();
        (told, Instant::now())
    }

    /// One that carries none of the load: the oracle reads the others to their ends. They go on meanwhile.
    fn source_gone(&self) -> Shown {
        self.world.feed_spare(3);
        let tellings = self.tellings(ObstacleKind::SourceGone);
        self.world.delete_spare();
        let (at, told) = self.demand(&tellings, &["topic load-spare", "it was deleted", "topics apply"]);
        self.assert_readiness(at, &["HTTP/1.1 503", "the brokers know no topic load-spare"]);
        let sentence = ObstacleKind::SourceGone.sentence();
        let parts =
            ["obstacle  topic load-spare", sentence, "  next  ", "unknown  load-spare  there is no topic load-spare"];
        assert_tells(&self.halted(), &parts);
        self.world.wait_all_move();
        self.world.make_spare();
        (told, Instant::now())
    }

    /// The offsets of the topic before mean nothing in the one that was made anew, and its partition may be halted for that:
    /// a person says where it goes on, while no instance runs.
    fn begin_spare_anew(&mut self) {
        self.instances.iter_mut().for_each(Self::terminate);
        self.world.ok(&["reset", "load-spare-0", "--to", "start", "--yes"]);
        self.instances = NAMES.map(|name| self.world.instance(name));
        self.world.wait_owners(2);
        self.world.feed_spare(5);
    }

    fn all_rejected(&self) -> Shown {
        let tellings = self.tellings(ObstacleKind::AllRejected);
        self.poison.store(true, Ordering::Relaxed);
        let (at, told) = self.demand(&tellings, &["about=\"load-corrections\"", "load-corrections-dlt"]);
        self.assert_readiness(at, &["HTTP/1.1 200"]);
        assert_tells(&self.halted(), &["obstacle  load-corrections  every record", "  next  "]);
        self.poison.store(false, Ordering::Relaxed);
        (told, Instant::now())
    }

    /// Of a partition of each, one of which is to be taken over by the other.
    fn offset_unread(&mut self) -> Shown {
        let one_of_each =
            format!("SELECT min(partition) FROM tidegate.position WHERE topic = '{SOURCE}' GROUP BY owner");
        let rows = self.world.sql(&one_of_each);
        let sources: Vec<(String, i32)> =
            rows.iter().map(|row| (SOURCE.into(), row.try_get_unchecked(0).unwrap())).collect();
        assert_eq!(sources.len(), 2);
        let transaction = OpenTransaction::offsets(&self.world, GROUP, &sources);
        Self::terminate(&mut self.instances[1]);
        let telling = Telling::of(ObstacleKind::StandsStill, &self.instances[0]);
        let (_, line, told) = Telling::demand(&[telling], &[&self.instances[0]]);
        assert_tells(&line, &["load-readings", "its committed offset cannot be read", "find-hanging"]);
        self.assert_readiness(0, &["HTTP/1.1 503", "partitions are being taken over"]);
        // The task's inputs are named together, by name.
        assert_tells(&self.halted(), &["obstacle  load-", "load-readings ", "its committed offset cannot be read"]);
        transaction.abort();
        let gone = Instant::now();
        self.instances[0].wait_rid_of(ObstacleKind::StandsStill, GONE_WITHIN);
        self.instances[1] = self.world.instance(NAMES[1]);
        (told, gone)
    }

    /// It ends with the cause, and one that asks the right listener is let in.
    fn sent_astray(&self) -> Shown {
        let servers = format!("kafka.bootstrap_servers={}", self.world.kafka.astray());
        let (mark, began) = (self.log_of_third().len(), Instant::now());
        let mut astray = self.world.instance_with("third", &["--set", &servers]);
        let status = astray.end(WITHIN);
        let told = began.elapsed();
        let said = self.log_of_third().split_off(mark);
        assert_eq!(status.code(), Some(1), "{said}");
        assert_tells(&said, &["sends its clients on to no-such-host.invalid:9092", "correct advertised.listeners"]);
        let gone = Instant::now();
        let mut third = self.world.instance("third");
        third.wait_rid_of(ObstacleKind::NotAdmitted, GONE_WITHIN);
        Self::terminate(&mut third);
        (told, gone)
    }

    fn log_of_third(&self) -> String {
        std::fs::read_to_string(self.world.folder().join("third.log")).unwrap_or_default()
    }
}

/// Of all cells some, in an order of their own.
fn some(random: &mut Random) -> Vec<Cell> {
    let mut cells = CELLS.to_vec();
    let mut any = || cells.remove(usize::try_from(random.below(cells.len() as u64)).unwrap());
    (0..SAMPLE).map(|_| any()).collect()
}

#[test]
fn an_obstacle_is_told_while_it_stands_and_nothing_is_lost_or_done_twice_when_it_is_gone() {
    let seed = Random::seed("TIDEGATE_MATRIX_SEED");
    let mut proof = Proof::new("obstacle", seed);
    let cells = proof.plan_or_sample(&CELLS, &some(&mut Random::new(seed)));
    say(&format!("obstructed: TIDEGATE_MATRIX_SEED={seed}, {} cells", cells.len()));
    if cells.is_empty() {
        return proof.clean();
    }
    let Some(mut stage) = Stage::begin() else { return };
    let mut load = Load::new(&stage.world, seed);
    stage.poison = Arc::clone(&load.is_companion_poisoned);
    let mut last = None;
    load.during(RECORDS_PER_SECOND, || {
        stage.world.wait_all_move();
        for cell in cells {
            if last == Some(cell) {
                stage.renew(); // who has told lately waits before it tells again
            }
            if !proof.begin(&cell) {
                break;
            }
            let facts = stage.play(cell);
            let told: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
            stage.world.note(&format!("{cell}: {}", told.join(", ")));
            proof.end(&facts);
            last = Some(cell);
        }
    });
    let history = history(&stage.world, &load, Told::default());
    let (anomalies, text) = told(&history);
    assert!(anomalies.is_empty(), "TIDEGATE_MATRIX_SEED={seed}: {anomalies:?}\n{text}");
    stage.world.note(&format!("judged: {text}"));
    proof.clean();
}

#[test]
fn each_kind_of_obstacle_has_a_cell() {
    let without = |kind: &ObstacleKind| !CELLS.iter().any(|cell| cell.kind() == Some(*kind));
    assert_eq!(ObstacleKind::ALL.into_iter().filter(without).collect::<Vec<_>>(), []);
}
