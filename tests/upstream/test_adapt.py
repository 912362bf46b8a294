"""``upstream_elp.adapt``: adapters in a transformers model or an S3PRL expert, in your own training loop."""

import copy
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import upstream_elp
from tests.experts import changed, equal, make_expert, snapshot, stock_expert, waves
from tests.toys import tiny_backbone
from upstream_elp.adapters.config import load_config
from upstream_elp.base.errors import ElpError

upstream_elp.register()  # transformers imports torchaudio, which may need a fix first
import transformers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
ROOT = Path(__file__).parents[2]
KINDS = ("hf_wavlm", "hf_hubert", "hf_wav2vec2")
CLASSES = {"hf_wavlm": "WavLM", "hf_hubert": "Hubert", "hf_wav2vec2": "Wav2Vec2"}
#: one preset for every place in the model where a method acts
PRESETS = ("e_only", "houlsby32", "adapterbias", "parallel", "prefix_tokens", "prefix_kv", "cnn", "lora_qv8", "bitfit")
SMALL = {"vocab_size": 12, "pad_token_id": 0, "num_labels": 3, "classifier_proj_size": 16, "ctc_zero_infinity": True}


def hf_model(head="ForCTC", *, family="hf_wavlm", seed=0, **options):
    """A tiny random transformers model with the backbone in the toys' folder."""
    config = transformers.AutoConfig.from_pretrained(tiny_backbone(None, family))
    for key, value in {**SMALL, **options}.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{CLASSES[family]}{head}")(config)
    plain = getattr(transformers, f"{CLASSES[family]}Model").from_pretrained(tiny_backbone(None, family))
    backbone = model.base_model
    backbone.load_state_dict(plain.state_dict(), strict=not options.get("add_adapter"))
    return model.eval()


def batch():
    """Two waves of different lengths, a mask, and labels for CTC."""
    values = nn.utils.rnn.pad_sequence(waves(8000, 5000), batch_first=True)
    mask = torch.arange(8000) < torch.tensor([[8000], [5000]])
    return {"input_values": values, "attention_mask": mask.long()}, torch.tensor([[1, 2, 3], [4, 5, 6]])


def noisy(model, std=0.1):
    """Move the adapters away from their initial values."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.adapter_parameters().values():
            parameter.add_(std * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_off_is_the_plain_model_and_on_is_not(family, preset):
    inputs, _ = batch()
    with torch.no_grad():
        plain = hf_model(family=family).requires_grad_(False)  # torch may choose a kernel by it
        plain = plain(**inputs, output_hidden_states=True)
        model = noisy(upstream_elp.adapt(hf_model(family=family), preset))
        on = model(**inputs, output_hidden_states=True)
        with model.adapters_off():
            off = model(**inputs, output_hidden_states=True)
        assert torch.equal(off.logits, plain.logits) and equal(list(off.hidden_states), list(plain.hidden_states))
        assert on.logits.shape == plain.logits.shape, "no pseudo frame reaches the head"
        assert [state.shape for state in on.hidden_states] == [state.shape for state in plain.hidden_states]
        assert not torch.equal(on.logits, plain.logits)
        assert torch.equal(model(**inputs).logits, on.logits), "switched on again"


def test_it_keeps_the_models_own_call():
    model = upstream_elp.adapt(hf_model("ForSequenceClassification"), "e_only")
    plain = hf_model("ForSequenceClassification")
    assert inspect.signature(model.forward) == inspect.signature(plain.forward)
    assert model.config is model.model.config and model.device == plain.device
    inputs, _ = batch()
    result = model(**inputs, labels=torch.tensor([0, 2]))
    assert result.loss.requires_grad and result.logits.shape == (2, 3)
    assert isinstance(model(inputs["input_values"], return_dict=False), tuple)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = model.no_such_thing


@pytest.mark.parametrize("position", ["start", "end"])
def test_pseudo_frames_stay_inside_the_encoder(position):
    """Pseudo frames are removed from every way of returning states, and batching does not change an utterance."""
    config = {"features": "last", "p_adapter": {"length": 4, "position": position}}
    model = noisy(upstream_elp.adapt(hf_model("ForSequenceClassification", use_weighted_layer_sum=True), config))
    bare = noisy(upstream_elp.adapt(hf_model("Model"), config))
    inputs, _ = batch()
    with torch.no_grad():
        assert model(**inputs).logits.shape == (2, 3)
        state, features, states = bare(**inputs, output_hidden_states=True, return_dict=False)
        assert state.shape == (2, 24, 32) and features.shape == (2, 24, 16) and len(states) == 4
        assert all(each.shape == state.shape for each in states)
        expected = bare.features(**inputs)["last_hidden_state"]
        assert torch.equal(state, expected)
        assert bare(inputs["input_values"][:1]).last_hidden_state.shape == (1, 24, 32), "no mask: all of it counts"
    with pytest.raises(ElpError, match="attention weights cannot be returned with a P-adapter"):
        hf = hf_model("Model", attn_implementation="eager")
        hf.set_attn_implementation("eager")
        upstream_elp.adapt(hf, config)(**inputs, output_attentions=True)
    assert bare.frames._frame_len is None and not bare.frames.open


@pytest.mark.parametrize("preset", ["e_only", "lora_qv8", "p_only"])
def test_a_plain_loop_learns_and_leaves_the_backbone_alone(preset, tmp_path):
    inputs, labels = batch()
    model = upstream_elp.adapt(hf_model(), preset).train()
    trained = {id(p) for group in model.parameter_groups(lr=1e-2) for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    before = snapshot(model)
    optimizer = torch.optim.Adam(model.parameter_groups(lr=1e-2, head=3e-3))
    losses = []
    for _ in range(12):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    moved = set(changed(model, before))
    assert not moved & frozen
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    model.eval()
    folder = model.save_adapter(tmp_path / "adapter")
    head = {name: value for name, value in model.state_dict().items() if name.startswith("model.")}
    assert set(head) == {"model.lm_head.weight", "model.lm_head.bias"}
    for again in (upstream_elp.adapt(hf_model(), folder), upstream_elp.adapt(hf_model(), preset)):
        again.load_adapter(folder)
        again.model.lm_head.load_state_dict(model.model.lm_head.state_dict())
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    whole = upstream_elp.adapt(hf_model(), preset)
    assert not any(whole.load_state_dict(model.state_dict()))
    assert torch.equal(whole(**inputs).logits, model(**inputs).logits)


def test_a_head_that_was_frozen_stays_frozen():
    plain = hf_model()
    plain.lm_head.requires_grad_(False)
    model = upstream_elp.adapt(plain, "e_only")
    assert not model.model.lm_head.weight.requires_grad
    assert [group["name"] for group in model.parameter_groups(lr=1e-3)] == ["e_adapter", "layer_norm"]
    assert "head" in model.summary()


def test_the_folder_is_the_one_that_elp_reads(tmp_path):
    """An adapter trained here works in S3PRL's run on the same backbone, and the other way round."""
    from upstream_elp.upstream.build import build_upstream

    model = noisy(upstream_elp.adapt(hf_model("Model"), "elp"))
    folder = model.save_adapter(tmp_path / "adapter")
    expert = build_upstream(None, ckpt=folder, backbone=tiny_backbone(None, "hf_wavlm")).eval()
    wavs = waves(8000, 5000)
    with torch.no_grad():
        states, here = (list(each(wavs)["hidden_states"]) for each in (expert, model.features))
        torch.testing.assert_close(states, here)  # the expert's attention does less, and rounds differently
    other = hf_model("Model")
    with torch.no_grad():
        other.encoder.layers[0].attention.q_proj.weight.add_(1)
    with pytest.raises(ElpError, match="was trained on another backbone"):
        upstream_elp.adapt(other, folder)
    with pytest.raises(ElpError, match="does not fit this model: the options of 'elp' and 'e_only' differ"):
        upstream_elp.adapt(hf_model("Model"), "e_only").load_adapter(folder)


def test_l_adapters_are_trained_through_features():
    model = upstream_elp.adapt(hf_model("Model"), "elp").train()
    inputs, _ = batch()
    states = model.features(**inputs)["hidden_states"]
    assert len(states) == 3
    sum(state.square().mean() for state in states).backward()
    assert all(p.grad is not None for name, p in model.adapter_parameters().items() if name.startswith("l_adapter"))
    assert model(**inputs).last_hidden_state.shape[:2] == states[-1].shape[:2]


def test_a_module_that_holds_a_model_is_adapted_inside():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleDict({"speech": hf_model("Model")})
            self.head = nn.Linear(32, 2)

        def forward(self, waves_in, lengths):
            mask = torch.arange(waves_in.shape[1]) < lengths.unsqueeze(1)
            states = self.body["speech"](waves_in, attention_mask=mask.long()).last_hidden_state
            return self.head(states.mean(1))

    inputs, _ = batch()
    torch.manual_seed(0)
    plain = Own().eval()
    call = (inputs["input_values"], inputs["attention_mask"].sum(1))
    plain.body.requires_grad_(False)  # torch may choose a kernel by it
    before = plain(*call)
    model = upstream_elp.adapt(plain, {"features": "last", "p_adapter": {"length": 3}, "lora": {}})
    assert model.backbone_path == "body.speech"
    with model.adapters_off():
        assert torch.equal(model(*call), before)
    assert not torch.equal(model(*call), before)
    assert {key.split(".")[0] for key in model.state_dict()} == {"model", "expert"}
    assert [key for key in model.state_dict() if key.startswith("model.")] == ["model.head.weight", "model.head.bias"]


def test_an_expert_of_s3prls_becomes_ours(tmp_path):
    expert = upstream_elp.adapt(stock_expert("wavlm-base"), "le").eval()
    wavs = waves(8000, 5000)
    torch.manual_seed(0)
    assert equal(make_expert("wavlm-base", "le")(wavs)["hidden_states"], expert(wavs)["hidden_states"]) is False
    noisy(expert)
    groups = {group["name"]: group["lr"] for group in expert.parameter_groups(lr=1e-3, e_adapter=1e-5)}
    assert groups == {"e_adapter": 1e-5, "l_adapter": 1e-3, "layer_norm": 1e-3}
    folder = expert.save_adapter(tmp_path / "adapter")
    again = upstream_elp.adapt(stock_expert("wavlm-base"), folder).eval()
    assert equal(expert(wavs)["hidden_states"], again(wavs)["hidden_states"])
    with expert.adapters_off(), torch.no_grad():
        assert equal(expert(wavs)["backbone_hidden_states"], stock_expert("wavlm-base")(wavs)["hidden_states"])
    assert expert.enabled


def test_the_summary_counts_every_value():
    model = upstream_elp.adapt(hf_model(), "lora_qv8")
    lines = model.summary().splitlines()
    assert lines[0] == "lora_qv8 on WavLM (Hugging Face)"
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert lines[-2].split() == ["total", f"{trained:,}", f"{frozen:,}"]
    assert frozen == sum(p.numel() for p in hf_model("Model").parameters())
    assert lines[-1] == f"{100 * trained / (trained + frozen):.2f} % is trained"


@pytest.mark.parametrize("preset", ["e_only", "prefix_tokens"])
def test_a_deep_copy_is_independent(preset):
    inputs, labels = batch()
    model = noisy(upstream_elp.adapt(hf_model(), preset))
    before = model(**inputs).logits
    clone = copy.deepcopy(model)
    assert torch.equal(clone(**inputs).logits, before)
    clone(**inputs, labels=labels).loss.backward()
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.add_(1)
    assert torch.equal(model(**inputs).logits, before)
    assert set(clone.state_dict()) == set(model.state_dict())


def test_dropout_runs_in_the_adapters_and_heads_and_not_in_the_frozen_backbone():
    inputs, _ = batch()
    model = upstream_elp.adapt(hf_model("Model"), "lora_qv8").train()
    assert torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    mapping = {**load_config("lora_qv8").to_dict(), "backbone_dropout": True}
    model = upstream_elp.adapt(hf_model("Model"), mapping).train()
    assert not torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    assert model.config.layerdrop == 0
    assert upstream_elp.adapt(hf_model(), "e_only").train().model.dropout.training


def test_spec_augment_masks_in_training_if_it_is_asked_for():
    inputs, _ = batch()
    masked = {**load_config("lora_qv8").to_dict(), "spec_augment": True}
    model = upstream_elp.adapt(hf_model("Model", mask_time_prob=0.5), masked).train()
    assert not torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    plain = hf_model("Model")(**inputs).last_hidden_state
    found = model.eval()(**inputs).last_hidden_state
    torch.testing.assert_close(found, plain)  # torch may choose a kernel by which tensors require gradients


def test_the_backbones_name_is_recorded(tmp_path):
    """Recorded automatically for a downloaded model, and if passed for an expert; never a path."""
    hub = hf_model()
    hub.config._name_or_path, hub.config._commit_hash = "someone/wavlm-tiny", "0" * 40
    assert upstream_elp.adapt(hub, "e_only").adapted.name == "hf:someone/wavlm-tiny"
    local = hf_model()
    local.config._name_or_path = "someone/wavlm-tiny"
    assert upstream_elp.adapt(local, "e_only").adapted.name is None
    named = upstream_elp.adapt(stock_expert("wavlm-base"), "e_only", name="wavlm_base_plus")
    text = (named.save_adapter(tmp_path / "adapter") / "adapter_config.yaml").read_text()
    assert "name: wavlm_base_plus" in text
    with pytest.raises(ElpError, match="name='/some/path' is not a name on S3PRL's or Hugging Face's hub"):
        upstream_elp.adapt(stock_expert("wavlm-base"), "e_only", name="/some/path")


def test_gradient_checkpointing_gives_the_same_gradients():
    inputs, labels = batch()
    grads = []
    for checkpointed in (False, True):
        model = noisy(upstream_elp.adapt(hf_model(), "parallel").train())
        model.model.dropout.eval()
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(**inputs, labels=labels).loss.backward()
        grads.append([p.grad for p in model.adapter_parameters().values()])
    assert all(torch.allclose(one, other) and one.abs().max() > 0 for one, other in zip(*grads, strict=True))


def test_what_cannot_work_is_one_sentence():
    with pytest.raises(ElpError, match=r"L-adapters cannot be trained through WavLMForCTC: .*use a preset without"):
        upstream_elp.adapt(hf_model(), "elp")
    with pytest.raises(ElpError, match="has transformers' own strided adapter"):
        upstream_elp.adapt(hf_model(add_adapter=True), "e_only")
    with pytest.raises(ElpError, match=r"must be in torch\.float32 to train adapters, but is in torch\.bfloat16"):
        upstream_elp.adapt(hf_model().bfloat16(), "e_only")
    with pytest.raises(ElpError, match="the model has adapters already"):
        upstream_elp.adapt(upstream_elp.adapt(hf_model(), "e_only"), "lora_qv8")
    with pytest.raises(ElpError, match=r"pass the expert that s3prl\.hub\.wavlm_local"):
        upstream_elp.adapt(stock_expert("wavlm-base").model, "e_only")
    with pytest.raises(ElpError, match="no supported backbone was found"):
        upstream_elp.adapt(nn.Sequential(nn.Linear(2, 2)), "e_only")
    model = upstream_elp.adapt(hf_model(), "e_only")
    with pytest.raises(ElpError, match="mask_time_indices has no effect"):
        model(torch.randn(1, 8000), mask_time_indices=torch.zeros(1, 24, dtype=torch.bool))
    with pytest.raises(ElpError, match=r"unknown group 'lora'; the groups are: e_adapter, "):
        model.parameter_groups(lr=1e-3, lora=1e-3)
    with pytest.raises(ElpError, match="the learning rate of lr must be a positive number, but is 0"):
        model.parameter_groups(lr=0)
    tuned = upstream_elp.adapt(hf_model(), "full_finetune")
    with pytest.raises(ElpError, match="cannot be switched off"), tuned.adapters_off():
        pass


class Waves(torch.utils.data.Dataset):
    """Noise of two kinds, with the class of each."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        (wave,) = waves(4000, seed=index)
        return {"input_values": wave * (1 + 9 * (index % 2)), "labels": index % 2}


def trainer(folder, steps, **options):
    model = upstream_elp.adapt(hf_model("ForSequenceClassification"), "e_only")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-2, save_steps=3,
        logging_steps=1, report_to=[], use_cpu=True, seed=0, **options,
    )  # fmt: skip
    return transformers.Trainer(model=model, args=arguments, train_dataset=Waves(), eval_dataset=Waves())


def test_transformers_trainer_trains_saves_and_resumes(tmp_path):
    whole = trainer(tmp_path / "whole", 6)
    before = snapshot(whole.model)
    whole.train()
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert len(losses) == 6 and losses[-1] < losses[0]
    frozen = {name for name, p in whole.model.named_parameters() if not p.requires_grad}
    moved = set(changed(whole.model, before))
    assert moved and not moved & frozen
    checkpoint = tmp_path / "whole" / "checkpoint-3"
    from safetensors.torch import load_file

    saved = load_file(checkpoint / "model.safetensors")
    assert "model.classifier.weight" in saved and not any("model.wavlm" in name for name in saved)
    resumed = trainer(tmp_path / "again", 6)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == 6
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.evaluate()["eval_loss"] == whole.evaluate()["eval_loss"]


def test_transformers_trainer_with_gradient_checkpointing_and_bf16(tmp_path):
    run = trainer(tmp_path, 2, gradient_checkpointing=True, bf16=True)
    run.train()
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_the_examples_of_the_page_run(tmp_path):
    """Run in one process and in order, as a reader runs them."""
    page = (ROOT / "docs" / "python-api.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 5
    script = "import upstream_elp; upstream_elp.register()\n" + "\n".join(blocks)  # torchaudio may need a fix first
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("e_only on WavLM (Hugging Face)\ncomponent")
    assert {"adapters", "mine.pt", "out", "backbone.pt"} <= {path.name for path in tmp_path.iterdir()}
