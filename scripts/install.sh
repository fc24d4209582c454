#!/usr/bin/env bash
# Installs into the environment whose bin folder is the first argument; the rest goes to the installer as it is.
# uv takes a second where pip takes half a minute; where uv can't reach what pip is set up for, pip does it.
set -euo pipefail
bin=$1
shift
echo "install $*"
if UV_PYTHON_DOWNLOADS=never "$bin/uv" pip install --quiet --python "$bin/python" --no-deps "$@" 2>"$bin/../.uv.log"; then
    exit 0
fi
exec "$bin/python" -m pip --disable-pip-version-check install --quiet --no-deps "$@"
