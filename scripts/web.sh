#!/usr/bin/env bash
# Builds the web app into web/dist if a source is newer than the last build.
# Without npm it prints one line and leaves web/dist as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm=${NPM:-npm}
index=web/dist/index.html

if [ ! -f web/package.json ]; then
    echo "web: there is no web/package.json, nothing to build"
    exit 0
fi

if [ -f "$index" ]; then
    # The page includes the schema, and the operations of the tests as examples.
    newer=$(find web tests/operations schema.graphql \( -name node_modules -o -path web/dist -o -name coverage -o -name test-results \
        -o -name playwright-report \) -prune -o \( -type f -newer "$index" -print -quit \))
    if [ -z "$newer" ]; then
        echo "web: web/dist is up to date"
        exit 0
    fi
fi

if ! command -v "$npm" >/dev/null; then
    echo "web: not built, as npm is missing: install Node.js 20.19 or newer (https://nodejs.org), then 'make web'"
    exit 0
fi

cd web
# npm records its last installation in this file.
installed=node_modules/.package-lock.json
if [ ! -f "$installed" ] || [ package-lock.json -nt "$installed" ] || [ package.json -nt "$installed" ]; then
    "$npm" ci --no-audit --no-fund
    touch "$installed"
fi
"$npm" run build
touch dist/index.html
