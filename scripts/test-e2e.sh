#!/bin/sh
# The page in a real browser. Without Node or a browser (which web/e2e looks
# for) the tests are not run, which is said loudly, and is a failure in CI.
# Arguments say which: "tutorial" for that of tutorial.test.ts.
set -eu
if ! scripts/have-node.sh; then
	echo '*** NOT RUN: test/e2e. There is no Node.js 20 or later (see "make deps").' >&2
	test -z "${CI:-}"
	exit
fi
cd web
exec npm run e2e -w @freshet/e2e -- "$@"
