#!/bin/sh
# Fetches real data sets (infra/data.py) with a Python environment of its own.
set -eu
cd "$(dirname "$0")/.."
venv="${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-data-1"
if [ ! -f "$venv/ready" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet numpy==2.4.6 blake3==1.0.11
  touch "$venv/ready"
fi
exec "$venv/bin/python" infra/data.py "$@"
