#!/bin/sh
# The engine beside PyTorch and JAX, in a Python environment of their own.
set -eu
cd "$(dirname "$0")/.."
: "${STOKER_VENV_BENCH:=${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-bench}"
if ! "$STOKER_VENV_BENCH/bin/python" -c 'import jax, safetensors, torch' 2>/dev/null; then
  echo "bench-engine: making $STOKER_VENV_BENCH"
  python3 -m venv "$STOKER_VENV_BENCH"
  "$STOKER_VENV_BENCH/bin/pip" install --quiet torch==2.15.0 jax==0.10.2 safetensors==0.8.0
fi
exec cargo run --quiet --package stoker-engine --example bench-engine -- "$STOKER_VENV_BENCH/bin/python" "$@"
