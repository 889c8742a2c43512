# One job: name the commands of daily work. A target's line after ## is its help.
BROKERS ?= 1
ARGS ?=
W ?= w1
PART ?=
SEEDS ?= 10000
FIRST ?= 0
SEED ?=
FILES ?=
COUNT ?= 420
FEATURES ?=

# Outside the checkout, so that a clean clone does not build librdkafka and SQLite anew.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/tidegate/target

BUSY := --lib --test tidy --test engine --test conformance --test oracle --test proof --test draw
FAST := $(BUSY) --test it

.DEFAULT_GOAL := help
.PHONY: help demo build check lint test-fast test-state test-servers test-keyed test-long test-draw test-helm test test-all prove draw draw-pairs bites mutants docs up down bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Build the embedded edition and run it: ARGS="--seconds 30 -o json", "--help"
	@cargo run --locked --profile demo --no-default-features --features embedded -- demo $(ARGS)

build: ## Build the service, optimised
	cargo build --release --locked

check: ## Before a commit, in a minute and a half: formatting, clippy, docs, the structure of the code, the fast suites
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	cargo test --locked --no-run $(FAST)
	@# The suite "it" mostly waits for programs: it runs beside the others.
	@cargo test --locked --quiet --test it & it=$$!; rc=0; \
		cargo test --locked $(BUSY) || rc=$$?; wait $$it || rc=$$?; exit $$rc

lint: ## Formatting, clippy, docs with warnings as errors, the pure core alone, with all features: needs libclang
	tests/servers/install.sh build store
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features rocksdb,failpoints -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --features rocksdb
	cargo check --locked --no-default-features
	cargo check --locked --features rocksdb

# What test-all does beside tests that mostly wait: checks, and long builds. No program is put where those tests start theirs.
.PHONY: beside
beside:
	$(MAKE) --no-print-directory lint
	cargo build --locked --features rocksdb,failpoints --lib
	cargo test --locked --no-run --features rocksdb,failpoints --lib
	cargo build --locked --profile demo --no-default-features --features embedded
	cargo build --locked --profile draw --no-default-features --example draw

test-fast: ## Everything that needs no network (models, driver, settings), under a minute
	cargo test --locked $(FAST)
	cargo test --locked --doc

# These suites need no failpoints; with them the code is built once for this and for test-keyed.
test-state: ## Keyed state on RocksDB, whose first build takes minutes: damage, kill -9, a full disk
	tests/servers/install.sh build store
	cargo test --locked --features rocksdb,failpoints --lib --test conformance rocksdb
	cargo test --locked --features rocksdb,failpoints --test rocksdb

test-servers: ## The same suites and the system tests on real Kafka and PostgreSQL, started by the tests
	tests/servers/install.sh kafka postgres build store pooler
	tests/plain.sh build
	tests/plain.sh run
	$(MAKE) --no-print-directory test-keyed

test-keyed: ## The system tests that need a feature, with RocksDB and crash points: the second half of test-servers
	cargo build --locked --features rocksdb,failpoints --examples
	cargo test --locked --features rocksdb,failpoints --lib --test it failpoint
	@# As many worlds at a time as there is room for whatever the threads: more of them let another test go on while one waits.
	SYSTEM_TESTS=1 cargo test --locked --features rocksdb,failpoints --test system -- --test-threads 12 \
		keyed:: sessions:: keyed_setup:: joins:: rowjoins:: rowstate:: matrix:: late:: guards:: network:: forged:: \
		database:: statements:: sqlstates:: state:: folders:: repairs_keyed:: drawn:: payments:: attribution:: meters:: \
		home:: household::

test-long: ## A million events of 100,000 users through kills and a rebalance, on real Kafka
	tests/servers/install.sh kafka postgres build store
	cargo build --locked --features rocksdb --examples
	SYSTEM_TESTS=1 TIDEGATE_USAGE_EVENTS=1000000 TIDEGATE_USAGE_USERS=100000 \
		cargo test --locked --features rocksdb --test system keyed::events

test-helm: ## Render and validate the chart and the topics, offline
	helm/check.sh

test-draw: ## The generator for three minutes, from a start that follows the clock and is printed
	@cargo run --locked --quiet --profile draw --no-default-features --example draw -- for 180 5000

test: ## The quick proof, a quarter of an hour on a new machine: no RocksDB, one run of three instances that are killed
	tests/servers/install.sh kafka postgres build
	$(MAKE) --no-print-directory check
	cargo run --locked --quiet --example draw -- 1000
	cargo build --locked --example load --example oracle
	SYSTEM_TESTS=1 cargo test --locked --test conformance
	SYSTEM_TESTS=1 TIDEGATE_CHAOS_SECONDS=40 cargo test --locked --test system -- --test-threads 12 \
		chaos:: input:: repairs::a_topic_made_anew
	$(MAKE) --no-print-directory demo ARGS="--seconds 30 -o json"
	$(MAKE) --no-print-directory test-helm

test-all: ## All of it, RocksDB and samples of the long runs too: what CI runs, three quarters of an hour on a new machine
	tests/servers/install.sh kafka postgres build store pooler
	cargo fmt --check
	$(MAKE) --no-print-directory test-fast
	tests/plain.sh build
	@# The system tests leave half of two cores free: what is checked and built meanwhile has only that.
	tests/plain.sh run beside
	$(MAKE) --no-print-directory test-draw
	$(MAKE) --no-print-directory test-state
	$(MAKE) --no-print-directory test-keyed
	$(MAKE) --no-print-directory demo ARGS="--seconds 30 -o json"
	$(MAKE) --no-print-directory test-helm

prove: ## A part of the long run, 40 minutes at most: PART=kills|pauses|doubles|leaving|brokers|database|obstacles|network|late|mix|protocol|guards|drawn
	tests/prove.sh $(PART)

draw: ## Draw pipelines, inputs and faults and judge each run: SEEDS=n [FIRST=n], or SEED=n to repeat one with its trace
	@TIDEGATE_TREE=$$(git describe --always --dirty --abbrev=7) cargo run --locked --quiet --profile draw --no-default-features --example draw -- $(if $(SEED),seed $(SEED),$(SEEDS) $(FIRST))

draw-pairs: ## Add up what runs of make draw have counted into docs/draw-pairs.md: FILES="first.json second.json"
	@cargo run --locked --quiet --profile draw --no-default-features --example draw -- pairs $(FILES) >docs/draw-pairs.md

bites: ## Put defects that were mended back, one at a time, and see the generator find each (ARGS="name" for one of them)
	tests/draw/bites.sh $(ARGS)

mutants: ## Change the code in COUNT places drawn by SEED, one at a time, and see the fast suites notice (ARGS=again for survivors)
	@cargo run --locked --quiet --profile draw --no-default-features --features embedded --example mutants -- \
		$(if $(ARGS),$(ARGS),$(or $(SEED),20261128) $(COUNT))

docs: ## Write docs/metrics.md anew from the table of metrics
	TIDEGATE_WRITE_DOCS=1 cargo test --locked --quiet --test it the_page_of_metrics

up: ## Start Kafka and PostgreSQL, print the settings to use (BROKERS=1 or 3)
	@tests/servers/up.sh $(BROKERS)

down: ## End the servers of make up and remove their data
	@tests/servers/down.sh

bench: ## Ratios against hand-written limits (W=w1 to w6; ARGS="--smoke", FEATURES=rocksdb)
	tests/servers/install.sh
	cargo bench --locked --bench run $(if $(FEATURES),--features $(FEATURES)) -- $(W) $(ARGS)
