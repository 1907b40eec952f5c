#!/bin/sh
# The engine beside PyTorch and JAX, in a Python environment of their own.
set -eu
cd "$(dirname "$0")/.."
. benches/venv.sh
exec cargo run --quiet --package stoker-engine --example bench-engine -- "$python" "$@"
