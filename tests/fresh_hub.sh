#!/usr/bin/env bash
# Check a repository of `elp submit --hf` in an environment that has only what its requirements.txt names. It takes
# minutes, and pip needs its index: bash tests/fresh_hub.sh [FOLDER]
#
# FOLDER keeps the environment for another call. PYTHON is an interpreter that has this project installed.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=${1:-$(mktemp -d)}
mkdir -p "$work"
export PYTHONPATH="$root" OMP_NUM_THREADS=1

# 1. repositories of both kinds of backbones, each with two adapters that differ from their initial values
rm -rf "$work/repositories"
(cd "$root" && "$python" - "$work/repositories" <<'EOF'
import subprocess, sys
from pathlib import Path

import torch

import upstream_elp

upstream_elp.register()
from tests.toys import tiny_backbone
from upstream_elp.upstream.build import build_upstream

out = Path(sys.argv[1])
for kind, family in (("file", "wav2vec2"), ("folder", "hf_wav2vec2")):
    backbone = tiny_backbone(None, family, layer_norm_front=True)
    words = []
    for task, preset in (("ASR", "le"), ("ER", "lora_qv8")):
        expert = build_upstream(None, ckpt=str(backbone), model_config=preset)
        for parameter in expert.adapter_parameters().values():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        words += ["--adapter", f"{task}={expert.save_adapter(out / f'{kind}_{task}')}"]
    command = [sys.executable, "-m", "upstream_elp.cli", "submit", "--hf", str(out / kind), *words]
    subprocess.run([*command, "--backbone", str(backbone), "--license", "mit"], check=True)
EOF
)

# 2. a wheel of this project, which the index does not have
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$root"

# 3. an environment with what requirements.txt names, and nothing else
unset PYTHONPATH
[ -d "$work/environment" ] || "$python" -m venv "$work/environment"
fresh="$work/environment/bin/python"
"$fresh" -m pip install --quiet --find-links "$work/wheels" --requirement "$work/repositories/file/requirements.txt"

# 4. the check, in the repository's folder and without a network
for kind in file folder; do
    cd "$work/repositories/$kind"
    "$fresh" -c "import upstream_elp; assert 'environment' in upstream_elp.__file__, upstream_elp.__file__"
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 "$fresh" -m upstream_elp.submission.hub_check
done
"$fresh" -m pip list 2>/dev/null | grep -iE "^(s3prl|torch|transformers|numpy)"
echo "both repositories load in a fresh environment"
