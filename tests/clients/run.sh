#!/usr/bin/env bash
# Installs the clients that are missing and runs their tests against target/debug/salespulse (or $SALESPULSE).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ ! -d node_modules ] || [ package-lock.json -nt node_modules ]; then
    npm ci --ignore-scripts
    touch node_modules
fi
if [ ! -x python/.venv/bin/python ]; then
    python3 -c 'import ensurepip' 2>/dev/null || ../../scripts/apt-install.sh python3-venv
    if ! python3 -m venv python/.venv || ! python/.venv/bin/pip install --quiet -r python/requirements.txt; then
        rm -rf python/.venv
        ../../scripts/not-tested.sh "clients: Python's gql" "its environment cannot be made (python3-venv and PyPI are needed)"
    fi
fi
export SALESPULSE=${SALESPULSE:-${CARGO_TARGET_DIR:-$PWD/../../target}/debug/salespulse}
npm test
