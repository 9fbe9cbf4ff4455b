#!/usr/bin/env bash
# The main job on real input, for a reader to see: `make demo`. It runs a daemon
# of its own in this network namespace, with its own directories, and takes
# everything back at the end; KEEP=1 leaves it up and says how to go on.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH="${SEALANE_LAB_BIN:-$PWD/bin}:$PATH"
dir=$(mktemp -d /tmp/sealane-demo.XXXXXX)
run=/run/sealane-demo
export SEALANE_SOCKET=$run/sealane.sock
daemon=(sealane daemon --state-dir "$dir/state" --run-dir "$run")
pid=

bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; "$@"; }
# fetch prints what a server answers, or that nothing does within a second.
fetch() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; "$@" 2>/dev/null || echo "   (no answer)"; }

cleanup() {
  status=$?
  [ -n "$pid" ] && kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
  if [ "${KEEP:-}" = 1 ] && [ $status = 0 ]; then return; fi
  [ -e "$dir/state" ] && "${daemon[@]}" --teardown --log-level error
  rm -rf "$dir"
  [ $status = 0 ] || echo "demo failed; everything was taken back" >&2
}
trap cleanup EXIT

if [ -S /run/sealane/sealane.sock ] && SEALANE_SOCKET=/run/sealane/sealane.sock sealane network ls >/dev/null 2>&1; then
  echo "A Sealane daemon runs on this host; two would fight over it. Stop it first: systemctl stop sealane.socket sealane" >&2
  exit 1
fi
# state prints what must be the same afterwards.
state() { ip -o link; ip -o addr | sed 's/ tentative//'; ip route; ip -6 route; nft list ruleset; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding; }
before=$(state)

say "Start a daemon. It serves this host's network namespace."
if [ "${KEEP:-}" = 1 ]; then setsid "${daemon[@]}" 2>"$dir/log" & disown; else "${daemon[@]}" 2>"$dir/log" & pid=$!; fi
for _ in $(seq 100); do grep -q msg=ready "$dir/log" && break; sleep 0.1; done
grep -q msg=ready "$dir/log" || { cat "$dir/log" >&2; exit 1; }
echo "ready: $(sealane version)"

say "Two networks. Subnets are chosen clear of the host's own."
show sealane network create front
show sealane network create --ipv6 back
show sealane network ls

say "Real web servers: shop on front with port 8080 published, stock on both, vault only on back."
for name in shop stock vault; do
  mkdir -p "$dir/www/$name" && echo "this is $name" > "$dir/www/$name/index.html"
done
show sealane run -d --name shop  --network front -p 8080:80           busybox httpd -f -p 80 -h "$dir/www/shop"
show sealane run -d --name stock --network front --network back       busybox httpd -f -p 80 -h "$dir/www/stock"
show sealane run -d --name vault --network back                       busybox httpd -f -p 80 -h "$dir/www/vault"
show sealane ps

addr() { sealane inspect --format '{{range .Endpoints}}{{if eq .Network "'"$2"'"}}{{index .Addresses 0}}{{end}}{{end}}' "$1" | cut -d/ -f1; }
host=$(ip -4 -o addr show scope global | grep -v -e slb -e sealane0 | awk '{sub("/.*","",$4); print $4; exit}' || true)
host=${host:-127.0.0.1}
stock=$(addr stock front) vault=$(addr vault back)

say "The published port answers at every address of the host."
fetch curl -sm 1 "http://$host:8080/"
fetch curl -sm 1 "http://127.0.0.1:8080/"
fetch curl -sm 1 "http://[::1]:8080/"

say "On one network, containers reach each other. shop asks stock:"
fetch sealane exec shop curl -sm 1 "http://$stock/"
say "Between networks, nothing passes: shop asks vault, whose port is not published."
fetch sealane exec shop curl -sm 1 "http://$vault/"
say "stock is on both networks, so it reaches vault."
fetch sealane exec stock curl -sm 1 "http://$vault/"
say "vault reaches shop's published port through the host, as anybody may."
fetch sealane exec vault curl -sm 1 "http://$host:8080/"

say "What is there now. Each network is a bridge (slb…), each container's interface one end of a veth pair (slv…):"
show ip -br link show group 24225
say "Inside shop: one interface, an address, a way out."
show sealane exec shop ip -br addr
show sealane exec shop ip route
say "The firewall is one table with fixed chains; the published port is an element of a map, and of a set that opens it."
show nft list map inet sealane ports4
show nft list set inet sealane open4
show nft list chain inet sealane forward

say "Somebody deletes the whole table and a bridge. A second later it is as intended again."
show nft delete table inet sealane
show ip link delete "$(sealane network inspect --format '{{.Device}}' front)"
for _ in $(seq 50); do [ -z "$(sealane diff)" ] && break; sleep 0.1; done
show sealane diff
fetch curl -sm 1 "http://$host:8080/"

if [ "${KEEP:-}" = 1 ]; then
  say "It stays up. Go on with: export SEALANE_SOCKET=$SEALANE_SOCKET PATH=$PWD/bin:\$PATH"
  echo "Take it back with:  pkill -f 'sealaned.*$run'; ${daemon[*]} --teardown; rm -rf $dir"
  exit 0
fi

say "Remove everything, and find the host as it was."
show sealane rm -f shop stock vault
show sealane network prune
kill "$pid" && wait "$pid" 2>/dev/null || true
pid=
show "${daemon[@]}" --teardown --log-level error
rm -rf "$dir"
if diff <(echo "$before") <(state); then echo "nothing is left: devices, addresses, routes, rules and settings are as before"; else exit 1; fi
