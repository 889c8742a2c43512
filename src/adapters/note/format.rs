//! The content of a note's file, in words of this machine: a head, the suspects, the record that each worker has in hand,
//! and the names of the sources as text.

use crate::flow::record::{Offset, Partition, TopicName};
use crate::ports::note::{InHand, SUSPECTS_MAX, Suspect, blame};

/// `tidenote`, and the version of the format behind it. Read on a machine of another byte order it is another number.
const MAGIC: u64 = u64::from_be_bytes(*b"tideno02");
/// Most workers of a process that can note something; the settings allow no more.
pub(super) const WORKERS: usize = 64;
const WORD: usize = size_of::<u64>();
/// Words of the head: the magic number, and how many bytes the names have.
const HEAD: usize = 8;
const SUSPECT: usize = 5;
/// Words of a worker: a line of the processor's cache, so that two workers never wait for each other.
const WORKER: usize = 8;
const WORKERS_AT: usize = HEAD + SUSPECTS_MAX * SUSPECT;
const NAMES_AT: usize = WORKERS_AT + WORKERS * WORKER;

/// The words of a suspect: how many deaths, its source, its partition, its offset, its timer. No deaths: no suspect.
pub(super) const fn suspect_at(number: usize) -> usize {
    HEAD + number * SUSPECT
}

/// The words of a worker: the number of the source plus one, the partition, the offset, the timer. 0 first: nothing is in hand.
pub(super) const fn worker_at(number: usize) -> usize {
    WORKERS_AT + number * WORKER
}

/// A partition or an offset as a word.
pub(super) fn word_of(number: impl Into<i64>) -> u64 {
    number.into().cast_unsigned()
}

/// A note in which nothing is in hand yet.
pub(super) fn blank(sources: &[TopicName], suspects: &[Suspect]) -> Vec<u8> {
    let names: String = sources.iter().flat_map(|source| [source.as_str(), "\n"]).collect();
    let mut words = vec![0; NAMES_AT];
    let mut put = |number: usize, word: u64| {
        if let Some(place) = words.get_mut(number) {
            *place = word;
        }
    };
    put(0, MAGIC);
    put(1, names.len() as u64);
    for (number, Suspect { at, deaths }) in suspects.iter().take(SUSPECTS_MAX).enumerate() {
        let of = [u64::from(*deaths), u64::from(at.source), word_of(at.partition.0), word_of(at.offset.0), at.timer];
        (suspect_at(number)..).zip(of).for_each(|(place, word)| put(place, word));
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
    bytes.extend(names.bytes());
    bytes
}

/// The suspects of a dead process, including its records in hand. Suspects of topics that are no sources any more are left
/// out.
///
/// # Errors
/// Why it cannot be a whole note.
pub(super) fn read(bytes: &[u8], sources: &[TopicName]) -> Result<Vec<Suspect>, String> {
    let words: Vec<u64> = bytes.as_chunks::<WORD>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let word = |number: usize| words.get(number).copied().unwrap_or(0);
    if word(0) != MAGIC {
        return Err("it does not begin as a note does".into());
    }
    let names = bytes.get(NAMES_AT * WORD..).filter(|names| names.len() as u64 == word(1));
    let names = names.and_then(|names| std::str::from_utf8(names).ok()).ok_or("it is cut, or has been written over")?;
    // By the numbers that they have here.
    let own: Vec<Option<u32>> = names.lines().map(|name| number_of(name, sources)).collect();
    let mut suspects = Vec::new();
    let mut add = |deaths: u64, source: u64, place: usize| -> Result<(), String> {
        let numbers = usize::try_from(source).ok().and_then(|source| own.get(source));
        let deaths = u32::try_from(deaths).ok().zip(numbers);
        let partition = i32::try_from(word(place).cast_signed()).ok().filter(|partition| *partition >= 0);
        let offset = Some(word(place + 1).cast_signed()).filter(|offset| *offset >= 0);
        let (Some((deaths, source)), Some(partition), Some(offset)) = (deaths, partition, offset) else {
            return Err("it tells of a record that cannot be".into());
        };
        if let Some(source) = *source {
            let at = InHand { source, partition: Partition(partition), offset: Offset(offset), timer: word(place + 2) };
            blame(&mut suspects, at, deaths);
        }
        Ok(())
    };
    for place in (0..SUSPECTS_MAX).map(suspect_at).filter(|place| word(*place) > 0) {
        add(word(place), word(place + 1), place + 2)?;
    }
    for place in (0..WORKERS).map(worker_at).filter(|place| word(*place) > 0) {
        add(1, word(place) - 1, place + 1)?;
    }
    Ok(suspects)
}

fn number_of(name: &str, sources: &[TopicName]) -> Option<u32> {
    sources.iter().position(|source| source.as_str() == name).and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(names: &[&str]) -> Vec<TopicName> {
        names.iter().map(|name| TopicName::parse(name).unwrap()).collect()
    }

    fn at(source: u32, offset: i64) -> InHand {
        InHand { source, partition: Partition(3), offset: Offset(offset), timer: offset.cast_unsigned() << 40 }
    }

    fn with(mut bytes: Vec<u8>, place: usize, word: u64) -> Vec<u8> {
        bytes[place * WORD..][..WORD].copy_from_slice(&word.to_ne_bytes());
        bytes
    }

    #[test]
    fn what_was_in_hand_is_a_suspect_and_known_ones_stay_so_whatever_numbers_their_topics_have_now() {
        let known = [Suspect { at: at(0, 7), deaths: 2 }, Suspect { at: at(1, 8), deaths: 1 }];
        let mut bytes = blank(&sources(&["a", "b"]), &known);
        assert_eq!(read(&bytes, &sources(&["a", "b"])).unwrap(), known);
        for (place, word) in (worker_at(1)..).zip([1, 3, 7, 7 << 40]) {
            bytes = with(bytes, place, word);
        }
        let found = read(&bytes, &sources(&["b", "c", "a"])).unwrap();
        assert_eq!(found, [Suspect { at: at(0, 8), deaths: 1 }, Suspect { at: at(2, 7), deaths: 3 }]);
        assert_eq!(read(&bytes, &sources(&["b"])).unwrap(), [Suspect { at: at(0, 8), deaths: 1 }]);
    }

    #[test]
    fn a_file_that_is_no_whole_note_is_refused_and_no_number_in_it_does_harm() {
        let names = sources(&["a"]);
        let whole = blank(&names, &[]);
        assert!(read(b"", &names).is_err() && read(b"hello", &names).is_err());
        for length in 0..whole.len() {
            assert!(read(&whole[..length], &names).is_err(), "cut at {length}");
        }
        for word in [1, 2, u64::from(u32::MAX) + 1, u64::MAX] {
            for place in 1..NAMES_AT {
                let _ = read(&with(whole.clone(), place, word), &names);
            }
            assert!(read(&with(whole.clone(), worker_at(0), word.max(2)), &names).is_err());
            assert!(read(&with(whole.clone(), 1, word + u64::from(word == 2)), &names).is_err() || word == u64::MAX);
        }
        let negative = with(with(whole, worker_at(0), 1), worker_at(0) + 1, u64::MAX);
        assert!(read(&negative, &names).is_err());
    }
}
