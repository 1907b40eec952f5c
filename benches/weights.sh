#!/bin/sh
# Runs what finished jobs leave in PyTorch and onnxruntime: plain modules must take the weights, and scores agree.
set -eu
cd "$(dirname "$0")/.."
. benches/venv.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo run --quiet --package stoker-engine --example bench-engine -- weights "$folder"
"$python" benches/engine/check_weights.py "$folder"
