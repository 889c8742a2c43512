//! Each statement of a batch, of a takeover and of a lease is lost on its way, or its answer is (F4).
//!
//! A proxy between the instances and the database strikes at a statement by its text. Under load: afterwards every
//! partition moves on, and nothing is missing or done twice.

use crate::rig::{
    DatabaseAction, DatabaseProxy, Exchange, Feed, Forged, Instance, Proof, Random, Statement, World, say,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const IDS: i64 = 1_000;
const NAMES: [&str; 2] = ["first", "second"];
/// Each world is judged once, at its end.
const CELLS_MAX: usize = 40;
/// Just past the time limit of a statement, and before the server ends the idle transaction, so that the client goes first.
const HELD: Duration = Duration::from_millis(1_600);
/// Well within the time that the server keeps an idle transaction, so that the late statement meets it.
const LATE: Duration = Duration::from_millis(300);
/// In which every partition has moved on: a client gives up 5 s after the time limit of a statement.
const MOVE_MAX: Duration = Duration::from_secs(15);

/// The fate of a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Cut,
    Withhold,
    Hold,
    Late,
    Silence,
}

const HOWS: [How; 5] = [How::Cut, How::Withhold, How::Hold, How::Late, How::Silence];

impl How {
    fn action(self) -> DatabaseAction {
        match self {
            Self::Cut => DatabaseAction::Cut,
            Self::Withhold => DatabaseAction::Withhold,
            Self::Hold => DatabaseAction::Hold(HELD),
            Self::Late => DatabaseAction::Late(LATE),
            Self::Silence => DatabaseAction::Silence,
        }
    }
}

#[derive(Clone, Copy)]
struct Cell {
    statement: Statement,
    how: How,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Cut => "lost with the connection",
            How::Withhold => "its answer lost with the connection",
            How::Hold => "held past the time limit, then the client cut off",
            How::Late => "delivered after the client was cut off",
            How::Silence => "lost in silence",
        };
        write!(f, "{}: {how}", self.statement)
    }
}

impl Cell {
    fn all() -> Vec<Self> {
        Statement::ALL.iter().copied().flat_map(|statement| HOWS.map(|how| Self { statement, how })).collect()
    }

    /// Each statement once and each fate several times, the slow one once.
    fn sample(seed: u64) -> Vec<Self> {
        let mut out: Vec<Self> = Statement::ALL
            .iter()
            .copied()
            .zip(seed..)
            .map(|(statement, number)| Self { statement, how: HOWS[usize::try_from(number % 4).unwrap()] })
            .collect();
        let batch = [Statement::Begin, Statement::Advance, Statement::Read, Statement::Write, Statement::Commit];
        out.push(Self { statement: batch[usize::try_from(seed % 5).unwrap()], how: How::Silence });
        out
    }

    /// There it is played before anything else: it needs a new world.
    const fn is_at_the_first_start(&self) -> bool {
        matches!(self.statement, Statement::Create | Statement::CommitCreate)
    }

    /// The exchange that has to happen first on the wire for the statement to come at all.
    fn provocation(&self) -> Option<(Statement, DatabaseAction)> {
        match self.statement {
            Statement::Settle => Some((Statement::Commit, DatabaseAction::Withhold)),
            Statement::Connect | Statement::Facts => Some((Statement::Begin, DatabaseAction::Cut)),
            Statement::Undo => {
                let refusal = Forged { severity: "ERROR", sqlstate: "23514".into() };
                Some((Statement::Write, DatabaseAction::Refuse(refusal)))
            }
            _ => None,
        }
    }

    /// The instance's next statement: nobody knows how a COMMIT ended, and anything else is done again.
    fn sequel(&self) -> Statement {
        if self.statement == Statement::Commit { Statement::Settle } else { Statement::Connect }
    }
}

enum Scene {
    ToProvoke,
    ToStrike,
    Struck,
}

struct Plot {
    cell: Cell,
    scene: Scene,
}

impl Plot {
    fn new(cell: Cell) -> Self {
        Self { cell, scene: if cell.provocation().is_some() { Scene::ToProvoke } else { Scene::ToStrike } }
    }

    /// The fate of the exchange, and whether the plot has come to its end.
    fn action(&mut self, exchange: &Exchange) -> (DatabaseAction, bool) {
        let statement = Statement::of(exchange);
        match self.scene {
            Scene::ToProvoke => {
                if let Some((_, action)) = self.cell.provocation().filter(|(at, _)| statement == Some(*at)) {
                    self.scene = Scene::ToStrike;
                    return (action, false);
                }
            }
            Scene::ToStrike if statement == Some(self.cell.statement) => {
                self.scene = Scene::Struck;
                return (self.cell.how.action(), false);
            }
            Scene::Struck if statement == Some(self.cell.sequel()) => return (DatabaseAction::Forward, true),
            Scene::ToStrike | Scene::Struck => {}
        }
        (DatabaseAction::Forward, false)
    }
}

/// Two instances with a worker each behind the proxy, and short limits, so that a cell is short.
struct Stage {
    instances: Vec<Instance>,
    proxy: DatabaseProxy,
    world: World, // last: the others need its servers
}

impl Stage {
    /// Nothing runs yet.
    fn new(name: &'static str) -> Option<Self> {
        let (mut world, proxy) = World::database_proxied(name, IDS)?;
        let settings = [
            ("ENGINE__WORKERS", "1"),
            ("PIPELINE__VERDICTS", "true"),
            ("KAFKA__SESSION_TIMEOUT_MS", "3000"),
            ("KAFKA__TRANSACTION_TIMEOUT_MS", "4000"),
            ("DATABASE__STATEMENT_TIMEOUT_MS", "1500"),
            ("DATABASE__LOCK_TIMEOUT_MS", "500"),
            ("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS", "2000"),
        ];
        world.settings.extend(settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value.into())));
        Some(Self { instances: Vec::new(), proxy, world })
    }

    fn plot(&self, cells: &[Cell]) -> Receiver<()> {
        let (tell, told): (Sender<()>, _) = channel();
        let mut plots: VecDeque<Plot> = cells.iter().map(|cell| Plot::new(*cell)).collect();
        self.proxy.rule(move |exchange| {
            let Some(plot) = plots.front_mut() else { return DatabaseAction::Forward };
            let (action, is_over) = plot.action(exchange);
            if is_over {
                plots.pop_front();
                let _ = tell.send(()); // the test may have failed
            }
            action
        });
        told
    }

    fn wait(&self, cell: &Cell, told: &Receiver<()>) {
        told.recv_timeout(Duration::from_secs(40)).unwrap_or_else(|error| {
            let logs: Vec<String> = self.instances.iter().map(Instance::log).collect();
            panic!("{cell}: it was not struck, or not survived: {error}\n{}", logs.join("\n\n"))
        });
    }

    fn provoke(&mut self, cell: &Cell, random: &mut Random) {
        match cell.statement {
            // The batch is fenced as if by another owner, and claims again once its membership is confirmed.
            Statement::Lock | Statement::Claim | Statement::CommitClaim | Statement::Rollback => {
                let partition = random.below(12);
                let text = format!(
                    "UPDATE tidegate.position SET epoch = epoch + 1 WHERE topic = 'readings' AND partition = {partition}"
                );
                self.world.sql(&text);
            }
            // One dies between the two commits.
            Statement::Rests => {
                let victim = usize::try_from(random.below(2)).unwrap();
                let (status, took) = self.instances[victim].terminate(Duration::from_secs(15));
                assert!(status.success(), "{} ended with {status} after {took:?}", NAMES[victim]);
                let wish = format!("K5=kill@{}", 1 + random.below(8));
                self.instances[victim] = self.world.armed_instance(NAMES[victim], &wish, &[]);
                self.instances[victim].wait_killed(Duration::from_secs(30));
            }
            _ => {}
        }
    }

    fn play(&mut self, cell: &Cell, random: &mut Random) -> f64 {
        let told = self.plot(std::slice::from_ref(cell));
        self.provoke(cell, random);
        self.wait(cell, &told);
        let began = Instant::now();
        self.world.wait_all_move();
        let took = began.elapsed();
        self.proxy.open();
        assert!(took <= MOVE_MAX, "{cell}: partitions stood for {took:?}");
        for (number, name) in NAMES.into_iter().enumerate() {
            if cell.statement == Statement::Rests && !self.instances[number].is_running() {
                self.instances[number] = self.world.instance(name);
                self.world.wait_owners(2);
            }
            let instance = &mut self.instances[number];
            assert!(instance.is_running(), "{cell}: {name} ended by itself\n{}", instance.log());
        }
        took.as_secs_f64()
    }
}

/// Plays the cells in one world; `false` when the time for new ones is over.
fn play(cells: &[Cell], seed: u64) -> bool {
    let mut proof = Proof::new("f4", seed);
    let Some(mut stage) = Stage::new("statements") else { return false };
    let mut random = Random::new(seed);
    let mut feed = Feed::new(&stage.world, IDS, seed);
    let mut is_on = true;
    let (first, later): (Vec<Cell>, Vec<Cell>) = cells.iter().partition(|cell| cell.is_at_the_first_start());
    feed.during(|| {
        let told = stage.plot(&first);
        stage.instances = NAMES.map(|name| stage.world.instance(name)).into();
        for cell in &first {
            is_on = is_on && proof.begin(cell);
            if is_on {
                stage.wait(cell, &told);
                stage.world.note(&format!("{cell}"));
                proof.end(&[]);
            }
        }
        stage.proxy.open();
        stage.world.wait_owners(2);
        stage.world.wait_all_move();
        for cell in &later {
            is_on = is_on && proof.begin(cell);
            if is_on {
                let took = stage.play(cell, &mut random);
                stage.world.note(&format!("{cell}; all moved {took:.1} s later"));
                proof.end(&[("all_move_s", took.into())]);
            }
        }
    });
    stage.world.judge(&feed, Duration::from_secs(60));
    proof.clean();
    is_on
}

#[test]
fn a_statement_that_is_lost_or_whose_answer_is_lost_does_no_harm() {
    let seed = Random::seed("TIDEGATE_STATEMENTS_SEED");
    let mut cells = Proof::new("f4", seed).plan_or_sample(&Cell::all(), &Cell::sample(seed));
    cells.sort_by_key(Cell::is_at_the_first_start); // together, in the last world
    say(&format!("statements: TIDEGATE_STATEMENTS_SEED={seed}, {} cells", cells.len()));
    cells.chunks(CELLS_MAX).all(|cells| play(cells, seed));
}
