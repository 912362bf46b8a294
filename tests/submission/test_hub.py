"""The hidden set's layout, model cards and uploads, without a network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from tests.programs import elp
from tests.submission.short_runs import train
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.submission.hub_layout import validate
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.transfer import adapter_folder_of

PRESETS = {"ASR": "le", "ER": "lora_qv8"}


@pytest.fixture(scope="module")
def backbone():
    """A backbone whose features do not see padding."""
    return tiny_backbone(family="wav2vec2", layer_norm_front=True)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, backbone):
    """Adapter folders by task, with other weights than at initialisation."""
    top = tmp_path_factory.mktemp("adapters")
    for number, (task, preset) in enumerate(PRESETS.items()):
        expert = build_upstream(None, ckpt=str(backbone), model_config=preset)
        draw = torch.Generator().manual_seed(number)
        for parameter in expert.injection.parameters(expert).values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
        write_adapter_folder(top / task, adapter_folder_of(expert))
    return {task: top / task for task in PRESETS}


@pytest.fixture(scope="module")
def repository(adapters, backbone, tmp_path_factory):
    """A repository, to be read only."""
    out = tmp_path_factory.mktemp("hub") / "repo"
    words = [word for task, folder in adapters.items() for word in ("--adapter", f"{task}={folder}")]
    with pytest.MonkeyPatch.context() as patch:
        assert elp("submit", "--hf", out, *words, "--backbone", backbone, "--license", "mit", monkeypatch=patch) == 0
    return out


USE = """
import json, sys, torch
from expert import UpstreamExpert
torch.manual_seed(0)
wavs = [torch.randn(samples) for samples in (32000, 28800, 59200)]
model = UpstreamExpert("model.pt").eval()
with torch.no_grad():
    results = model(wavs)
torch.save({"wavs": wavs, "results": results}, sys.argv[1])
"""


def test_every_task_has_its_adapter_in_a_new_process(repository, adapters, backbone, tmp_path):
    """Loaded as the organisers do, in the repository's folder and without this project's files around it."""
    names = {"expert.py", "model.pt", "requirements.txt", "README.md", ".gitattributes", "adapters"}
    assert {path.name for path in repository.iterdir()} == names
    assert (repository / "model.pt").read_bytes() == backbone.read_bytes()
    env = {"PATH": "", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    env["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", USE, str(tmp_path / "out.pt")], cwd=repository, env=env, check=True)
    content = torch.load(tmp_path / "out.pt")
    wavs, results = content["wavs"], content["results"]
    assert set(results) == {*PRESETS, "hidden_states"}
    for task, folder in {**adapters, "hidden_states": None}.items():
        config = {"model_config": "weighted_sum"} if folder is None else {"backbone": str(backbone)}
        expert = build_upstream(None, ckpt=str(folder or backbone), **config).eval()
        with torch.no_grad():
            expected = expert(wavs)["hidden_states"]
        assert len(results[task]) == len(expected)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results[task], expected, strict=True)), task


def test_an_utterance_in_a_batch(repository):
    """As far as the backbone allows: this one's features do not see padding."""
    found = validate(repository)
    assert set(found) == {*PRESETS, "hidden_states"}
    assert all(0 < one["change"] < 1e-3 for one in found.values())


def test_a_repository_that_does_not_load(repository, tmp_path):
    damaged = Path(shutil.copytree(repository, tmp_path / "damaged"))
    (damaged / "adapters" / "ER" / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(ElpError, match=r"must load and give features of every task, but does not \(.*adapter"):
        validate(damaged)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--hf needs the backbone"),
        (("--backbone", "B"), "--hf needs at least one adapter"),
        (("--backbone", "B", "--adapter", "ASR"), "must be TASK=FOLDER"),
        (("--backbone", "B", "--adapter", "asr=A"), "names asr; the tasks are: PR, SID, ER, ASR, ASV"),
        (("--backbone", "B", "--adapter", "ASR=A", "--adapter", "ASR=A"), "must name every task once"),
        (("--backbone", "B", "--adapter", "ASR=nowhere"), "must name an adapter folder"),
        (("--backbone", "nowhere", "--adapter", "ASR=A"), "but nowhere is neither"),
        (("--sv", "A", "--backbone", "B"), "writes a folder of adapters and no zip"),
    ],
)
def test_wrong_calls(words, message, adapters, backbone, tmp_path, monkeypatch, capsys):
    places = {"A": str(adapters["ASR"]), "B": str(backbone)}
    words = [places.get(word, word).replace("=A", f"={adapters['ASR']}") for word in words]
    assert elp("submit", "--hf", tmp_path / "repo", *words, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "repo").exists()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of IC with adapters, evaluated on test."""
    from tests import toy_corpora

    top = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELP_CACHE", str(top / "cache"))
        return train("elp_ic", top / "ic", toy_corpora.write_all(top / "data"), "-g", "le", upstream="elp_local")


@pytest.fixture
def exported(run_folder, tmp_path, monkeypatch):
    words = ("export", run_folder, tmp_path / "mine", "--model-card", "--license", "mit")
    assert elp(*words, monkeypatch=monkeypatch) == 0
    return tmp_path / "mine"


def test_the_card_of_an_export(exported, run_folder):
    card = (exported / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "mit" and yaml.safe_load(header)["library_name"] == "s3prl-elp"
    tests = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    value = tests[-1]["metrics"]["acc"]
    assert f"| test | accuracy | {value:.2f} %" in text
    for message in (
        "| preset | le |",
        "| trained on | fluent_speech",
        'upstream_elp.load("FOLDER"',
        "yes (head_config.yaml)",
    ):
        assert message in text
    assert str(run_folder.parent) not in card  # no paths of this machine


def test_a_card_is_not_overwritten(exported, run_folder, monkeypatch, capsys):
    assert elp("export", run_folder, exported / "x", "--license", "mit", monkeypatch=monkeypatch) == 2
    assert "pass --model-card too" in capsys.readouterr().err


def test_a_dry_run_lists_the_files(exported, repository, monkeypatch, capsys):
    for folder, count in ((exported, 5), (repository, 9)):
        capsys.readouterr()
        assert elp("push", folder, "someone/mine", "--dry-run", monkeypatch=monkeypatch) == 0
        printed = capsys.readouterr().out
        assert f"would upload {count} files, " in printed and "README.md: " in printed


def test_an_incomplete_repository_is_not_pushed(repository, tmp_path, monkeypatch, capsys):
    damaged = Path(shutil.copytree(repository, tmp_path / "damaged"))
    (damaged / "model.pt").unlink()
    assert elp("push", damaged, "a/b", "--dry-run", monkeypatch=monkeypatch) == 2
    assert "must contain model.pt, but does not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("mine", None, "must be ORGANISATION/NAME"),
        ("a/b..c", None, "a name that the hub accepts"),
        ("a/b", "README.md", "must contain a model card"),
        ("a/b", "adapter_config.yaml", "must be an adapter folder"),
        ("a/b", "adapter.safetensors", "adapter.safetensors"),
        ("a/b", "+notes.txt", "must contain only the files of an adapter and its model card, but has notes.txt"),
    ],
)
def test_what_is_not_pushed(name, damage, message, exported, monkeypatch, capsys):
    if damage and damage.startswith("+"):
        (exported / damage[1:]).write_text("secret")
    elif damage:
        (exported / damage).unlink()
    assert elp("push", exported, name, "--dry-run", monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err


def test_an_upload(exported, monkeypatch, capsys):
    calls = []

    class Hub:
        def create_repo(self, name, **options):
            calls.append(("create", name, options))

        def upload_folder(self, **options):
            calls.append(("upload", options["repo_id"], options))
            return SimpleNamespace(commit_url="https://huggingface.co/a/b/commit/1")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert elp("push", exported, "a/b", "--private", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.endswith("https://huggingface.co/a/b/commit/1\n")
    assert [call[:2] for call in calls] == [("create", "a/b"), ("upload", "a/b")]
    assert calls[0][2] == {"private": True, "exist_ok": True}
    assert sorted(calls[1][2]["allow_patterns"]) == sorted(path.name for path in exported.iterdir())


def test_no_network(exported, monkeypatch, capsys):
    def refused(self, *words, **options):
        raise ConnectionError("no connection")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refused)
    assert elp("push", exported, "a/b", monkeypatch=monkeypatch) == 2
    assert "the hub must accept an upload to a/b, but does not (no connection)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder_repository(tmp_path_factory):
    """A repository whose backbone is a folder in Hugging Face's format, with files in it that nobody needs."""
    top = tmp_path_factory.mktemp("folder")
    place = Path(shutil.copytree(tiny_backbone(None, "hf_wav2vec2", layer_norm_front=True), top / "plain"))
    (place / "pytorch_model.bin").write_bytes(b"the same weights as a pickle")
    (place / "notes.txt").write_text("private")
    expert = build_upstream(None, ckpt=str(place), model_config="le")
    for parameter in expert.injection.parameters(expert).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    write_adapter_folder(top / "asr", adapter_folder_of(expert))
    words = ("--adapter", f"ASR={top / 'asr'}", "--backbone", place, "--license", "mit")
    with pytest.MonkeyPatch.context() as patch:
        assert elp("submit", "--hf", top / "repo", *words, monkeypatch=patch) == 0
    return top


def test_a_backbone_that_is_a_folder(folder_repository, monkeypatch, capsys):
    repository = folder_repository / "repo"
    plain = {path.name for path in tiny_backbone(None, "hf_wav2vec2", layer_norm_front=True).iterdir()}
    assert {path.name for path in (repository / "backbone").iterdir()} == plain
    env = {"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    shutil.rmtree(folder_repository / "plain")  # it must not be needed any more
    out = folder_repository / "out.pt"
    subprocess.run([sys.executable, "-c", USE, str(out)], cwd=repository, env=env, check=True)
    content = torch.load(out)
    expert = build_upstream(None, ckpt=str(folder_repository / "asr"), backbone=str(repository / "backbone")).eval()
    with torch.no_grad():
        expected = expert(content["wavs"])["hidden_states"]
    assert all(torch.equal(*pair) for pair in zip(content["results"]["ASR"], expected, strict=True))
    assert elp("push", repository, "someone/mine", "--dry-run", monkeypatch=monkeypatch) == 0
    assert "backbone/config.json: " in capsys.readouterr().out
