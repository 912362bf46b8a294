# Sourced by old_stack.sh and new_stack.sh: an environment of its own with other versions than the locked ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run_on() { # run_on FOLDER "PIP ARGUMENTS" [pytest arguments]; the default is the whole default run
  local folder="$1" versions="$2"
  shift 2
  [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
  # shellcheck disable=SC2086  # several arguments
  "$folder/bin/python" -m pip install --disable-pip-version-check --editable '.[test]' $versions
  "$folder/bin/elp" doctor --check
  "$folder/bin/elp" doctor --versions
  OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 "$folder/bin/python" -m pytest -n "${JOBS:-2}" --dist loadfile "$@"
}
