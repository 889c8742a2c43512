//! The wrong set-ups that need no server, each given to the binary.

use crate::wrong::{Alone, failures, without_servers};

#[test]
fn each_wrong_set_up_is_told_in_its_words_with_its_exit_code() {
    let folder = std::env::temp_dir().join(format!("tidegate-setups-{}", std::process::id()));
    let ground = Alone { binary: env!("CARGO_BIN_EXE_tidegate").into(), folder };
    let rows = without_servers();
    let failures = failures(&ground, &rows);
    let _ = std::fs::remove_dir_all(&ground.folder);
    assert!(failures.is_empty(), "{} of {} set-ups:\n\n{}", failures.len(), rows.len(), failures.join("\n\n"));
    println!("{} wrong set-ups, each told in its words", rows.len());
    assert!(rows.len() >= 60);
    assert!(rows.iter().filter(|row| row.said.findings() >= 3).count() >= 3, "all findings at once");
}
