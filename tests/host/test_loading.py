"""Weights that do not fit give one sentence that names the file."""

from pathlib import Path

import pytest
import torch

from tests import toy_corpora
from tests.host_toys import stock_config
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run

SHORT = "config.runner.total_steps=1,,config.runner.save_step=1,,config.runner.eval_step=9"
SHORT += ",,config.downstream_expert.datarc.num_workers=0"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    toy_corpora.fluent_speech_commands(tmp_path)
    toy_corpora.iemocap(tmp_path)
    return tmp_path


def words(data: Path, task: str, exp: str) -> list[str]:
    flags = f"-m train -u wavlm_local -k {tiny_backbone()} -d {task} -p {data / exp} --data {data} --device cpu"
    return [*flags.split(), "-o", SHORT]


def test_a_checkpoint_of_another_task_is_named(data):
    run(words(data, "elp_er", "er"))
    states = data / "er" / "states-1.ckpt"
    with pytest.raises(ElpError, match=r"states-1\.ckpt: the Downstream weights do not fit .*-d elp_ic.*\(") as caught:
        run([*words(data, "elp_ic", "ic"), "-i", str(states)])
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_width_is_named(data):
    run(words(data, "elp_ic", "one"))
    wide = words(data, "elp_ic", "two")
    wide[-1] += ",,config.downstream_expert.modelrc.projector_dim=17"
    with pytest.raises(ElpError, match=r"the Downstream weights do not fit .*\(size mismatch for "):
        run([*wide, "-i", str(data / "one" / "states-1.ckpt")])


@pytest.mark.parametrize(
    ("upstream", "family"), [("hubert_local", "wavlm"), ("wavlm_local", "hubert"), ("wav2vec2_local", "hubert")]
)
def test_a_backbone_of_another_family_is_named(upstream, family, tmp_path):
    config, backbone = stock_config("fluent_commands", tmp_path), tiny_backbone(family=family)
    flags = ["-m", "train", "-u", upstream, "-k", str(backbone), "-d", "fluent_commands", "-c", str(config)]
    with pytest.raises(ElpError, match=rf"^-k {backbone}: -u {upstream} cannot load it .*elp_local") as caught:
        run([*flags, "-p", str(tmp_path / "exp"), "--device", "cpu"])
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_is_not_a_wrong_file(tmp_path, monkeypatch):
    from s3prl import hub

    def full(**kwargs) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(hub, "wavlm_local", full)
    config = stock_config("fluent_commands", tmp_path)
    flags = ["-u", "wavlm_local", "-k", str(tiny_backbone()), "-d", "fluent_commands", "-c", str(config)]
    with pytest.raises(RuntimeError, match="out of memory"):
        run(["-m", "train", *flags, "-p", str(tmp_path / "exp"), "--device", "cpu"])


def test_what_we_said_ourselves_is_not_said_again(tmp_path):
    config, other = stock_config("fluent_commands", tmp_path), tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(1)}, other)
    flags = ["-m", "train", "-u", "elp_local", "-k", str(other), "-d", "fluent_commands", "-c", str(config)]
    with pytest.raises(ElpError) as caught:
        run([*flags, "-p", str(tmp_path / "exp"), "--device", "cpu"])
    assert "cannot load it" not in str(caught.value)
    assert "other.pt" in str(caught.value)
