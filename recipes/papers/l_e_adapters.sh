#!/usr/bin/env bash
# The table of the L-E adapters' paper (arXiv 2212.02780): five methods on four tasks, with WavLM Base+.
#   recipes/papers/l_e_adapters.sh DATA OUT [TASK ...]
# DATA contains VoxCeleb1, IEMOCAP, LibriSpeech with Libri-light's 10 hours, and Fluent Speech Commands; see
# docs/papers.md for the files that the paper's protocols need. ER has five runs per cell, one for each fold; their mean
# is the cell. SEED=43 and another OUT repeat the table with another seed.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TASKS="sv er asr ic"
source "$HERE/cells.sh"
cells "$@"

for method in full_finetune conventional le l_only e_only; do
  for task in $TASKS; do
    case $task in
      sv | er) activation=relu ;;
      *) activation=gelu ;;
    esac
    file=l_e_adapters/${method}_$activation
    if [ $method = full_finetune ]; then file=l_e_adapters/full_finetune_dropout; fi
    if [ $task = er ]; then
      for fold in 1 2 3 4 5; do cell er $file wavlm_base_plus -v fold$fold -c er_reference; done
    else
      cell $task $file wavlm_base_plus -c ${task}_reference
    fi
  done
done
"$ELP" report "$OUT"/*/*/
