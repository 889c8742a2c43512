//! The checkpoint, and clearing, which takes it along.

use super::*;

pub fn a_store_that_was_never_written_has_no_checkpoint(bench: &dyn StoreBench) {
    let stores = bench.start();
    write(&mut *stores.open(&id("a", 1)).unwrap(), &[], 7);
    let store = stores.open(&id("a", 0)).unwrap();
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(contents(&*store), []);
}

pub fn the_checkpoint_comes_with_the_data(bench: &dyn StoreBench) {
    let mut store = bench.start().open(&id("a", 0)).unwrap();
    for number in 1..=50 {
        let value = number.to_string();
        store.write(&[(b"k", Some(value.as_bytes()))], &checkpoint(number)).unwrap();
        assert_eq!(store.checkpoint().unwrap(), Some(checkpoint(number)));
        assert_eq!(get(&*store, b"k"), Some(value.into_bytes()));
    }
    store.write(&[], &checkpoint(99)).unwrap();
    assert_eq!(next_offset(&*store), Some(99), "a checkpoint may come alone");
    assert_eq!(get(&*store, b"k").as_deref(), Some(&b"50"[..]));
    assert_eq!(contents(&*store).len(), 1, "it is no value");
}

pub fn clear_empties_its_own_store_and_no_other(bench: &dyn StoreBench) {
    let stores = bench.start();
    let ids = every_id();
    for cleared in &ids {
        for id in &ids {
            write(&mut *stores.open(id).unwrap(), &[(b"", Some(b"x")), (&[0xff; 40], Some(b"y"))], 5);
        }
        stores.open(cleared).unwrap().clear().unwrap();
        for id in &ids {
            let store = stores.open(id).unwrap();
            let wanted = if id == cleared { (0, None) } else { (2, Some(5)) };
            assert_eq!((contents(&*store).len(), next_offset(&*store)), wanted, "{id} after {cleared} was cleared");
        }
    }
}

pub fn a_cleared_store_takes_writes(bench: &dyn StoreBench) {
    {
        let mut store = bench.start().open(&id("a", 0)).unwrap();
        write(&mut *store, &[(b"k1", Some(b"old")), (b"k2", Some(b"old"))], 5);
        store.clear().unwrap();
        store.clear().unwrap();
        write(&mut *store, &[(b"k1", Some(b"new"))], 1);
        assert_eq!(contents(&*store), [(b"k1".to_vec(), b"new".to_vec())]);
    }
    let store = bench.start().open(&id("a", 0)).unwrap();
    assert_eq!(contents(&*store), [(b"k1".to_vec(), b"new".to_vec())]);
    assert_eq!(next_offset(&*store), Some(1));
}
