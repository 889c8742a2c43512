//! Every row of the SQLSTATE table in docs/errors.md, sent by a forged server at the writing of rows and at COMMIT: the
//! engine does what the table says (F4).

use crate::rig::{
    Account, DatabaseAction, DatabaseProxy, Exchange, Feed, Forged, Instance, Proof, Random, Statement, World, say,
    until,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tidegate::adapters::kafka::KafkaFeed;
use tidegate::flow::record::TopicName;

const IDS: i64 = 1_000;
const NAMES: [&str; 2] = ["first", "second"];
/// Each world is judged once, at its end.
const CELLS_MAX: usize = 40;
/// The row that the database refuses, whatever is written. No other eight bytes of a batch are these.
const REFUSED: i64 = 0x5EED_BAD1_5EED_BAD1;

/// The table's action for an error of the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Action {
    DeadLetter(String),
    Again,
    Anew,
    Halt,
}

/// The place of the forged refusal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    Write,
    /// In place of a COMMIT that the server never sees.
    Commit,
    /// In place of the answer to a COMMIT that was carried out.
    Committed,
}

/// The reaction that can be seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// ROLLBACK on the same connection.
    RolledBack,
    ConnectedAnew,
    /// A look at the position under its lock.
    Settled,
}

#[derive(Clone, Debug)]
struct Cell {
    forged: Forged,
    place: Place,
    action: Action,
    /// Whether nobody knows how the COMMIT ended.
    is_unknown: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Write => "the writing of rows",
            Place::Commit => "COMMIT",
            Place::Committed => "COMMIT, carried out",
        };
        write!(f, "{} {} at {place}", self.forged.severity, self.forged.sqlstate)
    }
}

impl Cell {
    /// The rows of the document. A row of two characters is a class, of which a code is made that no server knows.
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap();
        let table = text.split("\n## SQLSTATE\n").nth(1).unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
        let mut out: Vec<Self> = rows.flat_map(Self::of_row).collect();
        // A session that has ended is followed by a new one, for every code.
        let fatal = Forged { severity: "FATAL", sqlstate: "53300".into() };
        for (place, is_unknown) in [(Place::Write, false), (Place::Commit, true), (Place::Committed, true)] {
            out.push(Self { forged: fatal.clone(), place, action: Action::Anew, is_unknown });
        }
        out
    }

    fn of_row(row: &str) -> Vec<Self> {
        let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches([' ', '`'])).collect();
        let sqlstate = match cells[0] {
            "any other" => "ZZZZZ".into(),
            class if class.len() == 2 => format!("{class}ZZZ"),
            code => code.to_owned(),
        };
        let action = match cells[1] {
            "again" => Action::Again,
            "again, connected anew" => Action::Anew,
            "halt" => Action::Halt,
            other => Action::DeadLetter(other.strip_prefix("dead letter `").unwrap().into()),
        };
        let is_unknown = cells[2] == "unknown";
        assert!(is_unknown || cells[2] == "not done", "{row}");
        let places: &[Place] =
            if is_unknown { &[Place::Write, Place::Commit, Place::Committed] } else { &[Place::Write, Place::Commit] };
        let forged = Forged { severity: "ERROR", sqlstate };
        let cell = |place: &Place| Self { forged: forged.clone(), place: *place, action: action.clone(), is_unknown };
        places.iter().map(cell).collect()
    }

    /// One of each kind.
    fn sample(seed: u64) -> Vec<Self> {
        let mut kinds: BTreeMap<_, Vec<Self>> = BTreeMap::new();
        for cell in Self::all() {
            let key = (cell.place, cell.action.clone(), cell.is_unknown, cell.forged.severity);
            kinds.entry(key).or_default().push(cell);
        }
        let mut random = Random::new(seed);
        let mut one = |cells: Vec<Self>| cells[usize::try_from(random.below(cells.len() as u64)).unwrap()].clone();
        kinds.into_values().map(&mut one).collect()
    }

    /// The row that is refused becomes a dead letter; elsewhere no record is to blame.
    fn dead_letter(&self) -> Option<&str> {
        match &self.action {
            Action::DeadLetter(code) if self.place == Place::Write => Some(code),
            _ => None,
        }
    }

    /// At COMMIT it is said once, and the smaller batch that follows is taken.
    const fn halts(&self) -> bool {
        matches!((&self.action, self.place), (Action::Halt, Place::Write))
    }

    fn expected(&self) -> Seen {
        match (self.place, &self.action) {
            (Place::Write, Action::Anew) => Seen::ConnectedAnew,
            (Place::Write, _) => Seen::RolledBack,
            (Place::Commit | Place::Committed, _) if self.is_unknown => Seen::Settled,
            (Place::Commit | Place::Committed, _) => Seen::RolledBack,
        }
    }
}

/// Says it once; where a row is to blame, whenever that row is written; where a table is, whenever one connection writes.
struct Plot {
    cell: Cell,
    /// The connection that has heard it.
    heard: Option<usize>,
    told: Sender<Seen>,
}

impl Plot {
    fn action(&mut self, exchange: &Exchange) -> DatabaseAction {
        let statement = Statement::of(exchange);
        if self.is_due(exchange, statement) {
            self.heard = Some(exchange.connection);
            let forged = self.cell.forged.clone();
            return match self.cell.place {
                Place::Write | Place::Commit => DatabaseAction::Refuse(forged),
                Place::Committed => DatabaseAction::Replace(forged),
            };
        }
        let is_same = self.heard == Some(exchange.connection);
        let seen = match statement {
            Some(Statement::Rollback | Statement::Undo) if is_same => Some(Seen::RolledBack),
            Some(Statement::Connect) if self.heard.is_some() && self.cell.place == Place::Write => {
                Some(Seen::ConnectedAnew)
            }
            Some(Statement::Settle) if self.heard.is_some() => Some(Seen::Settled),
            _ => None,
        };
        if let Some(seen) = seen {
            let _ = self.told.send(seen); // the first is waited for
        }
        DatabaseAction::Forward
    }

    fn is_due(&self, exchange: &Exchange, statement: Option<Statement>) -> bool {
        match self.cell.place {
            Place::Write if self.cell.dead_letter().is_some() => {
                statement == Some(Statement::Write) && exchange.contains(&REFUSED.to_be_bytes())
            }
            Place::Write if self.cell.halts() => {
                statement == Some(Statement::Write) && self.heard.is_none_or(|heard| heard == exchange.connection)
            }
            Place::Write => self.heard.is_none() && statement == Some(Statement::Write),
            Place::Commit | Place::Committed => self.heard.is_none() && statement == Some(Statement::Commit),
        }
    }
}

/// Two instances with a worker each behind the proxy.
struct Stage {
    instances: [Instance; 2],
    proxy: DatabaseProxy,
    producer: KafkaFeed,
    /// Number of records sent whose row is refused.
    refused: i64,
    world: World, // last: the others need its servers
}

impl Stage {
    fn new(name: &'static str) -> Option<Self> {
        let (mut world, proxy) = World::database_proxied(name, IDS)?;
        let settings = [
            ("ENGINE__WORKERS", "1"),
            ("PIPELINE__VERDICTS", "true"),
            ("KAFKA__SESSION_TIMEOUT_MS", "3000"),
            ("KAFKA__TRANSACTION_TIMEOUT_MS", "4000"),
        ];
        world.settings.extend(settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value.into())));
        world.sql(&format!("INSERT INTO accounts VALUES ({REFUSED}, 0, 0)"));
        let producer = KafkaFeed::connect(&world.kafka_settings()).unwrap();
        let instances = NAMES.map(|name| world.instance(name));
        world.wait_owners(2);
        Some(Self { instances, proxy, producer, refused: 0, world })
    }

    fn logs(&self) -> [usize; 2] {
        [0, 1].map(|number| self.instances[number].log().len())
    }

    /// The instance that has halted partitions for this since its log was as long as `before`.
    fn halted(&self, cell: &Cell, before: [usize; 2]) -> Option<usize> {
        let code = format!("SQLSTATE {}", cell.forged.sqlstate);
        let is_it = |line: &str| line.contains("halted: ") && line.contains(&code);
        (0..2).find(|number| self.instances[*number].log().split_off(before[*number]).lines().any(is_it))
    }

    /// Number of records that have become dead letters with this code.
    fn dead_letters(&self, code: &str) -> i64 {
        let count = "SELECT count(*) FROM tidegate.verdict WHERE outcome = 'dead-letter'";
        self.world.number(&format!("{count} AND note = '{code}'"))
    }

    fn send_refused(&mut self) {
        let (topic, key) = (TopicName::parse("readings").unwrap(), REFUSED.to_string());
        self.producer.send(&topic, None, Some(key.as_bytes()), Some(br#"{"value": 1}"#), &[]).unwrap();
        self.producer.flush().unwrap();
        self.refused += 1;
    }

    fn play(&mut self, cell: &Cell) {
        let before = self.logs();
        let dead_letters = cell.dead_letter().map(|code| self.dead_letters(code));
        let (tell, told) = channel();
        let mut plot = Plot { cell: cell.clone(), heard: None, told: tell };
        self.proxy.rule(move |exchange| plot.action(exchange));
        if dead_letters.is_some() {
            self.send_refused();
        }
        let seen = told.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| {
            panic!("{cell}: {error}\n{}\n\n{}", self.instances[0].log(), self.instances[1].log())
        });
        assert_eq!(seen, cell.expected(), "{cell}");
        if let (Some(code), Some(dead_letters)) = (cell.dead_letter(), dead_letters) {
            until(&format!("{cell}: a dead letter"), Duration::from_secs(10), || {
                let found = self.dead_letters(code);
                if found == dead_letters + 1 { Ok(()) } else { Err(format!("{found}, {dead_letters} before")) }
            });
        }
        let halted = cell.halts().then(|| {
            until(&format!("{cell}: a halt"), Duration::from_secs(10), || {
                self.halted(cell, before).ok_or_else(|| "no such line in a log".into())
            })
        });
        self.proxy.open();
        if let Some(number) = halted {
            self.restart(number);
        }
        self.world.wait_all_move();
        assert_eq!(self.halted(cell, before).is_some(), cell.halts(), "{cell}");
    }

    /// Starts an instance again, as an operator does once the named cause is gone. It may have ended, all its partitions
    /// being halted.
    fn restart(&mut self, number: usize) {
        if self.instances[number].is_running() {
            self.instances[number].terminate(Duration::from_secs(15));
        }
        self.instances[number] = self.world.instance(NAMES[number]);
        self.world.wait_owners(2);
    }
}

/// Plays the cells in one world; `false` when the time for new ones is over.
fn play(cells: &[Cell], seed: u64) -> bool {
    let mut proof = Proof::new("f4", seed);
    let Some(mut stage) = Stage::new("sqlstates") else { return false };
    let mut feed = Feed::new(&stage.world, IDS, seed);
    feed.reference.rows.insert(REFUSED, Account::default());
    let mut is_on = true;
    feed.during(|| {
        for cell in cells {
            is_on = is_on && proof.begin(cell);
            if is_on {
                stage.play(cell);
                stage.world.note(&format!("{cell}: {:?}", cell.action));
                proof.end(&[]);
            }
        }
    });
    feed.sent += stage.refused;
    let audit = stage.world.judge(&feed, Duration::from_secs(60));
    assert_eq!(audit.number("dead_letters"), stage.refused);
    proof.clean();
    is_on
}

#[test]
fn what_a_forged_server_says_leads_to_the_action_of_the_table() {
    let seed = Random::seed("TIDEGATE_SQLSTATES_SEED");
    let cells = Proof::new("f4", seed).plan_or_sample(&Cell::all(), &Cell::sample(seed));
    say(&format!("sqlstates: TIDEGATE_SQLSTATES_SEED={seed}, {} cells", cells.len()));
    cells.chunks(CELLS_MAX).all(|cells| play(cells, seed));
}
