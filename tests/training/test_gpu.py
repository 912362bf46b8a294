"""On a GPU: the same features, gradients, trainings and answers as on a CPU, and what only a GPU can do wrong.

bash tests/run.sh -m gpu
"""

import json
import os
import shutil
import sys

import pytest
import torch

import upstream_elp
from tests import toy_corpora
from tests.checkpoints import load_states
from tests.experts import (
    CONFIGS,
    add_noise,
    equal,
    in_float64,
    make_expert,
    random_loss,
    states_of,
    stock_expert,
    waves,
)
from tests.host_toys import stock_config
from tests.programs import RUN, call
from tests.task_runs import DEV, SMALL
from tests.toys import tiny_backbone
from upstream_elp.adapters.config import load_config
from upstream_elp.run import run
from upstream_elp.upstream.expert import ElpExpert

# cuBLAS is deterministic only with a workspace that is set before its first call
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),
]
STOCK = {"asr": "test-clean", "sv_voxceleb1": "test", "emotion": "test", "fluent_commands": "test"}
STEPS = 8
GIGABYTE = 10**9


@pytest.fixture
def deterministic():
    """Kernels that return the same bits every time."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def on_gpu(wavs):
    return [wav.cuda() for wav in wavs]


def flags(task, data, expdir, *, preset="le", device="cuda", **changes):
    """A short run of one of our tasks with the light heads, whose figures do not depend on the device's dropout."""
    runner = {"total_steps": STEPS, "eval_step": 4, "save_step": 4, "log_step": 1, "max_keep": 10}
    runner |= {"gradient_accumulate_steps": 2, **changes}
    expert = {"datarc.num_workers": 0, "datarc.train_batch_size": 3, "modelrc.head": "linear"}
    expert |= {key: value for key, value in SMALL.get(task, {}).items() if not key.startswith("modelrc.RNNs")}
    if task == "elp_asr":
        expert["datarc.batch_size"] = expert.pop("datarc.train_batch_size")
        expert["datarc.protocol"] = "plain"
    values = {f"config.runner.{key}": value for key, value in runner.items()}
    values |= {f"config.downstream_expert.{key}": value for key, value in expert.items()}
    values |= {"config.specaug": None} if task == "elp_asr" else {}
    words = ["-m", "train", "-u", "elp_local", "-k", str(tiny_backbone()), "-g", preset, "-d", task, "-p", str(expdir)]
    words += ["--data", str(data), "--device", device, "-o", ",,".join(f"{k}={v}" for k, v in values.items())]
    return words


def losses(expdir):
    return [json.loads(line)["loss"] for line in (expdir / "train.jsonl").read_text().splitlines()]


def metrics(expdir):
    return [json.loads(line) for line in (expdir / "metrics.jsonl").read_text().splitlines()]


def tensors(states, *entries):
    """All tensors of some entries of a checkpoint, by their place in it."""
    found = {}

    def collect(value, where):
        if isinstance(value, torch.Tensor):
            found[where] = value.cpu()
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{where}.{key}")
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                collect(item, f"{where}[{index}]")

    for entry in entries:
        collect(states[entry], entry)
    return found


# --- features and gradients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["wavlm-base", "hubert-large", "wav2vec2-base", "data2vec-base", "hf_wavlm-large"])
@pytest.mark.parametrize("config", CONFIGS)
def test_features_and_gradients_are_the_cpus(config, backbone):
    """In float64, in a padded batch, with every declared tensor moved off its initial value.

    On CUDA the positional convolution of HuBERT and wav2vec 2.0 differs by float32's rounding (4e-8), also in float64,
    and the noise on all tensors lets that grow.
    """
    wavs = waves(2900, 4000, dtype=torch.float64)
    here = in_float64(make_expert(backbone, config, noise=0.1))
    there = in_float64(make_expert(backbone, config, noise=0.1)).cuda()
    for expert, batch in ((here, wavs), (there, on_gpu(wavs))):
        states = expert(batch)["hidden_states"]
        if expert.injection.declared:
            random_loss(states).backward()
        expert.states = states
    for one, other in zip(here.states, there.states, strict=True):
        assert other.is_cuda
        torch.testing.assert_close(other.detach().cpu(), one.detach(), rtol=1e-3, atol=5e-5)
    gradients = [expert.injection.parameters(expert) for expert in (here, there)]
    largest = max((float(p.grad.abs().max()) for p in gradients[0].values()), default=1.0)
    for name, parameter in gradients[0].items():
        assert gradients[1][name].grad.is_cuda
        torch.testing.assert_close(
            gradients[1][name].grad.cpu(),
            parameter.grad,
            rtol=1e-3,
            atol=1e-4 * largest,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("config", ["elp", "le", "lora_qv8", "bitfit", "prefix_kv", "chapter"])
def test_off_is_the_plain_backbone_and_the_self_check_runs_there(config, deterministic):
    wavs = on_gpu(waves(2900, 4000))
    backbone = stock_expert().cuda()
    plain = states_of(backbone, wavs)
    expert = ElpExpert(backbone, load_config(config), check=True).cuda().eval()
    add_noise(expert)
    expert.requires_grad_(False)  # torch uses another attention kernel if a weight requires a gradient
    assert not equal(states_of(expert, wavs, "backbone_hidden_states"), plain)
    expert.enabled = False
    assert equal(states_of(expert, wavs, "backbone_hidden_states"), plain)


# --- S3PRL's own tasks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", ["frozen", "finetuned", "elp"])
@pytest.mark.parametrize("task", STOCK)
def test_stock_tasks_train_evaluate_and_resume(task, upstream, tmp_path, capsys):
    config, exp = stock_config(task, tmp_path), tmp_path / "exp"
    name = "elp_local" if upstream == "elp" else "wavlm_local"
    words = ["-u", name, "-k", str(tiny_backbone()), "-d", task, "-c", str(config), "-p", str(exp)]
    run(["-m", "train", *words, *(["-f"] if upstream == "finetuned" else [])])
    first, last = load_states(exp / "states-2.ckpt"), load_states(exp / "states-4.ckpt")
    assert last["Args"].device == "cuda" and last["Step"] == 4
    head = [key for key in last["Downstream"] if "best_score" not in key]
    assert any(not torch.equal(first["Downstream"][key], last["Downstream"][key]) for key in head)
    for device in ("cuda", "cpu"):
        run(["-m", "evaluate", "-t", STOCK[task], "-e", str(exp / "states-4.ckpt"), "--device", device])
    assert capsys.readouterr().out.count("Loading Downstream weights") == 2
    run(["-m", "train", "-e", str(exp), "-o", "config.runner.total_steps=6"])
    assert load_states(exp / "states-6.ckpt")["Step"] == 6


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("task", STOCK)
def test_stock_tasks_in_the_stock_loop(task, half, tmp_path):
    steps = 20 if half else 4  # torch's first scale is too large for SV's loss, and it halves at each skipped step
    config = stock_config(task, tmp_path, fp16=half, total_steps=steps, save_step=steps // 2, eval_step=steps)
    exp = tmp_path / "exp"
    words = ["-u", "elp_local", "-k", str(tiny_backbone()), "-d", task, "-c", str(config), "-p", str(exp)]
    run(["-m", "train", *words, "--stock-loop"])
    before, after = (load_states(exp / f"states-{step}.ckpt")["Upstream"] for step in (steps // 2, steps))
    assert any(not torch.equal(before[key], after[key]) for key in after)


# --- our training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", DEV)
def test_training_is_the_cpus(task, data, tmp_path):
    """Same batches, same losses; evaluated on the other device, the same metric."""
    for device in ("cpu", "cuda"):
        run(flags(task, data, tmp_path / device, preset="elp", device=device))
    here, there = losses(tmp_path / "cpu"), losses(tmp_path / "cuda")
    assert there == pytest.approx(here, rel=0.02) and len(set(there)) == STEPS
    states = load_states(tmp_path / "cuda" / f"states-{STEPS}.ckpt")
    assert "cuda" in states["Random"][0]
    best = next((tmp_path / "cuda").glob("*-best.ckpt"))
    for device in ("cuda", "cpu"):
        run(["-m", "evaluate", "-t", "test", "-e", str(best), "--data", str(data), "--device", device])
    one, other = (line["metrics"] for line in metrics(tmp_path / "cuda")[-2:])
    assert one == pytest.approx(other, rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("preset", ["elp", "le", "l_only", "weighted_sum", "full_finetune", "lora_qv8"])
@pytest.mark.parametrize("task", DEV)
def test_mixed_precision_trains_and_evaluates(task, preset, precision, data, tmp_path):
    run(flags(task, data, tmp_path / precision, preset=preset, precision=precision))
    run(flags(task, data, tmp_path / "fp32", preset=preset))
    states = load_states(tmp_path / precision / f"states-{STEPS}.ckpt")
    weights = {**tensors(states, "Downstream"), **(tensors(states, "Upstream") if "Upstream" in states else {})}
    floats = [tensor for tensor in weights.values() if tensor.is_floating_point()]
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in floats)
    assert ("Scaler" in states) is (precision == "fp16")
    lower, full = losses(tmp_path / precision), losses(tmp_path / "fp32")
    # a scale that was too large costs a step or two at the start, so only the losses up to there can be compared
    assert lower != full and lower[0] == pytest.approx(full[0], rel=0.05)
    assert states["Position"]["skipped"] == 0


@pytest.mark.parametrize("task", [task for task in DEV if task != "elp_asr"])
def test_resumed_is_never_stopped_bit_by_bit(task, data, tmp_path, deterministic):
    _resume(task, data, tmp_path)
    one, other = (_everything(tmp_path / name) for name in ("straight", "exp"))
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]
    assert losses(tmp_path / "straight") == losses(tmp_path / "exp")


def test_resumed_asr_is_never_stopped_to_rounding(data, tmp_path):
    """CUDA's CTC has no deterministic gradient."""
    _resume("elp_asr", data, tmp_path)
    one, other = (_everything(tmp_path / name) for name in ("straight", "exp"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)
    states = [load_states(tmp_path / name / f"states-{STEPS}.ckpt") for name in ("straight", "exp")]
    one, other = (tensors(each, "Random") for each in states)
    assert not [name for name in one if not torch.equal(one[name], other[name])]


def _resume(task, data, tmp_path):
    expdir, straight = tmp_path / "exp", tmp_path / "straight"
    run(flags(task, data, expdir, preset="elp", precision="bf16"))
    shutil.copytree(expdir, straight)
    (expdir / f"states-{STEPS}.ckpt").unlink()
    torch.manual_seed(7)  # of both devices
    run(["-m", "train", "-a", "-p", str(expdir), "--data", str(data)])


def _everything(expdir):
    states = load_states(expdir / f"states-{STEPS}.ckpt")
    return tensors(states, "Upstream", "Featurizer", "Downstream", "Optimizer", "Random")


@pytest.mark.parametrize("task", ["elp_ic"])
def test_a_batch_that_does_not_fit_is_skipped(task, tmp_path, capfd):
    """A real shortage: a one-minute file among short ones, and memory for the short ones only."""
    toy_corpora.fluent_speech_commands(tmp_path)
    path = tmp_path / "fluent_speech_commands_dataset" / "wavs" / "speakers" / "trainspk" / "train-003.wav"
    toy_corpora.write_wav(path, toy_corpora.tone(seconds=60))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.15 * GIGABYTE) / total)
    try:
        run(flags(task, tmp_path, tmp_path / "exp", gradient_accumulate_steps=1))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    states = load_states(tmp_path / "exp" / f"states-{STEPS}.ckpt")
    reported = capfd.readouterr().err
    assert "is skipped: out of memory with waves of" in reported and "960000" in reported
    assert 0 < states["Position"]["skipped"] < STEPS
    assert all(torch.isfinite(tensor).all() for tensor in tensors(states, "Upstream").values())


def test_gradient_checkpointing_needs_less_memory(data, tmp_path):
    peaks = {}
    for on in (False, True):
        backbone = tiny_backbone(layers=8, dim=256)
        words = flags("elp_ic", data, tmp_path / str(on), gradient_checkpointing=on)
        words[words.index("-k") + 1] = str(backbone)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run(words)
        peaks[on] = json.loads((tmp_path / str(on) / "results.json").read_text())["peak_memory_bytes"]
    assert peaks[True] < peaks[False]
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), rel=1e-4)


def test_the_report_is_of_this_run_and_names_the_gpu(data, tmp_path):
    torch.empty(GIGABYTE, dtype=torch.uint8, device="cuda")  # earlier memory does not count
    run(flags("elp_er", data, tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["device"] == torch.cuda.get_device_name()
    assert 0 < results["peak_memory_bytes"] < GIGABYTE / 2


@pytest.mark.parametrize("task", DEV)
def test_inference_is_the_cpus(task, data, tmp_path):
    run(flags(task, data, tmp_path, save_step=STEPS, eval_step=100))
    tones = {pitch: toy_corpora.tone(seconds=2.0, pitch=pitch) for pitch in (200, 400)}
    files = [toy_corpora.write_wav(tmp_path / f"{pitch}.wav", wav) for pitch, wav in tones.items()]
    there, here = (upstream_elp.load(tmp_path, device=device) for device in ("cuda", "cpu"))
    assert next(there.upstream.parameters()).is_cuda
    if task == "elp_sv":
        assert there.compare(*files).score == pytest.approx(here.compare(*files).score, abs=1e-3)
        return
    for one, other in zip(there(files), here(files), strict=True):
        if task == "elp_asr":
            assert one.text == other.text
        choices = {"elp_er": lambda answer: [answer.emotion], "elp_ic": lambda answer: answer.slots.values()}
        for mine, yours in zip(*map(choices.get(task, lambda _: []), (one, other)), strict=True):
            assert mine.probabilities == pytest.approx(yours.probabilities, abs=1e-3)


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["nccl", "gloo"])
def test_ranks_train_evaluate_and_go_on(backend, data, tmp_path):
    """NCCL accepts one rank per GPU, so with one GPU its group has one member; gloo's two ranks share the GPU."""
    ranks = torch.cuda.device_count() if backend == "nccl" else 2
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    start += ["-m", "upstream_elp.run"]
    single = ["--local_rank", "0"] if ranks == 1 else []
    for steps, more in ((4, []), (STEPS, ["-a"])):
        words = [*flags("elp_ic", data, tmp_path / "exp", total_steps=steps, save_step=2), *more, "--backend", backend]
        if more:
            words = ["-m", "train", "-a", "-p", str(tmp_path / "exp"), "--data", str(data), "--backend", backend]
            words += ["-o", f"config.runner.total_steps={steps}"]
        done = call([*start, *words, *single])
        assert done.returncode == 0, done.stderr[-3000:]
        states = load_states(tmp_path / "exp" / f"states-{steps}.ckpt")
        assert states["WorldSize"] == ranks and len(states["Random"]) == ranks
    done = call(
        [*RUN, "-m", "evaluate", "-t", "test", "-e", str(tmp_path / "exp" / "dev-best.ckpt"), "--data", str(data)]
    )
    assert done.returncode == 0, done.stderr[-3000:]
