# Sourced by recipes/quickstart.sh and tests/run.sh: makes .venv once, and again when pyproject.toml changes.
# PYTHON chooses the interpreter (3.10 to 3.12), VENV the folder.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

find_python() {
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.10 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.10, 3.11 or 3.12 is needed; name one with PYTHON=/path/to/python3" >&2
  return 1
}

setup() { # setup EXTRA
  local stamp="$VENV/.installed-$1" wanted
  wanted="$(cksum <"$ROOT/pyproject.toml")"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    local python
    python="$(find_python)"
    echo "Installing into $VENV (PyTorch's CUDA build is large: a few GB, about two minutes)" >&2
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$ROOT[$1]"
    echo "$wanted" >"$stamp"
  fi
}
