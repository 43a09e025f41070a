# Sourced by the Makefile and .ci/run: where compiled things are kept between checkouts. Sets nothing that is set
# already, and nothing at all where the cache folder cannot be written: everything then builds in ./target, slower.
walytis_cache=${WALYTIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/walytis}
if mkdir -p "$walytis_cache/target" 2>/dev/null && [ -w "$walytis_cache/target" ]; then
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$walytis_cache/target}
  walytis_rocksdb=$walytis_cache/rocksdb-$(sed -n 's/^rocksdb = { version = "=\{0,1\}\([0-9.]*\)".*/\1/p' Cargo.toml)-lz4
  if [ -s "$walytis_rocksdb/librocksdb.a" ]; then
    export ROCKSDB_LIB_DIR=${ROCKSDB_LIB_DIR:-$walytis_rocksdb} ROCKSDB_STATIC=${ROCKSDB_STATIC:-1}
  fi
fi
