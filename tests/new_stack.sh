#!/usr/bin/env bash
# The tests on the newest versions of everything that pip finds, in an environment of their own (.venv-new, or VENV).
# Not part of CI. Arguments go to pytest, for example: tests/launch/test_run.py -k resume
source "$(dirname "${BASH_SOURCE[0]}")/stack.sh"
run_on "${VENV:-.venv-new}" '--upgrade --upgrade-strategy eager' "$@"
