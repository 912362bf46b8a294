"""What may be cached: it follows from where the lowest trained tensor sits, for every configuration."""

import pytest
import torch

from tests.experts import CONFIGS, make_expert
from upstream_elp.adapters.lowest import ENCODER_INPUT, STATES, WAVES, layer_input, lowest_trained
from upstream_elp.base.errors import ElpError
from upstream_elp.caching import setup
from upstream_elp.caching.choice import KINDS, Wish, choose, highest
from upstream_elp.caching.features import FrozenFeatures, OneByOne

NAMES = KINDS[2:]


def options(expert, **facts):
    """Kinds that an expert may use, and for the others the sentence."""
    facts = {"trained": expert.config.trains_backbone, "pools": True, **facts}
    possible, refused = {}, {}
    for kind in NAMES:
        try:
            possible[kind] = choose(expert, kind, **facts)
        except ElpError as error:
            refused[kind] = str(error)
    return possible, refused


@pytest.mark.parametrize("config", CONFIGS)
def test_every_kind_is_allowed_up_to_the_lowest_trained_tensor_and_refused_above(config):
    expert = make_expert("hf_hubert-base", config)
    top = highest(expert, trained=expert.config.trains_backbone)
    possible, refused = options(expert)
    assert all(choice.place <= top and choice.kind == kind for kind, choice in possible.items())
    for kind, sentence in refused.items():
        assert f"runner.cache is {kind}, but " in sentence
        *others, last = ["auto", "off", *possible]
        assert sentence.endswith(f"; choose {', '.join(others)} or {last}")
    auto = choose(expert, "auto", trained=expert.config.trains_backbone, pools=True)
    assert auto == next(iter(possible.values()), None)
    if not expert.config.backbone_dropout:
        assert ("cnn" in possible) == (top > WAVES) and ("layers" in possible) == (top == STATES)


def test_places_of_known_adapters():
    def top(config):
        return lowest_trained(make_expert("wavlm-base", config).injection)

    assert top("weighted_sum") == STATES
    assert top("le") == top("full_finetune") == layer_input(0)
    assert top("elp") == ENCODER_INPUT
    assert top("top-layer-tuned") == layer_input(2)
    assert top("le-some-layers") == layer_input(1)
    assert top("full_finetune_all") == top("cnn") == WAVES
    assert top({"features": "l", "l_adapter": {}}) == STATES


def test_a_frozen_adapter_may_be_cached_whole():
    expert = make_expert("wavlm-base", "elp")
    assert choose(expert, "layers", trained=False, pools=False).place == STATES
    assert set(options(expert, trained=False)[0]) == set(NAMES)


@pytest.mark.parametrize(
    ("config", "facts", "kind", "sentence"),
    [
        (
            "le",
            {},
            "layers",
            "the adapter custom is trained from the input of layer 0 on; choose auto, off, input_of_layer or cnn$",
        ),
        ("cnn", {}, "cnn", "the adapter custom is trained from the waves on; choose auto or off$"),
        (
            "weighted_sum",
            {"pools": False},
            "pooled",
            "the head, SpecAugment or the normalisation of features needs every frame",
        ),
        ({"features": "l", "l_adapter": {}}, {}, "pooled", "trained on every frame of the hidden states"),
        ("dropout-on", {}, "cnn", "with backbone_dropout: true, the backbone computes other numbers in every step"),
    ],
)
def test_refusals_say_why(config, facts, kind, sentence):
    expert = make_expert("wavlm-base", config)
    facts = {"trained": expert.config.trains_backbone, "pools": True, **facts}
    with pytest.raises(ElpError, match=sentence):
        choose(expert, kind, **facts)


class Head:
    pools_features = True

    def fixed_waves(self, split):
        return split != "train"


def set_up(backbone, config, head=None, **wish):
    expert = make_expert(backbone, config)
    return setup.features_of(
        Wish(**wish),
        expert,
        Head() if head is None else head,
        device="cpu",
        trained=expert.config.trains_backbone,
        selection="hidden_states",
        per_frame=False,
        precision="fp32",
    )


@pytest.mark.usefixtures("cache")
class TestSetup:
    def test_without_the_keys_nothing_changes(self):
        assert set_up("wavlm-base", "le") is None

    @pytest.mark.parametrize("backbone", ["wavlm-base", "hf_hubert-large"])
    def test_what_batches_compute_is_not_cached(self, backbone, caplog):
        assert set_up(backbone, "le", cache="auto") is None
        assert "set runner.features_of: utterance" in caplog.text
        with pytest.raises(ElpError, match=r"runner.cache is cnn, but .* set runner.features_of: utterance"):
            set_up(backbone, "le", cache="cnn")

    def test_features_of_utterances_need_no_cache(self):
        found = set_up("wavlm-base", "le", features_of="utterance")
        assert isinstance(found, FrozenFeatures) and found.store is None
        assert isinstance(set_up("wavlm-base", "cnn", features_of="utterance", cache="auto"), OneByOne)

    def test_convolutions_that_see_padding_are_not_replayed_in_a_batch(self):
        """data2vec's positional convolutions write into the padding."""
        assert isinstance(set_up("data2vec-base", "elp", features_of="utterance", cache="auto"), OneByOne)
        with pytest.raises(ElpError, match=r"features from a record of the encoder's input differ"):
            set_up("data2vec-base", "elp", features_of="utterance", cache="cnn")
        assert isinstance(set_up("data2vec-base", "le", features_of="utterance", cache="auto"), FrozenFeatures)

    def test_splits_whose_waves_vary_are_not_kept(self, caplog):
        found = set_up("hf_hubert-large", "weighted_sum", cache="auto", features_of="utterance")
        assert found.kept("dev") and not found.kept("train")
        stock = object()  # only the user knows whether one of S3PRL's tasks augments
        found = set_up("hf_hubert-large", "weighted_sum", head=stock, cache="auto", features_of="utterance")
        assert found.store is None and "such as layers" in caplog.text
        found = set_up("hf_hubert-large", "weighted_sum", head=stock, cache="layers", features_of="utterance")
        assert found.store is not None and found.kept("train")

    def test_of_other_upstreams_nothing_is_cached(self):
        options = {"device": "cpu", "trained": False, "selection": "hidden_states", "per_frame": False}
        for cache in ("off", "auto"):
            wish = Wish(cache=cache, features_of="utterance")
            found = setup.features_of(wish, torch.nn.Linear(1, 1), Head(), precision="fp32", **options)
            assert isinstance(found, OneByOne)
        wish = Wish(cache="layers", features_of="utterance")
        with pytest.raises(ElpError, match=r"runner.cache is layers, which works only with elp_\* upstreams"):
            setup.features_of(wish, torch.nn.Linear(1, 1), Head(), precision="fp32", **options)

    def test_what_determines_the_features_determines_the_folder(self):
        """Another preset with the same frozen part shares the folder; anything that matters has its own."""

        def folder(backbone="hf_hubert-large", config="le", **wish):
            return set_up(backbone, config, **{"cache": "auto", "features_of": "utterance", **wish}).store.folder

        assert folder() == folder(config="lora_qk8") == folder(config="full_finetune")
        others = [
            folder(config="elp"),
            folder(config="weighted_sum"),
            folder(config="weighted_sum", cache="layers"),
            folder(backbone="hf_wav2vec2-large"),
            folder(dtype="fp16"),
            folder(config="top-layer-tuned"),
        ]
        assert len({folder(), *others}) == 7
