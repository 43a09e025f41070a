#!/usr/bin/env bash
# Sends a content of 5 GiB (WALYTIS_BLOB_MIB; 20480 for the longest run) between two real processes that are both killed on
# the way, public and then private; checks digest, memory and that nothing was fetched twice. Called by chaos.sh, which sets
# the environment.
set -euo pipefail

mib=${WALYTIS_BLOB_MIB:-5120}
# Both copies, and room for the stores.
needed=$((2 * mib + 1024))
folder=${TMPDIR:-/tmp}
free=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
if [ "$free" -lt "$needed" ]; then
  echo "large-blob: skipped: $folder has $free MiB free, a content of $mib MiB needs $needed" >&2
  exit 0
fi
WALYTIS_BLOB_MIB=$mib exec cargo test --release --locked -p walytis --test blobs -- --nocapture --test-threads=1 large_content
