//! What becomes of a command whose output nobody reads, or cannot be written.

use crate::cli::command;
use std::fs::OpenOptions;
use std::process::{Command, Stdio};

/// A pipe that nobody reads from.
fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Servers that are not there, and every line of the log.
const DEAD: [(&str, &str); 3] = [
    ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ("TIDEGATE_DATABASE__URL", "postgres://u:p@127.0.0.1:1/db"),
    ("TIDEGATE_LOG", "debug"),
];

fn code(command: &mut Command) -> Option<i32> {
    command.status().unwrap().code()
}

#[test]
fn a_reader_that_goes_away_changes_no_exit_code() {
    let cases: [(&[&str], i32); 11] = [
        (&["describe"], 0),
        (&["describe", "-o", "json"], 0),
        (&["config", "show"], 0),
        (&["config", "show", "-o", "yaml"], 0),
        (&["config", "validate"], 78),
        (&["topics", "validate"], 0),
        (&["topics", "validate", "-o", "json"], 0),
        (&["topics", "validate", "--dir", "src"], 1),
        (&["topics", "validate", "--dir", "src", "-o", "json"], 1),
        (&["--help"], 0),
        (&["destroy"], 2),
    ];
    for (arguments, expected) in cases {
        assert_eq!(code(command(arguments, &[]).stdout(nobody())), Some(expected), "{arguments:?} | true");
        let mut silent = command(arguments, &[]);
        assert_eq!(code(silent.stdout(nobody()).stderr(nobody())), Some(expected), "{arguments:?} 2>&1 | true");
    }
}

#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn a_log_that_nobody_reads_ends_no_command() {
    for arguments in [&["migrate"][..], &["run"], &["audit"]] {
        let mut silent = command(arguments, &DEAD);
        assert_eq!(code(silent.stdout(nobody()).stderr(nobody())), Some(1), "{arguments:?} 2>&1 | true");
    }
}

#[test]
fn output_that_cannot_be_written_is_told_with_an_exit_code_of_failure() {
    for arguments in [&["describe"][..], &["topics", "validate", "--dir", "src"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command(arguments, &[]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("output: No space left on device"), "{told}");
    }
}
