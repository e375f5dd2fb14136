#!/bin/sh
# Compares freshly generated code (a folder that mirrors the repository) with
# the committed one, both ways: a file that nothing generates any more is as
# wrong as a stale one. gen/*db are sqlc's, which has a diff of its own.
set -eu
fresh=$1
failed=0
for dir in $(cd "$fresh" && find . -type d -name gen); do
	diff -ru -x freshetdb -x messagesdb "$fresh/$dir" "$dir" || failed=1
done
if [ "$failed" = 1 ]; then
	echo "verify: generated code is not current: run 'make generate' and commit the result" >&2
	exit 1
fi
rm -rf "$fresh"
