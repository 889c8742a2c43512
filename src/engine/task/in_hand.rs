//! The record in hand: the one over which a worker runs the pipeline's code, noted where the note outlives the process;
//! and the handling of a record over which processes have died.
//!
//! While no process has died a note costs a few stores a record. Afterwards the records that were in hand are
//! *suspects*: while one of them is in front of this process, it is decided with no other record in hand, so that the
//! next death blames it alone; an innocent one is decided and forgotten. After a set number of deaths it is a dead
//! letter without another run.

use crate::engine::task::Task;
use crate::flow::effect::{KILLS, Reject};
use crate::flow::record::TopicName;
use crate::flow::timer::Timer;
use crate::flow::topology::Topology;
use crate::ports::note::{InHand, Mark, Note, Suspect};
use crate::ports::source::TaskId;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// FNV-1a, which is the same in each process and release of the compiler.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The suspects of a process, for all of its workers.
pub(crate) struct Suspects {
    note: Option<Arc<dyn Note>>,
    deaths_max: u32,
    /// The number of the first source of each sub-topology.
    firsts: Vec<usize>,
    known: Mutex<Vec<Suspect>>,
    is_any: AtomicBool,
    /// The number of suspects in front of workers of this process. If it is 0, no worker waits for another.
    here: AtomicUsize,
    /// The lock of each record while there is a suspect: exclusive for a suspect, shared for the others.
    alone: RwLock<()>,
}

impl Suspects {
    pub(crate) fn new(topology: &Topology, note: Option<Arc<dyn Note>>, deaths_max: u32) -> Arc<Self> {
        let known = note.as_ref().map(|note| note.suspects()).unwrap_or_default();
        let names = topology.sources();
        for Suspect { at, deaths } in &known {
            warn_of(&names, *at, *deaths, deaths_max);
        }
        let counts = topology.sub_topologies().iter().map(|sub| sub.sources().count());
        let firsts = counts.scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect();
        Arc::new(Self {
            note,
            deaths_max,
            firsts,
            is_any: AtomicBool::new(!known.is_empty()),
            known: Mutex::new(known),
            here: AtomicUsize::new(0),
            alone: RwLock::new(()),
        })
    }

    /// The hand of one worker.
    pub(crate) fn hand(self: &Arc<Self>, worker: usize) -> Hand {
        let mark = self.note.as_ref().map(|note| note.mark(worker));
        Hand { all: Arc::clone(self), mark, own: Vec::new() }
    }
}

fn warn_of(names: &[TopicName], at: InHand, deaths: u32, deaths_max: u32) {
    let topic = usize::try_from(at.source).ok().and_then(|source| names.get(source));
    let topic = topic.map(TopicName::as_str);
    let (partition, offset) = (at.partition.0, at.offset.0);
    if deaths < deaths_max {
        tracing::warn!(
            topic,
            partition,
            offset,
            deaths,
            deaths_max,
            "a process died while the pipeline's code had this record in hand; it is decided again, with no other one in hand"
        );
    } else {
        tracing::error!(
            topic,
            partition,
            offset,
            deaths,
            "too many processes died while the pipeline's code had this record in hand: it becomes a dead letter"
        );
    }
}

/// The hand of one worker: its record and its suspects.
pub(crate) struct Hand {
    all: Arc<Suspects>,
    mark: Option<Box<dyn Mark>>,
    /// The suspects in front of this worker.
    own: Vec<Suspect>,
}

impl Hand {
    /// The hand of a test that has no note.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Suspects::new(&Topology::new("none"), None, 1).hand(0)
    }

    /// The number of a source.
    pub(crate) fn source(&self, sub_topology: usize, input: usize) -> u32 {
        let first = self.all.firsts.get(sub_topology).copied().unwrap_or(0);
        u32::try_from(first + input).unwrap_or(u32::MAX)
    }

    /// A timer behind a record, or in front of it, as the note has it. Its number in the turn would not do: a turn by the wall
    /// clock in front of a record and the timers behind it begin with the same.
    pub(crate) fn of_timer(record: InHand, timer: &Timer) -> InHand {
        InHand { timer: hash(&timer.by_time()).max(1), ..record }
    }

    /// Runs the pipeline's code over a record, noted; with no other one in hand where the record is a suspect.
    pub(crate) fn hold<T>(&self, at: InHand, run: impl FnOnce() -> T) -> T {
        if self.all.here.load(Ordering::Relaxed) > 0 {
            return self.hold_among_suspects(at, run);
        }
        self.note(at, run)
    }

    #[cold]
    fn hold_among_suspects<T>(&self, at: InHand, run: impl FnOnce() -> T) -> T {
        if self.own.iter().any(|suspect| suspect.at == at) {
            let _alone = self.all.alone.write().unwrap_or_else(PoisonError::into_inner);
            self.note(at, run)
        } else {
            let _shared = self.all.alone.read().unwrap_or_else(PoisonError::into_inner);
            self.note(at, run)
        }
    }

    fn note<T>(&self, at: InHand, run: impl FnOnce() -> T) -> T {
        let Some(mark) = &self.mark else { return run() };
        mark.take_up(at);
        let result = run();
        mark.put_down();
        result
    }

    /// # Errors
    /// The dead letter of a record over which so many processes have died that it is not run again.
    pub(crate) fn check(&self, at: InHand) -> Result<(), Reject> {
        let Some(suspect) = self.own.iter().find(|suspect| suspect.at == at) else { return Ok(()) };
        if suspect.deaths < self.all.deaths_max {
            return Ok(());
        }
        let message = format!("{} processes died while the pipeline's code had this record in hand", suspect.deaths);
        Err(Reject::dead_letter(KILLS, message))
    }

    /// Whether there is any suspect.
    pub(crate) fn has_suspects(&self) -> bool {
        self.all.is_any.load(Ordering::Relaxed)
    }

    /// Looks for suspects in front of this worker's tasks, and forgets those that were decided and that K has passed.
    pub(crate) fn look<'a>(&mut self, tasks: impl Iterator<Item = (&'a TaskId, &'a Task)>) {
        let tasks: Vec<_> = tasks.filter(|(_, task)| task.state().is_deciding()).collect();
        let mut own = Vec::new();
        let mut known = self.all.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|suspect| {
            let at = suspect.at;
            let input = tasks.iter().filter(|(id, _)| id.partition == at.partition).find_map(|(id, task)| {
                let mut inputs = task.inputs.iter().enumerate();
                inputs.find(|(number, _)| self.source(id.sub_topology, *number) == at.source)
            });
            let Some((_, input)) = input else { return true };
            // In a replay K lies ahead of what is decided once more.
            if input.next_offset.is_before(at.offset) || input.published.is_none_or(|k| k.is_before(at.offset)) {
                own.push(*suspect);
                return true;
            }
            if let Some(note) = &self.all.note {
                note.forget(at);
            }
            false
        });
        self.all.is_any.store(!known.is_empty(), Ordering::Relaxed);
        drop(known);
        self.all.here.fetch_add(own.len(), Ordering::Relaxed);
        self.all.here.fetch_sub(self.own.len(), Ordering::Relaxed);
        self.own = own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Offset, Partition};
    use crate::flow::timer::Clock;
    use std::collections::BTreeSet;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn timers_are_told_apart_by_either_clock() {
        let timer = |clock, name: &str| Timer { clock, at: 5, key: b"7".to_vec(), name: name.into() };
        let of = |clock, name: &str| Hand::of_timer(at(7), &timer(clock, name));
        let names = [of(Clock::Event, "a"), of(Clock::Event, "b"), of(Clock::Wall, "a"), at(7)];
        let distinct: BTreeSet<u64> = names.iter().map(|name| name.timer).collect();
        assert_eq!((distinct.len(), of(Clock::Wall, "a")), (4, names[2]));
        assert!(names.iter().all(|name| InHand { timer: 0, ..*name } == at(7)));
        let of_key = |key: u32| Timer { clock: Clock::Event, at: 5, key: key.to_be_bytes().into(), name: "a".into() };
        let many: BTreeSet<u64> = (0..100_000).map(|key| Hand::of_timer(at(7), &of_key(key)).timer).collect();
        assert_eq!(many.len(), 100_000);
    }

    fn at(offset: i64) -> InHand {
        InHand { source: 0, partition: Partition(0), offset: Offset(offset), timer: 0 }
    }

    /// Two workers of a process in which one record, at offset 7, is suspected and in front of the first.
    fn two_hands() -> (Hand, Hand) {
        let all = Suspects::new(&Topology::new("none"), None, 3);
        let (mut one, other) = (all.hand(0), all.hand(1));
        one.own.push(Suspect { at: at(7), deaths: 1 });
        all.here.store(1, Ordering::Relaxed);
        (one, other)
    }

    /// Otherwise a slow record that is innocent would be blamed each time that the other one kills.
    #[test]
    fn a_suspect_is_decided_while_no_other_worker_has_a_record_in_hand() {
        let (one, other) = two_hands();
        let (said, heard) = channel();
        let (go, went) = channel::<()>();
        std::thread::scope(|scope| {
            let tell = said.clone();
            scope.spawn(move || {
                other.hold(at(1), || {
                    tell.send("innocent begins").unwrap();
                    went.recv().unwrap();
                    tell.send("innocent ends").unwrap();
                });
            });
            assert_eq!(heard.recv().unwrap(), "innocent begins");
            scope.spawn(move || one.hold(at(7), || said.send("suspect").unwrap()));
            assert!(heard.recv_timeout(Duration::from_millis(200)).is_err(), "the suspect waits");
            go.send(()).unwrap();
            assert_eq!([heard.recv().unwrap(), heard.recv().unwrap()], ["innocent ends", "suspect"]);
        });
    }

    #[test]
    fn records_that_nobody_suspects_are_decided_side_by_side() {
        let (one, other) = two_hands();
        let (said, heard) = channel();
        std::thread::scope(|scope| {
            let held = scope.spawn(move || one.hold(at(8), || heard.recv_timeout(Duration::from_secs(10))));
            other.hold(at(9), || said.send(()).unwrap());
            assert!(held.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_record_over_which_enough_processes_died_is_refused_and_no_other_one() {
        let (mut one, other) = two_hands();
        assert!(one.check(at(7)).is_ok(), "once is chance");
        one.own[0].deaths = 3;
        assert_eq!(one.check(at(7)).unwrap_err().code(), "kills-the-process");
        assert!(one.check(at(8)).is_ok() && other.check(at(7)).is_ok());
    }
}
