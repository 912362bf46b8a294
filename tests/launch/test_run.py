"""``elp run``: flags in, S3PRL's flags out; every wrong input gives one sentence."""

import dataclasses
import errno
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests import toy_corpora
from tests.host_toys import stock_config
from tests.toys import tiny_backbone
from upstream_elp import cli
from upstream_elp import run as runner
from upstream_elp.adapters.config import recipes_dir
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.settings import Settings
from upstream_elp.experiment import existing
from upstream_elp.host import flags
from upstream_elp.launch import planning, start
from upstream_elp.run import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, str]:
    """A finished run of two steps: paths for flags."""
    root = tmp_path_factory.mktemp("trained")
    config, exp = stock_config("fluent_commands", root, total_steps=2, eval_step=9), root / "exp"
    backbone = str(tiny_backbone())
    run(
        [
            *["-m", "train", "-u", "wavlm_local", "-d", "fluent_commands", "--device", "cpu"],
            "-k",
            backbone,
            "-c",
            str(config),
            "-p",
            str(exp),
        ]
    )
    (root / "none.ckpt").write_bytes(b"PK")
    (root / "bad.yaml").write_text("runner: {")
    (root / "short.yaml").write_text("runner: {}")
    (root / "list.yaml").write_text("- runner")
    (root / "file").write_text("")
    (root / "empty").mkdir()
    other = yaml.safe_load(config.read_text())
    other["optimizer"]["lr"] = 0.5
    (root / "other.yaml").write_text(yaml.safe_dump(other))
    return {"root": str(root), "config": str(config), "exp": str(exp), "k": backbone}


def plan(text: str, **paths: str) -> planning.Plan:
    made = planning.read(text.format(**paths).split())
    planning.complete(made)
    return made


NEW = "-m train -u wavlm_local -k {k} -d fluent_commands -c {config} -p {root}/new"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "required: -m"),
        ("-m trian", "invalid choice: 'trian'"),
        (f"{NEW} --expdri x", "unknown argument '--expdri'; did you mean --expdir"),
        (f"{NEW} -l one", "invalid int value"),
        (f"{NEW} -u wavlm_locl", "-u wavlm_locl: no such name; did you mean wavlm_local"),
        (f"{NEW} -u elp_wavlm_bas_plus", "did you mean elp_wavlm_base_plus"),
        (f"{NEW} -d elp_sar", "-d elp_sar: no such name; did you mean elp_asr"),
        (f"{NEW} -k {{root}}/nothing", "-k .*nothing: no such file or folder"),
        (f"{NEW} -c {{root}}/nothing", "-c .*nothing: no such file"),
        (f"{NEW} -c {{root}}/bad.yaml", "bad.yaml is not a readable YAML file"),
        (f"{NEW} -c {{root}}/short.yaml", "short.yaml: the block optimizer is missing"),
        (f"{NEW} -c {{root}}/list.yaml", "list.yaml: not a mapping; a task config has the blocks runner, optimizer"),
        (f"{NEW} -g {{root}}/nothing", "-g .*nothing: no such file"),
        (f"{NEW} -u elp_local -g elpp", "elpp"),
        (f"{NEW} -p {{root}}/file", "-p .*file is not a writable folder"),
        (f"{NEW} -p {{root}}/file/x", "-p .*file/x is not a writable folder"),
        (f"{NEW} -p {{exp}} -c {{root}}/other.yaml", "already contains another experiment.*config.optimizer.lr"),
        (f"{NEW} -p {{exp}} -f", "already contains another experiment.*upstream_trainable"),
        (f"{NEW} -o config.runner", "-o: 'config.runner' is not an assignment"),
        (f"{NEW} -o args.sede=1", "unknown argument 'sede'; did you mean seed"),
        (f"{NEW} -i {{root}}/nothing", "-i .*nothing: no such file"),
        (f"{NEW} --device gpu", "--device gpu: no such device"),
        (f"{NEW} --data {{root}}/nothing", "--data .*nothing: no such folder"),
        (f"{NEW} --backbone {{root}}/nothing", "--backbone .*nothing: no such file"),
        (f"{NEW} --script {{root}}/nothing", "--script .*nothing: no such file"),
        (f"{NEW} --script {{config}}", "--script .* is not in an s3prl package"),
        (f"{NEW} --hub huggingface", "--hub huggingface"),
        ("-m train -u wavlm_local -d emotion -p {root}/new", "-c is missing"),
        (
            "-m train -u wavlm_local -d fluent_commands -c {config} -p {root}/new",
            "-u wavlm_local needs a backbone; .* with -k",
        ),
        ("-m train -u fbank -c {config} -p {root}/new", "-d is missing"),
        ("-m train -d fluent_commands -c {config} -p {root}/new", "-u is missing"),
        ("-m train -u fbank -d fluent_commands -c {config}", "the experiment folder is missing"),
        ("-m evaluate -u fbank -d fluent_commands -c {config} -p {root}/new", "-m evaluate needs a trained checkpoint"),
        ("-m evaluate -e {root}/nothing.ckpt", "-e .*nothing.ckpt: no such file"),
        ("-m evaluate -e {root}/empty", "-e .*empty: the folder contains no states-.*name a checkpoint file"),
        ("-m evaluate -e {root}", "name one of none.ckpt"),
        (
            "-m evaluate -e {root}/none.ckpt",
            "none.ckpt is not a checkpoint that can be loaded safely.*; name a states-",
        ),
        ("-m inference -e {exp} -t {root}/nothing.wav", "-t .*nothing.wav: no such file"),
        ("-m evaluate -e {exp} -d emotion", "trained with -d fluent_commands, not emotion"),
        ("-m train -a -u fbank -p {exp}", "-a: .*trained with -u wavlm_local, not fbank"),
        ("-m evaluate -e {exp} -o args.upstream_ckpt={root}/gone", "-k .*gone: no such file"),
    ],
)
def test_wrong_inputs_are_one_sentence(text, message, trained):
    if "huggingface" in text and hasattr(__import__("huggingface_hub").HfApi, "login"):
        pytest.skip("this huggingface_hub can still log in")
    before = sorted(Path(trained["exp"]).iterdir())
    with pytest.raises(ElpError, match=message) as caught:
        plan(text, **trained)
    assert "\n" not in str(caught.value)
    assert sorted(Path(trained["exp"]).iterdir()) == before


def test_cuda_without_a_gpu_is_refused(trained):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ElpError, match="no CUDA device; use --device cpu"):
        plan(f"{NEW} --device cuda:0", **trained)


def test_stock_flags_pass_unchanged_and_the_machine_adds_its_own(trained):
    text = f"{NEW} -s hidden_states -l -1 -t test -v x --seed 3 -f".format(**trained)
    made = plan(text)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert made.argv == [*text.split(), "--device", device]


def test_our_flags_become_settings(trained):
    made = plan(f"{NEW} --data {{root}} --backbone {{k}} --no-self-check", **trained)
    said = {"data": trained["root"], "backbone": trained["k"], "self_check": False}
    assert made.settings == dataclasses.replace(settings.from_environment(), **said)
    assert not {"--data", "--backbone", "--no-self-check"} & set(made.argv)


def test_a_flag_counts_more_than_a_variable(trained, tmp_path, monkeypatch):
    for name, text in (("DATA", tmp_path), ("BACKBONE", "other.pt"), ("CACHE", tmp_path), ("DDP_HOURS", "0.5")):
        monkeypatch.setenv(f"ELP_{name}", str(text))
    monkeypatch.setenv("ELP_STOCK_LOOP", "1")
    without, given = (plan(f"{NEW} {words}", **trained).settings for words in ("", "--data {root} --backbone {k}"))
    assert without == Settings(
        data=str(tmp_path), backbone="other.pt", cache=str(tmp_path), stock_loop=True, ddp_hours=0.5
    )
    assert given == dataclasses.replace(without, data=trained["root"], backbone=trained["k"])


def test_our_tasks_bring_their_config(trained):
    made = plan("-m train -u fbank -d elp_ic -p {root}/ic", **trained)
    assert Path(made.argv[made.argv.index("-c") + 1]).parts[-3:] == ("downstream_heads", "elp_ic", "config.yaml")


@pytest.mark.parametrize(("preset", "added"), [("elp", True), ("l_only", True), ("weighted_sum", False)])
def test_untrained_adapters_turn_f_on(preset, added, trained):
    made = plan(f"{NEW} -u elp_local -g {preset}", **trained)
    assert ("-f" in made.argv) == added
    assert any("-f is on" in note for note in made.notes) == added


def test_a_trained_adapter_folder_stays_frozen(trained, tmp_path):
    (tmp_path / "adapter_config.yaml").write_text("{}")
    made = plan(f"{NEW} -u elp_custom -k {tmp_path}", **trained)
    assert "-f" not in made.argv
    assert "stay frozen" in made.notes[0]


def test_resuming_keeps_f_as_it_was(trained):
    made = plan("-m train -e {exp}", **trained)
    assert "-f" not in made.argv
    assert "-c" not in made.argv


AGAIN = NEW.replace("{root}/new", "{exp}")


def test_a_second_run_does_not_touch_the_first(trained, tmp_path):
    found = r"\(metrics\.jsonl, states-2\.ckpt\)"
    with pytest.raises(ElpError, match=rf"already contains results {found}.*pass -a to resume.*another.* -p"):
        plan(AGAIN, **trained)
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(ElpError, match=r"already contains results \(metrics\.jsonl\)"):
        plan(NEW.replace("{root}/new", str(tmp_path)), **trained)


def test_a_run_without_a_checkpoint_starts_over_with_a(trained, tmp_path):
    words = f"{NEW.replace('{root}/new', str(tmp_path))} -a"
    assert plan(words, **trained).notes == []
    (tmp_path / "metrics.jsonl").write_text("{}")
    made = plan(words, **trained)
    assert "starts over" in made.notes[0]
    assert made.args.past_exp is None


@pytest.mark.parametrize("resuming", ["-a", "-e {exp}"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("-k {root}/copy.pt", "trained with -k .*pt, not .*copy.pt; remove -k.*another experiment folder with -p"),
        ("-g le", "trained without -g, not le; remove -g"),
        ("-s last_hidden_state", "trained with -s hidden_states, not last_hidden_state"),
        ("-l 1", "trained without -l, not 1"),
        ("-v fold3", "trained without -v, not fold3"),
        ("--seed 3", "trained with --seed 1337, not 3; remove --seed"),
        ("-f", "trained without -f, not with it; remove -f"),
        ("-c {root}/other.yaml", "other.yaml .*optimizer.lr 0.001 there, 0.5 in the file.*remove -c"),
    ],
)
def test_a_flag_that_the_checkpoint_would_override_is_refused(resuming, flags, message, trained):
    shutil.copy(trained["k"], Path(trained["root"]) / "copy.pt")
    with pytest.raises(ElpError, match=f"^-[ae]: .*states-2.ckpt was {message}" if flags[:2] != "-c" else message):
        plan(f"-m train -p {{exp}} {resuming} {flags}", **trained)
    assert plan(f"-m train -p {{exp}} {resuming} -o args.seed=3 --seed 3", **trained).args.past_exp == trained["exp"]


def test_a_folder_that_was_moved_goes_on_where_it_is(trained, tmp_path, monkeypatch):
    """Whatever its name was when it was created, and wherever the command runs."""
    moved = tmp_path / "moved"
    shutil.copytree(trained["exp"], moved)
    monkeypatch.chdir(tmp_path)
    for words in (
        "-m train -p moved -a",
        f"-m train -e {moved}",
        "-m evaluate -e moved",
        f"-m train -e moved -p {moved}",
    ):
        assert Path(plan(words, **trained).final.expdir).resolve() == moved
    words = f"-m train -e {{exp}} -p {moved}"
    with pytest.raises(ElpError, match=r"is not in -p .*moved.*insist on .*args\.expdir="):
        plan(words, **trained)
    elsewhere = plan(f"{words} -o args.expdir={moved / 'new'}", **trained)
    assert elsewhere.final.expdir == str(moved / "new")


def test_the_same_flags_next_to_a_checkpoint_pass(trained, monkeypatch):
    monkeypatch.chdir(trained["root"])
    words = f"{AGAIN} -a --seed 1337 -s hidden_states -o config.runner.total_steps=9,,config.runner.eval_step=3"
    assert plan(words, **trained).args.past_exp == trained["exp"]
    near = words.replace("{k}", os.path.relpath(trained["k"])).replace("{config}", Path(trained["config"]).name)
    assert plan(near, **trained).args.past_exp == trained["exp"]


def test_a_command_can_be_given_again_with_more_steps_but_not_with_another_seed(trained, tmp_path):
    """Before any checkpoint, after an interruption, and with other numbers of steps."""
    toy_corpora.fluent_speech_commands(tmp_path / "data")
    folder = tmp_path / "exp"
    words = f"-m train -a -u elp_local -k {trained['k']} -g weighted_sum -d elp_ic -c ic_quick -p {folder} --device cpu"
    command = [*words.split(), "--data", str(tmp_path / "data")]
    for steps in (1, 1, 2):
        runner = ",,".join(f"config.runner.{key}={steps}" for key in ("total_steps", "eval_step", "save_step"))
        run([*command, "--seed", "5", "-o", runner])
        assert max(existing.states(folder)).name == f"states-{steps}.ckpt"
    with pytest.raises(ElpError, match="trained with --seed 5, not 6"):
        run([*command, "--seed", "6", "-o", runner])


@pytest.fixture(scope="module")
def adapted(trained, tmp_path_factory) -> str:
    """The folder of a finished run of one step with the default preset, -f added by us."""
    exp = tmp_path_factory.mktemp("adapted") / "exp"
    words = f"-m train -u elp_local -k {trained['k']} -d fluent_commands -c {trained['config']} -p {exp} --device cpu"
    run([*words.split(), "-o", "config.runner.save_step=1,,config.runner.total_steps=1"])
    return str(exp)


def test_another_preset_next_to_a_checkpoint_is_refused(trained, adapted):
    words = f"-m train -u elp_local -k {{k}} -d fluent_commands -p {adapted} -a"
    with pytest.raises(ElpError, match="trained without -g, not le"):
        plan(f"{words} -g le", **trained)
    for same in ("", "-f", "-g elp", f"-g {recipes_dir() / 'adapters' / 'elp.yaml'}"):
        assert plan(f"{words} {same}", **trained).args.past_exp == adapted


TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def set_ranks(monkeypatch, **changes):
    """The variables that torchrun sets, with changes; a variable with the value None is not set."""
    for name, value in {**TORCHRUN, **changes}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": None}, "WORLD_SIZE is 2, but RANK is not set; start with `torchrun .*; .* unset WORLD_SIZE"),
        ({"WORLD_SIZE": None}, "RANK is 1, but WORLD_SIZE is not set; start with `torchrun .*; .* unset RANK"),
        ({"WORLD_SIZE": None, "RANK": "0"}, "RANK is 0, but WORLD_SIZE is not set"),
        ({"RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2: the ranks of 2 processes count from 0"),
        ({"WORLD_SIZE": "1"}, "RANK is 1, but WORLD_SIZE is 1: the ranks of 1 process count from 0"),
        *(({name: None}, f"WORLD_SIZE is 2 and RANK is 1, but {name} is not set") for name in [*TORCHRUN][2:]),
        *(({name: ""}, f"but {name} is not set") for name in TORCHRUN),
        *(
            ({name: value}, f"{name} must be a whole number (of at least .*|from 1 to 65535), but is '{value}'")
            for name in TORCHRUN
            for value in ("two", "-1", "1.0", "1e1", "0x1")
            if name != "MASTER_ADDR"
        ),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number of at least 1, but is '0'"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT must be a whole number from 1 to 65535, but is '65536'"),
    ],
)
def test_ranks_that_do_not_fit_together_are_one_sentence(changes, message, trained, monkeypatch):
    set_ranks(monkeypatch, **changes)
    with pytest.raises(ElpError, match=message) as caught:
        plan(f"{NEW.replace('new', 'never')} --device cpu", **trained)
    assert "\n" not in str(caught.value)
    assert not Path(trained["root"], "never").exists()


def test_a_local_rank_needs_the_others(trained, monkeypatch):
    set_ranks(monkeypatch, **dict.fromkeys(TORCHRUN))
    with pytest.raises(ElpError, match=r"--local_rank is 0, but WORLD_SIZE is not set; .* do not pass --local_rank"):
        plan(f"{NEW} --device cpu --local_rank 0", **trained)
    set_ranks(monkeypatch, LOCAL_RANK=None)
    assert plan(f"{NEW} --device cpu --local_rank 0", **trained).args.local_rank == 0


@pytest.mark.parametrize("changes", [{"WORLD_SIZE": "1", "RANK": None}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_one_process_needs_no_others(changes, trained, monkeypatch):
    set_ranks(monkeypatch, **{**dict.fromkeys(TORCHRUN), **changes})
    assert plan(f"{NEW} --device cpu", **trained).args.local_rank is None


def test_ranks_come_from_torchrun(trained, monkeypatch):
    set_ranks(monkeypatch)
    assert plan(f"{NEW} --device cpu", **trained).argv[-4:] == ["--local_rank", "1", "--backend", "gloo"]
    assert "--local_rank=1" in plan(f"{NEW} --local-rank=1", **trained).argv


def test_going_on_with_another_number_of_ranks_is_refused(trained, monkeypatch):
    set_ranks(monkeypatch)
    with pytest.raises(ElpError, match="was trained by 1 process, not by 2; resume with elp run"):
        plan("-m train -e {exp}", **trained)
    assert plan("-m evaluate -e {exp}", **trained).args.mode == "evaluate"


def test_an_error_in_a_worker_process_is_one_sentence(trained, tmp_path):
    config = stock_config("fluent_commands", tmp_path, total_steps=1)
    for path in tmp_path.rglob("train-*.wav"):
        path.write_bytes(b"no audio")
    with pytest.raises(ElpError) as caught:
        run(
            [
                *["-m", "train", "-u", "wavlm_local", "-d", "fluent_commands", "--device", "cpu"],
                "-k",
                trained["k"],
                "-c",
                str(config),
                "-p",
                str(tmp_path / "exp"),
                "-o",
                "config.downstream_expert.datarc.num_workers=1",
            ]
        )
    assert str(caught.value).startswith("cannot read audio file")
    assert "\n" not in str(caught.value)


def test_an_unknown_feature_is_an_error_not_a_fallback(trained):
    with pytest.raises(ElpError, match=r"-s hidden_stats: .*did you mean hidden_states"):
        run(f"{NEW} -s hidden_stats --device cpu".format(**trained).split())
    with pytest.raises(ElpError, match=r"-l 9: .*choose 0 to 3"):
        run(f"{NEW} -l 9 --device cpu".format(**trained).split())


def test_a_failed_download_is_one_sentence():
    import requests

    request = requests.Request("GET", "https://example.org/wavlm.pt").prepare()
    with (
        pytest.raises(ElpError, match=r"cannot download https://example\.org/wavlm\.pt.*elp fetch"),
        start._one_sentence(),
    ):
        raise requests.ConnectionError("Max retries exceeded", request=request)
    with pytest.raises(OSError, match="something else"), start._one_sentence():
        raise OSError("something else")


def test_a_full_disk_is_one_sentence():
    """Checkpoints have a longer message, but log lines and plots can meet a full disk too."""
    with pytest.raises(ElpError, match="free some space, then resume from the last checkpoint"), start._one_sentence():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_config_that_no_checkpoint_could_hold_is_reported_before_the_first_step(tmp_path):
    config = stock_config("fluent_commands", tmp_path, total_steps=2, save_step=2)
    config.write_text(config.read_text() + "recorded: 2024-02-29\n")  # YAML reads this as a date
    words = (
        f"-m train -u wavlm_local -k {tiny_backbone()} -d fluent_commands -c {config} -p {tmp_path}/exp --device cpu"
    )
    with pytest.raises(ElpError, match=r"could not be loaded again: .*datetime\.date.*put these in quotes"):
        run(words.split())
    assert not list((tmp_path / "exp").glob("*.ckpt")) and not list((tmp_path / "exp").glob(".*"))


def test_a_missing_file_inside_s3prl_is_one_sentence(trained):
    with pytest.raises(ElpError, match=r"train_data\.csv: No such file.*needed at"):
        run(f"{NEW} --device cpu -o config.downstream_expert.datarc.file_path=/nowhere".format(**trained).split())


def test_a_mistake_in_training_has_a_line_of_its_own(trained, tmp_path, monkeypatch, capsys):
    config = stock_config("fluent_commands", tmp_path, total_steps=1)
    for path in tmp_path.rglob("train-*.wav"):
        path.write_bytes(b"no audio")
    words = f"-m train -u wavlm_local -k {trained['k']} -d fluent_commands -c {config} -p {tmp_path}/exp --device cpu"
    monkeypatch.setattr(sys, "argv", ["elp", *words.split()])
    with pytest.raises(SystemExit):
        runner.main()
    reported = capsys.readouterr().err
    assert "train:" in reported
    assert reported.rstrip().split("\n")[-1].startswith("elp: error: cannot read audio file")


@pytest.mark.parametrize("main", [runner.main, cli.main], ids=["python -m", "elp"])
def test_a_mistake_exits_with_2(main, trained, monkeypatch, capsys):
    words = f"{NEW} -d elp_sar".format(**trained).split()
    monkeypatch.setattr(sys, "argv", ["elp", *(["run"] if main is cli.main else []), *words])
    monkeypatch.setattr(start, "adopt_main", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("elp: error: -d elp_sar")


def test_the_environment_and_arguments_are_restored(trained, monkeypatch):
    monkeypatch.delenv("ELP_DATA", raising=False)
    before = list(sys.argv), dict(os.environ)
    with pytest.raises(ElpError):
        run(f"{NEW} -s nothing --device cpu --data {{root}}".format(**trained).split())
    assert (list(sys.argv), dict(os.environ)) == before


def test_help_lists_both_kinds_of_flags(capsys):
    run(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in ("--data", "--script", "--upstream_ckpt", "--past_exp"))


def test_s3prl_has_the_flags_that_we_read():
    """Our mirror of S3PRL's parser has every flag of the installed one, with the same defaults (but the device's)."""
    import upstream_elp

    upstream_elp.register()
    import argparse

    import s3prl.run_downstream as stock

    parsers = []
    original = argparse.ArgumentParser.parse_args

    def catch(self, *args, **kwargs):
        parsers.append(self)
        raise SystemExit

    argparse.ArgumentParser.parse_args = catch
    try:
        with pytest.raises(SystemExit):
            stock.get_downstream_args()
    finally:
        argparse.ArgumentParser.parse_args = original
    theirs = {name: action for action in parsers[0]._actions for name in action.option_strings}
    mine = {name: action for action in flags.s3prl()._actions for name in action.option_strings}
    assert set(theirs) - {"-h", "--help"} == set(mine) - {"--local-rank"}
    for name in mine.keys() & theirs.keys() - {"--device", "--backend"}:
        assert (mine[name].dest, mine[name].default, mine[name].nargs) == (
            theirs[name].dest,
            theirs[name].default,
            theirs[name].nargs,
        ), name


@pytest.mark.parametrize("cycle", ["its own cause", "a circle of contexts"])
def test_an_error_that_leads_back_to_itself_ends_the_run(cycle):
    """Releasing the frames of a failed run must end."""
    error, other = ElpError("first"), RuntimeError("second")
    error.__cause__ = error if cycle == "its own cause" else other
    other.__context__ = error
    with pytest.raises(ElpError, match="first"), start._frames_released():
        raise error
