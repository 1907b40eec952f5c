#!/bin/sh
# Job submission beside its raw limit, Celery and Ray, which are in a Python environment of their own.
# How many rounds, and how many seconds each, may be given.
set -eu
cd "$(dirname "$0")/.."
. infra/venv.sh
: "${STOKER_VENV_SUBMIT:=${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-submit}"
python=$STOKER_VENV_SUBMIT/bin/python
if ! "$python" -c 'import celery, ray, redis' 2>/dev/null; then
  echo "making $STOKER_VENV_SUBMIT"
  python3 -m venv "$STOKER_VENV_SUBMIT"
  "$STOKER_VENV_SUBMIT/bin/pip" install --quiet celery==5.7.0 redis==8.1.0 'ray[default]==2.60.0'
fi
exec cargo run --quiet --example bench-submit -- "$python" "$@"
