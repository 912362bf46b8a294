"""The pretraining recipe from speech to a backbone that S3PRL and transformers load, with a tiny model."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import upstream_elp
from upstream_elp.base.errors import ElpError
from upstream_elp.mini import superb
from upstream_elp.mini.packed import unpack

pytest.importorskip("espeakng_loader", reason="needs the extra `synth`")

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain"
NAMES = tuple(sorted(path.stem for path in RECIPE.glob("*.py")))
TINY = ("--size", "tiny", "--pairs", "2", "--frames", "32", "--log-every", "5", "--save-every", "100")
CONFIG = {
    "seed": 0, "size": "tiny", "family": "wavlm", "lr": 1e-3, "steps": 50, "warmup": 1, "decay_from": 0.6, "clip": 1.0,
    "precision": "fp32", "compile": False,
}  # fmt: skip
UNTIMED = ("cpu_seconds", "audio_per_cpu_second", "audio_per_second")


@pytest.fixture(scope="module")
def recipe():
    """The recipe's modules, which are scripts that import each other by their file names."""
    upstream_elp.register()
    before, threads = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}, torch.get_num_threads()
    sys.path.insert(0, str(RECIPE))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    sys.path.remove(str(RECIPE))
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(before)
    torch.set_num_threads(threads)


def call(command, *arguments):
    """Run a click command in this process; its errors are raised."""
    return CliRunner().invoke(command, [str(part) for part in arguments], catch_exceptions=False, standalone_mode=False)


def synthesise(recipe, folder, *, jobs=1, shards=2):
    call(recipe.data.main, folder, "--hours", 12 * shards / 3600, "--shard-seconds", 12, "--voices", 30, "--jobs", jobs)
    return recipe.speech.Speech(folder)


@pytest.fixture(scope="module")
def speech(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain") / "speech"
    return synthesise(recipe, folder)


@pytest.fixture(scope="module")
def targets(recipe, speech):
    folder = speech.folder.parent / "targets"
    call(recipe.targets.main, speech.folder, folder, "--clusters", 16)
    return folder


def pretrain(recipe, speech, targets, out, *options):
    where = [part for folder in (targets if isinstance(targets, list) else [targets]) for part in ("--targets", folder)]
    call(recipe.train.main, speech.folder, out, *where, *TINY, *options)
    return torch.load(out / "state.pt", weights_only=True)


@pytest.fixture(scope="module")
def run(recipe, speech, targets):
    """The folder of 20 steps without an interruption."""
    pretrain(recipe, speech, targets, speech.folder.parent / "run", "--steps", 20)
    return speech.folder.parent / "run"


def equal(first, second):
    """Whether two nests of containers have the same tensors, bit for bit, and the same other values."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def log(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in UNTIMED} for row in rows]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_speech_is_the_same_with_any_number_of_jobs_and_after_an_interruption(recipe, speech, tmp_path):
    synthesise(recipe, tmp_path / "speech", shards=1)
    (tmp_path / "speech" / "manifest.json").unlink()
    synthesise(recipe, tmp_path / "speech", jobs=2)
    assert content(tmp_path / "speech") == content(speech.folder)


def test_other_settings_need_another_folder(recipe, speech):
    with pytest.raises(ElpError, match="must have the settings"):
        call(recipe.data.main, speech.folder, "--hours", 0.01, "--voices", 31, "--shard-seconds", 12)


def test_no_voice_of_mini_superb_is_heard(recipe, speech):
    """Not by its definition, in any size and any split."""
    unheard = recipe.unheard.unheard_voices()
    assert len(unheard) > 1000
    heard = {recipe.voices.Voice(**voice).sound for voice in speech.manifest["voices"].values()}
    assert heard and not heard & unheard


def test_the_packaged_backbone_heard_no_voice_of_mini_superb(recipe):
    heard = {recipe.voices.draw_voice(0, index).sound for index in range(400)}
    assert len(heard) == 400 and not heard & recipe.unheard.unheard_voices()


@pytest.mark.slow
def test_the_packaged_backbone_heard_no_sentence_of_a_test_set(recipe):
    """Plans its 10 hours without avoiding anything, and finds nothing to avoid."""
    unheard = recipe.sentences.Sentences(recipe.unheard.unheard_sentences())
    anything = recipe.sentences.Sentences()
    said = {
        take.text
        for shard in range(60)
        for take in recipe.data.plan_shard(shard, seed=0, voices=400, sentences=anything)
    }
    assert len(said) > 20_000
    assert not [text for text in said if unheard.contains_unheard(recipe.sentences.normalise(text).split())]


def test_a_voice_of_mini_superb_would_be_refused(recipe, tmp_path):
    settings = {"seed": 0, "voices": 3, "shard_seconds": 5, "format": 1}
    heard = recipe.voices.draw_voice(0, 1).sound
    job = recipe.data.Job(folder=str(tmp_path), shard=0, settings=settings, sentences=[], voices=[heard])
    with pytest.raises(ElpError, match="must not be heard"):
        recipe.data.make_shard(job)


def test_no_sentence_of_a_test_set_is_heard(recipe, speech):
    unheard = {recipe.sentences.normalise(text) for text in recipe.unheard.unheard_sentences()}
    assert recipe.sentences.normalise("hey play some music") in unheard
    rng, source = np.random.default_rng(0), recipe.sentences.Sentences(unheard)
    said = [item.text for item in speech.utterances] + [source.draw(rng) for _ in range(400)]
    assert len(set(said)) > 400
    together = "|".join(f" {recipe.sentences.normalise(text)} " for text in said)
    assert not [sentence for sentence in unheard if f" {sentence} " in together]


def test_a_sentence_to_avoid_is_drawn_again(recipe):
    drawn = [recipe.sentences.Sentences().draw(np.random.default_rng(seed)) for seed in range(40)]
    part = " ".join(drawn[0].split()[1:4])
    avoiding = recipe.sentences.Sentences([part])
    again = [avoiding.draw(np.random.default_rng(seed)) for seed in range(40)]
    assert again[0] != drawn[0]
    assert sum(first == second for first, second in zip(drawn, again, strict=True)) >= 38


@pytest.mark.parametrize("voices", [30, 400])
def test_training_and_validation_voices_are_disjoint(recipe, speech, voices):
    utterances = [recipe.speech.Utterance(0, 0, 320, index, "") for index in range(voices)]
    speech = recipe.speech.Speech(speech.folder)
    speech.utterances = utterances
    training, validation = speech.split(320)
    assert len(training) + len(validation) == voices and validation
    assert not {item.voice for item in training} & {item.voice for item in validation}


def test_targets_are_the_same_for_a_seed(recipe, speech, targets, tmp_path):
    call(recipe.targets.main, speech.folder, tmp_path / "same", "--clusters", 16)
    call(recipe.targets.main, speech.folder, tmp_path / "other", "--clusters", 16, "--seed", 1)
    assert content(tmp_path / "same") == content(targets)
    assert content(tmp_path / "other")["mfcc-0000.npy"] != content(targets)["mfcc-0000.npy"]
    assert content(tmp_path / "other")["f0-0000.npy"] == content(targets)["f0-0000.npy"]


@pytest.mark.parametrize("hertz", [75.0, 150.0, 310.0])
def test_f0_is_that_of_a_tone(recipe, hertz):
    time = torch.arange(16000) / 16000
    wave = sum(torch.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3))
    found = recipe.acoustics.Acoustics().f0(wave)
    expected = 1 + int(24 * np.log2(hertz / 60) / np.log2(450 / 60))
    assert ((found - expected).abs() <= 1).all()


def test_features_are_on_the_frames_of_the_model(recipe):
    """A click is loudest where the model's frame is centred, and there are as many frames."""
    acoustics, backbone = (
        recipe.acoustics.Acoustics(),
        recipe.model.build_backbone(recipe.model.new_checkpoint("tiny", "wavlm", seed=0)),
    )
    wave = 1e-4 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    wave[320 * 20 + recipe.acoustics.CENTRE] += 1.0
    for name in ("mel", "mfcc", "f0", "energy"):
        assert len(getattr(acoustics, name)(wave)) == recipe.model.hidden_states(backbone, wave[None])[0].shape[1]
    assert int(acoustics.mel(wave).mean(dim=1).argmax()) == 20
    energy = acoustics.energy(wave)
    assert energy[20] == energy.max() == 7


@pytest.mark.parametrize("family", ["wavlm", "hubert"])
def test_states_are_those_of_s3prls_expert(recipe, tmp_path, family):
    from s3prl import hub

    checkpoint = recipe.model.new_checkpoint("tiny", family, seed=3)
    recipe.trainer.save_backbone(checkpoint, tmp_path / "backbone.pt")
    wave = torch.randn(9000, generator=torch.Generator().manual_seed(0))
    expert = getattr(hub, f"{family}_local")(ckpt=str(tmp_path / "backbone.pt")).eval()
    with torch.inference_mode():
        theirs = expert([wave])["hidden_states"]
        ours = recipe.model.hidden_states(
            recipe.model.build_backbone(checkpoint), torch.nn.functional.layer_norm(wave, wave.shape)[None]
        )
    assert len(theirs) == len(ours) + 1
    for state, other in zip(ours, theirs[1:], strict=True):
        torch.testing.assert_close(state, other, rtol=1e-4, atol=1e-4)


def test_masked_frames_do_not_reveal_their_content(recipe):
    backbone = recipe.model.build_backbone(recipe.model.new_checkpoint("tiny", "wavlm", seed=0))
    waves = torch.randn(2, 9 * 320 + recipe.acoustics.FIELD)
    everything = torch.ones(2, 10, dtype=torch.bool)
    first, second = recipe.model.hidden_states(backbone, waves, everything)[-1]
    torch.testing.assert_close(first, second)
    first, second = recipe.model.hidden_states(backbone, waves, ~everything)[-1]
    assert (first - second).abs().max() > 0.1


def test_a_resumed_run_has_the_same_bits(recipe, speech, targets, run, tmp_path):
    pretrain(recipe, speech, targets, tmp_path / "run", "--steps", 20, "--until", 10)
    with pytest.raises(ElpError, match="--resume"):
        pretrain(recipe, speech, targets, tmp_path / "run", "--steps", 20)
    resumed = pretrain(recipe, speech, targets, tmp_path / "run", "--steps", 20, "--resume")
    whole = torch.load(run / "state.pt", weights_only=True)
    assert equal(whole, resumed)
    assert whole["step"] == 20
    assert log(tmp_path / "run") == log(run)
    assert (run / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_the_seed_matters_and_the_settings_of_a_run_stay(recipe, speech, targets, run, tmp_path):
    other = pretrain(recipe, speech, targets, tmp_path / "other", "--steps", 20, "--seed", 1)
    assert not equal(other["backbone"], torch.load(run / "state.pt", weights_only=True)["backbone"])
    with pytest.raises(ElpError, match=r"--lr must stay 0\.001"):
        pretrain(recipe, speech, targets, tmp_path / "other", "--steps", 20, "--seed", 1, "--resume", "--lr", 0.1)


def test_every_weight_is_trained_and_the_loss_falls(recipe, speech, targets, run, tmp_path):
    state = torch.load(run / "state.pt", weights_only=True)
    before = recipe.model.parts(recipe.model.new_checkpoint("tiny", "wavlm", seed=0))[1]
    same = [name for name, tensor in state["backbone"].items() if torch.equal(tensor, before[name])]
    assert not same
    longer = pretrain(recipe, speech, targets, tmp_path / "run", "--steps", 80, "--warmup", 10, "--lr", 3e-3)
    losses = [row["loss"] for row in log(tmp_path / "run")]
    assert longer["step"] == 80
    assert sum(losses[-4:]) / 4 < 0.95 * losses[0]


def test_states_become_targets_of_the_second_iteration(recipe, speech, targets, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    call(
        recipe.targets.main,
        speech.folder,
        tmp_path / "states",
        "--states",
        run / "backbone-000020.pt",
        "--clusters",
        16,
    )
    first = pretrain(recipe, speech, targets, tmp_path / "first", "--steps", 24, "--until", 20)
    untouched = first["heads"]["predict.states.weight"].clone()
    both = [targets, tmp_path / "states"]
    second = pretrain(recipe, speech, both, tmp_path / "first", "--steps", 24, "--resume")
    assert not torch.equal(untouched, second["heads"]["predict.states.weight"])
    assert "states_u" in log(tmp_path / "first")[-1]


def test_targets_of_other_speech_are_refused(recipe, speech, targets, tmp_path):
    synthesise(recipe, tmp_path / "speech", shards=1)
    with pytest.raises(ElpError, match="was made for other speech"):
        recipe.targets.read_targets((targets,), recipe.speech.Speech(tmp_path / "speech"))


def test_a_run_ends_if_gradients_stay_infinite(recipe):
    trainer = recipe.trainer.Trainer(CONFIG, {"mfcc": 4}, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in trainer.backbone.state_dict().items()}
    waves = torch.full((4, 31 * 320 + recipe.acoustics.FIELD), float("nan"))
    batch = recipe.batches.Batch(
        waves, torch.zeros(4, 32, dtype=torch.bool), {"mfcc": torch.zeros(4, 32, dtype=torch.long)}
    )
    with pytest.raises(ElpError, match="not finite"):
        for _ in range(50):
            trainer.advance(batch)
    assert trainer.step == recipe.trainer.BAD_STEPS - 1
    assert equal(before, dict(trainer.backbone.state_dict()))


def test_the_export_loads_in_s3prl_and_in_transformers(recipe, run, tmp_path):
    from s3prl import hub

    from upstream_elp.backbones.huggingface import HuggingFaceExpert

    call(recipe.export.main, "pack", run / "backbone-000020.pt", tmp_path / "packed", "--note", "command=train")
    call(recipe.export.main, "unpack", tmp_path / "packed", tmp_path / "backbone.pt")
    call(recipe.export.main, "unpack", tmp_path / "packed", tmp_path / "hf", "--format", "hf")
    original = recipe.model.parts(torch.load(run / "backbone-000020.pt", weights_only=True))[1]
    restored = recipe.model.parts(torch.load(tmp_path / "backbone.pt", weights_only=True))[1]
    assert equal({name: tensor.half().float() for name, tensor in original.items()}, restored)
    waves = [torch.randn(samples, generator=torch.Generator().manual_seed(0)) for samples in (9000, 12000)]
    with torch.inference_mode():
        theirs = hub.wavlm_local(ckpt=str(tmp_path / "backbone.pt")).eval()(waves[:1])["hidden_states"]
        hugging = HuggingFaceExpert(tmp_path / "hf").eval()(waves[:1])["hidden_states"]
    assert len(theirs) == len(hugging) == 5
    for state, other in zip(theirs, hugging, strict=True):
        torch.testing.assert_close(state, other, rtol=1e-3, atol=1e-3)


def test_a_damaged_export_is_refused(recipe, run, tmp_path):
    call(recipe.export.main, "pack", run / "backbone-000020.pt", tmp_path / "packed")
    with (tmp_path / "packed" / "model.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ElpError, match="missing or differs"):
        unpack(tmp_path / "packed")


def test_the_shipped_size_is_at_most_10_mb(recipe):
    weights = recipe.model.parts(recipe.model.new_checkpoint("mini", "wavlm", seed=0))[1]
    assert 2 * sum(tensor.numel() for tensor in weights.values()) < 0.8 * recipe.export.LARGEST


def test_hubert_trains_and_loads(recipe, speech, targets, tmp_path):
    from s3prl import hub

    pretrain(recipe, speech, targets, tmp_path / "run", "--steps", 2, "--family", "hubert")
    call(recipe.export.main, "pack", tmp_path / "run" / "backbone-000002.pt", tmp_path / "packed")
    call(recipe.export.main, "unpack", tmp_path / "packed", tmp_path / "backbone.pt")
    assert len(hub.hubert_local(ckpt=str(tmp_path / "backbone.pt")).eval()([torch.randn(9000)])["hidden_states"]) == 5


def gradients(recipe, **config):
    """The gradients of the first step on a drawn batch."""
    trainer = recipe.trainer.Trainer({**CONFIG, **config}, {"mfcc": 4}, torch.device("cpu"))
    torch.manual_seed(0)
    waves, mask = torch.randn(4, 31 * 320 + recipe.acoustics.FIELD), torch.rand(4, 32) < 0.3
    trainer.losses(recipe.batches.Batch(waves, mask, {"mfcc": torch.randint(4, (4, 32))}))[0].backward()
    return {name: weight.grad for name, weight in trainer.backbone.named_parameters()}


def test_bf16_gradients_are_near_those_of_fp32(recipe):
    exact, rough = gradients(recipe), gradients(recipe, precision="bf16")
    total = sum(float((exact[name] * rough[name]).sum()) for name in exact)
    norms = [sum(float(each.square().sum()) for each in found.values()) ** 0.5 for found in (exact, rough)]
    assert total / norms[0] / norms[1] > 0.99


@pytest.mark.slow
def test_compiled_gradients_are_those_of_eager_ones(recipe):
    eager, compiled = gradients(recipe), gradients(recipe, compile=True)
    for name, gradient in eager.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-3, atol=1e-4, msg=name)
    assert all(bool(each.isfinite().all()) for each in gradients(recipe, compile=True, precision="bf16").values())


def test_evaluation_reads_only_dev_sets(recipe, run, tmp_path):
    superb.write_mini_superb(tmp_path / "data", size="tiny", jobs=1)
    for folder in ("LibriSpeech/test-clean", "VoxCeleb1/test"):
        shutil.rmtree(tmp_path / "data" / folder)
    arguments = (
        tmp_path / "data",
        run / "backbone-000020.pt",
        "--out",
        tmp_path / "found.json",
        "--steps",
        2,
        "--seeds",
        2,
        "--size",
        "tiny",
    )
    runner = CliRunner()
    result = runner.invoke(recipe.evaluate.main, [str(part) for part in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    for name in ("fbank", "random", "backbone-000020", "ic accuracy", "er accuracy", "sv EER", "asr WER", "±"):
        assert name in result.output
    known = json.loads((tmp_path / "found.json").read_text())
    assert len(known) == 12
    assert all(not {"test"} & set(row) and np.isfinite(row["dev"]["mean"]) for row in known.values())
    before = (tmp_path / "found.json").stat().st_mtime_ns
    runner.invoke(recipe.evaluate.main, [str(part) for part in arguments], catch_exceptions=False)
    assert (tmp_path / "found.json").stat().st_mtime_ns == before


def test_dev_and_test_speakers_of_the_evaluation_are_not_trained_on(recipe, tmp_path):
    superb.write_mini_superb(tmp_path / "data", size="tiny", jobs=1)
    for task in recipe.probe_data.TASKS:
        speakers = {
            split: {item.speaker for item in recipe.probe_data.read_items(tmp_path / "data", task, [split])}
            for split in ("train", "dev", "test")
        }
        assert all(speakers.values())
        assert (
            not speakers["train"] & speakers["dev"]
            | speakers["train"] & speakers["test"]
            | speakers["dev"] & speakers["test"]
        )


def test_a_head_learns_and_standard_errors_are_those_of_speakers(recipe):
    rng = np.random.default_rng(0)
    items = [recipe.probe_data.Item(Path("x"), "dev", "ab"[index % 2], f"s{index % 10}", "") for index in range(200)]
    features = [torch.tensor(rng.normal(size=(3, 8)) + 2 * (item.label == "a"), dtype=torch.float32) for item in items]
    answers = recipe.probes.probe(
        "ic", {"train": (items, features), "dev": (items, features)}, rate=1e-2, steps=100, seed=0
    )["dev"]
    assert answers.value() > 95
    shares = recipe.probes._ratio(np.array([100.0 * (int(item.speaker[1]) < 5) for item in items]), np.ones(200), items)
    assert shares.value() == 50
    assert 11 < shares.resampled().std() < 21  # 50 / sqrt(10) for ten speakers that are all right or all wrong


@pytest.mark.slow
def test_two_processes_train_the_same_weights(speech, targets, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        RECIPE / "train.py",
        speech.folder,
        tmp_path / "run",
    ]
    command += ["--targets", targets, *TINY, "--steps", "4"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 4 and state["config"]["processes"] == 2
