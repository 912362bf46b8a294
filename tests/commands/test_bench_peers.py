"""The benchmarks that compare with other code: the models compared, the cost model, and the files that are written."""

import csv
import importlib
import json
import sys
from pathlib import Path

import click
import pytest
import torch

from tests import toy_corpora
from tests.programs import call
from tests.toys import tiny_backbone

BENCH = Path(__file__).parents[2] / "recipes" / "bench"
MINI = ["--size", "mini", "--batch", "1", "--seconds", "0.5", "--steps", "1", "--rounds", "1"]


def _run(script, *arguments):
    return call([sys.executable, str(BENCH / script), *arguments], seconds=600)


@pytest.fixture
def bench(monkeypatch):
    """Import a module of the benchmarks, which import each other by plain names."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_help_names_the_options():
    shown = _run("peers.py", "--help").stdout
    for word in ("--parts", "--rows", "--precisions", "--shapes", "--device", "--out", "python recipes/bench/peers.py"):
        assert word in shown
    shown = _run("epochs.py", "--help").stdout
    for word in ("--tasks", "--methods", "--also", "--epochs", "--size", "--out", "python recipes/bench/epochs.py"):
        assert word in shown


@pytest.mark.slow
def test_where_the_time_goes():
    done = _run("where.py", *MINI[:6], "--rows", "le (cached)")
    assert done.returncode == 0, done.stderr
    frozen, cached = (line.split("|") for line in done.stdout.splitlines()[-2:])
    assert (frozen[1].strip(), float(frozen[2])) == ("S3PRL frozen", 1.0)
    assert float(cached[4]) == 0.0 < float(frozen[4]), "a cached step has no convolutions"


def test_an_unknown_name_is_refused():
    done = _run("peers.py", "--rows", "le,lee")
    assert done.returncode == 2 and "unknown 'lee'; the names are: S3PRL frozen, weighted_sum, " in done.stderr
    done = _run("peers.py", "--shapes", "4by2")
    assert done.returncode == 2 and "'4by2' must be shapes like 4x2,1x15: waves x seconds" in done.stderr


def test_every_preset_and_peer_exists(bench):
    from upstream_elp.adapters.config import preset_names
    from upstream_elp.mini.sizes import FAMILIES

    models = bench("peers_models")
    for name, row in models.ROWS.items():
        assert row.family in FAMILIES, name
        assert (row.preset in preset_names()) == (row.side == "ours"), name
    assert {*models.PEERS, *sum(models.PEERS.values(), ()), *models.SCALED} <= models.ROWS.keys()


def _reference_and_ours(models):
    folder = tiny_backbone(family="hf_wavlm", dim=48)
    reference, ours = (models.load(models.ROWS[f"{name} on HF WavLM"], folder) for name in ("L-E reference", "le"))
    models.set_mode(models.ROWS["le on HF WavLM"], ours)
    return reference.train().double(), ours.double()


_THEIR_NAMES = {
    ("e_adapter", "ffn"): "{layer}.feed_forward.1.{part}.{last}",
    ("layer_norm", "attention"): "{layer}.layer_norm.{last}",
    ("layer_norm", "ffn"): "{layer}.final_layer_norm.{last}",
    ("l_adapter", "projection"): "l_adapters.{index}.linear.{last}",
    ("l_adapter", "norm"): "l_adapters.{index}.norm.{last}",
}
"""(method, part) of ours -> the tensor of the restatement."""


def test_the_restated_reference_computes_what_le_does(bench):
    """With equal weights, the same hidden states, and gradients in the same tensors."""
    reference, ours = _reference_and_ours(bench("peers_models"))
    theirs = dict(reference.named_parameters())
    trained = ours.injection.parameters(ours)
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(torch.randn_like(value))
            method, index, *rest = name.split(".")
            layer = f"model.encoder.layers.{index}"
            theirs[_THEIR_NAMES[method, rest[0]].format(layer=layer, index=index, last=rest[-1], part=rest[1])].copy_(
                value
            )
    waves = [torch.randn(5000, dtype=torch.float64) for _ in range(2)]
    own = torch.stack(ours(waves)["hidden_states"]).mean(dim=0)  # the weights are equal at the start
    (other,) = reference(waves)["hidden_states"]
    assert (own - other).abs().max() < 1e-9
    other.sum().backward()
    assert len([p for p in theirs.values() if p.requires_grad]) == len(trained) + 1  # and the layer weights
    assert all((p.grad is not None) == p.requires_grad for p in reference.parameters())


def test_only_the_restated_reference_goes_back_through_the_cnn(bench):
    needs = []
    for upstream in _reference_and_ours(bench("peers_models")):
        cnn = next(m for n, m in upstream.named_modules() if n.endswith("feature_extractor.conv_layers.6"))
        cnn.register_forward_hook(lambda module, args, output: needs.append(output.requires_grad))
        upstream([torch.randn(5000, dtype=torch.float64)])
    assert needs == [True, False]


def test_peft_goes_back_through_the_cnn_unless_asked_to_freeze_it(bench):
    models = bench("peers_models")
    for name, goes in (("peft LoRA on HF HuBERT", False), ("peft LoRA as is on HF HuBERT", True)):
        upstream, needs = models.load(models.ROWS[name], tiny_backbone(family="hf_hubert")), []
        models.set_mode(models.ROWS[name], upstream)
        cnn = next(m for n, m in upstream.named_modules() if n.endswith("feature_extractor.conv_layers.6"))
        cnn.register_forward_hook(lambda module, args, output, needs=needs: needs.append(output.requires_grad))
        assert upstream([torch.randn(5000)])["hidden_states"][-1].requires_grad
        assert needs == [goes]
        trained = [n for n, p in upstream.named_parameters() if p.requires_grad]
        assert len(trained) == 3 * 2 * 2 and all("lora_" in n for n in trained)


@pytest.mark.parametrize("name", ["weighted_sum", "le", "elp", "lora_qv8 on HF HuBERT"])
def test_a_cached_step_is_the_plain_step(bench, name):
    models = bench("peers_models")
    row = models.ROWS[f"{name} (cached)"]
    upstream = models.load(row, tiny_backbone(family=row.family))
    models.set_mode(row, upstream)
    waves = [torch.randn(5000) for _ in range(2)]  # of one length, so that there is no padding

    def loss_of(waves, states):
        return torch.stack(states["hidden_states"]).square().mean()

    plain = models.plain_step(row, upstream, loss_of, waves)()
    torch.testing.assert_close(models.cached_step(row, upstream, loss_of, waves)(), plain)


def test_the_cost_model_finds_its_terms(bench):
    tables = bench("peers_tables")
    shapes = [(1, 2.0), (8, 2.0), (4, 4.0), (1, 15.0), (1, 30.0)]
    cases = [tables.Case("length", "le", "base", *shape, "fp32") for shape in shapes]
    measured = [0.3 + 0.25 * case.audio + 0.004 * case.audio * case.seconds for case in cases]
    found, errors = tables.fitted(cases, measured)
    assert found == pytest.approx([0.3, 0.25, 0.004]) and max(map(abs, errors)) < 1e-9
    _, errors = tables.fitted(cases, [measured[0], 2 * measured[1], *measured[2:]])
    assert max(map(abs, errors)) > 0.05


def test_a_failed_row_leaves_the_others(tmp_path):
    flags = [*MINI, "--parts", "table,length", "--precisions", "fp32", "--rows", "S3PRL frozen", "--shapes", "1x0"]
    done = _run("peers.py", *flags, "--out", str(tmp_path / "peers"))
    assert done.returncode == 1 and "Error: 1 runs failed; the first: length, mini, fp32: S3PRL frozen: " in done.stderr
    with (tmp_path / "peers.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["part"] == "table" and float(row["step"]) > 0 and int(row["trained"]) == 0
    text = (tmp_path / "peers.md").read_text()
    assert "| S3PRL frozen " in text and "failed: length, mini, fp32" in text and text in done.stdout
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")

    done = _run("peers.py", "--rounds", "0", "--add", str(tmp_path / "peers.json"), "--out", str(tmp_path / "again"))
    assert "| S3PRL frozen " in done.stdout and (tmp_path / "again.png").exists()
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["setting"]["steps"] == 1, "that of the measurements, not the default"


def test_only_equal_settings_share_a_table(bench, tmp_path):
    tables = bench("peers_tables")
    results = tables.Results({"device": "cpu"})
    run = {"step": 2.0, "gigabytes": 1.0, "trained": 3}
    case = tables.Case("table", "le", "base", 4, 4.0, "fp32")
    results.add(case, 0, run)
    (tmp_path / "more.json").write_text(json.dumps({"setting": {}, "problems": [], "runs": []}))
    results.read(tmp_path / "more.json")
    other = {**case._replace(size="mini")._asdict(), "round": 0, **run}
    (tmp_path / "other.json").write_text(json.dumps({"setting": {}, "problems": [], "runs": [other]}))
    with pytest.raises(
        click.UsageError, match="must have the size base and steps of 4 x 4 s, but has the size mini and"
    ):
        results.read(tmp_path / "other.json")


def test_ratios_are_those_of_the_same_round(bench):
    tables = bench("peers_tables")
    results = tables.Results({"device": "cpu"})
    for number, (frozen, le) in enumerate([(1.0, 2.0), (2.0, 6.0)]):
        for row, step in (("S3PRL frozen", frozen), ("le", le)):
            case = tables.Case("table", row, "base", 4, 4.0, "fp32")
            results.add(case, number, {"step": step, "gigabytes": 0.5, "trained": 7})
    line = results.table()[1]
    assert line["fp32 CPU s"] == "4.00 (2.00-6.00)" and line["fp32 x frozen"] == "2.50 (2.00-3.00)"
    assert line["fp32 utt/s"] == "1.00" and line["fp32 GB"] == "0.50" and line["trained in upstream"] == "7"


@pytest.mark.slow
def test_a_small_run_writes_its_tables(tmp_path):
    rows = "S3PRL frozen,le,L-E reference on HF WavLM,le on HF WavLM,peft LoRA on HF HuBERT,lora_qv8 on HF HuBERT"
    flags = [*MINI, "--rows", rows, "--shapes", "1x0.5,2x0.5,1x1,1x2", "--sizes", "mini"]
    done = _run("peers.py", *flags, "--out", str(tmp_path / "peers"))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "peers.md").read_text()
    assert text in done.stdout
    assert "| le on HF WavLM        | L-E reference on HF WavLM |" in text
    assert "| lora_qv8 on HF HuBERT |    peft LoRA on HF HuBERT |" in text
    assert "seconds = a + b audio + c audio length" in text
    runs = json.loads((tmp_path / "peers.json").read_text())["runs"]
    assert len(runs) == 6 * 2 + 2 * 4 + 2  # table in two precisions; lengths and sizes of two rows
    trained = {run["row"]: run["trained"] for run in runs}
    assert trained["peft LoRA on HF HuBERT"] == trained["lora_qv8 on HF HuBERT"] == 4 * 2 * 2 * 256 * 8
    assert trained["L-E reference on HF WavLM"] == trained["le on HF WavLM"] + 4  # its weights of the four layers
    assert all(run["step"] > 0 and run["gigabytes"] > 0 for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["asr", "sv", "er", "ic"])
def test_epochs_are_measured(task, tmp_path):
    data = toy_corpora.write_all(tmp_path / "data")
    flags = ["--data", str(data), "--tasks", task, "--methods", "le", "--batch", "2", "--epochs", "2", "--rounds", "1"]
    flags += ["--asr-width", "16", "--also", "config.runner.precision=bf16", "--out", str(tmp_path / "epochs")]
    done = _run("epochs.py", *flags)
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "epochs.json").read_text())["runs"]
    assert [run["method"] for run in runs] == ["S3PRL", "le", "le config.runner.precision=bf16"]
    assert len({run["steps"] for run in runs}) == 1, "all make the same number of steps"
    assert all(len(run["cpu"]) == len(run["wall"]) == 2 and min(run["cpu"] + run["wall"]) > 0 for run in runs)
    assert (tmp_path / "epochs.md").read_text() in done.stdout
    with (tmp_path / "epochs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * 2
    assert not list((data / "IEMOCAP").glob("meta_data")), "nothing is written into the corpora"
