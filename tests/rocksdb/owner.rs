//! One folder, one process.

use crate::child::Process;
use crate::history::write;
use crate::{Folder, open, settings, store};
use std::os::unix::fs::PermissionsExt;
use tidegate::adapters::rocksdb::RocksStores;
use tidegate::ports::Fault;

#[test]
fn a_second_process_is_refused_with_a_sentence() {
    let folder = Folder::new();
    let mut holder = Process::start("holds", &folder.state());
    holder.next().expect("the child opens the folder");
    let refused = RocksStores::open(&settings(&folder.state())).unwrap_err();
    assert!(matches!(refused, Fault::Fatal(_)), "{refused}");
    let sentence = refused.to_string();
    for part in [folder.state().to_str().unwrap(), &format!("process {}", holder.id()), "state.dir"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    holder.kill();
    open(&folder.state());
}

#[test]
fn a_second_database_in_the_process_is_refused_until_the_first_is_closed() {
    let folder = Folder::new();
    let stores = open(&folder.state());
    let first = store(&stores, "a", 0);
    drop(stores);
    let refused = RocksStores::open(&settings(&folder.state())).unwrap_err();
    assert!(matches!(refused, Fault::Fatal(_)), "an open store keeps the database: {refused}");
    drop(first);
    open(&folder.state());
}

#[test]
fn nobody_else_looks_into_the_folder() {
    let folder = Folder::new();
    let state = folder.0.join("made/on/the/way");
    let stores = open(&state);
    write(&mut *store(&stores, "a", 0), 1).unwrap();
    for path in [state.as_path(), state.parent().unwrap()] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.state(), "a file").unwrap();
    let refused = RocksStores::open(&settings(&folder.state())).unwrap_err();
    assert!(matches!(refused, Fault::Fatal(_)), "{refused}");
    assert!(refused.to_string().contains(folder.state().to_str().unwrap()), "{refused}");
}
