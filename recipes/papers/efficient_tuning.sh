#!/usr/bin/env bash
# The methods of the SLT 2022 study (arXiv 2210.06175) on SUPERB's tasks that this project has: HuBERT and wav2vec 2.0,
# with SUPERB's recipes. DeCoAR 2.0, PR, SD, SID, SF and QbE are not among them.
#   recipes/papers/efficient_tuning.sh DATA OUT [TASK ...]
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TASKS="asr ic ks sv er"
source "$HERE/cells.sh"
cells "$@"

for backbone in ${BACKBONES:-hubert_base wav2vec2_base_960}; do
  for method in full_finetune_all houlsby32 adapterbias lora_qk8 bitfit prompt prefix_tokens weighted_sum; do
    for task in $TASKS; do
      if [ $task = er ]; then
        for fold in 1 2 3 4 5; do tested_cell er $method $backbone -v fold$fold -c er_superb; done
      else
        tested_cell $task $method $backbone -c ${task}_superb
      fi
    done
  done
done
"$ELP" report "$OUT"/*/*/
