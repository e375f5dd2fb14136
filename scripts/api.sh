#!/usr/bin/env bash
# Holds the exported surface that others build on against the one that was
# accepted last, which is in api/: whatever would break their code is printed,
# and fails. What was added doesn't. `api.sh accept` prints all changes, and
# makes the surface as it is the one to hold to.
set -euo pipefail
cd "$(dirname "$0")/.."
module=github.com/freshet-dev/freshet
apidiff=(go tool -modfile=tools/api/go.mod apidiff)

broken=
for name in freshet contract server store store/setup client check; do
	package=$module/$name
	[ "$name" != freshet ] || package=$module
	base=api/$name.export
	if [ "${1-}" = accept ]; then
		mkdir -p "$(dirname "$base")"
		[ ! -e "$base" ] || "${apidiff[@]}" "$base" "$package" | sed "s|^[^ ]|$name: &|"
		# Without the paths of this machine, so that it is the same on all.
		GOFLAGS=-trimpath "${apidiff[@]}" -w "$base" "$package"
		continue
	fi
	found=$("${apidiff[@]}" -incompatible "$base" "$package")
	[ -z "$found" ] || broken+="$package"$'\n'"$found"$'\n'
done
if [ -n "$broken" ]; then
	printf '%s' "$broken" >&2
	echo "verify: this breaks the code of others. When it is meant: 'make api', in a commit that says why" >&2
	exit 1
fi
