#!/bin/sh
# Records what scikit-learn measures, which the built-in metrics are held against.
set -eu
cd "$(dirname "$0")/.."
. benches/venv.sh
"$python" benches/engine/record_metrics.py worker/engine/tests/metrics.json
