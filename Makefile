# One job: name the commands of daily work. A target's line after ## is its help.
BROKERS ?= 1
ARGS ?=
W ?= w1

.DEFAULT_GOAL := help
.PHONY: help up down bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Start Kafka and PostgreSQL, print the settings to use (BROKERS=1 or 3)
	@tests/servers/up.sh $(BROKERS)

down: ## End the servers of make up and remove their data
	@tests/servers/down.sh

bench: ## Measure a workload against its peers (W=w1; ARGS="--smoke", "--help": see bench/README.md)
	@cargo bench --bench run -- $(W) $(ARGS)
