#!/bin/sh
# The page of web/e2e/next, built by Next.js and started beside the program, in a real
# browser: what is rendered on its server is read again if something has changed since,
# and only then. Next.js is installed into a folder of its own, since its 390 MB are
# nobody else's.
set -eu
if ! scripts/have-node.sh; then
	echo '*** NOT RUN: next. There is no Node.js 20 or later (see "make deps").' >&2
	exit 1
fi
folder=$PWD/.cache/next
mkdir -p "$folder"
rm -rf "$folder/app" "$folder/gen" "$folder/.next"
cp -R web/e2e/next/app web/e2e/next/package.json web/e2e/next/tsconfig.json "$folder"
# Turbopack finds no .ts by the name of a .js.
cp -R web/demo/src/gen "$folder/gen"
find "$folder/gen" -name '*.ts' -exec sed -i.bak 's/\(from "\.[^"]*\)\.js"/\1"/' {} +
find "$folder/gen" -name '*.bak' -delete
(cd web && npm pack --silent -w @freshet/query --pack-destination "$folder" >/dev/null)
mv "$folder"/freshet-query-*.tgz "$folder/freshet-query.tgz"
export NEXT_TELEMETRY_DISABLED=1
(
	cd "$folder"
	rm -rf node_modules/@freshet package-lock.json # the tarball has another checksum each time
	npm install --silent --no-audit --no-fund
	node_modules/.bin/next build
)
cd web
FRESHET_NEXT=$folder exec npm run e2e -w @freshet/e2e -- next/
