"""S3PRL's own front door, `s3prl.nn.S3PRLUpstream` and its `Featurizer`, through which toolkits load upstreams."""

import pytest
import torch
from torch import nn

import upstream_elp
from tests.toolkits.front_ends import PRESETS, batch, check_saving, check_state, check_training, noisy, options
from upstream_elp.base.errors import ElpError

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


class Front(nn.Module):
    """What the toolkits' front ends have in common."""

    def __init__(self, **given):
        super().__init__()
        upstream_elp.register()
        from s3prl.nn import Featurizer, S3PRLUpstream

        assert given["name"] in S3PRLUpstream.available_names()
        self.upstream = S3PRLUpstream(**given).eval()
        self.featurizer = Featurizer(self.upstream)

    def forward(self, waves, lengths):
        return self.featurizer(*self.upstream(waves, lengths))


def features(front):
    return front(*batch())[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_shapes_lengths_and_training(preset):
    front = Front(**options(preset))
    values, lengths = front(*batch())
    assert values.shape == (2, int(lengths[0]), front.featurizer.output_size)
    assert lengths.tolist() == [25, 16]  # S3PRL rounds up to whole strides of 320 samples
    check_training(front, features)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_adapter_is_saved_and_loaded(preset, tmp_path):
    check_saving(noisy(Front(**options(preset))), Front(**options(preset)), features, tmp_path / "adapter")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_state_dict_is_small_and_complete(preset):
    check_state(noisy(Front(**options(preset))), Front(**options(preset)), features)


def test_a_folder_is_a_place_too(tmp_path):
    """`path_or_url` takes the adapter folder, and `extra_conf` its backbone."""
    front = noisy(Front(**options("le"))).eval()
    upstream_elp.find_adapted(front).save_adapter(tmp_path / "adapter")
    given = {"path_or_url": str(tmp_path / "adapter"), "extra_conf": {"backbone": options()["path_or_url"]}}
    again = Front(**options(**given)).eval()
    with torch.no_grad():
        assert torch.equal(features(again), features(front))


def test_what_find_adapted_finds():
    front = Front(**options())
    assert upstream_elp.find_adapted(front) is front.upstream.upstream
    assert upstream_elp.find_adapted(front.upstream.upstream) is front.upstream.upstream
    with pytest.raises(ElpError, match=r"ModuleDict contains 2 upstreams with adapters, at a\.upstream\.upstream, b"):
        upstream_elp.find_adapted(nn.ModuleDict({"a": front, "b": Front(**options("e_only"))}))
    with pytest.raises(ElpError, match="Linear does not contain an upstream with adapters; build it"):
        upstream_elp.find_adapted(nn.Linear(1, 1))


def test_an_unknown_option_is_named():
    with pytest.raises(ElpError, match="unknown upstream option 'preset'"):
        Front(**options(extra_conf={"preset": "le"}))
