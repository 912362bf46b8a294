#!/usr/bin/env bash
# Seconds from `git clone` to the end of the quickstart's installation, and to its first training step.
# Clones this repository into a temporary folder with its own environment, and removes both at the end.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$(mktemp -d)"
run=
trap '[ -z "$run" ] || kill -- "-$run" || true; wait; rm -rf "$folder"' EXIT
set -m # the quickstart becomes a process group, which ends with its runs
unset VENV
SECONDS=0
git clone --quiet "$here" "$folder/clone"
cd "$folder/clone"
bash recipes/quickstart.sh >"$folder/log.txt" 2>&1 &
run=$!

seconds_until() { # seconds_until COMMAND…: when it succeeds
  until "$@"; do
    kill -0 "$run" 2>/dev/null || { tail -n 5 "$folder/log.txt" >&2; return 1; }
    sleep 0.2
  done
  echo "$SECONDS s"
}
trained() { grep -rqsE 'train: .* [1-9][0-9]*/[0-9]+ \[' --include=log.txt result/quickstart/runs; }

echo "installed after $(seconds_until grep -q '^Installed ' "$folder/log.txt")"
echo "first training step after $(seconds_until trained)"
exec 2>/dev/null # the shell would say that the quickstart was ended
