#!/usr/bin/env bash
# One job: the suites on real Kafka, PostgreSQL and Chromium that need no further feature. Built first (build), and then run (run) without
# cargo, which would wait for whoever builds something else meanwhile: most of these tests wait, and leave a core free.
# Never: replaces a program while they run; what TARGET builds must not be put where `build` has put the examples.
#
# plain.sh build           the suites, and the examples that they run
# plain.sh run [TARGET]    what was built; beside the system tests that target of the Makefile, at the lowest priority: both have to
#                          succeed
set -euo pipefail
cd "$(dirname "$0")/.."

suites=(conformance kafka postgres browser system)
target=${CARGO_TARGET_DIR:-target}
# Checkouts may share the folder.
built=$target/plain-suites-$(pwd | cksum | cut -d ' ' -f 1)

case ${1:-} in
  build)
    cargo build --locked --example load --example oracle --example usage
    cargo test --locked --no-run "${suites[@]/#/--test=}" --message-format json-render-diagnostics >"$built.json"
    # A line for each: its name and its file.
    sed -n 's/.*"kind":\["test"\].*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' "$built.json" >"$built"
    ;;
  run)
    beside=
    lines=$(<"$built")
    for suite in "${suites[@]}"; do
      binary=$(sed -n "s/^$suite //p" <<<"$lines")
      [[ -n $binary ]] || { echo "plain.sh: $suite is not built" >&2; exit 66; }
      echo "     Running $suite ($binary)" >&2
      threads=()
      # They wait for half of their time, and none of them judges times.
      [[ $suite != conformance ]] || threads=(--test-threads 4)
      if [[ $suite == system ]]; then
        # Their worlds keep to a room of their own, see tests/system/rig/world.rs.
        threads=(--test-threads 12)
        # Not sooner: `kafka::speed` judges times.
        if [[ -n ${2:-} ]]; then
          nice -n 19 make --no-print-directory "$2" &
          beside=$!
          trap 'kill "$beside" 2>/dev/null || true' EXIT
        fi
      fi
      SYSTEM_TESTS=1 TIDEGATE_CHAOS_SECONDS=${TIDEGATE_CHAOS_SECONDS:-60} "$binary" "${threads[@]}"
    done
    [[ -z $beside ]] || wait "$beside"
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
