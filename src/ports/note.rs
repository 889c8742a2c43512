//! A note of the records that a process has in hand, kept where it outlives the process. It shows the next process over
//! which record its predecessor died.
//!
//! A panic is caught; a recursion without end, an `abort` and the kill of a process that took too much memory are not.
//! The process that takes the records over has the same one in hand next, and dies as well. Counting those deaths is the
//! only way to distinguish such a record from an innocent one that was in hand when somebody killed the process.

use crate::flow::record::{Offset, Partition};

/// Most records that are suspected at a time; the latest.
pub const SUSPECTS_MAX: usize = 64;

/// A record that a worker runs the pipeline's code over, or a timer that fires behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InHand {
    /// Its topic, by its number among all sources of the pipeline.
    pub source: u32,
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// 0 for the record itself; a hash of the timer, the same in each process, for a timer behind it.
    pub timer: u64,
}

/// A record that was in hand when processes died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspect {
    /// The record.
    pub at: InHand,
    /// The number of processes that died over it.
    pub deaths: u32,
}

/// The part of the note that one worker writes. Called for every record: it allocates nothing, waits for nothing and cannot
/// fail.
pub trait Mark: Send {
    /// The pipeline's code is about to be run over a record.
    fn take_up(&self, at: InHand);

    /// The code has come back.
    fn put_down(&self);
}

/// The note of one process.
pub trait Note: Send + Sync {
    /// The records over which processes died that left their notes in the same place, this one's last word on them
    /// included; the latest last.
    fn suspects(&self) -> Vec<Suspect>;

    /// The place of one worker, by its number.
    fn mark(&self, worker: usize) -> Box<dyn Mark>;

    /// A suspect was decided: nobody needs to know of it any more.
    fn forget(&self, at: InHand);

    /// The process ends of its own accord, so no record is to blame for it.
    fn end(&self);
}

/// Counts deaths over a record. The one that was blamed longest ago is dropped where there are too many.
pub fn blame(suspects: &mut Vec<Suspect>, at: InHand, deaths: u32) {
    let before = suspects.iter().position(|suspect| suspect.at == at).map(|place| suspects.remove(place).deaths);
    suspects.push(Suspect { at, deaths: before.unwrap_or(0).saturating_add(deaths) });
    let surplus = suspects.len().saturating_sub(SUSPECTS_MAX);
    suspects.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_add_up_and_the_latest_suspects_are_kept() {
        let at = |offset| InHand { source: 0, partition: Partition(1), offset: Offset(offset), timer: 0 };
        let mut suspects = Vec::new();
        (0..70).for_each(|offset| blame(&mut suspects, at(offset), 1));
        blame(&mut suspects, at(10), 2);
        assert_eq!(suspects.len(), SUSPECTS_MAX);
        assert_eq!((suspects[0].at, suspects[63]), (at(6), Suspect { at: at(10), deaths: 3 }));
    }
}
