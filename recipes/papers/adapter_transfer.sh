#!/usr/bin/env bash
# The English setting of efficient adapter transfer (arXiv 2202.03218): wav2vec 2.0 Base on Libri-light's 10 hours, with
# two adapters in every layer or in the top ones, and fine-tuning. The learning rates and the schedule are those of the
# L-E paper's code for these methods, as the paper's were not found.
#   recipes/papers/adapter_transfer.sh DATA OUT
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TASKS="asr"
source "$HERE/cells.sh"
cells "$@"

for method in full_finetune_nocnn topk_finetune conventional conventional_top6 conventional_top4; do
  cell asr $method wav2vec2_base_960 -c "$HERE/adapter_transfer/asr.yaml"
done
"$ELP" report "$OUT"/*/*/
