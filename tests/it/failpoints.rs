//! The crash points and the switches of the guards are in the test build and nowhere else.

/// The name of the points in code, and the variables that arm them and switch guards off.
const TRACES: [&str; 3] = ["failpoint", "FAILPOINT", "GUARD_OFF"];

#[test]
fn a_binary_holds_no_trace_of_failpoints_unless_it_is_built_for_tests() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_tidegate")).unwrap();
    for trace in TRACES {
        let is_there = binary.windows(trace.len()).any(|window| window == trace.as_bytes());
        assert_eq!(is_there, cfg!(feature = "failpoints"), "{trace}");
    }
}
