import importlib
import itertools
import os
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.toys import BACKBONES, S3PRL_STYLE, TINY_CONV, tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.mini_backbone import mini_backbone
from upstream_elp.mini import backbone as module
from upstream_elp.mini.backbone import count_parameters, parse_conv, write_backbone
from upstream_elp.mini.sizes import FAMILIES, FULL_CONV, NARROW_CONV, size_options

KEYS = {
    "wavlm": {"cfg", "model"},
    "hubert": {"task_cfg", "model_cfg", "model_weight", "dictionaries_symbols"},
    "wav2vec2": {"task_cfg", "model_cfg", "model_weight"},
    "data2vec": {"task_cfg", "model_cfg", "model_weight"},
    "unispeech_sat": {"cfg", "model"},
}


def load_expert(family, path):
    """The expert class that S3PRL's `<family>_local` builds (imported without the hub)."""
    expert = importlib.import_module(f"s3prl.upstream.{family}.expert").UpstreamExpert(str(path))
    return expert.eval()


def hidden_states(expert, *lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return expert([torch.randn(length, generator=generator) * 0.1 for length in lengths])["hidden_states"]


@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_s3prl_loads_it_and_layers_differ(backbone):
    family, pre_norm, layer_norm_front = BACKBONES[backbone]
    path = tiny_backbone(None, family, pre_norm=pre_norm, layer_norm_front=layer_norm_front)
    assert set(torch.load(path, weights_only=True)) == KEYS[family]
    expert = load_expert(family, path)
    assert expert.model.encoder.layer_norm_first is pre_norm
    states = hidden_states(expert, 16000, 9000)
    assert len(states) == 3 + 1
    assert all(state.shape == (2, 49, 32) for state in states)
    for state in states:
        valid = state[0]
        assert valid.std(0).min() > 1e-3  # every dimension moves over time
        assert torch.linalg.matrix_rank(valid - valid.mean(0), rtol=1e-3) >= 16
    for below, above in itertools.pairwise(states):
        assert (above - below).norm() > 0.1 * below.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_bytes_and_random_state_untouched(tmp_path, family):
    before = torch.get_rng_state()
    np_before = np.random.get_state()[1].copy()
    options = {"family": family, "layers": 1, "dim": 16, "heads": 2, "conv": TINY_CONV, "targets": 4}
    first = _bytes(write_backbone(tmp_path / "one.pt", **options))
    assert torch.equal(before, torch.get_rng_state())
    assert (np_before == np.random.get_state()[1]).all()
    torch.manual_seed(5)
    assert _bytes(write_backbone(tmp_path / "sub" / "two.pt", **options)) == first
    assert _bytes(write_backbone(tmp_path / "three.pt", **options, seed=1)) != first


def _bytes(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file.read_bytes() for file in files]


@pytest.mark.parametrize("conv", [NARROW_CONV, FULL_CONV, TINY_CONV])
def test_front_end_geometry(conv):
    field, jump = 1, 1
    for _, kernel, stride in conv:
        field, jump = field + (kernel - 1) * jump, jump * stride
    assert (field, jump) == (400, 320)


def test_mini_wavlm_has_the_documented_size(tmp_path):
    path = write_backbone(tmp_path / "mini.pt", family="wavlm", **size_options("mini", "wavlm"))
    assert 3.8e6 < count_parameters(path) < 4.0e6  # 3.90 M


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"family": "bert"}, "wavlm, hubert, wav2vec2"),
        ({"extractor_mode": "batch"}, "layer_norm"),
        ({"heads": 5}, "heads"),
        ({"layers": 0}, "layers"),
        ({"conv_pos_groups": 7}, "conv_pos_groups"),
        ({"conv": []}, "conv"),
    ],
)
def test_wrong_arguments_are_named_and_write_nothing(tmp_path, wrong, named):
    with pytest.raises(ElpError, match=named):
        write_backbone(tmp_path / "x.pt", **{"layers": 1, "dim": 32, "heads": 4, "conv": TINY_CONV, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_unknown_size_and_conv_text():
    with pytest.raises(ElpError, match="mini, base, large"):
        size_options("huge", "wavlm")
    assert parse_conv("[(48, 10, 5), [64, 3, 2]]") == ((48, 10, 5), (64, 3, 2))
    with pytest.raises(ElpError, match="channels, kernel, stride"):
        parse_conv("[(1, 2)]")
    with pytest.raises(ElpError, match="channels, kernel, stride"):
        parse_conv("__import__('os')")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_unwritable_place(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ElpError, match="writable"):
        write_backbone(tmp_path / "sub" / "x.pt", layers=1, dim=16, heads=2, conv=TINY_CONV)


def test_command_writes_what_the_flags_say(tmp_path):
    out = tmp_path / "b.pt"
    flags = ["--family", "hubert", "--layers", "2", "--dim", "64", "--norm", "pre", "--front", "layer", "--seed", "3"]
    result = CliRunner().invoke(mini_backbone, [str(out), *flags], catch_exceptions=False)
    assert result.exit_code == 0
    assert "2 layers x 64" in result.output
    config = torch.load(out, weights_only=True)["model_cfg"]
    assert (config["encoder_layers"], config["encoder_embed_dim"], config["encoder_ffn_embed_dim"]) == (2, 64, 256)
    assert (config["layer_norm_first"], config["extractor_mode"]) == (True, "layer_norm")


@pytest.mark.parametrize("family", ["wavlm", "hf_wavlm"])
def test_what_is_there_is_kept_and_may_be_made_again(tmp_path, family):
    out = tmp_path / "b"
    flags = [str(out), "--family", family, "--layers", "1", "--dim", "16", "--heads", "2"]
    run = partial(CliRunner().invoke, mini_backbone)
    assert run(flags, catch_exceptions=False).exit_code == 0
    made = _bytes(out)
    assert run(flags, catch_exceptions=False).exit_code == 0
    for other in ([*flags, "--seed", "1"], [*flags, "--family", "hubert"], [*flags, "--family", "hf_hubert"]):
        refused = run(other).exception
        assert isinstance(refused, ElpError) and f"{out} exists and is not the backbone of these options" in str(
            refused
        )
    assert _bytes(out) == made and [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.large
@pytest.mark.parametrize(
    ("family", "size", "count"),
    [
        ("wavlm", "base", 94_381_936),  # WavLM Base+ (PAPER_FACTS; the released file)
        # the rest: as first built; they guard against an unnoticed change of shape
        ("hubert", "base", 94_697_600),
        ("wav2vec2", "base", 95_044_608),
        ("wavlm", "large", 315_453_120),
        ("hubert", "large", 316_609_408),
        ("wav2vec2", "large", 317_390_592),
    ],
)
def test_full_size(tmp_path, family, size, count):
    path = write_backbone(tmp_path / "full.pt", family=family, **size_options(size, family))
    assert count_parameters(path) == count
    layers, dim = (12, 768) if size == "base" else (24, 1024)
    states = hidden_states(load_expert(family, path), 8000)
    assert len(states) == layers + 1
    assert states[-1].shape[-1] == dim
    assert all(torch.isfinite(state).all() for state in states)


def test_a_library_that_cannot_be_loaded_is_not_an_unwritable_place(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("libtorchaudio.so: undefined symbol")

    monkeypatch.setattr(module, "_move", broken)
    with pytest.raises(OSError, match="undefined symbol"):
        write_backbone(tmp_path / "mini.pt")
    with pytest.raises(ElpError, match=r"cannot write the backbone .*: Not a directory; choose a writable place"):
        (tmp_path / "file").write_text("")
        monkeypatch.undo()
        write_backbone(tmp_path / "file" / "folder" / "mini.pt")
