#!/usr/bin/env bash
# Lint and tests. Arguments go to pytest, for example: -m slow, -m large, -k p_adapter
source "$(dirname "${BASH_SOURCE[0]}")/../recipes/setup.sh"
setup test
cd "$ROOT"
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
exec "$VENV/bin/python" -m pytest -n "${JOBS:-2}" --dist loadfile "$@"
