"""Backbones in Hugging Face's format: the same results as S3PRL's models and ``hf_*`` experts."""

import json
import shutil

import pytest
import torch
from torch.func import functional_call

import upstream_elp
from tests.experts import (
    CONFIGS,
    backbone_path,
    distance,
    equal,
    in_float64,
    make_expert,
    random_loss,
    states_of,
    stock_expert,
    train_step,
    waves,
)
from tests.toys import BACKBONES, S3PRL_STYLE
from upstream_elp.adapters.config import load_config
from upstream_elp.backbones.huggingface import HuggingFaceExpert
from upstream_elp.backbones.random_models import hugging_face_name
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream import hubconf
from upstream_elp.upstream.adapter_folder import read_adapter_folder, write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.transfer import adapter_folder_of

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
HUGGING_FACE = [name for name in BACKBONES if name not in S3PRL_STYLE]
TOLERANCE = 1e-10


def _without_normalization(backbone):
    """S3PRL adds 1e-5 to a wave's variance and Hugging Face 1e-7, so waves are not normalised."""
    for holder in (backbone, getattr(backbone, "cfg", None), getattr(backbone, "task_cfg", None)):
        for attribute in {"normalize", "wav_normalize"} & set(vars(holder) if holder is not None else ()):
            setattr(holder, attribute, False)


def _translated(name):
    """Canonical name in Hugging Face's model of a tensor in S3PRL's model."""
    component, rest = name.split(".", 1)
    if component == "cnn":
        index, key = rest.split(".copy.")
        place = f"feature_extractor.conv_layers.{index}"
        return f"cnn.{index}.copy." + hugging_face_name(f"{place}.{key}").removeprefix(f"{place}.")
    if component == "bias" or (component == "encoder" and rest[0].isdigit()):
        index, key = rest.split(".", 1)
        place = f"encoder.layers.{index}"
        return f"{component}.{index}." + hugging_face_name(f"{place}.{key}").removeprefix(f"{place}.")
    return f"encoder.{hugging_face_name(rest)}" if component == "encoder" else name


@pytest.mark.parametrize("backbone", HUGGING_FACE)
@pytest.mark.parametrize("config", CONFIGS)
def test_same_weights_and_adapters_give_the_same_states_in_both_formats(config, backbone, law):
    law("Hugging Face == S3PRL from the same weights, float64")
    theirs = in_float64(make_expert(backbone.removeprefix("hf_"), config, noise=0.1))
    ours = in_float64(make_expert(backbone, config))
    mine, given = ours.injection.parameters(ours), theirs.injection.parameters(theirs)
    assert mine.keys() == {_translated(name) for name in given}
    with torch.no_grad():
        for name, tensor in given.items():
            mine[_translated(name)].copy_(tensor)
    for expert in (ours, theirs):
        _without_normalization(expert.backbone)
    batches = [waves(4000, dtype=torch.float64), waves(3600, 3600, dtype=torch.float64)]
    if "wav2vec2" in backbone:  # the other two of S3PRL's models count padded frames wrongly
        batches.append(waves(4000, 2900, dtype=torch.float64))
    for wavs in batches:
        frames = ours.injection.frame_len(torch.tensor([len(wav) for wav in wavs])).tolist()
        for key in ("hidden_states", "backbone_hidden_states"):
            first, second = states_of(ours, wavs, key), states_of(theirs, wavs, key)
            assert len(first) == len(second)
            for row, length in enumerate(frames):
                cut = [[state[row, :length] for state in states] for states in (first, second)]
                assert distance(*cut) < TOLERANCE, key


@pytest.mark.parametrize("backbone", [name for name in HUGGING_FACE if "wavlm" not in name])
def test_it_gives_what_s3prls_own_expert_gives(backbone):
    upstream_elp.register()
    from s3prl import hub

    path, wavs = backbone_path(backbone), waves(4000, 2900, 16000)
    stock = getattr(hub, f"{BACKBONES[backbone][0]}_custom")(str(path)).eval()
    theirs, ours = states_of(stock, wavs), states_of(stock_expert(backbone), wavs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        assert (mine - other).abs().max() < 1e-5 * other.abs().max()
    last = [theirs[-1]]
    if backbone.endswith("large"):  # transformers 5 does not apply the encoder's norm to it
        last.append(stock.model.encoder.layer_norm(theirs[-1]))
    assert min(float((ours[-1] - other).detach().abs().max()) for other in last) < 1e-4


def _write_processor(folder):
    """Write a processor as transformers 5 does: with the feature extractor inside and not in a separate file."""
    import transformers

    given = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "A": 3}))
    extractor = transformers.Wav2Vec2FeatureExtractor(**given)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_processors_file_says_how_waves_are_prepared(model, normalize):
    _edit("preprocessor_config.json", do_normalize=normalize)(model)
    plain = HuggingFaceExpert(model)
    _write_processor(model)
    path = model / "processor_config.json"
    nested = json.loads(path.read_text()) if path.is_file() else {"processor_class": "Wav2Vec2Processor"}
    if "feature_extractor" not in nested:  # transformers 4
        nested["feature_extractor"] = json.loads((model / "preprocessor_config.json").read_text())
        (model / "preprocessor_config.json").unlink()
        path.write_text(json.dumps(nested))
    assert not (model / "preprocessor_config.json").exists()
    expert = HuggingFaceExpert(model)
    assert expert.normalize is plain.normalize is normalize
    assert equal(states_of(expert.eval(), waves(4000, 2900)), states_of(plain.eval(), waves(4000, 2900)))
    # if both files exist, transformers uses the nested one; if it has none, the other file
    (model / "preprocessor_config.json").write_text(json.dumps({"do_normalize": not normalize}))
    assert HuggingFaceExpert(model).normalize is normalize
    path.write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert HuggingFaceExpert(model).normalize is not normalize


def test_the_attention_mask_of_the_feature_extractor_has_no_effect(tmp_path):
    """A single wave has the result of Hugging Face's own pipeline; padding is masked as in S3PRL's experts."""
    import transformers

    path = tmp_path / "model"
    shutil.copytree(backbone_path("hf_wav2vec2-large"), path)
    experts = []
    for flag in (True, False):
        _edit("preprocessor_config.json", return_attention_mask=flag, do_normalize=True)(path)
        experts.append(HuggingFaceExpert(path).eval())
    wavs = waves(8000, 6300)
    assert equal(states_of(experts[0], wavs), states_of(experts[1], wavs))
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(path)
    model = transformers.Wav2Vec2Model.from_pretrained(path).eval()
    with torch.no_grad():
        each = [model(**extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt"))[0] for wav in wavs]
        batch = extractor([wav.numpy() for wav in wavs], sampling_rate=16000, return_tensors="pt", padding=True)
        theirs = model(**batch)[0]
    assert "attention_mask" not in batch
    for wav, state in zip(wavs, each, strict=True):
        assert distance([state], states_of(experts[1], [wav])[-1:]) < 1e-4
    ours, frames = states_of(experts[1], wavs)[-1], each[1].shape[1]
    # their pipeline lets the utterance attend to its padding, and includes it in the normalisation
    assert distance([ours[1:, :frames]], [each[1]]) < 1e-4 < distance([theirs[1:, :frames]], [each[1]])


@pytest.mark.parametrize("backbone", ["hf_wav2vec2-base", "hf_wav2vec2-large", "hf_wavlm-base"])
def test_an_adapter_behind_the_encoder_is_dropped(backbone, tmp_path):
    """``add_adapter`` merges frames after the encoder; the states are those of the model without it."""
    import transformers

    from upstream_elp.backbones.fingerprint import fingerprint

    plain = HuggingFaceExpert(backbone_path(backbone)).eval()
    config = transformers.AutoConfig.from_pretrained(backbone_path(backbone), add_adapter=True, output_hidden_size=48)
    strided = type(plain.model)(config)
    strided.load_state_dict(plain.model.state_dict(), strict=False)
    strided.save_pretrained(tmp_path / "model")
    shutil.copy(backbone_path(backbone) / "preprocessor_config.json", tmp_path / "model")
    expert = HuggingFaceExpert(tmp_path / "model").eval()
    assert equal(states_of(expert, waves(16000, 9000)), states_of(plain, waves(16000, 9000)))
    assert fingerprint(expert) == fingerprint(plain)


PREFIXES = ["module.", "_orig_mod.", "model.", "encoder.", "hubert.", "module.hubert.", "model._orig_mod.hubert."]


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_all_names_is_stripped(prefix, file, tmp_path):
    from safetensors.torch import load_file, save_file

    source, path = backbone_path("hf_hubert-base"), tmp_path / "model"
    shutil.copytree(source, path)
    tensors = load_file(path / "model.safetensors")
    tensors = {f"{prefix}{name}": tensor for name, tensor in tensors.items()} | {"lm_head.bias": torch.zeros(3)}
    if file.endswith("bin"):
        (path / "model.safetensors").unlink()
        old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, name in old.items():
            tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
        torch.save(tensors, path / file)
    else:
        save_file(tensors, path / file, metadata={"format": "pt"})
    theirs, ours = (HuggingFaceExpert(place).eval() for place in (source, path))
    assert equal(states_of(ours, waves(4000, 2900)), states_of(theirs, waves(4000, 2900)))


@pytest.mark.parametrize("backbone", HUGGING_FACE)
def test_training_runs_no_layer_drop_no_masks_and_no_gradients_in_the_cnn(backbone, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(backbone_path(backbone, dropout=0.0), path)
    config = json.loads((path / "config.json").read_text())
    config.update(layerdrop=0.9, mask_time_prob=0.9, mask_time_length=2, apply_spec_augment=True)
    (path / "config.json").write_text(json.dumps(config))
    adapter = {"base": "e_only", "backbone_dropout": True}
    expert = ElpExpert(HuggingFaceExpert(path), load_config(adapter), check=True).train()
    assert expert.backbone.model.training
    inputs = []
    expert.backbone.model.feature_extractor.register_forward_hook(lambda _, args, output: inputs.append(output))
    wavs = waves(8000, 6300)
    training = expert(wavs)["backbone_hidden_states"]
    assert not inputs[0].requires_grad
    evaluated = expert.eval()(wavs)["backbone_hidden_states"]
    assert len(training) == len(evaluated) == 4 and equal(training, evaluated)

    raw = {"features": "layers", "spec_augment": True, "layer_norm": {}}
    masking = ElpExpert(HuggingFaceExpert(path), load_config(raw))
    masked = masking.train()(wavs)["hidden_states"]
    assert len(masked) == 4 and not masking.backbone.model.encoder.training
    plain = masking.eval()(wavs)["hidden_states"]
    assert distance(masked[:1], plain[:1]) > 0.1 and equal(plain, masking(wavs)["hidden_states"])


def test_spec_augment_is_only_for_hugging_faces_models():
    with pytest.raises(
        ElpError, match="spec_augment only works with Hugging Face's models, but this is S3PRL's hubert"
    ):
        make_expert("hubert-base", {"base": "le", "spec_augment": True})


@pytest.mark.parametrize("backbone", ["hf_hubert-base", "hf_hubert-large", "hf_wav2vec2-base", "hf_wav2vec2-large"])
def test_lora_is_pefts(backbone):
    """Compared where peft's wrapper works, since the projections are called: outputs, gradients, Adam steps."""
    import peft

    targets = {"q": "q_proj", "v": "v_proj", "fc1": "intermediate_dense"}
    raw = {"features": "layers", "lora": {"targets": list(targets), "rank": 3, "alpha": 6}}
    expert = in_float64(make_expert(backbone, raw, noise=0.1))
    stock = in_float64(stock_expert(backbone))
    options = peft.LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, target_modules=list(targets.values()))
    wrapped = peft.inject_adapter_in_model(options, stock.model).double()
    ours = expert.injection.parameters(expert)
    theirs = {}
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            index, last = name.split(".")[2], next(key for key, value in targets.items() if value in name)
            theirs[f"lora.{index}.{last}.{'down' if 'lora_A' in name else 'up'}"] = parameter
    assert theirs.keys() == ours.keys()
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(ours[name])
    wavs = waves(4000, 2900, dtype=torch.float64)
    optimizers = [torch.optim.Adam(group.values(), lr=1e-2) for group in (ours, theirs)]
    for _ in range(3):
        states = [expert(wavs)["hidden_states"], stock(wavs)["hidden_states"]]
        assert distance(*states) < 1e-9
        for optimizer, own in zip(optimizers, states, strict=True):
            optimizer.zero_grad()
            random_loss(own).backward()
        for name in ours:
            assert (ours[name].grad - theirs[name].grad).abs().max() < 1e-8 * theirs[name].grad.abs().max()
        for optimizer in optimizers:
            optimizer.step()
    assert distance(states_of(expert, wavs), states_of(stock, wavs)) < 1e-9


@pytest.mark.parametrize("backbone", ["hf_wavlm-base", "hf_hubert-large"])
def test_gradients_are_the_plain_models(backbone):
    """Full fine-tuning through our expert, compared with the plain transformers model."""
    expert = in_float64(make_expert(backbone, "full_finetune_all"))
    plain = in_float64(stock_expert(backbone)).requires_grad_(True)
    wavs = waves(4000, 2900, dtype=torch.float64)
    random_loss(expert(wavs)["hidden_states"]).backward()
    random_loss(functional_call(plain, dict(plain.named_parameters()), (wavs,))["hidden_states"][-1:]).backward()
    for item in expert.injection.declared.values():
        ours = expert.get_parameter(item.path).grad
        theirs = plain.get_parameter(item.path.removeprefix("backbone.")).grad
        assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max() + 1e-12, item.path


@pytest.fixture
def model(tmp_path):
    """A copy of a toy that a test may damage."""
    path = tmp_path / "model"
    shutil.copytree(backbone_path("hf_wavlm-base"), path)
    return path


def test_entries_and_adapter_folders(model, tmp_path, monkeypatch):
    monkeypatch.delenv("ELP_BACKBONE", raising=False)
    for entry in (hubconf.elp_hf_wavlm_custom, hubconf.elp_local, hubconf.elp_custom):
        expert = entry(str(model), model_config="le")
        assert expert.injection.family.name == "hf_wavlm" and expert.name is None
    train_step(expert.train(), waves(4000, 2900))
    folder = write_adapter_folder(tmp_path / "adapter", adapter_folder_of(expert))
    assert read_adapter_folder(folder).family == "hf_wavlm"
    again = hubconf.elp_local(str(folder), backbone=str(model))
    assert equal(states_of(again, waves(4000, 2900)), states_of(expert.eval(), waves(4000, 2900)))
    with pytest.raises(ElpError, match="needs a local hf_wavlm checkpoint: name it with --backbone"):
        hubconf.elp_local(str(folder))
    with pytest.raises(ElpError, match="is a hf_hubert backbone, but a hf_wavlm is needed"):
        hubconf.elp_local(str(folder), backbone=str(backbone_path("hf_hubert-base")))
    with pytest.raises(ElpError, match="is a hf_wavlm backbone, but a hf_hubert is needed"):
        hubconf.elp_hf_hubert_custom(str(model))
    with pytest.raises(ElpError, match="is a hf_wavlm backbone, but a wavlm is needed"):
        hubconf.elp_wavlm_base_plus(str(model))
    with pytest.raises(ElpError, match="needs a backbone checkpoint: name it with -k"):
        hubconf.elp_hf_wavlm_custom()


def test_names_on_the_hub_are_recorded(model, tmp_path, monkeypatch):
    """Without a network, a folder stands for the hub: both functions return its files as if downloaded."""
    import huggingface_hub
    import transformers

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, name, **_: asked.append((repo, name)) or str(model / name)
    )
    plain = transformers.WavLMModel.from_pretrained.__func__
    monkeypatch.setattr(
        transformers.WavLMModel, "from_pretrained", classmethod(lambda cls, name, **o: plain(cls, str(model), **o))
    )
    for given, entry in (("hf:org/wavlm", hubconf.elp_local), ("org/wavlm", hubconf.elp_hf_wavlm_custom)):
        expert = entry(given, model_config="le")
        assert expert.name == "hf:org/wavlm" and {repo for repo, _ in asked} == {"org/wavlm"}
    folder = write_adapter_folder(tmp_path / "adapter", adapter_folder_of(expert))
    again = hubconf.elp_local(str(folder))
    assert again.name == "hf:org/wavlm" and again.fingerprint == expert.fingerprint


def _edit(name, **values):
    def edit(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return edit


def _drop_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layers.1.layer_norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


SPOILT = {
    "another model": (
        _edit("config.json", model_type="bert"),
        "of type 'bert', which is not supported; the types are: wav2vec2, hubert, wavlm",
    ),
    "language adapters": (_edit("config.json", adapter_attn_dim=16), "has its own language adapters"),
    "no norm": (_edit("config.json", feat_proj_layer_norm=False), "lacks the norm before its projection"),
    "no preprocessor": (
        lambda f: (f / "preprocessor_config.json").unlink(),
        r"has no preprocessor_config\.json.* or processor_config\.json with the key feature_extractor",
    ),
    "another rate": (
        _edit("preprocessor_config.json", sampling_rate=8000),
        "must be 16000 Hz, as in all tasks, but is 8000 Hz",
    ),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "is not a readable JSON file"),
    "a list": (lambda f: (f / "preprocessor_config.json").write_text("[]"), "must contain a JSON object"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
    "cut weights": (_cut, "cannot be loaded"),
    "a missing tensor": (
        _drop_a_tensor,
        r"lack 1 tensor, such as encoder\.layers\.1\.layer_norm\.weight",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_models_are_one_sentence(kind, model):
    spoil, words = SPOILT[kind]
    spoil(model)
    with pytest.raises(ElpError, match=words) as raised:
        build_upstream(None, ckpt=model, model_config="le")
    assert "\n" not in str(raised.value)


def test_a_file_is_not_looked_for_on_the_hub():
    with pytest.raises(ElpError, match=r"is a file, but a model in Hugging Face's format is a folder; use -u elp_l"):
        hubconf.elp_hf_wavlm_custom(str(backbone_path("wavlm-base")))


def test_names_that_the_hub_does_not_know_are_one_sentence(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ElpError, match=r"is not a folder, and config\.json cannot be downloaded from Hugging Face's hub"
    ):
        hubconf.elp_hf_hubert_custom("organisation/no-such-model")
