#!/usr/bin/env bash
# planted.sh [AREA[/NAME]]: tries the planted bugs of test-harness/planted, one after the other.
#
# Each patch begins with header lines that `git apply` skips:
#   # what: own blocks are acknowledged before they are flushed
#   # caught-by: -p test-harness --test crash_points every_power_cut      (arguments of `cargo test --locked`)
#
# Every named test must pass without the patch and fail with it. Fails (exit code 1) if a patch no longer applies, does
# not compile, or is not caught. Works in a scratch copy of HEAD; the working tree is never touched, but patches are
# taken from it, so that one can be tried before it is committed.
#
#   PLANTED_TIMEOUT   seconds that one test may run (300); a test that hangs under a patch has caught it
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
source scripts/env.sh
build=${CARGO_TARGET_DIR:-$root/target}
scratch=$build/planted
tree=$scratch/tree-$(printf %s "$root" | cksum | cut -d' ' -f1)
logs=$scratch/logs
limit=${PLANTED_TIMEOUT:-300}
# What is compiled is shared with other builds; programs with a planted bug stand in a folder of their own.
export CARGO_TARGET_DIR=$scratch/programs CARGO_BUILD_BUILD_DIR=$build

patches() {
  local wanted=${1:-}
  find test-harness/planted -name '*.patch' | sort | while read -r patch; do
    local name=${patch#test-harness/planted/}
    case $name in "$wanted"*) printf '%s\n' "$name" ;; esac
  done
}

header() { sed -n "s/^# $2: *//p;/^diff /q" "$root/test-harness/planted/$1" | head -n 1; }

clean() {
  if [ -e "$tree/.git" ]; then
    git -C "$tree" checkout --quiet --force --detach "$(git rev-parse HEAD)" && git -C "$tree" clean --quiet -fd
  else
    git worktree prune && mkdir -p "$scratch" && git worktree add --quiet --force --detach "$tree" HEAD
  fi
}

# run LOG ARGS…: 0 passed, 1 failed, 2 does not compile, 3 names no test, 124 out of time
run() {
  local log=$1
  shift
  (cd "$tree" && cargo test --locked --no-run "$@") >"$log" 2>&1 || return 2
  (cd "$tree" && timeout "$limit" cargo test --locked "$@") >>"$log" 2>&1
  local code=$?
  [ $code = 124 ] && return 124
  [ $code != 0 ] && return 1
  grep -q '^test .* ok$' "$log" || return 3
}

# What the named tests do without any patch; each is asked once.
declare -A sound
verdict_without() {
  local by=$1
  if [ -z "${sound[$by]+known}" ]; then
    # shellcheck disable=SC2086 # these are arguments
    run "$logs/without.log" $by
    sound[$by]=$?
  fi
  return "${sound[$by]}"
}

verdict() {
  local name=$1 by
  by=$(header "$name" caught-by)
  log=$logs/${name//\//-}.log
  [ -n "$(header "$name" what)" ] && [ -n "$by" ] || { echo "has no header"; return 1; }
  clean || { echo "no scratch copy"; return 1; }
  verdict_without "$by"
  case $? in
    0) ;;
    3) echo "names no test"; return 1 ;;
    *) cp "$logs/without.log" "$log"; echo "its test fails without it"; return 1 ;;
  esac
  git -C "$tree" apply -C1 "$root/test-harness/planted/$name" 2>"$log" || { echo "does not apply"; return 1; }
  # shellcheck disable=SC2086 # these are arguments
  run "$log" $by
  case $? in
    1) echo "caught" ;;
    124) echo "caught (hangs)" ;;
    2) echo "does not compile"; return 1 ;;
    *) echo "NOT CAUGHT"; return 1 ;;
  esac
}

mkdir -p "$logs"
names=$(patches "${1:-}")
[ -n "$names" ] || { echo "planted: no patch in test-harness/planted/${1:-}" >&2; exit 1; }
failed=0 count=0
printf '%-44s %-26s %5s  %s\n' "planted bug" result time "caught by"
for name in $names; do
  began=$SECONDS
  verdict "$name" >"$logs/verdict" || { failed=$((failed + 1)); broken=1; }
  printf '%-44s %-26s %4ss  %s\n' "${name%.patch}" "$(cat "$logs/verdict")" $((SECONDS - began)) "$(header "$name" caught-by)"
  [ -n "${broken:-}" ] && echo "    log: $logs/${name//\//-}.log" && unset broken
  count=$((count + 1))
done
clean
echo "planted: $((count - failed)) of $count caught"
[ $failed = 0 ]
