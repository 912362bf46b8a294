"""The small commands, through the command line's own entry: presets, params, fetch, and export with re-use."""

import json
import os
import stat

import pytest
import torch
import yaml
from safetensors.torch import load_file

from downstream_heads import registry
from tests import toy_corpora
from tests.checkpoints import load_states
from tests.programs import elp
from tests.toys import tiny_backbone
from upstream_elp.adapters.config import load_config, parse_config, preset_names
from upstream_elp.run import run
from upstream_elp.upstream.build import build_upstream


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    return toy_corpora.write_all(tmp_path / "data")


def train(task, place, data, exp, *more):
    short = {"total_steps": 2, "eval_step": 2, "save_step": 2, "log_step": 2, "gradient_accumulate_steps": 1}
    overrides = [f"config.runner.{key}={value}" for key, value in short.items()]
    overrides.append("config.downstream_expert.datarc.num_workers=0")
    flags = ["-m", "train", "-u", "elp_local", "-k", str(place), "-d", task, "-p", str(exp), "--data", str(data)]
    run([*flags, "--device", "cpu", "-o", ",,".join(overrides), *more])
    return exp


def test_every_preset_is_listed_and_printed(monkeypatch, capsys):
    assert elp("presets", monkeypatch=monkeypatch) == 0
    listed = capsys.readouterr().out
    assert all(f"| {name} " in listed for name in preset_names())
    assert elp("presets", "elp", monkeypatch=monkeypatch) == 0
    assert "p_adapter" in capsys.readouterr().out
    assert elp("presets", "elp", "--full", monkeypatch=monkeypatch) == 0
    assert parse_config(yaml.safe_load(capsys.readouterr().out), where="printed") == load_config("elp")
    assert elp("presets", "--full", monkeypatch=monkeypatch) == 2
    assert "--full needs the NAME" in capsys.readouterr().err


def test_params_of_a_checkpoint(tmp_path, monkeypatch, capsys):
    """Parameters of a backbone without a name; presets that do not fit it are reported."""
    backbone = tiny_backbone(layers=2)
    assert elp("params", "-k", backbone, "-g", "le", "--json", monkeypatch=monkeypatch) == 0
    counts = json.loads(capsys.readouterr().out)
    expert = build_upstream(None, ckpt=str(backbone), model_config="le")
    assert counts["trainable"]["total"] == sum(p.numel() for p in expert.parameters() if p.requires_grad)
    assert set(counts["trainable"]) == {"total", "e_adapter", "l_adapter", "layer_norm"}
    plain = build_upstream(None, ckpt=str(backbone), model_config="weighted_sum")
    assert counts["frozen"] == sum(p.numel() for p in plain.parameters())
    assert elp("params", "-k", backbone, monkeypatch=monkeypatch) == 0
    reported = capsys.readouterr().out
    assert "| weighted_sum " in reported and "| full_finetune " in reported and reported.startswith(f"{backbone}: ")
    (tmp_path / "deep.yaml").write_text("base: l_only\nl_adapter: {layers: [7]}\n")
    assert elp("params", "-k", backbone, "-g", tmp_path / "deep.yaml", monkeypatch=monkeypatch) == 2
    assert f"deep.yaml does not fit {backbone}: " in capsys.readouterr().err
    assert elp("params", "-k", backbone, "-u", "wavlm_base", monkeypatch=monkeypatch) == 2
    assert "remove one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (("-k", ""), "is neither an adapter folder nor a backbone"),
        (("-g", ""), "no adapter preset"),
        (("-u", ""), "unknown backbone ''"),
        (("-k", "http://localhost:1/x.pt"), "cannot download http://localhost:1/x.pt: no connection; run `elp fetch"),
    ],
)
def test_params_of_nothing(words, reported, monkeypatch, capsys):
    assert elp("params", *words, monkeypatch=monkeypatch) == 2
    assert reported in capsys.readouterr().err


def test_a_backbone_that_cannot_be_downloaded(corpora, tmp_path, monkeypatch, capsys):
    exp = train("elp_ic", tiny_backbone(), corpora, tmp_path / "ic")
    assert elp("export", exp, tmp_path / "out", monkeypatch=monkeypatch) == 0
    nowhere = ("--backbone", "http://localhost:1/x.pt")
    wav = next(corpora.rglob("*.wav"))
    for words in (("export", exp, tmp_path / "o"), ("infer", tmp_path / "out", wav), ("merge", exp, tmp_path / "m")):
        capsys.readouterr()
        assert elp(*words, *nowhere, monkeypatch=monkeypatch) == 2
        assert "elp: error: cannot download http://localhost:1/x.pt: no connection" in capsys.readouterr().err


@pytest.mark.parametrize("where", [("-u", "wavlm_base_plus"), ("-k", "tiny")])
def test_params_of_several_presets_are_a_table_with_a_row_each(where, monkeypatch, capsys):
    where = [str(tiny_backbone(layers=2)) if word == "tiny" else word for word in where]
    single = {}
    for name in ("le", "lora_qv8"):
        assert elp("params", "-g", name, *where, "--json", monkeypatch=monkeypatch) == 0
        single[name] = json.loads(capsys.readouterr().out)
    both = ("params", "-g", "lora_qv8", "-g", "le", "-g", "le", *where)
    assert elp(*both, "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == single
    assert elp(*both, monkeypatch=monkeypatch) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    counts = {name.strip(): int(count.replace(",", "")) for name, count in rows}
    assert counts == {name: count["trainable"]["total"] for name, count in single.items()}
    assert len(rows) == 2


def test_params_of_several_presets_of_which_one_does_not_fit(tmp_path, monkeypatch, capsys):
    (tmp_path / "deep.yaml").write_text("base: l_only\nl_adapter: {layers: [70]}\n")
    for where in (("-k", tiny_backbone(layers=2)), ("-u", "wavlm_base")):
        assert elp("params", "-g", "le", "-g", tmp_path / "deep.yaml", *where, monkeypatch=monkeypatch) == 2
        assert f"deep.yaml does not fit {where[1]}: l_adapter.layers: " in capsys.readouterr().err


@pytest.mark.slow
def test_params_of_a_checkpoint_are_those_of_its_name(tmp_path, monkeypatch, capsys):
    """Every preset counted from shapes and on the tensors themselves."""
    path = tmp_path / "base.pt"
    assert elp("mini-backbone", path, "--size", "base", monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    found = []
    for where in (("-k", path), ("-u", "wavlm_base_plus")):
        assert elp("params", *where, "--json", monkeypatch=monkeypatch) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


def test_params_as_json(monkeypatch, capsys):
    assert elp("params", "--adapter", "le", "--backbone", "wavlm_base_plus", "--json", monkeypatch=monkeypatch) == 0
    counts = json.loads(capsys.readouterr().out)
    # arXiv 2212.02780, "proposed": 9.13 M without the 12 layer weights
    assert counts["trainable"]["total"] == 9_127_424
    assert counts["frozen"] == 94_381_936


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("fetch", "wavlm_huge"), "wavlm_base_plus"),
        (("params", "-u", "wavlm_huge"), "wavlm_base_plus"),
        (("presets", "elpp"), "elp"),
        (("export", "nowhere", "out"), "nowhere"),
        (("check", "-d", "sid"), f"-d sid cannot be checked; choose one of {', '.join(registry.names())}, or"),
        (("rum",), "unknown command 'rum'; the commands are: run, python, doctor"),
        (("prepare", "libri", "."), "unknown corpus 'libri'; the corpora are: librispeech"),
        (("infer",), "Missing argument 'PLACE'; `elp infer --help` lists its arguments and options"),
        (("doctor", "--jason"), "'--json'"),
        (("mini-superb", "out", "--seed", "x"), "'x' is not a valid integer"),
        (("mini-backbone", "b.pt", "--norm", "mid"), "'mid' is not one of 'post', 'pre'"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_the_valid_ones(words, named, monkeypatch, capsys):
    assert elp(*words, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("elp: error: ") and named in error and error.count("\n") == 1


def test_a_failed_fetch_names_the_address_and_what_to_do(monkeypatch, capsys):
    import requests

    import upstream_elp

    upstream_elp.register()
    from s3prl import hub

    request = requests.Request("GET", "https://example.org/wavlm.pt").prepare()

    def offline(**_):
        raise requests.ConnectionError("HTTPSConnectionPool(host='example.org'): Max retries exceeded", request=request)

    monkeypatch.setattr(hub, "wavlm_base", offline)
    assert elp("fetch", "wavlm_base", monkeypatch=monkeypatch) == 2
    reported = capsys.readouterr().err
    assert reported.startswith(
        "elp: error: cannot download wavlm_base: no connection to https://example.org/wavlm.pt; "
    )
    assert ".cache/s3prl/download" in reported and "a local copy with -k" not in reported


@pytest.mark.parametrize(("words", "statuses"), [(("--help",), {0}), (("prepare",), {0, 2}), ((), {0, 2})])
def test_help_is_printed_whole(words, statuses, monkeypatch, capsys):
    assert elp(*words, monkeypatch=monkeypatch) in statuses  # without a command, newer versions of click have 2
    reported = capsys.readouterr()
    assert f"{reported.out}{reported.err}".startswith("Usage: elp") and "error" not in reported.err


def test_an_exported_adapter_serves_another_task_frozen_and_trained(corpora, tmp_path, monkeypatch, capsys):
    backbone = tiny_backbone()
    exp = train("elp_ic", backbone, corpora, tmp_path / "ic", "-g", "elp")
    folder = tmp_path / "shared" / "ic"
    assert elp("export", exp, folder, monkeypatch=monkeypatch) == 0
    assert elp("export", folder, tmp_path / "again", monkeypatch=monkeypatch) == 2
    assert f"{folder} is already an exported adapter folder" in capsys.readouterr().err
    trained = load_states(exp / "states-2.ckpt")["Upstream"]
    tensors = load_file(folder / "adapter.safetensors")
    assert tensors and all(torch.equal(tensors[name], trained[name]) for name in tensors)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((folder / "adapter.safetensors").stat().st_mode) == 0o666 & ~umask
    assert str(tmp_path) not in (folder / "adapter_config.yaml").read_text(), "no machine path"

    capsys.readouterr()
    frozen = train("elp_er", folder, corpora, tmp_path / "er", "--backbone", str(backbone))
    assert "Upstream" not in load_states(frozen / "states-2.ckpt"), "a trained adapter stays frozen without -f"
    assert "untrained" not in capsys.readouterr().err

    more = train("elp_er", folder, corpora, tmp_path / "er_f", "--backbone", str(backbone), "-f")
    again = load_states(more / "states-2.ckpt")["Upstream"]
    assert again.keys() == trained.keys()
    assert any(not torch.equal(again[name], tensors[name]) for name in tensors)
    second = tmp_path / "shared" / "er"
    assert elp("export", more, second, "--backbone", backbone, monkeypatch=monkeypatch) == 0
    assert torch.equal(load_file(second / "adapter.safetensors")["p_adapter.vectors"], again["p_adapter.vectors"])


def test_what_has_no_adapters_cannot_be_exported_without_its_head(corpora, tmp_path, monkeypatch, capsys):
    exp = train("elp_ic", tiny_backbone(), corpora, tmp_path / "ws", "-g", "weighted_sum")
    assert elp("export", exp, tmp_path / "out", "--no-head", monkeypatch=monkeypatch) == 2
    assert "nothing to export" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
