"""What S3PRL's runner requires of every task: loaders, forward, records, checkpoint names, inference, workers."""

import json
import math
import multiprocessing
import pickle
import random
import re
from collections import defaultdict

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from downstream_heads import registry
from tests import toy_corpora
from tests.task_tools import (
    DIM,
    PACKAGE,
    RATE,
    SMALL_DATA,
    SMALL_HEAD,
    TASKS,
    Scalars,
    fake_features,
    make_expert,
    names_in,
    outputs,
    packaged_config,
    run_split,
)
from upstream_elp.base.errors import ElpError

HEADS = ("superb", "linear")
DEV = {name: task.split("dev") for name, task in registry.tasks().items()}
#: heads that are not batch-invariant, and why
PADDED = {("elp_sv", "superb"): "S3PRL's x-vector takes one frame too many of every utterance that is padded"}
POOLED = [task for task in TASKS if "UtteranceLevel" in packaged_config(task)["downstream_expert"]["modelrc"]]


@pytest.fixture(autouse=True)
def corpora(tmp_path, monkeypatch):
    toy_corpora.write_all(tmp_path / "data")
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))


def make(task, tmp_path, head="superb", *, modelrc=None, datarc=None, **more):
    modelrc = {**SMALL_HEAD.get(task, {}), "head": head, **(modelrc or {})}
    datarc = {**SMALL_DATA.get(task, {}), **(datarc or {})}
    return make_expert(task, tmp_path / "exp", modelrc=modelrc, datarc=datarc, **more)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("task", TASKS)
def test_train_and_evaluate(task, head, tmp_path):
    expert = make(task, tmp_path, head)
    random.seed(0)  # draws the crops of SV
    optimizer = torch.optim.Adam(expert.parameters(), lr=0.02)
    first, last = [], []
    for step in range(30):
        _, names, losses = run_split(expert, "train", step=step)
        assert names == []
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        (first if step == 0 else last).append(torch.stack(losses).mean().item())
    assert last[-1] < 0.9 * first[0]
    for parameter in expert.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0

    scalars = Scalars()
    records, names, losses = run_split(expert.eval(), DEV[task], step=30, logger=scalars)
    assert names == [f"{DEV[task]}-best.ckpt"]
    assert run_split(expert, DEV[task], step=31)[1] == []  # an equal value is not better
    assert all(loss.shape == () and torch.isfinite(loss) for loss in losses)
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["task"] == task and line["split"] == DEV[task] and line["step"] == 31
    answered = next((len(records[key]) for key in ("truth", "target_tokens") if key in records), line["items"])
    assert line["items"] == answered > 0
    about = registry.find(task)
    assert line["metrics"].keys() - {"loss"} <= about.metrics.keys() and line["metrics"][about.main_metric] >= 0
    assert line["metrics"].keys() - {"loss"} <= line["chance"].keys(), "what a trivial answer reaches"
    assert f"{task}/{DEV[task]}-{about.main_metric}" in scalars.values


@pytest.mark.parametrize("task", TASKS)
def test_test_split_never_names_a_checkpoint(task, tmp_path):
    expert = make(task, tmp_path).eval()
    assert run_split(expert, "test")[1] == []
    assert float(expert.best_score) in (float("inf"), float("-inf"))


@pytest.mark.parametrize("task", TASKS)
def test_wavs_are_plain_float32(task, tmp_path):
    wavs, *others = next(iter(make(task, tmp_path).get_dataloader("train")))
    assert len(others) == 2 and {len(wavs)} == {len(column) for column in others}
    assert len(names_in((wavs, *others))) == len(wavs)
    for wav in wavs:
        assert wav.ndim == 1 and wav.dtype.name == "float32" and 400 <= len(wav) <= 16000


@pytest.mark.parametrize("task", TASKS)
def test_state_dict_round_trip(task, tmp_path):
    one, two = make(task, tmp_path, seed=1).eval(), make(task, tmp_path, seed=2).eval()
    features = fake_features([torch.rand(RATE * frames) for frames in (30, 40)])

    def answers(expert):
        return [outputs(expert, features), torch.stack(run_split(expert, "test")[2])]

    before = answers(one)
    assert not torch.equal(before[0], outputs(two, features))
    two.load_state_dict(pickle.loads(pickle.dumps(one.state_dict())))
    assert all(torch.equal(here, there) for here, there in zip(answers(two), before, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_seed_gives_head_and_order_but_not_the_split(task, tmp_path):
    def names_of(seed, split):
        expert = make(task, tmp_path, seed=seed)
        return [name for batch in expert.get_dataloader(split) for name in names_in(batch)]

    heads = {seed: make(task, tmp_path, seed=seed).state_dict() for seed in (1, 2)}
    weight = next(key for key in heads[1] if key.endswith("weight"))
    assert not torch.equal(heads[1][weight], heads[2][weight])
    assert names_of(1, "train") == names_of(1, "train")
    assert sorted(names_of(1, "train")) == sorted(names_of(2, "train"))
    assert names_of(1, DEV[task]) == names_of(2, DEV[task])
    orders = {tuple(names_of(seed, "train")) for seed in range(6)}
    assert len(orders) > 1 or task == "elp_asr"  # the toy's seven utterances make one ASR batch


@pytest.mark.parametrize("task", TASKS)
def test_loaders_leave_the_global_random_state_alone(task, tmp_path):
    expert = make(task, tmp_path)
    state = torch.get_rng_state()
    list(expert.get_dataloader("test"))
    expert.dataset("train")
    assert torch.equal(state, torch.get_rng_state())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_a_batch_gives_what_the_utterances_give_by_themselves(tmp_path_factory, lengths):
    for task in TASKS:
        for head in HEADS:
            expert = make(task, tmp_path_factory.mktemp("exp"), head).eval()
            least = getattr(expert, "min_frames", 1)
            frames = [max(n, least) if (task, head) not in PADDED else max(*lengths, least) for n in lengths]
            features = fake_features([torch.rand(RATE * n) for n in frames])
            with torch.no_grad():
                together = outputs(expert, features)
                for row, feature in zip(together, features, strict=True):
                    unpadded = outputs(expert, [feature])[0]
                    row = row[: len(unpadded)] if task == "elp_asr" else row
                    torch.testing.assert_close(row, unpadded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_inference_on_one_file(task, tmp_path, capsys):
    expert = make(task, tmp_path).eval()
    path = toy_corpora.write_wav(tmp_path / "one.wav", toy_corpora.tone())
    wav = expert.load_audio(path)
    answers = expert.inference(fake_features([wav]), [path.stem])
    assert len(answers) == 1
    written = [file for file in (tmp_path / "exp").iterdir() if file.stem == "inference"]
    assert len(written) == 1 and written[0].read_text().startswith("one")
    assert written[0].read_text().strip() in capsys.readouterr().out.strip() + " "
    again = expert.inference(fake_features([wav]), [])
    assert torch.equal(again, answers) if isinstance(answers, torch.Tensor) else again == answers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("task", TASKS)
def test_same_on_a_gpu(task, head, tmp_path):
    expert = make(task, tmp_path, head).eval()
    wavs, *others = next(iter(expert.get_dataloader("train")))
    features = fake_features(wavs)
    on_cpu = expert("train", features, *others, records=defaultdict(list))
    with torch.backends.cudnn.flags(enabled=False):  # its recurrent layers refuse a backward pass in eval mode
        on_gpu = expert.cuda()("train", [feature.cuda() for feature in features], *others, records=defaultdict(list))
        on_gpu.backward()
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_unknown_split_and_key(task, tmp_path):
    with pytest.raises(ElpError, match=r"no split 'validation'; choose one of: train, dev"):
        make(task, tmp_path).get_dataloader("validation")
    with pytest.raises(ElpError, match=r"unknown config key downstream_expert\.datarc\.batchsize"):
        make(task, tmp_path, datarc={"batchsize": 3})
    with pytest.raises(ElpError, match=r"modelrc\.head must be one of superb, linear.*, but is 'linaer'"):
        make(task, tmp_path, "linaer")
    with pytest.raises(ElpError, match=r"eval_batch_size must be a whole number.*, but is 0"):
        make(task, tmp_path, datarc={"eval_batch_size": 0})
    if "channels" in packaged_config(task)["downstream_expert"]["datarc"]:
        with pytest.raises(ElpError, match=r"datarc\.channels must be one of .*, but is 'left'"):
            make(task, tmp_path, datarc={"channels": "left"})


@pytest.mark.parametrize("task", TASKS)
def test_options_of_the_wrong_type(task, tmp_path):
    known = packaged_config(task)["downstream_expert"]
    wrong = {"num_workers": "abc", "eval_batch_size": [1], "root": 5, "pre_load": 1}
    for key, value in ((key, value) for key, value in wrong.items() if key in known["datarc"]):
        with pytest.raises(ElpError, match=rf"datarc\.{key} must be .*, but is {re.escape(repr(value))}"):
            make(task, tmp_path, datarc={key: value})
    if "resample" in known["datarc"]:
        with pytest.raises(ElpError, match=r"datarc\.resample must be true or false, but is 'false'"):
            make(task, tmp_path, datarc={"resample": "false"})  # not the same as false
    for key in known["modelrc"].keys() & {"project_dim", "projector_dim"}:
        with pytest.raises(ElpError, match=rf"modelrc\.{key} must be a whole number.*, but is 'abc'"):
            make(task, tmp_path, modelrc={key: "abc"})
    for block in ("datarc", "modelrc"):
        config = packaged_config(task)
        config["downstream_expert"][block] = "abc"
        expert = registry.find(task).load("expert")
        with pytest.raises(ElpError, match=rf"downstream_expert\.{block} must be a mapping.*, but is 'abc'"):
            expert(upstream_dim=DIM, upstream_rate=RATE, **config, expdir=str(tmp_path))
    config = packaged_config(task)
    config["runner"]["eval_dataloaders"] = "dev"
    with pytest.raises(ElpError, match=r"runner\.eval_dataloaders must be a list.*, but is 'dev'"):
        make(task, tmp_path, config=config).get_dataloader("train")


@pytest.mark.parametrize("task", POOLED)
def test_the_pooling_block_is_checked(task, tmp_path):
    with pytest.raises(ElpError, match=r"modelrc\.UtteranceLevel must be a mapping.*, but is 'foo'"):
        make(task, tmp_path, modelrc={"UtteranceLevel": "foo"})


@pytest.mark.parametrize("mode", ["train", "evaluate"])
@pytest.mark.parametrize("task", TASKS)
def test_evaluation_lines_name_the_checkpoint(task, mode, tmp_path):
    expert = make(task, tmp_path).eval()
    expert.run_args.update(mode=mode, past_exp=str(tmp_path), init_ckpt=str(tmp_path / "dev-best.ckpt"))
    run_split(expert, "test", step=0)
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text())
    assert line.get("checkpoint") == ("dev-best.ckpt" if mode == "evaluate" else None)  # training resumed from it


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_splits_are_checked_before_the_first_step(task, tmp_path):
    config = packaged_config(task)
    config["runner"]["eval_dataloaders"] = ["dev", "nowhere"]
    with pytest.raises(ElpError, match="no split 'nowhere'"):
        make(task, tmp_path, config=config).get_dataloader("train")


def _first_batch_size(dataset):
    from downstream_heads.common.loaders import eval_loader, transpose
    from downstream_heads.elp_asr.data import only

    asr = hasattr(dataset, "batches")
    return len(next(iter(eval_loader(dataset, batch_size=1, num_workers=0, collate_fn=only if asr else transpose)))[0])


def _in_worker(payloads, queue):
    queue.put([_first_batch_size(pickle.loads(payload)) for payload in payloads])


def test_spawned_workers_can_unpickle(tmp_path):
    """The classes of data sets are found by their absolute names, in a process that has not imported S3PRL."""
    payloads = [pickle.dumps(make(task, tmp_path).dataset("test")) for task in TASKS]
    assert all(b"downstream_heads" in payload and b"s3prl" not in payload for payload in payloads)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_worker, args=(payloads, queue))
    process.start()
    sizes = queue.get(timeout=60)
    process.join()
    assert sizes == [1] * len(TASKS) and process.exitcode == 0


@pytest.mark.parametrize("task", TASKS)
def test_loader_with_workers(task, tmp_path):
    keeping = {"pre_load": True} if "pre_load" in packaged_config(task)["downstream_expert"]["datarc"] else {}
    expert = make(task, tmp_path, datarc={"num_workers": 2, **keeping})
    parallel = [names_in(batch) for batch in expert.get_dataloader("test")]
    expert.datarc["num_workers"] = 0
    assert parallel == [names_in(batch) for batch in expert.get_dataloader("test")]


@pytest.mark.parametrize("task", [name for name, task in registry.tasks().items() if task.quick])
def test_quick_configs_are_read(task, tmp_path):
    path = PACKAGE.parent / "recipes" / "tasks" / registry.find(task).quick
    config = yaml.safe_load(path.read_text())
    assert config["runner"]["eval_dataloaders"] == [DEV[task]] and config["runner"]["total_steps"] >= 120
    expert = make_expert(task, tmp_path / "exp", config=config)
    assert config["downstream_expert"]["modelrc"]["head"] == ("superb" if task == "elp_asr" else "linear")
    data, batch = expert.dataset("train"), config["downstream_expert"]["datarc"].get("train_batch_size", 1)
    assert len(expert.get_dataloader("train")) == math.ceil(len(data) / batch)  # ASR's items are batches


def test_config_files_are_paths_free_and_read(tmp_path):
    for task in TASKS:
        text = str(packaged_config(task))
        assert "/" not in text
        assert make(task, tmp_path).upstream_dim == DIM
