#!/bin/sh
# All tests. cargo-nextest where it is installed, else cargo's own runner; the same tests.
set -eu
cd "$(dirname "$0")/.."
. infra/venv.sh
cargo test --workspace --quiet --no-fail-fast "$@"
