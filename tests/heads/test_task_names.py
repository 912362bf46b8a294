"""A task of ours may be named without ``elp_`` wherever S3PRL has none of that name."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from downstream_heads import registry
from tests.training_tools import flags_of, lines_of, resuming
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.check import check
from upstream_elp.commands.quickstart import quickstart
from upstream_elp.commands.run import run as run_command
from upstream_elp.host import flags, places
from upstream_elp.launch import planning, recipes
from upstream_elp.quickstart.plan import check_names
from upstream_elp.run import run

SHORT = {task.short: name for name, task in registry.tasks().items()}
pytestmark = pytest.mark.usefixtures("cache")


def test_names():
    assert {"asr": "elp_asr", "sv": "elp_sv", "er": "elp_er", "ic": "elp_ic"}.items() <= SHORT.items()
    for short, name in SHORT.items():
        assert registry.whole_name(short) == registry.whole_name(name) == name
        assert (registry.whole_name(short, others=places.stock_tasks()) == short) == (short in places.stock_tasks())
    for other in ("xx", "", "elp_", "elp_xx", "../asr", "emotion"):
        assert registry.whole_name(other) == other


def plan(folder: Path, task: str, *more: str) -> planning.Plan:
    made = planning.read(["-m", "train", "-u", "fbank", "-d", task, "-p", str(folder), "--device", "cpu", *more])
    planning.complete(made)
    return made


@pytest.mark.parametrize("short", [short for short in SHORT if short not in places.stock_tasks()])
def test_a_run_of_a_short_name_is_that_of_the_whole_name(short, tmp_path):
    made, whole = plan(tmp_path, short), plan(tmp_path, SHORT[short])
    assert made.final == whole.final and made.config == whole.config
    assert vars(flags.s3prl().parse_args(made.argv)) == vars(flags.s3prl().parse_args(whole.argv))


def test_asr_is_s3prls_own_task_in_a_run(tmp_path):
    with pytest.raises(ElpError, match="-c is missing: the s3prl package ships no config for its task asr"):
        plan(tmp_path, "asr")
    for recipe in ("asr", "elp_asr", "asr_reference"):
        with pytest.raises(ElpError, match=f"-c {recipe} is a recipe for -d elp_asr, not for -d asr"):
            plan(tmp_path, "asr", "-c", recipe)


def test_a_run_of_a_short_name_goes_on_and_is_evaluated(data, tmp_path):
    words = flags_of("ic", data, tmp_path, total_steps=2, eval_step=2)
    run(words)
    place = words.index("-d")
    for again in ([], ["-d", "ic"], words[place : place + 2], ["-d", "elp_ic"]):
        run([*resuming(tmp_path, data), *again])
    with pytest.raises(ElpError, match="trained with -d elp_ic, not elp_er"):
        run([*resuming(tmp_path, data), "-d", "er"])
    run(["-m", "evaluate", "-e", str(tmp_path), "-d", "ic", "--data", str(data), "--device", "cpu"])
    assert lines_of(tmp_path / "metrics.jsonl")[-1]["split"] == "test"


@pytest.mark.parametrize("short", SHORT)
def test_a_config_may_start_from_a_short_name(short, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"base": short, "runner": {"total_steps": 7}}))
    whole = recipes.read(registry.find(SHORT[short]).config)
    assert recipes.read(path) == {**whole, "runner": {**whole["runner"], "total_steps": 7}}
    assert plan(tmp_path / "exp", SHORT[short], "-c", short).config == whole


@pytest.mark.parametrize("short", SHORT)
def test_the_commands_that_know_only_our_tasks(short, data):
    assert check_names([short], ["le"]) == [SHORT[short]]
    ours, whole = (
        CliRunner().invoke(check, ["-d", name, "--data", str(data), "--quick"]) for name in (short, SHORT[short])
    )
    assert ours.exit_code == whole.exit_code and ours.output == whole.output != ""


def test_one_task_named_in_both_ways_is_refused():
    with pytest.raises(ElpError, match="--tasks must name each of them once, but elp_sv is there twice"):
        check_names(["sv", "elp_sv"], ["le"])


@pytest.mark.parametrize("command", [check, quickstart], ids=["check", "quickstart"])
def test_help_tells_the_short_names(command):
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert ", ".join(SHORT) in text
    assert "elp_asr, elp_er (er)" in " ".join(CliRunner().invoke(run_command, ["--help"]).output.split())
