#!/usr/bin/env bash
# The lowest supported stack: makes an environment with these versions and runs the host tests in it.
# Not part of CI. Usage: bash tests/old_stack.sh [FOLDER [pytest arguments]]   (default folder .venv-old)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.venv-old}
[ $# -gt 0 ] && shift
if [ ! -x "$folder/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$folder"
fi
"$folder/bin/python" -m pip install --quiet --editable '.[test]' \
  'torch==2.8.0' 'torchaudio==2.8.0' 'transformers>=4.57,<4.58' 'huggingface_hub>=0.36,<0.37'
[ $# -gt 0 ] || set -- tests/test_host.py tests/test_run.py tests/test_run_stock.py tests/test_run_processes.py tests/test_huggingface.py
OMP_NUM_THREADS=1 "$folder/bin/python" -m pytest -q "$@"
