"""Folders with any name: a folder's name is never read as a pattern, a format or a command."""

import shlex
import shutil
from pathlib import Path

import pytest

from downstream_heads import registry
from tests import toy_corpora
from tests.host_toys import stock_config
from tests.toys import tiny_backbone
from tests.training_tools import flags_of, lines_of, resuming
from upstream_elp.base import pictures
from upstream_elp.experiment import existing
from upstream_elp.experiment.curves import plot_layer_weights
from upstream_elp.host import checkpoints, flags, literal
from upstream_elp.quickstart.plan import make_plan
from upstream_elp.run import run
from upstream_elp.sweep.work import Planner

pytestmark = pytest.mark.usefixtures("cache")

NAMES = {  # a folder, and another one that its name would match as a pattern or a format
    "q[0-5]": "q3",
    "run[12]": "run1",
    "[!x]*": "zy",
    "**": "b",
    "wh?t": "what",
    "[": "(",
    '{a,b} {} {0.x}/100% %s %(name)s/a=b,,c/it\'s "quoted" \\n': "a/100%/a=b/its",
    "-dash/~/#1 $HOME `id`/states-7.ckpt/Übung ✓ 日本/two\nlines": "dash/x/#1/states-8.ckpt/Ubung/two",
}
STEPS = {"total_steps": 2, "eval_step": 2, "save_step": 1, "log_step": 1, "max_keep": 2}


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.states(folder)]


@pytest.fixture(scope="module")
def other(data, tmp_path_factory):
    """A finished experiment of three steps."""
    folder = tmp_path_factory.mktemp("other") / "exp"
    run(flags_of("elp_ic", data, folder, **{**STEPS, "total_steps": 3}))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_goes_on_in_its_own_folder_whatever_its_name(name, data, other, tmp_path):
    """Trained, resumed with -a, and evaluated with -e FOLDER; another experiment next to it is not touched."""
    folder, neighbour = tmp_path / name / name, tmp_path / NAMES[name] / NAMES[name]
    shutil.copytree(other, neighbour)
    before = _contents(neighbour)
    run(flags_of("elp_ic", data, folder, **STEPS))
    assert _names(folder) == ["states-1.ckpt", "states-2.ckpt"]
    run(resuming(folder, data, "runner.total_steps=3"))
    assert _names(folder) == ["states-2.ckpt", "states-3.ckpt"]
    run(["-m", "evaluate", "-e", str(folder), "--data", str(data), "--device", "cpu"])
    assert lines_of(folder / "train.jsonl") == lines_of(neighbour / "train.jsonl")
    tests = [line for line in lines_of(folder / "metrics.jsonl") if line["split"] == "test"]
    assert [line["checkpoint"] for line in tests] == ["states-3.ckpt"]
    assert _contents(neighbour) == before


@pytest.mark.parametrize("flag", ["-a -p", "-e"])
def test_s3prls_own_loop_goes_on_in_the_folder_that_is_named(flag, tmp_path):
    """It also deletes its earliest checkpoint there, not that of a folder that the name would match as a pattern."""
    folder, neighbour = tmp_path / "run[12]", tmp_path / "run1"
    config = stock_config("fluent_commands", tmp_path, total_steps=2, eval_step=2, save_step=1, max_keep=2)
    words = [
        *["-m", "train", "-u", "wavlm_local", "-d", "fluent_commands", "--device", "cpu", "--stock-loop"],
        "-k",
        str(tiny_backbone()),
    ]
    run([*words, "-c", str(config), "-p", str(folder)])
    shutil.copytree(folder, neighbour)
    before = _contents(neighbour)
    on = [*["-m", "train", "--stock-loop", "--device", "cpu"], *flag.split(), str(folder)]
    run([*on, "-o", "config.runner.total_steps=3"])
    assert _names(folder) == ["states-2.ckpt", "states-3.ckpt"]
    assert _contents(neighbour) == before


def test_a_relative_folder_may_begin_with_a_dash(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = flags_of("elp_ic", data, "x", **STEPS)
    place = flags.index("-p")
    flags[place : place + 2] = ["--expdir=-q[0-5]"]
    run(flags)
    run(["-m", "train", "-a", "--expdir=-q[0-5]", "--device", "cpu", "-o", "config.runner.total_steps=3"])
    assert _names(tmp_path / "-q[0-5]") == ["states-2.ckpt", "states-3.ckpt"]


def test_a_file_that_is_not_a_checkpoint_is_not_taken_for_one(data, other, tmp_path):
    """A user's copy, or a folder: S3PRL sorts everything that begins like a checkpoint by the number in its name."""
    folder = tmp_path / "exp"
    shutil.copytree(other, folder)
    shutil.copy(folder / "states-3.ckpt", folder / "states-mine.ckpt")
    (folder / "states-9.ckpt").mkdir()
    run(resuming(folder, data, "runner.total_steps=4"))
    assert _names(folder) == ["states-3.ckpt", "states-4.ckpt"]
    assert (folder / "states-mine.ckpt").is_file()


def test_audio_below_a_folder_is_what_librosa_finds_there(tmp_path):
    from librosa.util import find_files

    plain, special = tmp_path / "plain", tmp_path / "Vox[1]*"
    for name in (
        "id1/a/1.wav",
        "id1/a/2.WAV",
        "id[2]/b/3.flac",
        "id1/a/._1.wav",
        "id1/a/4.Wav",
        "list.txt",
        "id1/5.mp3",
    ):
        for root in (plain, special):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    found = literal.audio_files(plain)
    mixed = str(plain / "id1" / "a" / "4.Wav")  # a suffix that librosa ignores
    assert {*find_files(plain), mixed} == {path for path in found if "id[2]" not in path}
    assert literal.audio_files(plain, ext="wav") == [path for path in found if path.lower().endswith(".wav")]
    below = [Path(path).relative_to(plain) for path in found]
    assert [Path(path).relative_to(special) for path in literal.audio_files(special)] == below
    assert "id[2]/b/3.flac" in map(str, below)


@pytest.mark.parametrize("task", ["asr", "sv_voxceleb1", "emotion", "fluent_commands", "speech_commands"])
def test_s3prls_own_tasks_read_corpora_in_any_folder(task, tmp_path):
    root = tmp_path / "corpora[12]* {}%s"
    root.mkdir()
    config = stock_config(task, root, total_steps=1, eval_step=9, save_step=1)
    words = ["-m", "train", "-u", "fbank", "-d", task, "--device", "cpu", "-c", str(config), "-p", str(root / "exp")]
    run(words)
    assert _names(root / "exp") == ["states-1.ckpt"]


def test_our_tasks_read_corpora_in_any_folder(tmp_path):
    root = tmp_path / "corpora[12]* {}%s"
    toy_corpora.write_all(root)
    for task in registry.names():
        run(flags_of(task, root, tmp_path / task, **{**STEPS, "total_steps": 1}))
        assert _names(tmp_path / task) == ["states-1.ckpt"]


@pytest.mark.parametrize("name", ["le$1$", r"a$\b$c", "$", "$$", r"\$x$"])
def test_an_adapters_name_is_not_a_formula(name, tmp_path):
    plot_layer_weights([("layer 1", 0.4), ("layer 2", 0.6)], tmp_path / "weights.png", title=name)
    text = pictures.plt.figure().text(0, 0, pictures.as_written(name))
    assert text._preprocess_math(text.get_text()) == (name, False)


@pytest.mark.parametrize("folder", ["exp/a b", "it's", "-x", "q[1]", "$HOME"])
def test_the_command_to_go_on_with_can_be_given_to_a_shell(folder):
    words = shlex.split(existing.going_on(Path(folder), 1).strip("`"))
    assert flags.s3prl().parse_args(words[2:]).expdir == folder


def test_a_quickstart_may_lie_in_any_folder(data, tmp_path, monkeypatch):
    """Its runs get their folders in flags, one of which S3PRL reads as a list of assignments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELP_DATA", str(data))
    out = Path("[a],,b={c}")
    settings = {"tasks": ["elp_ic"], "methods": ["weighted_sum"], "steps": 1, "seed": 0}
    plan = make_plan(data=data, backbone=Path(tiny_backbone()), **settings)
    (job,) = Planner(plan, out, data=str(data)).work().final
    job.path.mkdir(parents=True)
    job.write()
    run(job.train_argv())
    run(job.test_argv(job.path / "states-1.ckpt"))
    assert lines_of(job.path / "metrics.jsonl")[-1]["split"] == "test"
