//! The crash points are in the test build and nowhere else.

/// What they are called in code, and the variable that arms them.
const TRACES: [&str; 2] = ["failpoint", "FAILPOINT"];

#[test]
fn a_binary_holds_no_trace_of_crash_points_unless_it_is_built_for_tests() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_tidegate")).unwrap();
    for trace in TRACES {
        let is_there = binary.windows(trace.len()).any(|window| window == trace.as_bytes());
        assert_eq!(is_there, cfg!(feature = "failpoints"), "{trace}");
    }
}
