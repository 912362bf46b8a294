#!/usr/bin/env bash
# Build the documentation's site into build/site, offline. Arguments go to mkdocs: bash recipes/docs/build.sh --site-dir DIR
# PYTHON names the interpreter; its environment needs the extra `docs` (tests/run.sh installs it into .venv).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export DISABLE_MKDOCS_2_WARNING=true NO_MKDOCS_2_WARNING=1 # an announcement in colours, not a warning about these pages
exec "${PYTHON:-.venv/bin/python}" -m mkdocs build --strict "$@"
