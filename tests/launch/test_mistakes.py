"""Likely mistakes with `elp run`: each gives one sentence that says what to do, before anything is computed."""

import shutil

import pytest
import yaml
from safetensors.torch import load_file

from tests import toy_corpora
from tests.checkpoints import load_states
from tests.host_toys import stock_config, stock_words
from tests.toys import tiny_backbone
from tests.training_tools import assert_same, flags_of, lines_of, resuming, with_settings
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.export import export
from upstream_elp.run import run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize(
    ("task", "settings", "more", "reported"),
    [
        ("elp_asr", [], ["-v", "nonsense"], "-v nonsense: elp_asr has no variants; elp_er has them"),
        ("elp_ic", ["runner.train_dataloader=dev"], [], "train_dataloader must be 'train' for our tasks, but is 'dev'"),
        (
            "elp_ic",
            ["optimizer.groups={e_adapter: 0.1}"],
            [],
            "groups does not work with TorchOptim; choose .* ELPAdam, ELPAdamW",
        ),
        (
            "elp_ic",
            ["optimizer.name=ELPAdam"],
            [],
            r"torch_optim_name belongs to ELPOptim and TorchOptim, .* -o \"config",
        ),
        (
            "elp_ic",
            ["runner.precision=bf16"],
            ["--stock-loop"],
            r"loop ignores runner\.precision \(bf16\); remove one of them",
        ),
        ("elp_ic", [], ["--seed", "-1"], "--seed must be a whole number from 0 to 4294967295, but is -1"),
        ("elp_ic", [], ["--seed", "4294967296"], "--seed must be a whole number .*, but is 4294967296"),
    ],
)
def test_flags_and_settings(task, settings, more, reported, data, tmp_path):
    with pytest.raises(ElpError, match=reported):
        run([*with_settings(flags_of(task, data, tmp_path / "exp"), *settings), *more])
    assert not list(tmp_path.glob("exp/*.ckpt"))


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        ("args.seed=abc", "--seed must be a whole number .*, but is abc"),
        ("args.device=foo", "--device foo: no such device; choose cpu, cuda"),
    ],
)
def test_arguments_that_are_set_by_o(setting, reported, data, tmp_path):
    flags = flags_of("elp_ic", data, tmp_path)
    flags[flags.index("-o") + 1] += f",,{setting}"
    with pytest.raises(ElpError, match=reported):
        run(flags)


@pytest.mark.parametrize(
    ("upstream", "ours"), [("wavlm_local", "elp_local"), ("wavlm_base_plus", "elp_wavlm_base_plus")]
)
def test_a_preset_with_a_stock_upstream(upstream, ours, data, tmp_path):
    flags = flags_of("elp_ic", data, tmp_path)
    flags[flags.index("-u") + 1] = upstream
    with pytest.raises(ElpError, match=rf"-g le is an adapter preset, but -u {upstream} is .*; use -u {ours}$"):
        run(flags)


def test_another_folds_checkpoint(data, tmp_path):
    """Its training sessions include the test session, so a score on it would be meaningless."""
    run(flags_of("elp_er", data, tmp_path, total_steps=4))  # of fold2
    evaluate = ["-m", "evaluate", "-e", str(tmp_path / "dev-best.ckpt"), "--data", str(data), "--device", "cpu"]
    with pytest.raises(ElpError, match=r"trained with -v fold2, not fold3; remove -v, or use another .* with -p$"):
        run([*evaluate, "-v", "fold3"])
    before = lines_of(tmp_path / "metrics.jsonl")
    assert {line["fold"] for line in before} == {"fold2"}
    reported = r"trained on fold2, which includes the test session of fold3; use it with its own fold \(-v fold2\)"
    for setting in (
        "args.downstream_variant=fold3",
        "args.downstream_variant=null,,config.downstream_expert.datarc.test_fold=fold3",
    ):
        with pytest.raises(ElpError, match=reported):
            run([*evaluate, "-o", setting])
    assert lines_of(tmp_path / "metrics.jsonl") == before
    run(evaluate)
    assert lines_of(tmp_path / "metrics.jsonl")[-1]["checkpoint_step"] == 4


def test_the_other_loops_checkpoint(data, tmp_path):
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    run(flags_of("elp_ic", data, ours, total_steps=4))
    run([*flags_of("elp_ic", data, stock, total_steps=4), "--stock-loop"])
    with pytest.raises(ElpError, match=r"states-4\.ckpt was not trained with --stock-loop; remove that flag"):
        run([*resuming(ours, data, "runner.total_steps=6"), "--stock-loop"])
    with pytest.raises(ElpError, match=r"states-4\.ckpt was trained by S3PRL's own loop; resume with --stock-loop"):
        run(resuming(stock, data, "runner.total_steps=6"))
    run([*resuming(stock, data, "runner.total_steps=6"), "--stock-loop"])
    assert load_states(stock / "states-6.ckpt")["Step"] == 6


def test_a_key_that_a_stock_task_lacks(tmp_path):
    config = stock_config("emotion", tmp_path)
    content = yaml.safe_load(config.read_text())
    del content["downstream_expert"]["datarc"]["pre_load"]
    config.write_text(yaml.safe_dump(content))
    words = f"-m train -u wavlm_local -k {tiny_backbone()} -d emotion -c {config} -p {tmp_path}/exp --device cpu"
    with pytest.raises(
        ElpError, match=r"the config key 'pre_load' is missing, which S3PRL's task emotion reads .*add it in -c"
    ):
        run(words.split())


def test_a_backbone_that_moved(data, tmp_path, monkeypatch):
    """Trained with a relative path; used from another folder; then moved."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_backbone(), "backbone.pt")
    flags = flags_of("elp_ic", data, "exp", total_steps=4)
    flags[flags.index("-k") + 1] = "backbone.pt"
    run(flags)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    evaluate = ["-m", "evaluate", "-e", str(tmp_path / "exp" / "dev-best.ckpt"), "--data", str(data), "--device", "cpu"]
    run(evaluate)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert lines_of(tmp_path / "exp" / "metrics.jsonl")[-1]["split"] == "test"
    (tmp_path / "backbone.pt").rename(tmp_path / "moved.pt")
    gone = r"was trained with -k .*backbone\.pt, which does not exist .* pass its new place with --backbone"
    for more in ([], ["-k", str(tmp_path / "moved.pt")]):
        with pytest.raises(ElpError, match=gone):
            run([*evaluate, *more])
    run([*evaluate, "--backbone", str(tmp_path / "moved.pt")])
    flags = [*resuming(tmp_path / "exp", data, "runner.total_steps=6"), "--backbone", str(tmp_path / "moved.pt")]
    run(flags)
    assert load_states(tmp_path / "exp" / "states-6.ckpt")["Args"].upstream_ckpt == str(tmp_path / "moved.pt")


def test_where_the_corpora_are_is_remembered(data, tmp_path, monkeypatch, capfd):
    """The command that a stopped run recommends has no --data; a new flag or variable takes precedence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELP_DATA", raising=False)
    shutil.copytree(data, "corpora")
    run(flags_of("elp_ic", "corpora", tmp_path / "exp", total_steps=2))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    go_on = ["-m", "train", "-a", "-p", str(tmp_path / "exp"), "--device", "cpu", "-o"]
    capfd.readouterr()
    run([*go_on, "config.runner.total_steps=4"])
    reported = f"elp: ELP_DATA is {tmp_path / 'corpora'}, as for {tmp_path / 'exp' / 'states-2.ckpt'}"
    assert reported in capfd.readouterr().err
    shutil.rmtree(tmp_path / "corpora")
    with pytest.raises(ElpError, match=r"no folder is set for the corpus .*; pass --data DIR"):
        run([*go_on, "config.runner.total_steps=6"])
    monkeypatch.setenv("ELP_DATA", str(data))
    run([*go_on, "config.runner.total_steps=6"])
    assert "ELP_DATA is" not in capfd.readouterr().err
    assert load_states(tmp_path / "exp" / "states-6.ckpt")["Args"].elp_data == str(data)


def test_the_backbone_of_an_adapter_folder_is_remembered(data, tmp_path, capfd):
    """An adapter folder does not say where on this machine its backbone is."""
    run(flags_of("elp_ic", data, tmp_path / "first", total_steps=2))
    export.main([str(tmp_path / "first"), str(tmp_path / "adapter")], standalone_mode=False)
    flags = flags_of("elp_ic", data, tmp_path / "exp", total_steps=2)
    flags[flags.index("-k") + 1] = str(tmp_path / "adapter")
    del flags[flags.index("-g") : flags.index("-g") + 2]
    run([*flags, "--backbone", str(tiny_backbone())])
    run(resuming(tmp_path / "exp", data, "runner.total_steps=4"))
    assert f"elp: ELP_BACKBONE is {tiny_backbone()}, as for" in capfd.readouterr().err
    export.main([str(tmp_path / "exp"), str(tmp_path / "again")], standalone_mode=False)
    first, again = (load_file(tmp_path / name / "adapter.safetensors") for name in ("adapter", "again"))
    assert_same(first, again)


def test_the_flag_for_bad_files_is_named_where_it_helps(tmp_path):
    toy_corpora.librispeech(tmp_path)
    transcript = next((tmp_path / "LibriSpeech" / "train-clean-100").rglob("*.trans.txt"))
    first, *others = transcript.read_text().splitlines()
    transcript.write_text("\n".join([first.split()[0], *others]) + "\n")
    flags = flags_of("elp_asr", tmp_path, tmp_path / "exp")
    with pytest.raises(ElpError, match="empty transcript") as reported:
        run([*flags, "--skip-bad-files"])
    assert "skip-bad-files" not in str(reported.value)
    audio = sorted((tmp_path / "LibriSpeech" / "train-clean-100").rglob("*.flac"))
    audio[-1].write_bytes(b"")
    with pytest.raises(ElpError, match=r"2 problems .* --skip-bad-files skips 1 of them"):
        run(flags)


def test_a_small_share_of_an_evaluation_is_not_nothing(data, tmp_path):
    run(flags_of("elp_ic", data, tmp_path, total_steps=4, evaluate_ratio=0.01))
    assert [line["items"] > 0 for line in lines_of(tmp_path / "metrics.jsonl") if line["split"] == "dev"] == [True]


@pytest.mark.parametrize(
    ("more", "reported"),
    [
        (["--skip-bad-files"], "--skip-bad-files does not work with S3PRL's own task fluent_commands"),
        (["-o", "config.runner.eval_dataloaders=[dev,tset]"], "no split 'tset'; it has: dev, test, train"),
        (["-o", "config.runner.train_dataloader=trian"], "no split 'trian'; it has: dev, test, train"),
    ],
)
def test_what_a_stock_task_does_not_have(more, reported, tmp_path):
    with pytest.raises(ElpError, match=reported):
        run([*stock_words("fluent_commands", tmp_path), *more])
    assert not list((tmp_path / "exp").glob("*.ckpt"))


def test_what_a_stock_tasks_checkpoint_does_not_do(tmp_path):
    run(stock_words("fluent_commands", tmp_path, total_steps=2))
    states = ["-e", str(tmp_path / "exp" / "states-2.ckpt"), "--device", "cpu", "-t"]
    with pytest.raises(ElpError, match="no split 'nix'; it has: dev, test, train"):
        run(["-m", "evaluate", *states, "nix"])
    wav = next(tmp_path.rglob("*.wav"))
    with pytest.raises(ElpError, match="-m inference does not work with the task fluent_commands; use -m evaluate"):
        run(["-m", "inference", *states, str(wav)])


def test_the_same_adapter_yaml_from_another_directory(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: le\n")
    run(flags_of("elp_ic", data, "exp", preset="mine.yaml", total_steps=2))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = resuming("../exp", data, "runner.total_steps=4")
    run([*again, "-g", "../mine.yaml"])
    assert load_states(tmp_path / "exp" / "states-4.ckpt")["Args"].upstream_model_config == str(tmp_path / "mine.yaml")
