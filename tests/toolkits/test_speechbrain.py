"""SpeechBrain: its own wrapper of a transformers model with adapters inside, and S3PRL's front door in its Brain."""

import pytest
import torch
from torch import nn

import upstream_elp
from tests.experts import changed, snapshot
from tests.toolkits.front_ends import PRESETS, batch, check_saving, check_state, check_training, noisy, options
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError

upstream_elp.register()  # before SpeechBrain imports torchaudio
speechbrain = pytest.importorskip("speechbrain")
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
INSIDE = [preset for preset in PRESETS if preset not in ("le", "elp")]  # those without L-adapters


def wrapper(tmp_path, **more):
    """SpeechBrain's WavLM on a tiny random model in Hugging Face's format."""
    module = pytest.importorskip("speechbrain.integrations.huggingface.wavlm")
    return module.WavLM(str(tiny_backbone(None, "hf_wavlm")), str(tmp_path / "save"), **more)


def features(front):
    waves, lengths = batch()
    return front(waves, lengths / lengths.max())


def layers(front):
    """The features of a front end that returns all layers, (layers, batch, frames, dim), as one tensor."""
    return features(front).mean(0)


@pytest.mark.parametrize("preset", INSIDE)
@pytest.mark.parametrize("all_layers", [False, True])
def test_the_wrapper_trains_adapters_only(preset, all_layers, tmp_path):
    front = upstream_elp.adapt(wrapper(tmp_path, output_all_hiddens=all_layers), preset)
    call = layers if all_layers else features
    assert call(front).shape == (2, 24, 32)
    check_training(front, call)


@pytest.mark.parametrize("preset", INSIDE)
def test_the_wrappers_adapter_and_state_are_saved_and_loaded(preset, tmp_path):
    def build():
        return upstream_elp.adapt(wrapper(tmp_path), preset)

    check_saving(noisy(build()), build(), features, tmp_path / "adapter")
    check_state(noisy(build()), build(), features)


def test_a_frozen_wrapper_is_refused_in_training(tmp_path):
    front = upstream_elp.adapt(wrapper(tmp_path, freeze=True), "e_only").train()
    with pytest.raises(ElpError, match=r"runs its backbone without gradients.*in SpeechBrain: freeze=False"):
        features(front)
    features(front.eval())  # inference is fine


class Front(nn.Module):
    """S3PRL's upstream and featurizer with SpeechBrain's relative lengths, as docs/toolkits.md shows it."""

    def __init__(self, **given):
        super().__init__()
        from s3prl.nn import Featurizer, S3PRLUpstream

        self.upstream = S3PRLUpstream(**given)
        self.featurizer = Featurizer(self.upstream)

    def forward(self, wavs, wav_lens):
        lengths = (wav_lens * wavs.shape[1]).round().long()
        return self.featurizer(*self.upstream(wavs, lengths))[0]


def _brain(folder, front):
    """A Brain with a checkpointer, as its recipes build one."""

    class Mine(speechbrain.Brain):
        def compute_forward(self, batch, stage):
            return self.modules.head(self.modules.front(*batch)).mean(1)

        def compute_objectives(self, predictions, batch, stage):
            return nn.functional.cross_entropy(predictions, torch.tensor([0, 1]))

    torch.manual_seed(0)
    modules = {"front": front, "head": nn.Linear(front.featurizer.output_size, 2)}
    checkpointer = speechbrain.utils.checkpoints.Checkpointer(folder, {"front": front, "head": modules["head"]})
    return Mine(modules, lambda parameters: torch.optim.Adam(parameters, 0.01), checkpointer=checkpointer)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_brain_trains_saves_and_recovers(preset, tmp_path):
    waves, lengths = batch()
    data = torch.utils.data.DataLoader([(waves, lengths / lengths.max())], batch_size=None)  # batches as they are
    front = Front(**options(preset))
    before = snapshot(front)
    brain = _brain(tmp_path / "save", front)
    brain.fit(range(2), data, progressbar=False)
    declared = {id(each) for each in upstream_elp.find_adapted(front).adapter_parameters().values()}
    names = {name for name, each in front.named_parameters() if id(each) in declared}
    moved = changed(front, before)
    assert names & set(moved) and {name for name in moved if "featurizer" not in name} <= names
    brain.checkpointer.save_checkpoint()
    fresh = Front(**options(preset))
    again = _brain(tmp_path / "save", fresh)
    again.checkpointer.recover_if_possible()
    with torch.no_grad():
        assert torch.equal(features(fresh.eval()), features(front.eval()))
    check_training(fresh, features)


RECIPE = """
wavlm: !new:speechbrain.integrations.huggingface.wavlm.WavLM
    source: {source}
    save_path: {save}
    freeze: False
    output_all_hiddens: True
adapted: !apply:upstream_elp.adapt
    model: !ref <wavlm>
    config: e_only
modules:
    wavlm: !ref <adapted>
"""


def test_a_recipes_yaml_builds_it(tmp_path):
    hyperpyyaml = pytest.importorskip("hyperpyyaml")
    text = RECIPE.format(source=tiny_backbone(None, "hf_wavlm"), save=tmp_path / "save")
    hparams = hyperpyyaml.load_hyperpyyaml(text)
    front = hparams["modules"]["wavlm"]
    assert front is hparams["adapted"] and upstream_elp.find_adapted(front) is front
    assert front.model is hparams["wavlm"]
    check_training(front, layers)
