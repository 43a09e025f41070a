# make demo   sets everything up, builds, and shows the main job with three daemons on loopback
# make test   sets everything up and runs all tests
# make build  builds the release program and prints its path last
# make planted [AREA=sync]  plants each known bug in a scratch copy and fails if its test does not notice
# make sim [SCENARIO=churn] [SEEDS=1000 | SEED=7]  runs scenario files in virtual time, each under many seeds (200)
# make model [OPS=4] [DRAW=1]  checks the rules of identities on every small history (ten minutes; OPS: ops in a row)
# make chaos  runs every test that takes long, one after the other
# make bench  measures and prints the figures of docs/performance.md
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
ENV := source scripts/env.sh &&

.PHONY: setup build test demo bench lint docs planted sim model chaos
setup:
	@scripts/setup.sh

build: setup
	@$(ENV) cargo build --release --locked -p walytis && echo "$${CARGO_TARGET_DIR:-$$PWD/target}/release/walytis"

test: setup
	@$(ENV) if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked --workspace --all-features; \
	else cargo test --locked --workspace --all-features --lib --bins --tests; fi
	@$(ENV) cargo test --locked --workspace --all-features --doc

# Both in one go: built apart, they would want the same dependencies with other features and compile them twice.
demo: setup
	@$(ENV) cargo build --release --locked -p walytis -p test-harness \
	  --features test-harness/ipfs,test-harness/identities,test-harness/offchain --bins
	@$(ENV) release="$${CARGO_TARGET_DIR:-$$PWD/target}/release" && scripts/demo.sh "$$release/walytis" "$$release/outsider"

bench: setup
	@$(ENV) cargo bench --locked -p test-harness --features ipfs,offchain,rocksdb --bench end_to_end --bench growth --bench mutable -- $(BENCH)

sim: setup
	@$(ENV) cargo run --release --locked -q -p test-harness --bin scenario -- $(SCENARIO) \
	  $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200))

model: setup
	@$(ENV) WALYTIS_MODEL=1 $(if $(OPS),WALYTIS_MODEL_OPS=$(OPS)) $(if $(DRAW),WALYTIS_MODEL_DRAW=$(DRAW)) \
	  cargo test --locked --config profile.dev.package.walytis-identities.opt-level=2 -p walytis-identities --lib \
	  state::model -- --nocapture

chaos: setup
	@$(ENV) scripts/chaos.sh

planted: setup
	@scripts/planted.sh $(AREA)

lint: setup
	@$(ENV) cargo fmt --all --check
	@$(ENV) cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

docs: setup
	@$(ENV) RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features
