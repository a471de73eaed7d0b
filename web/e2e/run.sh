#!/usr/bin/env bash
# Tries GraphiQL in a headless Chromium against a server of its own: target/debug/salespulse (or $SALESPULSE), SQLite,
# a free port. A browser that is missing is installed with apt where that works without a password; else nothing is
# tested, which is said, and a failure where CI is set. $SCREENSHOT names a picture of the page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export SALESPULSE=${SALESPULSE:-${CARGO_TARGET_DIR:-$PWD/../target}/debug/salespulse}
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}

[ -x "$CHROMIUM" ] || ../scripts/apt-install.sh chromium
if [ ! -x "$CHROMIUM" ]; then
    exec ../scripts/not-tested.sh browser "Chromium is missing (apt-get install chromium)"
fi

folder=$(mktemp -d) server=''
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

export DATABASE_URL="sqlite://$folder/browser.db" SALESPULSE_JWT_SECRET="a secret of the browser test, long enough"
export SALESPULSE_LISTEN=127.0.0.1:0 SALESPULSE_LOG_LEVEL=info SALESPULSE_LOG_FORMAT=text
unset REDIS_URL
"$SALESPULSE" migrate >/dev/null 2>&1
"$SALESPULSE" tenant create acme --currency EUR >/dev/null
TOKEN=$("$SALESPULSE" token --tenant acme --role admin)
"$SALESPULSE" serve 2>"$folder/log" &
server=$!
for _ in {1..200}; do
    port=$(sed -n 's/.*127\.0\.0\.1:\([0-9][0-9]*\).*/\1/p' "$folder/log" | head -n 1)
    [ -z "$port" ] || break
    sleep 0.05
done
[ -n "$port" ] || { cat "$folder/log"; exit 1; }
export TOKEN BASE_URL="http://127.0.0.1:$port"
timeout 180 node e2e/graphiql.mjs ${SCREENSHOT:+"$SCREENSHOT"}
