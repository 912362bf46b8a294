#!/usr/bin/env bash
# Compares several methods on several tasks: installs into .venv, makes small corpora and a small backbone, trains and
# evaluates. Arguments are passed to `elp quickstart` (see --help), for example: --methods elp,le,l_only --steps 400
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup synth
cd "$ROOT"
exec "$VENV/bin/elp" quickstart "$@"
