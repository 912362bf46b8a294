# Sourced by recipes/quickstart.sh and tests/run.sh: installs the tested versions into .venv once, and again when
# pyproject.toml or recipes/constraints.txt changes. PYTHON chooses the interpreter (3.10 to 3.14), VENV the folder.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
LOCK="$ROOT/recipes/constraints.txt"

find_python() {
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.10 python3.14 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.10 to 3.14 was found; choose one with PYTHON=/path/to/python3" >&2
  return 1
}

check_disk() { # all packages take 1.8 GB with PyTorch's CPU build and 6 GB with its CUDA build, and pip's cache the same again
  local folder free
  folder="$(dirname "$VENV")"
  mkdir -p "$folder"
  free="$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')"
  if [ "$free" -lt 3 ]; then
    echo "error: $folder has $free GB of free disk space, but the installation needs 3 GB; free some space, or choose another folder with VENV=/path/.venv" >&2
    return 1
  fi
  if [ "$free" -lt 12 ]; then
    echo "warning: $folder has $free GB of free disk space; if pip chooses PyTorch's CUDA build, the installation needs 12 GB" >&2
  fi
}

setup() { # setup EXTRA
  local stamp="$VENV/.installed-$1" wanted python
  wanted="$(cat "$ROOT/pyproject.toml" "$LOCK" | cksum)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  python="$(find_python)"
  check_disk
  echo "Installing the versions of recipes/constraints.txt into $VENV" >&2
  [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
  pip_install --editable "$ROOT[$1]"
  "$VENV/bin/elp" doctor --check
  echo "Installed $("$VENV/bin/elp" doctor --versions) into $VENV ($(du -sh "$VENV" | cut -f1))" >&2
  echo "$wanted" >"$stamp"
}

pip_install() { # newer versions of pip read the constraints of build dependencies from the second variable
  PIP_CONSTRAINT="$LOCK" PIP_BUILD_CONSTRAINT="$LOCK" \
    "$VENV/bin/python" -m pip install --disable-pip-version-check "$@"
}
