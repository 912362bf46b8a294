"""Writes the golden files: what this version leaves on disk, for later versions to go on from and to use.

``python -m tests.golden.make`` writes them next to this file, and ``python -m tests.golden.make PRESET`` only what a
new preset adds. Run it when a format changes on purpose, never to make a test pass. Everything is as small as the
formats allow: a backbone of two layers, and corpora of tones.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
#: one preset of each kind of features and of tensors: added ones, replaced ones, parametrized weights, base tensors
RUNS = {"elp_asr": "elp", "elp_sv": "lora_qv8", "elp_er": "bitfit", "elp_ic": "full_finetune"}
STEPS = {"first": 2, "last": 4}
HEADS = {
    "elp_asr": {"modelrc.RNNs.dim": "[8,8]", "modelrc.project_dim": 8},
    "elp_sv": {
        "modelrc.superb.input_dim": 8,
        "modelrc.superb.agg_dim": 8,
        "datarc.max_timestep": 8000,
        "datarc.min_samples": 16000,
        "datarc.train_batch_size": 4,
    },
    "elp_er": {"modelrc.projector_dim": 8},
    "elp_ic": {"modelrc.projector_dim": 8},
}
FILES = 3
AUDIO = {
    "elp_asr": ("LibriSpeech/test-clean", "*.flac"),
    "elp_sv": ("VoxCeleb1/test/wav", "*.wav"),
    "elp_er": ("IEMOCAP/Session1/sentences/wav", "*.wav"),
    "elp_ic": ("fluent_speech_commands_dataset/wavs/speakers/testspk", "*.wav"),
}


def backbone(place: Path) -> Path:
    """A WavLM of two layers, written anew: its file holds what S3PRL's loader wants and nothing of ours."""
    from tests.toys import tiny_backbone

    return Path(shutil.copy(tiny_backbone(layers=2, dim=16, heads=2, seed=5), place))


def train(task: str, data: Path, place: Path, exp: Path) -> None:
    """Train to the first of :data:`STEPS`; the total is the last, as of a run that was interrupted."""
    from upstream_elp.run import run

    every, last = STEPS["first"], STEPS["last"]
    values = {"total_steps": last, "eval_step": every, "save_step": every, "log_step": 1, "max_keep": 9}
    values = {f"config.runner.{key}": value for key, value in values.items()}
    values |= {"config.runner.gradient_accumulate_steps": 1, "config.optimizer.lr": 1e-3}
    values |= {f"config.downstream_expert.{key}": value for key, value in HEADS[task].items()}
    values["config.downstream_expert.datarc.num_workers"] = 0
    words = ["-m", "train", "-u", "elp_local", "-k", str(place), "-g", RUNS[task], "-d", task, "-p", str(exp)]
    overrides = ",,".join(f"{key}={value}" for key, value in values.items())
    run([*words, "--data", str(data), "--device", "cpu", "-o", overrides])


def resume(data: Path, place: Path, exp: Path) -> None:
    """Go on from the last checkpoint in a folder."""
    from upstream_elp.run import run

    run(["-m", "train", "-a", "-p", str(exp), "--data", str(data), "--backbone", str(place), "--device", "cpu"])


def evaluate(data: Path, place: Path, checkpoint: Path) -> dict:
    """The metrics of the test set."""
    from upstream_elp.run import run

    words = ["-m", "evaluate", "-t", "test", "-e", str(checkpoint), "--data", str(data), "--backbone", str(place)]
    run([*words, "--device", "cpu"])
    return json.loads((checkpoint.parent / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]


def answers(task: str, data: Path, place: Path, folder: Path) -> list[dict]:
    """What a loaded folder says to files of the test set."""
    import upstream_elp

    model = upstream_elp.load(folder, backbone=place, device="cpu")
    root, pattern = AUDIO[task]
    found = [model(file).to_dict() for file in sorted((data / root).rglob(pattern))[:FILES]]
    return [{key: value for key, value in one.items() if key != "file"} for one in found]


def waves() -> list[torch.Tensor]:
    """Two waves that need no random numbers."""
    return [0.1 * torch.sin(torch.arange(length) * 0.05 * (1 + torch.arange(length) / 9000)) for length in (2900, 4000)]


def states(place: Path, folder: Path) -> torch.Tensor:
    """The last state of a trained adapter folder on its backbone, shape (batch, frames, dim)."""
    from upstream_elp.upstream.build import build_upstream

    expert = build_upstream(None, ckpt=str(folder), backbone=str(place)).eval()
    with torch.no_grad():
        return expert(waves())["hidden_states"][-1].contiguous()


def machine() -> dict[str, str]:
    """On what results are equal bit by bit: libraries choose their kernels by the processor's model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "torch": torch.__version__,
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def trained(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a training checkpoint that is not the optimizer's."""
    from tests.checkpoints import load_states

    found = load_states(checkpoint)
    parts = {part: found[part] for part in ("Upstream", "Featurizer", "Downstream") if found.get(part)}
    return {
        f"{part}.{name}": tensor.contiguous()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }


def neutral(checkpoint: Path, place: Path, work: Path) -> Path:
    """Copy a training checkpoint without the names of this machine's folders, which nothing may depend on."""
    from tests.checkpoints import load_states

    places = {str(work): "/elsewhere/runs", str(HERE.parents[1]): "/elsewhere/project", sys.prefix: "/elsewhere/python"}

    def renamed(value: Any) -> Any:
        if isinstance(value, str):
            for old, new in places.items():
                value = value.replace(old, new)
        elif isinstance(value, dict):
            value = {key: renamed(item) for key, item in value.items()}
        elif isinstance(value, list):
            value = [renamed(item) for item in value]
        elif isinstance(value, Namespace):
            value = Namespace(**renamed(vars(value)))
        return value

    states = load_states(checkpoint)
    torch.save({**states, **{key: renamed(states[key]) for key in ("Args", "Config")}}, place)
    return place


def write_run(task: str, data: Path, place: Path, work: Path) -> dict:
    """One experiment that was interrupted, what it ends with, its exported folder, and what that answers."""
    from upstream_elp.commands.export import export

    exp, kept = work / task, HERE / "runs" / task
    train(task, data, place, exp)
    kept.mkdir(parents=True)
    first = neutral(exp / f"states-{STEPS['first']}.ckpt", kept / f"states-{STEPS['first']}.ckpt", work)
    last = exp / f"states-{STEPS['last']}.ckpt"
    save_file(trained(last), kept / "last.safetensors")
    export.callback(str(last), str(HERE / "folders" / task), backbone=None, no_head=False)
    metrics = evaluate(data, place, Path(shutil.copy(first, exp / "early.ckpt")))
    return {"metrics": metrics, "answers": answers(task, data, place, HERE / "folders" / task)}


def write_adapter(preset: str, place: Path) -> torch.Tensor:
    """An adapter folder of a preset, moved off its initial values, and what it gives."""
    from tests.experts import add_noise
    from upstream_elp.upstream.adapter_folder import write_adapter_folder
    from upstream_elp.upstream.build import build_upstream
    from upstream_elp.upstream.transfer import adapter_folder_of

    torch.manual_seed(0)
    expert = build_upstream(None, ckpt=str(place), model_config=preset).eval()
    add_noise(expert, 0.05)
    return states(place, write_adapter_folder(HERE / "adapters" / preset, adapter_folder_of(expert)))


def main() -> None:
    """Write everything anew."""
    import upstream_elp
    from tests import toy_corpora
    from upstream_elp.adapters.config import preset_names

    torch.set_num_threads(1)
    for name in ("runs", "folders", "adapters"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    place = backbone(HERE / "backbone.pt")
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        os.environ["ELP_CACHE"] = f"{folder}/cache"
        data = toy_corpora.write_all(Path(folder) / "data")
        runs = {task: write_run(task, data, place, Path(folder)) for task in RUNS}
    save_file({preset: write_adapter(preset, place) for preset in preset_names()}, HERE / "states.safetensors")
    expected = {"made_with": upstream_elp.__version__, "machine": machine(), "runs": runs}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def add(presets: list[str]) -> None:
    """Write what new presets add, and keep everything else."""
    torch.set_num_threads(1)
    known = load_file(HERE / "states.safetensors")
    new = {preset: write_adapter(preset, HERE / "backbone.pt") for preset in presets}
    save_file({**known, **new}, HERE / "states.safetensors")


if __name__ == "__main__":
    add(sys.argv[1:]) if sys.argv[1:] else main()
