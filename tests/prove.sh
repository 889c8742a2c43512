#!/usr/bin/env bash
# One job: run a part of the long run on real servers, add what it shows to docs/proof, and make docs/proof.md anew.
#
# prove.sh kills|pauses|doubles|leaving|brokers|database|obstacles|network|late|mix|protocol|guards|drawn
#
# TIDEGATE_PROVE_MINUTES: no cell is begun after so many minutes (35); what is missing is run by the next call.
# TIDEGATE_PROVE_ROUNDS: how often each cell is to have been run, earlier calls included (each part has its own number).
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-}
# filters: which tests; rounds: what makes the numbers that the page wants
case $part in
  kills) rounds=4 filters=(matrix::points::a_kill_at_each_crash_point_loses matrix::migrations:: state::a_kill) ;;
  pauses) rounds=2 filters=(matrix::points::a_pause) ;;
  doubles) rounds=8 filters=(matrix::doubles::) ;;
  leaving) rounds=5 filters=(matrix::leaving::) ;;
  brokers) rounds=3 filters=(matrix::brokers::) ;;
  database) rounds=3 filters=(database::) ;;
  obstacles) rounds=3 filters=(matrix::obstacles::) ;;
  network) rounds=1 filters=(network:: forged:: statements:: sqlstates::) ;;
  late) rounds=30 filters=(late::a_late_copy) ;;
  # With two minutes of kills, of which make test-all has one.
  mix) rounds=6 filters=(matrix::mix::the_oracle_finds_nothing_in_a_random_mix_of_all chaos::) ;;
  protocol) rounds=1 filters=(where_the_broker_assigns) ;;
  guards) rounds=1 filters=(guards:: late::without) ;;
  drawn) rounds=1 filters=(drawn::) ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/tidegate/target}
tests/servers/install.sh kafka postgres build store
features=(--locked --features rocksdb,failpoints)
cargo build "${features[@]}" --bins --examples
tests=$(cargo test "${features[@]}" --test system -- --list "${filters[@]}" | grep -c ': test$' || true)
((tests >= ${#filters[@]})) || { echo "prove.sh: a filter of $part finds no test: ${filters[*]}" >&2; exit 70; }

commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- . ':!docs/proof' ':!docs/proof.md' || commit+=' and changes'
kafka=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' tests/servers/pom.xml)
postgres=$(ls -d /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
postgres=$("$postgres" --version | sed -n 's/^postgres (PostgreSQL) \([0-9.]*\).*/\1/p')
rdkafka=$(sed -n '/^name = "rdkafka-sys"/{n;s/^version = "\(.*\)"/\1/p}' Cargo.lock)
run=$(date -u +%Y-%m-%dT%H:%M)

export TIDEGATE_PROOF=$PWD/docs/proof TIDEGATE_PROVE_RUN=$run SYSTEM_TESTS=1
export TIDEGATE_PROVE_ROUNDS=${TIDEGATE_PROVE_ROUNDS:-$rounds}
TIDEGATE_PROVE_UNTIL=$(($(date +%s) + 60 * ${TIDEGATE_PROVE_MINUTES:-35}))
export TIDEGATE_PROVE_UNTIL
mkdir -p "$TIDEGATE_PROOF"
printf '{"run":"%s","part":"%s","commit":"%s","versions":"Kafka %s, PostgreSQL %s, rdkafka-sys %s"}\n' \
  "$run" "$part" "$commit" "$kafka" "$postgres" "$rdkafka" >>"$TIDEGATE_PROOF/runs.jsonl"

result=0
cargo test "${features[@]}" --test system -- "${filters[@]}" || result=$?
TIDEGATE_PROOF_WRITE=1 cargo test --locked --test proof the_page >/dev/null || result=$?
exit "$result"
