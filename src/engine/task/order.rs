//! The order in which a task takes the records of its inputs: by event time, a table's first where times are equal, so that
//! a stream sees what was written to the table in the same millisecond.
//!
//! The record of an input is not taken before those of another one are at hand that may be earlier, as far as they lay at the
//! broker when delivery began ([`Backlog`](crate::engine::task::Backlog)): a replay decides as the live run did, whichever topic is fetched faster. A
//! stream whose next record is to be offered again later is left out meanwhile. A table in that place holds the others back. In a
//! step in which records may come too late for the clock of their task, a stream holds the other streams back: they would move it,
//! and what waits would be late by no fault of its own. A table goes on there: what is waited for may be its record.

use crate::engine::task::Input;
use std::time::Duration;

/// The place of an input's next record among those of the others.
type Place = (i64, bool, usize);

fn place_of(number: usize, input: &Input, timestamp: i64) -> Place {
    (timestamp, !input.is_table, number)
}

/// Whether an input takes part in the order at `now`.
fn takes_part(input: &Input, now: Duration) -> bool {
    input.is_table || input.is_free(now)
}

/// The place of the first stream record that waits and holds the streams behind it back.
fn barrier(inputs: &[Input], now: Duration) -> Option<Place> {
    let waits = |(_, input): &(usize, &Input)| input.holds_streams && !input.is_free(now);
    let waiting = inputs.iter().enumerate().filter(waits);
    waiting.filter_map(|(number, input)| Some(place_of(number, input, input.first()?.timestamp.0))).min()
}

/// Whether an input's next record, at this place, is held back.
fn is_held(input: &Input, place: Place, barrier: Option<Place>) -> bool {
    !input.is_table && barrier.is_some_and(|barrier| barrier < place)
}

/// The input whose next record is taken next; none where there is no record, or where it has to wait.
pub(crate) fn next_of(inputs: &[Input], now: Duration) -> Option<usize> {
    if let [input] = inputs {
        return (input.queued() > 0 && input.is_free(now)).then_some(0);
    }
    if inputs.iter().any(Input::is_awaited) {
        return None;
    }
    let barrier = barrier(inputs, now);
    let there = inputs.iter().enumerate().filter(|(_, input)| takes_part(input, now));
    let places = there.filter_map(|(number, input)| {
        let place = place_of(number, input, input.first()?.timestamp.0);
        (!is_held(input, place, barrier)).then_some(place)
    });
    places.min().map(|(.., number)| number).filter(|number| inputs.get(*number).is_some_and(|input| input.is_free(now)))
}

/// The numbers of records that each input has among the first `most` in order, with at most `bytes` of keys and values
/// together, but one record at least; where one has to wait, up to it.
pub(crate) fn first_of(inputs: &[Input], now: Duration, most: usize, bytes: usize) -> Vec<usize> {
    if let [input] = inputs {
        return vec![if input.is_free(now) { input.fitting(input.queued().min(most), bytes) } else { 0 }];
    }
    let mut counts = vec![0; inputs.len()];
    if inputs.iter().any(Input::is_awaited) {
        return counts;
    }
    let barrier = barrier(inputs, now);
    let there = inputs.iter().enumerate().filter(|(_, input)| takes_part(input, now));
    let mut heads: Vec<_> = there.map(|(number, input)| (number, input, input.records(most).peekable())).collect();
    let (mut taken, mut left) = (0, bytes);
    while taken < most {
        let places = heads.iter_mut().enumerate().filter_map(|(index, (number, input, records))| {
            let place = place_of(*number, input, records.peek()?.timestamp.0);
            (!is_held(input, place, barrier)).then_some((place, index))
        });
        let next = places.min();
        let Some((number, input, records)) = next.and_then(|(_, index)| heads.get_mut(index)) else { break };
        let Some(record) = records.next().filter(|_| input.is_free(now)) else { break };
        if record.bytes() > left && taken > 0 {
            break;
        }
        left = left.saturating_sub(record.bytes());
        taken += 1;
        if let Some(count) = counts.get_mut(*number) {
            *count += 1;
        }
        if records.peek().is_none() && input.lies_further() {
            break;
        }
    }
    counts
}

/// The order of the records of several inputs, each with whether it is a table and the event times of its records: the
/// numbers of the inputs.
pub(crate) fn merged(inputs: &[(bool, Vec<i64>)]) -> Vec<usize> {
    let mut next = vec![0; inputs.len()];
    let mut order = Vec::with_capacity(inputs.iter().map(|(_, times)| times.len()).sum());
    loop {
        let places = inputs.iter().zip(&next).enumerate();
        let first =
            places.filter_map(|(number, ((is_table, times), next))| Some((*times.get(*next)?, !is_table, number)));
        let Some((.., number)) = first.min() else { return order };
        order.push(number);
        if let Some(next) = next.get_mut(number) {
            *next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::task::Backlog;
    use crate::flow::record::{Chunk, NextOffset, Offset, Partition, Record, Timestamp, TopicName, TopicPartition};
    use std::sync::Arc;

    /// An input with one record a time, from offset 0 on.
    fn input(is_table: bool, times: &[i64]) -> Input {
        let source = TopicPartition::new(TopicName::parse("t").unwrap(), Partition(0));
        let (mut input, mut chunk) = (Input::new(source, is_table, Arc::default()), Chunk::default());
        for (offset, at) in (0..).zip(times) {
            let (offset, timestamp) = (Offset(offset), Timestamp(*at));
            chunk.push(&Record { offset, timestamp, key: Some(b"1"), value: Some(b"23"), headers: &[] });
        }
        input.push(chunk, Duration::ZERO);
        input
    }

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn the_earliest_comes_first_and_the_tables_where_they_are_equal() {
        let inputs = [input(false, &[1, 5, 5]), input(true, &[2, 5, 9]), input(false, &[0])];
        assert_eq!(next_of(&inputs, NOW), Some(2));
        let of = |most| first_of(&inputs, NOW, most, usize::MAX);
        assert_eq!([of(0), of(1), of(3), of(4)], [[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 2, 1]]);
        assert_eq!(of(100), [3, 3, 1]);
        assert_eq!(first_of(&inputs, NOW, 100, 8), [1, 0, 1], "three bytes each");
        assert_eq!(first_of(&inputs, NOW, 100, 1), [0, 0, 1], "one at least");
        let order = merged(&[(false, vec![1, 5, 5]), (true, vec![2, 5, 9]), (false, vec![0])]);
        assert_eq!(order, [2, 0, 1, 1, 0, 0, 1]);
    }

    /// A late record stays where its partition has it, and so do those behind it.
    #[test]
    fn no_partition_is_taken_out_of_its_own_order() {
        assert_eq!(merged(&[(false, vec![9, 1, 2]), (true, vec![3, 10])]), [1, 0, 0, 0, 1]);
        assert_eq!(first_of(&[input(false, &[9, 1, 2]), input(true, &[3, 10])], NOW, 4, usize::MAX), [3, 1]);
    }

    #[test]
    fn what_lies_at_the_broker_is_waited_for() {
        let mut inputs = [input(false, &[1, 5]), input(true, &[2])];
        let backlog = |end| Some(Backlog { end: NextOffset(end), asked: 1, awaited_since: None });
        inputs[1].backlog = backlog(2);
        assert_eq!(first_of(&inputs, NOW, 100, usize::MAX), [1, 1], "its next record may be earlier than 5");
        inputs[1].consume(1);
        inputs[1].next_offset = NextOffset(1);
        assert_eq!((next_of(&inputs, NOW), first_of(&inputs, NOW, 100, usize::MAX)), (None, vec![0, 0]));
        inputs[1].backlog = backlog(1);
        assert_eq!(next_of(&inputs, NOW), Some(0), "all of it was there");
        inputs[1].backlog = backlog(2);
        inputs[1].seen_to = NextOffset(2);
        assert_eq!(next_of(&inputs, NOW), Some(0), "what is left is the end of a transaction");
    }

    #[test]
    fn a_stream_that_waits_is_left_out_and_a_table_that_waits_holds_the_others_back() {
        let mut inputs = [input(false, &[1]), input(false, &[2]), input(true, &[3])];
        inputs[0].blocked_until = NOW * 2;
        assert_eq!((next_of(&inputs, NOW), first_of(&inputs, NOW, 9, usize::MAX)), (Some(1), vec![0, 1, 1]));
        inputs[2].blocked_until = NOW * 2;
        assert_eq!(first_of(&inputs, NOW, 9, usize::MAX), [0, 1, 0]);
        inputs[1].consume(1);
        assert_eq!((next_of(&inputs, NOW), first_of(&inputs, NOW, 9, usize::MAX)), (None, vec![0; 3]));
        assert_eq!(next_of(&inputs, NOW * 2), Some(0));
    }

    #[test]
    fn a_stream_that_waits_holds_the_others_back_where_they_would_make_it_late() {
        let mut inputs = [input(false, &[2]), input(false, &[1, 3]), input(true, &[4])];
        for input in &mut inputs {
            input.holds_streams = !input.is_table;
        }
        inputs[0].blocked_until = NOW * 2;
        assert_eq!(first_of(&inputs, NOW, 9, usize::MAX), [0, 1, 1], "what comes before it, and a table");
        inputs[1].consume(1);
        assert_eq!(next_of(&inputs, NOW), Some(2));
        inputs[2].consume(1);
        assert_eq!((next_of(&inputs, NOW), first_of(&inputs, NOW, 9, usize::MAX)), (None, vec![0, 0, 0]));
        assert_eq!(next_of(&inputs, NOW * 2), Some(0));
    }
}
