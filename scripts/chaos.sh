#!/usr/bin/env bash
# chaos.sh: every test that takes too long for `make test`, one after the other. Each is guarded by WALYTIS_CHAOS, which
# makes it longer, or `#[ignore]`d with a reason that begins with "chaos".
set -uo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
export WALYTIS_CHAOS=1
failed=()

run() {
  echo "chaos: cargo test $*" >&2
  cargo test --locked "$@" || failed+=("$*")
}

run -p test-harness --features offchain --test crash_points
# What catching up costs over a chain as long as the marks say; in a debug build that takes minutes.
WALYTIS_WIRE_BLOCKS=100000 run --release -p test-harness --test wire
# Tests of other areas name themselves: `#[ignore = "chaos: …"]` and a name that begins with `chaos_`.
for crate in walytis-core walytis-ipfs walytis-offchain walytis-identities walytis-mutability walytis; do
  run -p "$crate" --tests chaos_ -- --ignored --test-threads=1
done

# Thousands of schedules of the exchange of private content.
WALYTIS_SEEDS=3000 run --release -p walytis-offchain --lib exchange::machine
# An export, read by other people's tools.
cargo build --locked -p walytis && scripts/car-tools.sh "${CARGO_TARGET_DIR:-$PWD/target}/debug/walytis" ||
  failed+=("(build), scripts/car-tools.sh")

# 5 GiB between two processes, release build; skipped with a message where the disk is too small.
scripts/large-blob.sh || failed+=("--release -p walytis --test blobs")

if [ ${#failed[@]} -gt 0 ]; then
  printf 'chaos: failed: cargo test %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "chaos: everything held" >&2
