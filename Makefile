# `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One target at a time: cargo uses all cores by itself.
.NOTPARALLEL:

CARGO ?= cargo
NPM ?= npm
# The program that schema-check runs; may be set to a binary that is already built.
SALESPULSE ?= $(CARGO) run -q --
# Additional arguments for the test runner, the demo, the benchmarks, and chaos.
TEST_FLAGS ?=
DEMO_FLAGS ?=
BENCH_FLAGS ?=
CHAOS_FLAGS ?=
# How long each fuzz target runs, and its seed.
FUZZ_SECS ?= 600
FUZZ_SEED ?= 1

# The real data sets, for the tests that need them.
ifneq ($(wildcard ../shared/data),)
export SALESPULSE_TEST_DATA ?= $(abspath ../shared/data)
endif

# cargo-nextest if it is installed, otherwise cargo's own runner.
NEXTEST = $(shell $(CARGO) nextest --version 2>/dev/null)
RUN_TESTS = $(if $(NEXTEST),$(CARGO) nextest run,$(CARGO) test)
# Also the tests that are ignored because they need the real data, and the one that needs promtool if that is there too.
NO_PROMTOOL = $(if $(shell command -v promtool),,$(if $(NEXTEST),--profile without-promtool,--skip promtool))
WITH_DATA = $(if $(SALESPULSE_TEST_DATA),$(if $(NEXTEST),--run-ignored all,-- --include-ignored) $(NO_PROMTOOL))

# Library, programs and tests. Of the examples, the tests need only chaos; lint checks all.
TEST_TARGETS = --workspace --lib --bins --tests
# Building an example enables the same features as building the tests, so the programs are not built twice.
BUILD_PROGRAMS = $(CARGO) build --workspace --bins --example chaos

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | grep -v '^help:' | \
	    awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

# The build of the tests, so that nothing is built for it alone.
.PHONY: demo
demo: web ## Start SalesPulse with demo data, on SQLite; needs no other servers
	$(BUILD_PROGRAMS)
	$(or $(CARGO_TARGET_DIR),target)/debug/salespulse demo $(DEMO_FLAGS)

# Without Node.js or Chromium, what needs them is left out and named; where CI is set, that is a failure.
.PHONY: test
test: test-web test-sqlite test-servers test-clients test-browser ## Run all tests, on SQLite and on PostgreSQL + Redis

.PHONY: test-chaos
test-chaos: ## Run a short form of `make chaos`
	$(BUILD_PROGRAMS)
	SERVERS_DURABLE=1 tests/servers.sh $(or $(CARGO_TARGET_DIR),target)/debug/examples/chaos \
	    --seed 4 --secs 25 --pause 3 --writers 8 --subscribers 60

.PHONY: fuzz
fuzz: ## Feed random and corrupted input to the parsers of documents, sockets, cursors and encrypted values: FUZZ_SECS=600 FUZZ_SEED=1
	SALESPULSE_TEST_FUZZ_SECS=$(FUZZ_SECS) SALESPULSE_TEST_FUZZ_SEED=$(FUZZ_SEED) \
	    $(CARGO) test --workspace --test integration fuzz:: -- --nocapture

.PHONY: test-web
test-web: web ## Check GraphiQL's example operations against the schema (needs Node.js)
	@if command -v $(NPM) >/dev/null; then cd web && $(NPM) test; else scripts/not-tested.sh web "npm is missing"; fi

.PHONY: test-clients
test-clients: ## Test the server with real clients from npm and PyPI (needs Node.js; Python for one of them)
	$(BUILD_PROGRAMS)
	@if command -v $(NPM) >/dev/null; then tests/clients/run.sh; else scripts/not-tested.sh clients "npm is missing"; fi

.PHONY: test-browser
test-browser: web ## Test GraphiQL in a headless Chromium (needs Node.js; SCREENSHOT=page.png)
	$(BUILD_PROGRAMS)
	@if command -v $(NPM) >/dev/null; then web/e2e/run.sh; else scripts/not-tested.sh browser "npm is missing"; fi

.PHONY: test-sqlite
test-sqlite: ## Run the whole suite on SQLite with in-process streams
	env -u TEST_DATABASE_URL -u TEST_OWNER_URL -u TEST_SUPERUSER_URL -u TEST_REDIS_URL $(RUN_TESTS) $(TEST_TARGETS) $(TEST_FLAGS) $(WITH_DATA)

# --workspace keeps the features the same as above, and so the build.
.PHONY: test-servers
test-servers: ## Run the integration suite on a private PostgreSQL + Redis
	$(RUN_TESTS) --workspace --test integration --no-run
	tests/servers.sh $(RUN_TESTS) --workspace --test integration $(TEST_FLAGS) $(WITH_DATA)

.PHONY: check
check: fmt-check lint test schema-check ## Run everything that a change must pass

.PHONY: fmt
fmt: ## Format the Rust code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## Fail if the Rust code is not formatted
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Run Clippy on every crate and target; warnings are errors
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: schema-check
schema-check: ## Fail if the code differs from schema.graphql, the contract
	@echo '$(SALESPULSE) schema | diff -u schema.graphql -'
	@$(SALESPULSE) schema | diff -u schema.graphql - || \
	    { echo "the code differs from schema.graphql, the contract, which is written by hand" >&2; exit 1; }

.PHONY: deny
deny: ## Check the dependencies' licences and known vulnerabilities (needs cargo-deny)
	$(CARGO) deny check

.PHONY: bench
bench: ## Measure performance on a durable, private PostgreSQL + Redis
	$(CARGO) build --release --bin salespulse --example bench
	SERVERS_DURABLE=1 tests/servers.sh $(CARGO) run --release --example bench -- $(BENCH_FLAGS)

.PHONY: bench-live
bench-live: ## Measure live updates at 1, 1,000 and 10,000 sockets, and of periods with many events: BENCH_FLAGS="--history 1000,100000"
	$(CARGO) build --release --bin salespulse --example bench_live
	SERVERS_DURABLE=1 tests/servers.sh $(CARGO) run --release --example bench_live -- $(BENCH_FLAGS)

.PHONY: bench-predictions
bench-predictions: ## Measure refits for 1,000 tenants, and their effect on queries
	$(CARGO) build --release --example bench_predictions
	SERVERS_DURABLE=1 tests/servers.sh $(CARGO) run --release --example bench_predictions -- $(BENCH_FLAGS)

.PHONY: bench-python
bench-python: ## Compare the models with Python's: fails where they are less accurate, or not ten times as fast (needs Python 3.11 and the data sets)
	bench/compare_python.py

.PHONY: chaos
chaos: ## Kill and pause servers, PostgreSQL and Redis under load, then verify everything: CHAOS_FLAGS="--seed 1 --secs 600"
	$(CARGO) build --profile profiling --bin salespulse --example chaos
	SERVERS_DURABLE=1 tests/servers.sh $(CARGO) run --profile profiling --example chaos -- $(CHAOS_FLAGS)

.PHONY: web
web: ## Build the web app into web/dist if its sources have changed
	@NPM='$(NPM)' scripts/web.sh

.PHONY: docker
docker: ## Build the container image
	docker build -t salespulse .

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf web/dist web/node_modules
