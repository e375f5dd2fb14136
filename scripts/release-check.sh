#!/bin/sh
# Builds a release of the last commit twice, in two clones in folders of their own,
# each with an empty cache of compiled code, another time zone and another umask,
# and compares every byte. ARGS are given to `make release`, as -targets.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for folder in one else/where/two; do
	git clone -q . "$work/$folder"
done
(
	cd "$work/one"
	TZ=UTC GOCACHE="$work/cache-one" make --no-print-directory release ARGS="${ARGS:-}"
)
(
	umask 077
	cd "$work/else/where/two"
	TZ=Pacific/Auckland LC_ALL=C GOCACHE="$work/cache-two" make --no-print-directory release ARGS="${ARGS:-}"
)
diff -r "$work/one/dist" "$work/else/where/two/dist"
cat "$work/one/dist/SHA256SUMS"
echo "release/check: the same bytes from two folders"
