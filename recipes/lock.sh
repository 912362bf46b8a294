#!/usr/bin/env bash
# Renews recipes/constraints.txt: all direct and indirect dependencies of this project, at the newest versions that
# pyproject.toml and lock.in allow, for all platforms and Pythons. There are no hashes, as torch has several builds per version.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$tools/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras --no-annotate \
  --custom-compile-command 'bash recipes/lock.sh' --output-file recipes/constraints.txt pyproject.toml recipes/lock.in
echo "recipes/constraints.txt: $(grep -c == recipes/constraints.txt) versions; now run tests/run.sh" >&2
