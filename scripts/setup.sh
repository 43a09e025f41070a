#!/usr/bin/env bash
# Installs what the build needs and the machine lacks, then compiles RocksDB once. Safe to run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=()
command -v c++ >/dev/null || wanted+=(g++)
command -v make >/dev/null || wanted+=(make)
# RocksDB's bindings need libclang and its headers; without the headers bindgen stops at "stdbool.h not found".
ls /usr/lib/llvm-*/lib/clang/*/include/stdbool.h /usr/lib/clang/*/include/stdbool.h >/dev/null 2>&1 || wanted+=(libclang-common-14-dev)
ldconfig -p 2>/dev/null | grep -q 'libclang-\|libclang\.so' || ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || wanted+=(libclang1-14)
# clang compiles RocksDB in two thirds of gcc's time; only wanted while there is no cached library.
cache=${WALYTIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/walytis}
ls "$cache"/rocksdb-*/librocksdb.a >/dev/null 2>&1 || command -v clang-14 >/dev/null || wanted+=(clang-14)

if [ ${#wanted[@]} -gt 0 ]; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo="sudo -n"
  if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    echo "setup: installing ${wanted[*]}" >&2
    $sudo apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${wanted[@]}" >&2
  else
    echo "setup: please install these Debian packages (or what your system calls them), then run this again:" >&2
    echo "    ${wanted[*]}" >&2
    exit 1
  fi
fi
command -v cargo >/dev/null || {
  echo "setup: please install Rust 1.95 or newer with rustup, then run this again" >&2
  exit 1
}
scripts/rocksdb-cache.sh >/dev/null
