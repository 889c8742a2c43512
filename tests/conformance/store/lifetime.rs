//! Opening, sharing and restarting.

use super::*;

pub fn a_store_is_open_once_at_a_time(bench: &dyn StoreBench) {
    let stores = bench.start();
    let first = stores.open(&id("a", 0)).unwrap();
    let refused = stores.open(&id("a", 0)).err().unwrap();
    assert!(refused.is_retry(), "{refused}");
    assert!(refused.to_string().contains("a-0"), "{refused}");
    let _others = [stores.open(&id("a", 1)).unwrap(), stores.open(&id("ab", 0)).unwrap()];
    assert!(stores.open(&id("a", 0)).is_err(), "a refused attempt takes nothing away");
    drop(first);
    stores.open(&id("a", 0)).unwrap();
}

pub fn stores_are_written_from_many_threads(bench: &dyn StoreBench) {
    let stores = bench.start();
    std::thread::scope(|scope| {
        for partition in 0..4 {
            let mut store = stores.open(&id("a", partition)).unwrap();
            scope.spawn(move || {
                for number in 1..=100_i64 {
                    store.write(&[(b"k", Some(&number.to_be_bytes()))], &checkpoint(number)).unwrap();
                    assert_eq!(get(&*store, b"k").unwrap(), number.to_be_bytes());
                }
            });
        }
    });
    for partition in 0..4 {
        assert_eq!(next_offset(&*stores.open(&id("a", partition)).unwrap()), Some(100));
    }
}

pub fn what_was_written_is_there_after_a_restart(bench: &dyn StoreBench) {
    let ids = every_id();
    for round in 1..=3 {
        let stores = bench.start();
        for id in &ids {
            let mut store = stores.open(id).unwrap();
            let before = (round > 1).then_some(round - 1);
            assert_eq!(store.checkpoint().unwrap(), before.map(checkpoint), "{id}");
            assert_eq!(contents(&*store).len() as i64, round - 1, "{id}");
            let key = round.to_be_bytes();
            write(&mut *store, &[(&key, Some(id.name.as_bytes()))], round);
        }
    }
    let stores = bench.start();
    for id in &ids {
        let wanted = (1..=3_i64).map(|round| (round.to_be_bytes().to_vec(), id.name.as_bytes().to_vec()));
        assert_eq!(contents(&*stores.open(id).unwrap()), wanted.collect::<Entries>(), "{id}");
    }
}
