#!/bin/sh
# Succeeds if Node.js is there, as new as the page's tools need it.
command -v npm >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null
