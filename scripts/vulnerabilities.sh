#!/usr/bin/env bash
# Asks the databases of known vulnerabilities: Go's about the code that is
# reachable from ours, npm's about the packages of the page and of @freshet/query.
# Fails on a finding, and on a tool that fails; where a database can't be reached,
# says loudly that nothing was looked at.
set -euo pipefail
cd "$(dirname "$0")/.."

not_run() { printf '\n*** vulnerabilities: %s was NOT RUN: its database cannot be reached from here.\n    %s\n\n' "$1" "$2" >&2; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT

status=0
timeout 300 go tool -modfile=tools/vuln/go.mod govulncheck ./... >"$log" 2>&1 || status=$?
if [ "$status" = 0 ]; then
	echo 'vulnerabilities: govulncheck found none that can be reached'
elif grep -q 'fetching vulnerabilities' "$log"; then
	not_run govulncheck "$(grep -m1 'fetching vulnerabilities' "$log" | cut -c1-200)"
else
	cat "$log" >&2
	exit 1
fi

scripts/have-node.sh || exit 0 # says so itself, elsewhere
status=0
(cd web && timeout 120 npm audit --json) >"$log" 2>/dev/null || status=$?
# npm answers 1 for findings and for a registry that has no such endpoint alike.
found=$(node -e '
	const report = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8") || "{}");
	const counts = report.metadata?.vulnerabilities;
	console.log(counts ? counts.moderate + counts.high + counts.critical : "unknown");
' "$log")
case $found in
0) echo 'vulnerabilities: npm audit found none above low' ;;
unknown) not_run 'npm audit' 'The registry at hand has no audit endpoint, or it failed.' ;;
*)
	(cd web && npm audit) >&2 || true
	exit 1
	;;
esac
