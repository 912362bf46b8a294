#!/usr/bin/env bash
# The comparison of the ELP-adapters' paper (arXiv 2407.21066): adapters against fine-tuning on four tasks and five
# backbones. Its tables and settings are not public, so everything but the tasks is our reading: the backbones except
# WavLM, the P-adapter, and the protocol, which is that of the L-E paper.
#   recipes/papers/elp_adapters.sh DATA OUT [TASK ...]
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TASKS="sv er asr ic"
source "$HERE/cells.sh"
cells "$@"

for backbone in ${BACKBONES:-wavlm_base_plus wavlm_base hubert_base wav2vec2_base_960 contentvec}; do
  for method in full_finetune le elp; do
    for task in $TASKS; do
      if [ $task = er ]; then
        for fold in 1 2 3 4 5; do cell er $method $backbone -v fold$fold -c er_reference; done
      else
        cell $task $method $backbone -c ${task}_reference
      fi
    done
  done
done
"$ELP" report "$OUT"/*/*/
