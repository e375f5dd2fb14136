#!/bin/bash
# Failover as it happens: two PostgreSQL servers under Patroni (with etcd), HAProxy
# before them and before two nodes, of which one knows both servers and the other
# HAProxy's port, and `freshet check` judging all of it, meanwhile
#
#   a switchover      patronictl switchover
#   a crash           the leader's Patroni and postmaster are killed, LOSE seconds (3) after
#                     it has stopped sending its WAL to the standby, so that commits are
#                     lost that were acknowledged; it comes back rewound, as a standby
#   a split brain     the leader's Patroni and all of its Postgres are stopped by
#                     SIGSTOP until the other has taken over, and wake as a primary;
#                     which of the two goes on is Patroni's choice
#
# one after the other. Needs patroni, etcd, haproxy and PostgreSQL's server programs
# (Debian: patroni etcd-server python3-etcd haproxy postgresql); installs nothing. As
# root it runs Postgres as the user postgres. Ports from BASE on are to be free.
set -euo pipefail

BASE=${BASE:-15550}
BIN=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)}
for program in patroni patronictl etcd haproxy curl "$BIN/pg_rewind"; do
	command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || {
		echo "failover: there is no $program (Debian: apt-get install patroni etcd-server python3-etcd haproxy postgresql curl)" >&2
		exit 1
	}
done
PATH=$PATH:/usr/sbin
# as COMMAND… becomes the command, as somebody whom Postgres takes.
as() { exec "$@"; }
if [ "$(id -u)" = 0 ]; then
	as() { exec setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
fi

dir=$(mktemp -d)
chmod 755 "$dir"
mkdir "$dir/pg"
[ "$(id -u)" != 0 ] || chown postgres "$dir/pg"
started=()
finish() {
	code=$?
	trap - EXIT
	for server in a b; do signal_all CONT "$server"; done
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
	for server in a b; do signal_all KILL "$server"; done
	sleep 0.5 # they may still be at their files
	if [ "$code" = 0 ]; then rm -rf "$dir"; else echo "failover: logs are in $dir" >&2; fi
	exit "$code"
}
# start LOG COMMAND…: its process id is in $pid.
start() {
	local log=$1
	shift
	"$@" >>"$log" 2>&1 &
	pid=$!
	started+=("$pid")
}
# Everything that runs of a server but its Patroni: the postmaster and its children.
processes() {
	local postmaster
	postmaster=$(head -n 1 "$dir/pg/$1/postmaster.pid" 2>/dev/null) || return 0
	[ -z "$postmaster" ] || echo "$postmaster" $(ps -o pid= --ppid "$postmaster")
}
signal_all() {
	local all
	all=$(processes "$2")
	# shellcheck disable=SC2086 # a list of numbers
	[ -z "$all" ] || kill "-$1" $all 2>/dev/null || true
}
trap finish EXIT
trap 'exit 1' INT TERM

say() { echo "failover: $(date +%T) $*"; }
# await SECONDS WHAT COMMAND…
await() {
	local seconds=$1 what=$2
	shift 2
	for _ in $(seq $((seconds * 5))); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.2
	done
	echo "failover: waited $seconds s in vain: $what" >&2
	return 1
}

port_of() { [ "$1" = a ] && echo $((BASE + 1)) || echo $((BASE + 2)); }
rest_of() { echo $(($(port_of "$1") + 10)); }
etcd=$((BASE + 20))
for server in a b; do
	cat >"$dir/$server.yml" <<-YAML
		scope: freshet
		name: $server
		restapi: {listen: "127.0.0.1:$(rest_of $server)", connect_address: "127.0.0.1:$(rest_of $server)"}
		etcd3: {host: "127.0.0.1:$etcd"}
		bootstrap:
		  dcs:
		    ttl: 20
		    loop_wait: 2
		    retry_timeout: 5
		    postgresql:
		      use_pg_rewind: true
		      parameters: {wal_level: logical, max_replication_slots: 20, max_wal_senders: 20, wal_log_hints: "on"}
		    ignore_slots: [{name: freshet, type: logical, plugin: pgoutput}]
		  initdb: [{encoding: UTF8}, {auth: trust}]
		  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
		postgresql:
		  listen: 127.0.0.1:$(port_of $server)
		  connect_address: 127.0.0.1:$(port_of $server)
		  data_dir: $dir/pg/$server
		  bin_dir: $BIN
		  pgpass: $dir/pg/pass-$server
		  authentication: {superuser: {username: postgres, password: x}, replication: {username: replicator, password: x}}
		  parameters: {unix_socket_directories: $dir/pg}
	YAML
done
cat >"$dir/haproxy.cfg" <<-CFG
	global
	    maxconn 4000
	defaults
	    timeout connect 4s
	    timeout client 30m
	    timeout server 30m
	listen primary
	    mode tcp
	    bind 127.0.0.1:$BASE
	    option httpchk OPTIONS /primary
	    http-check expect status 200
	    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
	    server a 127.0.0.1:$(port_of a) check port $(rest_of a)
	    server b 127.0.0.1:$(port_of b) check port $(rest_of b)
	listen freshet
	    mode http
	    bind 127.0.0.1:$((BASE + 5))
	    option http-no-delay
	    option httpchk GET /readyz
	    timeout client 60s
	    timeout server 60s
	    default-server check inter 500ms fall 2 rise 1
	    server one 127.0.0.1:$((BASE + 6))
	    server two 127.0.0.1:$((BASE + 7))
CFG

declare -A patroni
start_patroni() {
	start "$dir/patroni-$1.log" as patroni "$dir/$1.yml"
	patroni[$1]=$pid
}
is_leader() { curl -fso /dev/null "http://127.0.0.1:$(rest_of "$1")/primary"; }
follows() { curl -fso /dev/null "http://127.0.0.1:$(rest_of "$1")/replica"; }
ready() { curl -fso /dev/null "http://127.0.0.1:$1/readyz"; }
both_ready() { ready $((BASE + 6)) && ready $((BASE + 7)); }

# First: it takes every server for a primary until it has asked.
start "$dir/haproxy.log" haproxy -f "$dir/haproxy.cfg"
start "$dir/etcd.log" as etcd --data-dir "$dir/pg/etcd" \
	--listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
	--listen-peer-urls "http://127.0.0.1:$((etcd + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((etcd + 1))" \
	--initial-cluster "default=http://127.0.0.1:$((etcd + 1))"
start_patroni a
await 60 "a leads" is_leader a
start_patroni b
await 60 "b follows" follows b
url="postgres://postgres:x@127.0.0.1:$(port_of a),127.0.0.1:$(port_of b)/postgres?target_session_attrs=read-write"
start "$dir/one.log" bin/freshet serve --database-url "$url" \
	--addr "127.0.0.1:$((BASE + 6))" --admin-addr= --trusted-proxy 127.0.0.1
start "$dir/two.log" bin/freshet serve --database-url "postgres://postgres:x@127.0.0.1:$BASE/postgres" \
	--addr "127.0.0.1:$((BASE + 7))" --admin-addr= --trusted-proxy 127.0.0.1
await 60 "both nodes are ready" both_ready
await 20 "the balancer knows" ready $((BASE + 5))

pause=${PAUSE:-20}
# Its writers by SQL go through HAProxy, which cuts them off from a server that leads no
# more: what is written to one that was left behind is lost, whoever reads.
start "$dir/check.log" bin/freshet check --url "http://127.0.0.1:$((BASE + 5))" --database-url "postgres://postgres:x@127.0.0.1:$BASE/postgres" \
	--round 15s --duration "${DURATION:-$((4 * pause + 100))s}" "$@"
check=$pid
sleep "$pause"

# took SERVER WHAT: waits until it leads and both nodes follow it.
took() {
	await 60 "$1 leads" is_leader "$1"
	say "$2: $1 leads"
	await 60 "both nodes are ready" both_ready
	say "$2: both nodes are ready"
}

say "switchover from a to b"
patronictl -c "$dir/b.yml" switchover --master a --candidate b --force >"$dir/switchover.log" 2>&1
took b switchover
await 60 "a follows" follows a
sleep "$pause"

say "crash of b, of which the last ${LOSE:=3} s are lost"
# shellcheck disable=SC2046 # a list of numbers
kill -STOP $(pgrep -P "$(head -n 1 "$dir/pg/b/postmaster.pid")" -f 'postgres.*walsender replicator')
sleep "$LOSE"
kill -KILL "${patroni[b]}"
signal_all KILL b
took a crash
start_patroni b
await 120 "b follows, rewound" follows b
say "crash: b follows"
sleep "$pause"

say "a and its Patroni stop, and wake as a primary"
kill -STOP "${patroni[a]}"
signal_all STOP a
took b "split brain"
signal_all CONT a # its Patroni, which would end it, a while later
sleep 5
kill -CONT "${patroni[a]}"
# Which one, Patroni decides: it has been seen to give the lock back to the one that woke,
# and to rewind the other, so that what was committed there meanwhile is lost.
one_follows() { follows a || follows b; }
await 120 "one follows" one_follows
say "split brain: $(is_leader a && echo a || echo b) leads, the other follows"
await 60 "both nodes are ready" both_ready

code=0
wait "$check" || code=$?
cat "$dir/check.log"
say "node one, which knows both servers:"
grep -E 'a new epoch|left behind|ready again|slot' "$dir/one.log" || true
say "node two, through HAProxy:"
grep -E 'a new epoch|left behind|ready again|slot' "$dir/two.log" || true
exit "$code"
