//! Golden scripts: `tests/scripts/*.txt`, each a behaviour. `UPDATE_GOLDEN=1` writes the outputs as they are.

use crate::pipeline::topology;
use tidegate::testing::{TestDriver, run_script};

#[test]
fn every_golden_script_prints_what_it_printed_before() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "the scripts are gone");
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let mut driver = TestDriver::new(topology()).partitions(2).instances(2);
        let now = run_script(&mut driver, &script);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        assert_eq!(now, script, "{}", path.display());
    }
}
