//! Faults of a network in one request (F2): it is lost, its answer is lost, it comes when the client has given it up, the
//! connection breaks behind it or in the middle of the answer. Thirteen requests of a member and its producers, each with
//! each of the five; every partition moves on, and nothing is lost or published twice.
//!
//! One seed draws the sample that a run without `TIDEGATE_PROOF` is content with, and how many requests are let through
//! before one is struck.

use crate::rig::{Action, Fate, Feed, Held, Instance, Line, Proof, Proxy, Random, Request, World, say};
use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use std::fmt::{Display, Formatter};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const IDS: i64 = 1_000;
/// Sessions and transactions of so many milliseconds.
const TIMEOUT_MS: &str = "3000";
/// Above the longest patience of the client: `SyncGroup` may take a session and 3 s. Only `JoinGroup` may take five
/// minutes, `max.poll.interval.ms`; that connection is broken then, as TCP would do at last.
const PATIENCE: Duration = Duration::from_secs(7);
/// From the end of the fault until everything moves and everybody has a share again.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// Number of cells judged together.
const TOGETHER: usize = 40;
/// Number of cells that are enough for a change.
const SAMPLE: usize = 30;

const REQUESTS: [ApiKey; 13] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
    ApiKey::ConsumerGroupHeartbeat,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    LoseRequest,
    LoseAnswer,
    /// The broker gets it once the client has given it up.
    Delay,
    /// The broker has done it when the connection breaks.
    Cut,
    /// Likewise, in the middle of the answer.
    Truncate,
}

const FAULTS: [Fault; 5] = [Fault::LoseRequest, Fault::LoseAnswer, Fault::Delay, Fault::Cut, Fault::Truncate];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    request: ApiKey,
    fault: Fault,
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let fault = match self.fault {
            Fault::LoseRequest => "request lost",
            Fault::LoseAnswer => "answer lost",
            Fault::Delay => "delayed",
            Fault::Cut => "delivered, then cut",
            Fault::Truncate => "answer truncated",
        };
        write!(f, "{:?}, {fault}", self.request)
    }
}

fn all() -> Vec<Cell> {
    REQUESTS.iter().flat_map(|request| FAULTS.map(|fault| Cell { request: *request, fault })).collect()
}

fn shuffled<T: Copy>(all: &[T], random: &mut Random) -> Vec<T> {
    let mut all = all.to_vec();
    for end in (2..=all.len()).rev() {
        all.swap(end - 1, usize::try_from(random.below(end as u64)).unwrap());
    }
    all
}

/// Each request with two or three of the faults, each fault with five requests at least.
fn sample(seed: u64) -> Vec<Cell> {
    let mut random = Random::new(seed ^ 0xF2);
    let (requests, faults) = (shuffled(&REQUESTS, &mut random), shuffled(&FAULTS, &mut random));
    let cell = |number: usize| {
        let (round, place) = (number / requests.len(), number % requests.len());
        Cell { request: requests[place], fault: faults[(place + 2 * round) % faults.len()] }
    };
    (0..SAMPLE).map(cell).collect()
}

/// One request that was struck.
struct Struck {
    client: String,
    line: Line,
    held: Option<Held>,
    /// Receives the answer, where the broker gave one.
    answered: Option<Receiver<Bytes>>,
}

/// Strikes the request of `cell` that comes after `passing` others, and no other.
fn strike(cell: Cell, passing: u64, told: Sender<Struck>) -> impl FnMut(Request, &Line) -> Action + Send {
    let mut left = passing + 1;
    move |request, line| {
        // A client with the pipeline's name alone looks around at a start, and has gone before anything can come late.
        if request.api != cell.request || left == 0 || request.client == "scoring" {
            return Action::Forward(request);
        }
        left -= 1;
        if left > 0 {
            return Action::Forward(request);
        }
        let mut struck = Struck { client: request.client.clone(), line: line.clone(), held: None, answered: None };
        let action = match cell.fault {
            Fault::LoseRequest => Action::Drop,
            Fault::Delay => {
                struck.held = Some(line.hold(request));
                Action::Drop
            }
            Fault::LoseAnswer | Fault::Cut | Fault::Truncate => {
                let fate = match cell.fault {
                    Fault::LoseAnswer => Fate::Lose,
                    Fault::Cut => Fate::Cut,
                    _ => Fate::Halve,
                };
                let (tell, answered) = channel();
                struck.answered = Some(answered);
                Action::Ask(request, fate, tell)
            }
        };
        let _ = told.send(struck); // the test may have failed
        action
    }
}

/// Two instances and at times a third, behind a proxy; sessions and transactions end soon after a death.
struct Stage {
    instances: Vec<Instance>,
    proxy: Proxy,
    world: World, // last: the others need its servers
}

impl Stage {
    fn new(name: &'static str, protocol: &[(&str, &str)]) -> Option<Self> {
        let (mut world, proxy) = World::proxied(name, IDS)?;
        world.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
        let short = [("TIDEGATE_ENGINE__WORKERS", "1"), ("TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS", TIMEOUT_MS)];
        world.settings.extend(short.iter().chain(protocol).map(|(name, value)| ((*name).into(), (*value).into())));
        let instances = vec![world.instance("first"), world.instance("second")];
        world.wait_owners(2);
        Some(Self { instances, proxy, world })
    }

    /// The third joins.
    fn join(&mut self) {
        self.instances.push(self.world.instance("third"));
    }

    fn leave(&mut self) {
        let mut third = self.instances.pop().unwrap();
        let (status, took) = third.terminate(Duration::from_secs(15));
        assert!(status.success(), "the third ended with {status} after {took:?}\n{}", third.log());
    }

    /// Makes the group send its rare requests.
    fn provoke(&mut self, request: ApiKey) {
        match request {
            ApiKey::FindCoordinator | ApiKey::InitProducerId => self.join(),
            ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::OffsetFetch if self.instances.len() == 2 => self.join(),
            ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::OffsetFetch => self.leave(),
            _ => {}
        }
    }

    /// Plays `cell`; answers the struck connection, and after how many seconds the client gave the request up, if it
    /// did.
    fn play(&mut self, cell: Cell, passing: u64) -> (String, Option<f64>) {
        let is_asked_at_a_start = matches!(cell.request, ApiKey::FindCoordinator | ApiKey::InitProducerId);
        if is_asked_at_a_start && self.instances.len() > 2 {
            self.leave();
        }
        let (tell, told) = channel();
        self.proxy.rule(strike(cell, passing, tell));
        self.provoke(cell.request);
        let struck = told.recv_timeout(Duration::from_secs(30));
        let struck = struck.unwrap_or_else(|error| panic!("{cell}: there was no request to strike: {error}"));
        let began = Instant::now();
        if let Some(answered) = struck.answered {
            let answer = answered.recv_timeout(Duration::from_secs(15));
            answer.unwrap_or_else(|error| panic!("{cell}: there was no answer to strike: {error}"));
        }
        while !struck.line.has_client_left() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let given_up = struck.line.has_client_left().then(|| began.elapsed().as_secs_f64());
        assert!(given_up.is_some() || cell.request == ApiKey::JoinGroup, "{cell}: waited for longer than {PATIENCE:?}");
        let is_late = struck.held.is_none_or(Held::deliver);
        assert!(is_late, "{cell}: the broker did not answer the request that came late");
        if matches!(cell.fault, Fault::LoseRequest | Fault::LoseAnswer) {
            struck.line.cut();
        }
        self.proxy.open();
        (struck.client, given_up)
    }

    /// Everything moves and everybody has a share.
    fn wait_back(&mut self, cell: Cell) -> f64 {
        let began = Instant::now();
        self.world.wait_all_move();
        self.world.wait_owners(self.instances.len());
        let took = began.elapsed();
        for instance in &mut self.instances {
            assert!(instance.is_running(), "{cell}: {} ended by itself\n{}", instance.name, instance.log());
        }
        assert!(took <= BACK_WITHIN, "{cell}: back after {took:?}");
        took.as_secs_f64()
    }
}

/// Bound for the number of requests of a kind to let through: of the rare ones a join or a leave has a few.
fn passing(request: ApiKey, random: &mut Random) -> u64 {
    random.below(match request {
        ApiKey::FindCoordinator | ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::InitProducerId => 2,
        ApiKey::OffsetFetch => 1,
        _ => 8,
    })
}

/// Plays all cells of the plan which `is_of_it` says are of this world.
fn each_cell(name: &'static str, protocol: &[(&str, &str)], is_of_it: impl Fn(&Cell) -> bool) {
    // One for both worlds, so that their samples are one.
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| Random::seed("TIDEGATE_NETWORK_SEED"));
    let of_it = |cells: Vec<Cell>| -> Vec<Cell> { cells.into_iter().filter(&is_of_it).collect() };
    let plan = Proof::new("f2", seed).plan_or_sample(&of_it(all()), &of_it(sample(seed)));
    let mut random = Random::new(seed);
    for cells in plan.chunks(TOGETHER) {
        let Some(mut stage) = Stage::new(name, protocol) else { return };
        say(&format!("{name}: TIDEGATE_NETWORK_SEED={seed}, {} cells", cells.len()));
        let mut proof = Proof::new("f2", seed);
        let mut feed = Feed::new(&stage.world, IDS, seed);
        let mut is_time = true;
        feed.during(|| {
            stage.world.wait_all_move();
            for cell in cells {
                is_time = proof.begin(cell);
                if !is_time {
                    break;
                }
                let passing = passing(cell.request, &mut random);
                let (client, given_up) = stage.play(*cell, passing);
                let back = stage.wait_back(*cell);
                let told =
                    given_up.map_or_else(|| "not given up".into(), |after| format!("given up after {after:.1} s"));
                stage.world.note(&format!("{cell}: {client}'s, {told}, all back {back:.1} s later"));
                proof.end(&[("client", client.into()), ("given_up_s", given_up.into()), ("all_move_s", back.into())]);
            }
        });
        stage.world.judge(&feed, Duration::from_secs(60));
        proof.clean();
        if !is_time {
            return;
        }
    }
}

#[test]
fn the_sample_has_each_request_and_each_fault() {
    for seed in 0..1_000 {
        let sample = sample(seed);
        let count = |is_it: &dyn Fn(&Cell) -> bool| sample.iter().filter(|cell| is_it(cell)).count();
        for cell in &sample {
            assert_eq!(count(&|other| other == cell), 1, "seed {seed}: {cell} stands twice");
        }
        assert!(REQUESTS.iter().all(|request| count(&|cell| cell.request == *request) >= 2), "seed {seed}");
        assert!(FAULTS.iter().all(|fault| count(&|cell| cell.fault == *fault) >= 5), "seed {seed}");
    }
}

#[test]
fn a_request_that_is_lost_late_or_cut_off_does_no_harm() {
    let session = [("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", TIMEOUT_MS)];
    each_cell("network", &session, |cell| cell.request != ApiKey::ConsumerGroupHeartbeat);
}

#[test]
fn a_heartbeat_of_the_brokers_protocol_that_is_lost_late_or_cut_off_does_no_harm() {
    let protocol = [("TIDEGATE_KAFKA__GROUP_PROTOCOL", "consumer")];
    each_cell("network-consumer", &protocol, |cell| cell.request == ApiKey::ConsumerGroupHeartbeat);
}
