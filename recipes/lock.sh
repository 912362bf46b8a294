#!/usr/bin/env bash
# Renews recipes/constraints.txt: every package that this project needs, direct or not, at the newest version that fits
# pyproject.toml and lock.in, for all platforms and Pythons. Without hashes, because a version of torch has several builds.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$tools/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras --no-annotate \
  --custom-compile-command 'bash recipes/lock.sh' --output-file recipes/constraints.txt pyproject.toml recipes/lock.in
echo "recipes/constraints.txt: $(grep -c == recipes/constraints.txt) versions; now run tests/run.sh" >&2
