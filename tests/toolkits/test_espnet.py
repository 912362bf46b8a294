"""ESPnet's own front end, freezing, averaging and loading, with our upstreams."""

import logging
import sys

import pytest
import torch
from torch import nn

import upstream_elp
from tests.toolkits.front_ends import PRESETS, check_front_end, check_kept, features, noisy, options
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError

upstream_elp.register()  # before ESPnet imports torchaudio
module = pytest.importorskip("espnet2.asr.frontend.s3prl")
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


def build(preset="le"):
    given = options(preset)
    conf = {"upstream": given.pop("name"), **given}
    return module.S3prlFrontend(fs=16000, frontend_conf=conf, multilayer_feature=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_it_trains_adapters_only(preset):
    check_front_end(build(preset))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_adapter_and_the_state_are_saved_and_loaded(preset, tmp_path):
    check_kept(lambda: build(preset), tmp_path / "adapter")


class Model(nn.Module):
    """The part of ESPnet's models that matters here."""

    def __init__(self, front):
        super().__init__()
        self.frontend = front
        self.encoder = nn.Linear(3, 3)


def test_freeze_param_on_the_upstream_freezes_adapters_which_is_reported(caplog):
    front = build("e_only").train()
    for name, parameter in Model(front).named_parameters():  # as espnet2.tasks.abs_task does
        if name.startswith("frontend.upstream."):
            parameter.requires_grad = False
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            features(front)
    assert "do not freeze the upstream" in caplog.text


@pytest.mark.parametrize("init", ["xavier_uniform", "chainer"])
def test_init_would_destroy_the_backbone_and_is_refused(init):
    from espnet2.torch_utils.initialize import initialize

    model = Model(build())
    if init == "chainer":  # ESPnet does not restore any front end then; the first load shows it
        initialize(model, init)
        with pytest.raises(ElpError, match=r"frozen weights of the backbone were overwritten.*in ESPnet: init: null"):
            model.load_state_dict(model.state_dict())
    else:
        with pytest.raises(ElpError, match=r"frozen weights of the backbone were overwritten.*in ESPnet: init: null"):
            initialize(model, init)


@pytest.mark.parametrize("epochs", [2, 3])
def test_averaged_epochs_can_be_loaded(epochs, tmp_path):
    from espnet2.main_funcs.average_nbest_models import average_nbest_models
    from espnet2.train.reporter import Reporter

    reporter, fronts = Reporter(), []
    for epoch in range(1, epochs + 1):
        reporter.set_epoch(epoch)
        with reporter.observe("valid") as observed:
            observed.register({"loss": torch.tensor(1.0 / epoch)})
            observed.next()
        fronts.append(noisy(build()))
        torch.save(Model(fronts[-1]).state_dict(), tmp_path / f"{epoch}epoch.pth")
    average_nbest_models(tmp_path, reporter, [("valid", "loss", "min")], nbest=epochs)
    averaged = torch.load(tmp_path / "valid.loss.ave.pth")
    model = Model(build())
    model.load_state_dict(averaged)
    each = [upstream_elp.find_adapted(front).adapter_parameters() for front in fronts]
    for name, value in upstream_elp.find_adapted(model).adapter_parameters().items():
        torch.testing.assert_close(value, torch.stack([parameters[name] for parameters in each]).mean(0))


def test_its_own_training_program_runs_through_elp_python(tmp_path):
    """`elp python -m espnet2.bin.asr_train`: two epochs, averaged, loaded by ESPnet, and the adapter exported."""
    pytest.importorskip("espnet2.bin.asr_train")
    from tests.programs import call
    from tests.toolkits.espnet_run import write_run

    arguments = write_run(tmp_path, str(tiny_backbone(None, "wavlm")))
    done = call([sys.executable, "-m", "upstream_elp.python", "-m", "espnet2.bin.asr_train", *arguments], seconds=600)
    assert done.returncode == 0, done.stderr[-4000:]
    from espnet2.tasks.asr import ASRTask

    exp = tmp_path / "exp"
    model, _ = ASRTask.build_model_from_file(exp / "config.yaml", exp / "valid.loss.ave.pth", "cpu")
    adapted = upstream_elp.find_adapted(model)
    fresh = build("le")
    before = {name: value.clone() for name, value in upstream_elp.find_adapted(fresh).adapter_parameters().items()}
    folder = adapted.save_adapter(tmp_path / "adapter")
    upstream_elp.find_adapted(fresh).load_adapter(folder)
    after = upstream_elp.find_adapted(fresh).adapter_parameters()
    assert sum(not torch.equal(before[name], after[name]) for name in before) > len(before) / 2
