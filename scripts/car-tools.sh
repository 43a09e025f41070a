#!/usr/bin/env bash
# Reads an export with the IPLD project's own JavaScript packages: usage car-tools.sh WALYTIS. Every block must have the
# digest that its CID says, the manifest must decode, and the large content must come out byte for byte.
# Skipped with a message where there is no node, or its packages cannot be had. Called by chaos.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
walytis=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/walytis-car.XXXXXX")
trap 'rm -rf "$work"' EXIT

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "car-tools: skipped: node and npm are not installed" >&2
  exit 0
fi
cp "$here/car-tools.mjs" "$work/"
packages=(@ipld/car@5.4.7 @ipld/dag-cbor@10.0.2 ipfs-unixfs-exporter@16.2.2)
if ! npm install --prefix "$work" --no-audit --no-fund --ignore-scripts --silent "${packages[@]}" >"$work/npm.log" 2>&1; then
  echo "car-tools: skipped: the packages could not be installed" >&2
  exit 0
fi

run() { "$walytis" --data-dir "$work/data" --json "$@"; }
run chain create notes >/dev/null
printf 'a small one' | run chain add notes --topic small >/dev/null
# Three leaves and a bit, so that there is an inner node.
head -c 3500000 /dev/urandom >"$work/large"
run chain add notes "$work/large" >/dev/null
blob=$(run chain blobs notes | sed -n 's/.*"blob":"\([^"]*\)".*/\1/p')
run chain export notes "$work/notes.car" >/dev/null
node "$work/car-tools.mjs" "$work/notes.car" "$blob" "$work/large"
