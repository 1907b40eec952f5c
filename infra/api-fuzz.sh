#!/bin/bash
# Asks a server of its own for what its OpenAPI document allows, and for much that it doesn't, by schemathesis. No answer
# may be a 5xx, a status, a content type or a body that the document doesn't have, or one without a token. SECONDS_MAX=60 SEED=7.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-fuzz-1"
if [ ! -f "$venv/ready" ]; then
  echo "making $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet schemathesis==4.32.5 tomli-w==1.2.0
  touch "$venv/ready"
fi
scratch=$(mktemp -d "${TMPDIR:-/tmp}/api-fuzz.XXXXXX")
STOKER__API__RATE__PER_S=0 STOKER__LOG__FILTER=warn "$1" up --data-dir "$scratch/data" >"$scratch/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -rf "$scratch"' EXIT
for _ in $(seq 100); do
  [ -f "$scratch/data/client.toml" ] && break
  kill -0 $server 2>/dev/null || { cat "$scratch/log"; exit 1; }
  sleep 0.2
done
of() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" "$scratch/data/client.toml"; }
seed=${SEED:-$RANDOM}
echo "api-fuzz: seed $seed, ${SECONDS_MAX:-300} s at most"
# Not the call that would revoke the token of all others.
hooks=$PWD/infra
cd "$scratch" # where it keeps its cases
PYTHONPATH=$hooks PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=api_fuzz "$venv/bin/schemathesis" run "$(of server)/openapi.json" \
  --header "Authorization: Bearer $(of token)" --seed "$seed" --max-time "${SECONDS_MAX:-300}" \
  --exclude-operation-id revoke_token --phases examples,coverage,fuzzing --request-timeout 20 --continue-on-failure --no-color --warnings off \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth
kill -0 $server || { echo "the server has ended"; tail -20 "$scratch/log"; exit 1; }
! grep -E '"level":"ERROR"|panicked| ERROR ' "$scratch/log"
