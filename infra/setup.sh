#!/bin/sh
# Installs what builds and tests need. Does nothing where it is all there; run it as often as you like.
set -eu
cd "$(dirname "$0")/.."
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"

missing=""
command -v cc >/dev/null || missing="$missing build-essential"
command -v cmake >/dev/null || missing="$missing cmake"
command -v redis-server >/dev/null || missing="$missing redis-server"
[ -e /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 ] || missing="$missing faketime"
command -v rabbitmq-server >/dev/null || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
  echo "setup: installing$missing"
  $as_root apt-get update -qq
  # The tests start servers of their own, so the packages' services needn't start.
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing
fi

# The S3 server of the tests.
. infra/venv.sh
if [ ! -x "$STOKER_VENV/bin/moto_server" ]; then
  echo "setup: making $STOKER_VENV"
  python3 -m venv "$STOKER_VENV"
  "$STOKER_VENV/bin/pip" install --quiet 'moto[server]==5.2.1'
fi
