#!/bin/sh
# Installs what the tests need and only the system's package manager can bring:
# Postgres' server binaries (15 or later), a browser for test/e2e, a C compiler
# for the race detector. Installs nothing that is already there. Without apt-get
# or the rights to use it, it says what to install, and fails.
set -eu

minimum_postgres=15

have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() {
	for dir in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin /usr/local/opt/postgresql*/bin /opt/homebrew/opt/postgresql*/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
		major=$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
		[ "$major" -ge "$minimum_postgres" ] && return 0
	done
	return 1
}

have_browser() {
	for name in "${FRESHET_CHROMIUM:-}" "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
		if [ -n "$name" ] && have "$name"; then return 0; fi
	done
	return 1
}

missing=
want() { missing="$missing $*"; }
check() {
	missing=
	have_postgres || want postgresql
	have_browser || want chromium
	have cc || want gcc libc6-dev
}

# Distributions' Node packages are often too old, and clash with newer ones.
check_node() {
	scripts/have-node.sh && return
	echo 'deps: there is no Node.js 20 or later (with npm): install it, from https://nodejs.org say, for the page and its tests' >&2
	test -z "${CI:-}"
}

check
if [ -z "$missing" ]; then
	echo "deps: Postgres, browser and C compiler are there"
	check_node
	exit
fi

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if ! have apt-get || { [ -n "$sudo" ] && ! have sudo; }; then
	cat >&2 <<-TEXT
	deps: missing (by Debian's names):$missing
	deps: install it by this system's own means (PostgreSQL: $minimum_postgres or later, with server binaries)
	TEXT
	exit 1
fi

# Mirrors fail now and then: try again, with a pause.
retry() {
	for pause in 2 5 15 0; do
		"$@" && return 0
		[ "$pause" = 0 ] || { echo "deps: again in $pause s" >&2; sleep "$pause"; }
	done
	return 1
}

apt() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 "$@"; }

echo "deps: installing$missing"
retry apt update
# shellcheck disable=SC2086 # a list of package names
retry apt install -y --no-install-recommends $missing

check
if [ -n "$missing" ]; then
	echo "deps: installed, but still missing or too old:$missing (Postgres $minimum_postgres or later)" >&2
	exit 1
fi
check_node
