#!/bin/sh
# Unit tests of the TypeScript packages. Without Node they are not run, which
# is said loudly, and is a failure in CI.
set -eu
if ! scripts/have-node.sh; then
	echo '*** NOT RUN: test/web. There is no Node.js 20 or later (see "make deps").' >&2
	test -z "${CI:-}"
	exit
fi
cd web
exec npm test
