"""A training up to its first step and an inference import nothing that they do not use."""

import sys

from tests import task_runs, toy_corpora
from tests.programs import call
from tests.toys import tiny_backbone

RARE = {
    "torch._dynamo": "compiles models; the optimizers import it",
    "sympy": "belongs to the compiler; an attention with a mask imports it",
    "transformers": "S3PRL's hub imports it for two upstreams",
    "requests": "S3PRL's hub imports it for downloads",
    "httpx": "huggingface_hub imports it for downloads",
    "httpx2": "the same in its newer versions",
    "matplotlib": "draws curves at the end of a run",
    "pandas": "S3PRL's own tasks read tables with it",
    "scipy": "librosa and S3PRL's own tasks import it",
    "librosa": "S3PRL's own tasks import it",
    "sklearn": "S3PRL's own tasks import it",
    "numba": "librosa imports it",
}
"""Packages that take long to import, and why they were or might be imported."""
MAIN = "from upstream_elp.cli import main; main()"
TELL = f"print('\\nrare:', *sorted({{*sys.modules}} & {set(RARE)!r}), file=sys.stderr)"
STEP = f"""
import sys
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: {TELL})
{MAIN}
"""
END = f"""
import atexit, sys
atexit.register(lambda: {TELL})
{MAIN}
"""


def rare(code, *words):
    """What a command has imported at each of the moments at which `code` tells it."""
    done = call([sys.executable, "-c", code, *map(str, words)])
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("rare:").split() for line in done.stderr.splitlines() if line.startswith("rare:")]


def test_neither_imports_what_it_does_not_use(data, tmp_path, cache):
    folder = tmp_path / "exp"
    flags = ["-m", "train", "-u", "elp_local", "-k", tiny_backbone(), "-g", "le"]
    flags += task_runs.flags("elp_ic", data, folder)
    flags += task_runs.options("elp_ic", "superb", total_steps=1, eval_step=1, save_step=1, log_step=1)
    assert rare(STEP, "run", *flags) == [[]]
    wave = toy_corpora.write_wav(tmp_path / "wave.wav", toy_corpora.tone())
    assert rare(END, "infer", folder, wave) == [[]]
    rare(END, "export", folder, tmp_path / "exported")
    assert rare(END, "infer", tmp_path / "exported", wave, "--backbone", tiny_backbone()) == [[]]
