#!/usr/bin/env bash
# Compiles RocksDB once per machine and prints the folder of its static library.
#
# RocksDB is a quarter of an hour of C++. Cargo would compile it again for every profile, checkout and change of
# flags, so the static library is kept outside all of them; `librocksdb-sys` links it when ROCKSDB_LIB_DIR is set.
# Prints nothing and exits 0 where no cache can be made: cargo then compiles RocksDB by itself, only slower.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cache=${WALYTIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/walytis}
crate=$(sed -n 's/^rocksdb = { version = "=\{0,1\}\([0-9.]*\)".*/\1/p' "$top/Cargo.toml")
[ -n "$crate" ] || { echo "rocksdb-cache: no rocksdb version in Cargo.toml" >&2; exit 1; }
lib=$cache/rocksdb-$crate-lz4

if [ ! -s "$lib/librocksdb.a" ]; then
  mkdir -p "$cache" 2>/dev/null || exit 0
  exec 9>"$cache/rocksdb.lock"
  command -v flock >/dev/null && flock 9
fi
if [ ! -s "$lib/librocksdb.a" ]; then
  echo "rocksdb-cache: compiling RocksDB once for this machine (about 10 minutes on two cores)" >&2
  build=$cache/rocksdb-build
  mkdir -p "$build/src"
  printf '[package]\nname = "rocksdb-build"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\nrocksdb = { version = "=%s", default-features = false, features = ["lz4", "bindgen-runtime"] }\n' "$crate" >"$build/Cargo.toml"
  echo 'fn main() {}' >"$build/src/main.rs"
  if command -v clang-14 >/dev/null && command -v clang++-14 >/dev/null; then
    export CC=clang-14 CXX=clang++-14 # two thirds of gcc's time
  fi
  env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u RUSTFLAGS \
    RUSTFLAGS="$([ "$(uname -m)" = x86_64 ] && echo -C target-feature=+sse4.2,+pclmulqdq)" \
    CARGO_TARGET_DIR="$build/target" cargo build --release --manifest-path "$build/Cargo.toml" >&2
  found=$(find "$build/target/release/build" -name librocksdb.a | head -n 1)
  [ -n "$found" ] || { echo "rocksdb-cache: cargo built no librocksdb.a" >&2; exit 1; }
  mkdir -p "$lib"
  cp "$found" "$lib/librocksdb.a.part"
  mv "$lib/librocksdb.a.part" "$lib/librocksdb.a"
  rm -rf "$build"
fi
echo "$lib"
