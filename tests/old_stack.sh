#!/usr/bin/env bash
# The tests on the oldest supported versions, in an environment of their own (.venv-old, or VENV). Not part of CI.
# Arguments go to pytest, for example: tests/launch/test_run.py -k resume
source "$(dirname "${BASH_SOURCE[0]}")/stack.sh"
run_on "${VENV:-.venv-old}" 'torch==2.8.0 torchaudio==2.8.0 transformers>=4.57,<4.58 huggingface_hub>=0.36,<0.37' "$@"
