//! Locks: which transaction waits for which.

use super::*;

pub fn rows_are_locked_until_the_end(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut first = scene.owner();
    assert!(first.create(&scene.claim(1, 1), NextOffset(0)).unwrap());
    first.begin().unwrap();
    first.advance(&[scene.moved(1, 0, 1)]).unwrap();
    first.read(0, &ids(&[1])).unwrap();
    first.write(0, &[write(1, 0, 11.0)]).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut second = scene.connect();
            second.begin().unwrap();
            let moved = Move { source: scene.place(1), ..scene.moved(1, 0, 1) };
            assert_eq!(second.advance(&[moved]).unwrap(), [true]);
            let found = second.read(0, &ids(&[1])).unwrap();
            second.write(0, &[write(1, found[0].version, 20.0)]).unwrap();
            second.commit().unwrap();
            found[0].version
        });
        std::thread::sleep(bench.lock_wait() / 10);
        first.commit().unwrap();
        assert_eq!(second.join().unwrap(), 1, "the second read waited for the first write");
    });
    assert_eq!(scene.score(1), (2, Value::F64(20.0)), "no update was lost");
}

pub fn a_claim_waits_for_the_zombie_in_flight(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut zombie = scene.owner();
    zombie.begin().unwrap();
    assert_eq!(zombie.advance(&[scene.moved(1, 0, 1)]).unwrap(), [true]);
    std::thread::scope(|scope| {
        // It may give up for a while, as its worker has other partitions, but passes at no time.
        let claim = scope.spawn(|| {
            let mut successor = scene.connect();
            loop {
                match successor.claim(&[scene.claim(0, 2)]) {
                    Ok(claimed) => return owned(&claimed),
                    Err(fault) => assert!(fault.is_lock_wait(), "{fault}"),
                }
            }
        });
        std::thread::sleep(bench.lock_wait() / 10);
        assert_eq!(zombie.commit().unwrap(), CommitAnswer::Done);
        assert_eq!(claim.join().unwrap(), (2, 1), "D is what the zombie left, and moves no more under its epoch");
    });
}

pub fn unknown_commit_is_settled(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    step(&scene, &mut *rows, &scene.moved(1, 0, 3), 11.0);
    assert!(rows.settle(&scene.moved(1, 0, 3)).unwrap(), "it was committed");
    assert!(!rows.settle(&scene.moved(1, 3, 4)).unwrap(), "it was not and never will be");
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 3, 4)]).unwrap();
    let pending = scene.moved(1, 3, 4);
    std::thread::scope(|scope| {
        let settled = scope.spawn(|| scene.connect().settle(&pending).unwrap());
        std::thread::sleep(bench.lock_wait() / 10);
        rows.commit().unwrap();
        assert!(settled.join().unwrap(), "it waits for a COMMIT that is still in flight");
    });
    let mut successor = scene.connect();
    successor.claim(&[scene.claim(0, 2)]).unwrap();
    assert!(!rows.settle(&scene.moved(1, 3, 4)).unwrap(), "somebody else has claimed the position since");
}
