"""Run the papers' plans on mini-SUPERB in minutes, from the repository's root: python recipes/papers/mini.py [PLAN]...

Each plan is run as it is, but on small synthesised corpora, with a small random backbone, for two steps, and with one
of ER's folds. The numbers mean nothing, but they show that every cell of a table can be trained, tested and reported.
KS is left to its own tests, as mini-SUPERB has no such corpus.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

PAPERS = Path(__file__).parent
PLANS = tuple(path.stem for path in sorted(PAPERS.glob("*.yaml")))
SHORT = {
    "runner.total_steps": 2,
    "runner.eval_step": "last",
    "runner.save_step": 2,
    "runner.log_step": 1,
    "runner.gradient_accumulate_steps": 1,
}
OTHER_FOLDS = [f"fold{number}" for number in range(2, 6)]


def elp(*words: object) -> None:
    """Call `elp`; a failure ends this program too."""
    done = subprocess.run([sys.executable, "-m", "upstream_elp.cli", *map(str, words)])
    if done.returncode:
        sys.exit(done.returncode)


def prepare(data: Path, backbone: Path) -> None:
    """Synthesise the corpora and write the backbone, unless they are there."""
    if not data.exists():
        elp("mini-superb", data, "--size", "tiny")
    if not backbone.exists():
        elp("mini-backbone", backbone)  # its frames see 400 samples, as the recipes demand
    trials = data / "VoxCeleb1" / "veri_test2.txt"  # the cleaned list, which is another one for the real corpus
    if not trials.exists():
        shutil.copyfile(trials.with_name("voxceleb1_test_v2.txt"), trials)
    _librilight(data / "LibriSpeech")


def _librilight(libri: Path) -> None:
    """Deal the utterances of train-clean-100 out to the folders of Libri-light's 10 hours."""
    root = libri / "librispeech_finetuning"
    if root.exists():
        return
    parts = [f"{part}/{kind}" for part in ("9h", *(f"1h/{fold}" for fold in range(6))) for kind in ("clean", "other")]
    texts = sorted((libri / "train-clean-100").rglob("*.trans.txt"))
    lines = [(text, line) for text in texts for line in text.read_text(encoding="utf-8").splitlines()]
    for number, (text, line) in enumerate(lines):
        chapter = root / parts[number % len(parts)] / text.parent.relative_to(libri / "train-clean-100")
        chapter.mkdir(parents=True, exist_ok=True)
        name = f"{line.split()[0]}.flac"
        shutil.copyfile(text.with_name(name), chapter / name)
        with (chapter / text.name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def small(name: str, data: Path, backbone: Path) -> dict:
    """Return a plan's small version."""
    plan = {
        "base": str(PAPERS / f"{name}.yaml"),
        "data": str(data),
        "backbones": [str(backbone)],
        "set": SHORT,
        "exclude": [{"tasks": "er", "folds": OTHER_FOLDS}],
    }
    content = yaml.safe_load((PAPERS / f"{name}.yaml").read_text(encoding="utf-8"))
    tasks = {task for block in (content, *content.get("include", [])) for task in block.get("tasks", [])}
    if "er" not in tasks:
        del plan["exclude"]
    if "ks" in tasks:
        plan["exclude"].append({"tasks": "ks"})
    return plan


def main() -> None:
    """Run the named plans, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plans", nargs="*", metavar="PLAN", help=f"some of {', '.join(PLANS)}; by default all")
    parser.add_argument("--out", type=Path, default=Path("build/papers"), help="corpora, backbone and results")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    given = parser.parse_args()
    if unknown := [name for name in given.plans if name not in PLANS]:
        parser.error(f"unknown plan {unknown[0]}; the plans are: {', '.join(PLANS)}")
    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    data, backbone = out / "mini", out / "mini.pt"
    prepare(data, backbone)
    for name in given.plans or PLANS:
        plan = out / f"{name}.yaml"
        plan.write_text(yaml.safe_dump(small(name, data, backbone)), encoding="utf-8")
        elp("sweep", plan, "--out", out / name, "--jobs", given.jobs, "--device", "cpu")


if __name__ == "__main__":
    main()
