#!/bin/sh
# The readers beside polars and PyTorch's DataLoader: bytes in files to batches of numbers. Then
# training from disk beside training from memory.
set -eu
cd "$(dirname "$0")/.."
. benches/venv.sh
if ! "$python" -c 'import PIL, polars, pyarrow' 2>/dev/null; then
  "$(dirname "$python")/pip" install --quiet polars==2.1.0 pyarrow==26.0.1 pillow==13.0.0
fi
cargo build --quiet --release --package stoker-data --package stoker-engine --example bench-data --example bench-disk
infra/data.sh mnist
target=${CARGO_TARGET_DIR:-target}
samples=${STOKER_SAMPLES_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/stoker/data}
exec "$python" benches/data/compare.py "$target/release/examples" "$samples/mnist/mnist.npz" "$@"
