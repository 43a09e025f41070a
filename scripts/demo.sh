#!/usr/bin/env bash
# The main job with three real daemons on loopback: usage demo.sh WALYTIS [OUTSIDER]
#   WALYTIS   the program; OUTSIDER a hostile peer of the test harness (built beside it)
# Every step prints what it shows; the first thing that is not as it should be ends the demo with exit code 1.
set -euo pipefail

walytis=$1
outsider=${2:-$(dirname "$walytis")/outsider}
work=$(mktemp -d "${TMPDIR:-/tmp}/walytis-demo.XXXXXX")
declare -A pid=()
started=$SECONDS

finish() {
  local code=$?
  for name in "${!pid[@]}"; do kill "${pid[$name]}" 2>/dev/null || true; done
  for name in "${!pid[@]}"; do wait "${pid[$name]}" 2>/dev/null || true; done
  if [ "$code" = 0 ]; then rm -rf "$work"; else echo "FAILED; data and logs are in $work" >&2; fi
}
trap finish EXIT

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
ok() { printf '   ok: %s\n' "$*"; }
fail() { printf '   NOT SO: %s\n' "$*" >&2; exit 1; }

# node NAME ARGS…: a command of that node; prints it first.
node() { "$walytis" --data-dir "$work/$1" "${@:2}"; }
show() { printf '   %s$ walytis %s\n' "$1" "${*:2}" | cut -c1-150 >&2; node "$@"; }
# json FIELD: the first string or number of that name on standard input.
json() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p; t; s/.*\"$1\":\\([0-9][0-9]*\\).*/\\1/p" | head -n 1; }

# start NAME: its daemon; waits for the line that says it is ready.
start() {
  mkdir -p "$work/$1"
  # The program itself in the background, not a shell around it: the signals of this script must reach it.
  "$walytis" --data-dir "$work/$1" daemon --listen /ip4/127.0.0.1/udp/0/quic-v1 --listen /ip4/127.0.0.1/tcp/0 --no-mdns \
    >"$work/$1.ready" 2>>"$work/$1.log" &
  pid[$1]=$!
  for _ in $(seq 100); do
    grep -q '"event":"ready"' "$work/$1.ready" && return
    kill -0 "${pid[$1]}" 2>/dev/null || { cat "$work/$1.log" >&2; fail "daemon $1 did not start"; }
    sleep 0.1
  done
  fail "daemon $1 was not ready within 10 s"
}

# until_true SECONDS COMMAND…: tries until it succeeds.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}
log_has() { node "$1" --json offchain log family | grep "\"id\":\"$2\"" | grep -q '"state":"available"'; }
controllers_are() { [ "$(node "$1" --json identity controllers family | wc -l)" = "$2" ]; }
refused() { # refused WHAT COMMAND…: it must fail, and say why
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then fail "$what was let in: $said"; fi
  ok "$what: refused ($(printf '%s' "$said" | head -n 1))"
}

step "Three daemons on loopback, each with its own data folder, RocksDB store and libp2p node"
for name in a b c; do start $name; done
for name in a b c; do ok "$name is $(json peer_id <"$work/$name.ready")"; done

step "A creates an identity and invites B's device"
created=$(show a --json identity create family --device laptop)
did=$(json did <<<"$created")
ok "$did"
token=$(node a --json identity invite family --uses 1 | json invitation)
show b identity join "$token" --name family >/dev/null
until_true 10 controllers_are a 2 || fail "A does not list B's device"
until_true 10 controllers_are b 2 || fail "B does not list both devices"
node b identity controllers family | sed 's/^/   /'
ok "both devices are controllers, on both nodes"

step "A adds private content: a text and a real file of this machine"
secret="the spare key is under the third stone $RANDOM$RANDOM$RANDOM"
topic="hiding-places-$RANDOM$RANDOM"
text=$(printf '%s\n' "$secret" | node a --json offchain add family - --topic "$topic" | json id)
file=$(find /usr/bin /usr/lib -xdev -type f -readable -size +2M -size -9M 2>/dev/null | sort | head -n 1 || true)
[ -n "$file" ] || { file=$work/picked; head -c 3000000 "$walytis" >"$file"; }
picture=$(show a --json offchain add family "$file" --topic files | json id)
ok "text $text"
ok "file $file ($(stat -c %s "$file") bytes) $picture"

step "B reads both, with author and topics"
for block in "$text" "$picture"; do
  until_true 20 log_has b "$block" || { node b offchain status family >&2; fail "block $block did not reach B"; }
done
node b offchain log family | cut -c1-220 | sed 's/^/   /'
author=$(node b --json offchain log family | grep "$text" | json author)
device=$(node a --json identity controllers family | grep laptop | json id)
[ "$author" = "$device" ] || fail "the author is $author, not A's device $device"
node b --json offchain log family | grep "$text" | grep -q "\"$topic\"" || fail "B does not see the topic"
[ "$(node b offchain cat family "$text")" = "$secret" ] || fail "B reads another text"
node b offchain cat family "$picture" -o "$work/copy" >/dev/null
cmp -s "$file" "$work/copy" || fail "B's copy of the file differs"
ok "B prints \"$(node b offchain cat family "$text" | cut -c1-40)…\", and the same file byte for byte"

step "C, an outsider, tries to get in"
forged=$("$outsider" forge-token "$token") || fail "no token could be forged"
[ "$forged" != "$token" ] || fail "the forged token is the right one"
refused "a token of the right DID with another seed" node c identity join "$forged" --name stolen
refused "a used-up token" node c identity join "$token" --name stolen
address=$(sed 's/.*"listen":\["\([^"]*\)".*/\1/' "$work/a.ready")
node a --json offchain log family >"$work/ids"
node a --json chain log "${did#did:walytis:}" >>"$work/ids"
ids=$(sed -n 's/.*"id":"\(baf[^"]*\)".*/\1/p' "$work/ids" | sort -u)
blocks=$(wc -w <<<"$ids")
[ "$blocks" -gt 4 ] || fail "there are no ids to ask for"
"$outsider" probe "$address" "$did" $ids >"$work/probe" || fail "the bare peer could not even connect: $(cat "$work/probe")"
sed 's/^/   /' "$work/probe"
tail -n 1 "$work/probe" | grep -q '^{"attempts":[1-9][0-9]*,"blocks_received":0,"contents_received":0}$' ||
  fail "the bare peer got something"
controllers_are a 2 || fail "somebody was let in"
[ "$(node c --json chain list | wc -l)$(node c --json identity list | wc -l)" = 00 ] || fail "C holds something"
ok "a bare peer that knows the DID and all $blocks ids: refused each time, zero blocks"

step "Nothing readable lies in any file on disk"
# The scan must be able to find: a plain chain's text is found, the private one is not.
plain="nothing to hide $RANDOM$RANDOM$RANDOM"
node a --json chain create notes >/dev/null
printf '%s' "$plain" | node a --json chain add notes - >/dev/null
grep -rqaF "$plain" "$work/a" || fail "the scan does not even find the plain text of a plain chain"
printf '%s' "$plain" >"$work/plain-piece"
found=0
"$outsider" scan "$work/plain-piece" "$work/a" >/dev/null || found=$?
[ "$found" = 1 ] || fail "the scan for pieces does not find the plain text (exit code $found)"
# 64 bytes from within the file that are no padding: the scan refuses what may stand anywhere.
size=$(stat -c %s "$file")
for offset in $((size / 2)) $((size / 3)) $((size / 5)) $((size / 7)) 0; do
  tail -c +$((offset + 1)) "$file" 2>/dev/null | head -c 64 >"$work/piece" || true
  if "$outsider" scan "$work/piece" "$work/plain-piece" 2>/dev/null; then break; fi
done
for name in a b c; do
  for hidden in "$secret" "$topic"; do
    if grep -rlaF "$hidden" "$work/$name"; then fail "\"$hidden\" stands in a file of $name"; fi
  done
  "$outsider" scan "$work/piece" "$work/$name" || fail "a piece of the file stands on the disk of $name"
done
ok "the plain chain's text was found by the same scan; no private text, topic or piece of the file was"

step "B is killed with SIGKILL and comes back complete"
before=$(node b --json offchain log family | sort | sha256sum)
kill -KILL "${pid[b]}"
wait "${pid[b]}" 2>/dev/null || true
start b
after=$(node b --json offchain log family | sort | sha256sum)
[ "$before" = "$after" ] || fail "B's log differs after the restart"
[ "$(node b offchain cat family "$text")" = "$secret" ] || fail "B cannot read the text any more"
node b offchain cat family "$picture" | cmp -s - "$file" || fail "B cannot read the file any more"
late=$(echo "after the crash" | node a --json offchain add family - | json id)
until_true 20 log_has b "$late" || fail "B does not receive after its restart"
ok "same log, same contents, and new content arrives"

step "A removes B and adds more; B cannot read that"
device_b=$(node a --json identity controllers family | grep -v laptop | json id)
show a --json identity remove family "$device_b" | cut -c1-150 | sed 's/^/   /'
after_removal=$(echo "not for B any more" | node a --json offchain add family - | json id)
node a offchain cat family "$after_removal" >/dev/null || fail "A cannot read its own new content"
# B gets two seconds to do its worst.
if until_true 2 log_has b "$after_removal"; then fail "B shows the new block"; fi
refused "B reading the new block" node b offchain cat family "$after_removal"
refused "B adding a block" bash -c "echo mine | '$walytis' --data-dir '$work/b' offchain add family -"
[ "$(node b offchain cat family "$text")" = "$secret" ] || fail "B lost what it could read before"
ok "what B had before its removal it still reads; nothing newer"

step "Done in $((SECONDS - started)) s"
