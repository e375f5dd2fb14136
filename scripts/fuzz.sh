#!/bin/sh
# Runs each fuzz target of the module for the given time. `go test -fuzz` takes
# one target of one package at a time.
set -eu
time=$1
for file in $(grep -rl --include='*_test.go' '^func Fuzz' . | grep -v node_modules); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		echo "fuzz: $target (${file%/*})"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "${file%/*}"
	done
done
