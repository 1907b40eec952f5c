#!/bin/sh
# Records PyTorch's loss trajectories, which the engine's tests are held against, and shows how far the engine is off.
set -eu
cd "$(dirname "$0")/.."
. benches/venv.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo run --quiet --package stoker-engine --example bench-engine -- trajectories "$folder"
"$python" benches/engine/record_trajectories.py "$folder" worker/engine/tests/trajectories/recorded
