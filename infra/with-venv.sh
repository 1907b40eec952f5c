#!/bin/sh
# Runs a command that finds the tests' servers.
set -eu
cd "$(dirname "$0")/.."
. infra/venv.sh
exec "$@"
