#!/usr/bin/env bash
# Fetches what some tests need beyond Python packages: Node packages, and a Chromium from Debian's. What can't be had
# is said in one line; the tests that need it skip themselves and give the same reason.
set -euo pipefail
cd "$(dirname "$0")/.."
log=.venv/.prepare.log
: >"$log"

node_packages() {
    local stamp=tests/node/node_modules/.stamp
    [ -e "$stamp" ] && [ ! tests/node/package-lock.json -nt "$stamp" ] && return 0
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        echo "prepare-tests: no node and npm here, so the JavaScript clients' tests are skipped"
        return 0
    fi
    if (cd tests/node && timeout 300 npm ci --no-audit --no-fund --ignore-scripts) >>"$log" 2>&1 </dev/null; then
        touch "$stamp"
    else
        echo "prepare-tests: npm ci failed ($log), so the JavaScript clients' tests are skipped"
    fi
}

chromium_browser() {
    grep -rqs --include='*.py' 'mark\.browser' tests || return 0
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null && return 0
    done
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "prepare-tests: no Chromium here and no right to install it, so the browser tests are skipped"
        return 0
    fi
    export DEBIAN_FRONTEND=noninteractive
    if ! { timeout 120 apt-get -q update &&
        timeout 600 apt-get -q -y --no-install-recommends install chromium; } >>"$log" 2>&1 </dev/null; then
        echo "prepare-tests: Chromium could not be installed ($log), so the browser tests are skipped"
    fi
}

node_packages
chromium_browser
