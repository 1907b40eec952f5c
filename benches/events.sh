#!/bin/sh
# Metric points: written and read beside MLflow's tracking server, which has a Python environment of
# its own.
set -eu
cd "$(dirname "$0")/.."
venv="${STOKER_VENV_MLFLOW:-${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-mlflow-1}"
if [ ! -f "$venv/ready" ]; then
  echo "making $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet mlflow==3.18.0
  touch "$venv/ready"
fi
. infra/venv.sh
exec cargo run --quiet --example bench-events -- "$venv/bin/python" "$@"
