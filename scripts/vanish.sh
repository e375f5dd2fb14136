#!/bin/bash
# A machine that vanishes: no connection is closed, none is refused, and no packet
# comes or goes any more. A node runs in a network namespace with two cables: one to
# Postgres, one to its clients. Each is unplugged for some seconds (the first argument:
# 30) while `freshet check` reads and writes by it, and it is measured how soon the node
# says that it isn't ready, and how soon after the cable is back it is: within LIMIT
# seconds (20), or this fails. So it does if a rule is broken, of which one is that
# clients show what Postgres holds in time.
#
# Needs root, ip (iproute2), curl and PostgreSQL's server programs; installs nothing.
set -euo pipefail

LENGTH=${1:-30}
[[ $LENGTH =~ ^[0-9]{1,4}$ ]] && [ "$((10#$LENGTH))" -ge 15 ] || {
	echo "vanish: $LENGTH: want seconds, 15 or more: the node says that it isn't ready after five, and gives up what is silent after ten" >&2
	exit 2
}
LENGTH=$((10#$LENGTH))
LIMIT=${LIMIT:-20}
PORT=${PORT:-15590}
CLIENTS=40
BIN=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)}
[ "$(id -u)" = 0 ] || {
	echo "vanish: network namespaces need root" >&2
	exit 1
}

dir=$(mktemp -d)
chmod 755 "$dir"
mkdir "$dir/pg"
chown postgres "$dir/pg"
space=freshet-vanish-$$
started=()
as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
finish() {
	code=$?
	trap - EXIT
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
	as_postgres "$BIN/pg_ctl" -D "$dir/pg/data" -m immediate stop >/dev/null 2>&1 || true
	ip netns del "$space" 2>/dev/null || true
	if [ "$code" = 0 ]; then rm -rf "$dir"; else echo "vanish: logs are in $dir" >&2; fi
	exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM
say() { echo "vanish: $(date +%T) $*"; }
start() { # LOG COMMAND…
	local log=$1
	shift
	"$@" >>"$log" 2>&1 &
	started+=($!)
}
# within SECONDS WHAT COMMAND…: says after how long it was so.
within() {
	local limit=$1 what=$2 began=$EPOCHREALTIME
	shift 2
	until "$@" >/dev/null 2>&1; do
		if [ $((${EPOCHREALTIME%.*} - ${began%.*})) -gt "$limit" ]; then
			say "not within $limit s: $what"
			return 1
		fi
		sleep 0.1
	done
	say "after $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }") s: $what"
}

ip netns add "$space"
ip -n "$space" link set lo up
# plug CABLE HERE THERE: each end knows where the other is, for good, so that nobody asks.
plug() {
	ip neigh replace "$3" lladdr "$(ip netns exec "$space" cat "/sys/class/net/$1/address")" dev "$1" nud permanent
	ip -n "$space" neigh replace "$2" lladdr "$(cat "/sys/class/net/$1/address")" dev "$1" nud permanent
}
# unplug CABLE HERE THERE: what either end sends is addressed to nobody.
unplug() {
	ip neigh replace "$3" lladdr 02:00:00:00:00:01 dev "$1" nud permanent
	ip -n "$space" neigh replace "$2" lladdr 02:00:00:00:00:02 dev "$1" nud permanent
}
cable() { # the same arguments
	ip link add "$1" type veth peer name "$1" netns "$space"
	ip addr add "$2/30" dev "$1"
	ip -n "$space" addr add "$3/30" dev "$1"
	ip link set "$1" up
	ip -n "$space" link set "$1" up
	plug "$@"
}
database=(vd$$ 10.231.77.1 10.231.77.2)
clients=(vc$$ 10.231.77.5 10.231.77.6)
cable "${database[@]}"
cable "${clients[@]}"

as_postgres "$BIN/initdb" -D "$dir/pg/data" -E UTF8 -A trust -U postgres >"$dir/initdb.log"
cat >>"$dir/pg/data/postgresql.conf" <<-END
	listen_addresses = '${database[1]}'
	port = $PORT
	unix_socket_directories = '$dir/pg'
	wal_level = logical
	max_wal_senders = 20
	max_replication_slots = 20
END
echo "host all all 10.231.77.0/24 trust" >>"$dir/pg/data/pg_hba.conf"
as_postgres "$BIN/pg_ctl" -D "$dir/pg/data" -l "$dir/pg/log" -w start >/dev/null
url=postgres://postgres@${database[1]}:$PORT/postgres
node=http://${clients[2]}:$((PORT + 1))
start "$dir/node.log" ip netns exec "$space" bin/freshet serve --database-url "$url" --insecure --heartbeat 5s \
	--addr "${clients[2]}:$((PORT + 1))" --admin-addr 127.0.0.1:9090
ready() { curl -m 1 -fso /dev/null "$node/readyz"; }
unready() { [ "$(curl -m 1 -so /dev/null -w '%{http_code}' "$node/readyz")" = 503 ]; }
streams() { ip netns exec "$space" curl -s http://127.0.0.1:9090/metrics | awk '/^freshet_stream_connections / { print $2 }'; }
all_there() { [ "$(streams)" -ge "$CLIENTS" ]; }
within 60 "the node is ready" ready
start "$dir/check.log" bin/freshet check --url "$node" --database-url "$url" --clients "$CLIENTS" --round 15s \
	--duration "$((2 * LENGTH + 60))s"
check=${started[-1]}
within 20 "its clients are there" all_there

say "the cable to Postgres is unplugged for $LENGTH s"
unplug "${database[@]}"
until_plugged=$((SECONDS + LENGTH))
within "$LIMIT" "the node isn't ready" unready
left=$((until_plugged - SECONDS)) # none, where that took longer
[ "$left" -le 0 ] || sleep "$left"
plug "${database[@]}"
say "and plugged in"
within "$LIMIT" "the node is ready" ready
within "$LIMIT" "all clients have streams" all_there
sleep 15

say "the cable to the clients is unplugged for $LENGTH s"
unplug "${clients[@]}"
sleep "$LENGTH"
plug "${clients[@]}"
say "and plugged in"
within "$LIMIT" "the node answers" ready

code=0
wait "$check" || code=$?
cat "$dir/check.log"
grep -E 'interrupted|ready again' "$dir/node.log" | cut -c1-200 || true
exit "$code"
