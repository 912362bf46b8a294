#!/usr/bin/env bash
# Four tasks, three methods, one table: installs into .venv, makes small corpora and a small backbone, trains, evaluates.
# Arguments go to `elp quickstart` (see --help), for example: --methods elp,le,l_only --steps 400
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup synth
cd "$ROOT"
exec "$VENV/bin/elp" quickstart "$@"
