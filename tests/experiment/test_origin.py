"""A checkpoint is used with the configuration and the frozen part that it was trained with, or not at all."""

import json
import shutil

import pytest
import torch
import yaml
from click.testing import CliRunner

import upstream_elp
from tests.checkpoints import load_states
from tests.toys import tiny_backbone
from tests.training_tools import flags_of, resuming
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group
from upstream_elp.run import run
from upstream_elp.upstream.build import build_upstream

pytestmark = pytest.mark.usefixtures("cache")
WAV = 0.1 * torch.sin(torch.arange(16000) / 30)


def cli(*words):
    return CliRunner().invoke(group, [str(word) for word in words])


def _own_config(flags, path, **e_adapter):
    path.write_text(yaml.safe_dump({"base": "le", "e_adapter": e_adapter}))
    return [*flags[: flags.index("-g") + 1], str(path), *flags[flags.index("-g") + 2 :]]


def _features(place):
    with torch.no_grad():
        return upstream_elp.load(place, device="cpu").upstream([WAV])["hidden_states"]


def test_a_configuration_that_was_edited_since_has_no_effect(data, tmp_path):
    """Evaluation, export, inference and resuming use the checkpoint's own, even if the file is gone."""
    config, expdir = tmp_path / "mine.yaml", tmp_path / "exp"
    run(_own_config(flags_of("elp_sv", data, expdir), config, activation="relu"))
    best, before = expdir / "dev-best.ckpt", _features(expdir)
    evaluate = ["-m", "evaluate", "-e", str(best), "-t", "test", "--data", str(data), "--device", "cpu"]
    run(evaluate)
    config.write_text(yaml.safe_dump({"base": "le", "e_adapter": {"activation": "gelu"}}))
    assert all(map(torch.equal, before, _features(expdir)))
    run(evaluate)
    first, second = [json.loads(line)["metrics"] for line in (expdir / "metrics.jsonl").read_text().splitlines()[-2:]]
    assert first == second
    config.unlink()
    run(resuming(expdir, data, "runner.total_steps=10"))
    assert load_states(expdir / "states-10.ckpt")["Origin"]["config"]["e_adapter"]["activation"] == "relu"
    assert json.loads((expdir / "results.json").read_text())["adapter"]["e_adapter"]["activation"] == "relu"
    assert cli("export", str(expdir), str(tmp_path / "out")).exit_code == 0
    assert "activation: relu" in (tmp_path / "out" / "adapter_config.yaml").read_text()


def test_another_configuration_can_be_insisted_on(data, tmp_path):
    expdir = tmp_path / "exp"
    run(flags_of("elp_ic", data, expdir, total_steps=4))
    other = tmp_path / "relu.yaml"
    other.write_text(yaml.safe_dump({"base": "le", "e_adapter": {"activation": "relu"}}))
    flags = resuming(expdir, data, "runner.total_steps=6")
    run([*flags[:-1], f"{flags[-1]},,args.upstream_model_config={other}"])
    assert load_states(expdir / "states-6.ckpt")["Origin"]["config"]["e_adapter"]["activation"] == "relu"


@pytest.mark.parametrize("preset", ["weighted_sum", "le"])
def test_another_backbone_under_the_same_name_is_refused(preset, data, tmp_path):
    backbone, expdir = tmp_path / "backbone.pt", tmp_path / "exp"
    shutil.copy(tiny_backbone(), backbone)
    flags = flags_of("elp_ic", data, expdir, preset=preset, total_steps=4)
    flags[flags.index("-k") + 1] = str(backbone)
    run(flags)
    shutil.copy(tiny_backbone(seed=5), backbone)
    reported = "trained on another backbone"
    with pytest.raises(ElpError, match=reported):
        upstream_elp.load(expdir)
    assert reported in str(cli("export", str(expdir), str(tmp_path / "out")).exception)
    for words in (
        resuming(expdir, data, "runner.total_steps=6"),
        ["-m", "evaluate", "-e", str(expdir / "states-4.ckpt")],
    ):
        with pytest.raises(ElpError, match=reported):
            run([*words, "--data", str(data), "--device", "cpu"])
    assert upstream_elp.load(expdir, backbone=tiny_backbone())(WAV)


def test_a_stock_backbone_that_was_replaced_is_refused(data, tmp_path):
    backbone, expdir = tmp_path / "backbone.pt", tmp_path / "exp"
    shutil.copy(tiny_backbone(), backbone)
    flags = flags_of("elp_ic", data, expdir, total_steps=4)
    flags[flags.index("-u") + 1], flags[flags.index("-k") + 1] = "wavlm_local", str(backbone)
    del flags[flags.index("-g") : flags.index("-g") + 2]
    run(flags)
    run(resuming(expdir, data, "runner.total_steps=6"))
    shutil.copy(tiny_backbone(seed=5), backbone)
    with pytest.raises(ElpError, match="trained on another backbone"):
        run(resuming(expdir, data, "runner.total_steps=8"))


def test_a_frozen_adapter_that_was_exported_again_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_BACKBONE", str(tiny_backbone()))
    first, folder, expdir = tmp_path / "first", tmp_path / "adapter", tmp_path / "exp"
    run(flags_of("elp_er", data, first, total_steps=4))
    assert cli("export", str(first / "states-4.ckpt"), str(folder)).exit_code == 0
    flags = flags_of("elp_ic", data, expdir, total_steps=4)
    flags[flags.index("-k") + 1] = str(folder)
    del flags[flags.index("-g") : flags.index("-g") + 2]
    run(flags)
    assert upstream_elp.load(expdir)(WAV)
    shutil.rmtree(folder)
    assert cli("export", str(first / "states-2.ckpt"), str(folder)).exit_code == 0
    for use in (lambda: upstream_elp.load(expdir), lambda: run(resuming(expdir, data, "runner.total_steps=6"))):
        with pytest.raises(ElpError, match=r"another frozen adapter than .*adapter has now"):
            use()


def test_an_adapter_folder_that_moved(data, tmp_path, monkeypatch):
    """A backbone does not replace it; the message says what does."""
    monkeypatch.setenv("ELP_BACKBONE", str(tiny_backbone()))
    first, folder, moved, expdir = (tmp_path / name for name in ("first", "adapter", "moved", "exp"))
    run(flags_of("elp_er", data, first, total_steps=4))
    assert cli("export", str(first), str(folder)).exit_code == 0
    flags = flags_of("elp_ic", data, expdir, total_steps=4)
    flags[flags.index("-k") + 1] = str(folder)
    del flags[flags.index("-g") : flags.index("-g") + 2]
    run(flags)
    folder.rename(moved)
    evaluate = ["-m", "evaluate", "-e", str(expdir / "dev-best.ckpt"), "--data", str(data), "--device", "cpu"]
    places = ([], ["--backbone", str(tiny_backbone())], ["--backbone", str(moved)])
    for use in (*(lambda more=more: run([*evaluate, *more]) for more in places), lambda: upstream_elp.load(expdir)):
        with pytest.raises(
            ElpError, match=r"adapter folder -k .*adapter, which does not exist .*-o args\.upstream_ckpt="
        ):
            use()
    run([*evaluate, "-o", f"args.upstream_ckpt={moved}"])


def test_checkpoints_without_the_entry_are_used_as_before(data, tmp_path):
    run(flags_of("elp_ic", data, tmp_path, total_steps=2))
    path = tmp_path / "states-2.ckpt"
    states = load_states(path)
    del states["Origin"]
    torch.save(states, path)
    run(resuming(tmp_path, data, "runner.total_steps=4"))
    assert (
        load_states(tmp_path / "states-4.ckpt")["Origin"]["backbone"]
        == build_upstream(None, ckpt=tiny_backbone(), model_config="le").fingerprint.sha256
    )
