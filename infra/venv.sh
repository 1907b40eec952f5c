# Sourced: where the tests' Python environment is (outside the checkout, kept between runs).
STOKER_VENV="${STOKER_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-1}"
export STOKER_VENV
STOKER_TEST_MOTO="$STOKER_VENV/bin/moto_server"
export STOKER_TEST_MOTO
