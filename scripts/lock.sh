#!/usr/bin/env bash
# Writes requirements/*.txt: exact versions with their hashes, for every platform and Python the project supports.
# No address of a registry gets into them. `bash scripts/lock.sh --upgrade` takes the newest versions allowed.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
    --no-emit-find-links --no-annotate "$@")
compile() { .venv/bin/uv pip compile "${options[@]}" "$@"; }
compile requirements/build.in -o requirements/build.txt
compile pyproject.toml -c requirements/build.txt -o requirements/run.txt
compile pyproject.toml --group dev -c requirements/build.txt -c requirements/run.txt -o requirements/dev.txt
compile requirements/local.in --no-deps -o requirements/local.txt
