"""Every task with batches of seconds: what its batches contain, its answers, and a run that stops and resumes."""

import json
import shutil

import pytest
import torch

from downstream_heads import registry
from downstream_heads.elp_sv.cohort import cohort_names
from downstream_heads.elp_sv.data import TrialUtterances
from tests import toy_corpora
from tests.audio_files import break_late
from tests.task_tools import SMALL_DATA, SMALL_HEAD, TASKS, make_expert, names_in, packaged_config, run_split
from tests.training_tools import assert_same_run, flags_of, forget_after, lines_of, resuming, with_settings
from upstream_elp.audio.skips import FILE
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run
from upstream_elp.training.batches import Epoch

SECONDS = 1.5
"""Of the toys' utterances of 0.3 to 1 s, two or three make a batch."""
DEV = {name: task.split("dev") for name, task in registry.tasks().items()}
ANSWERS = {
    "elp_asr": {"test-clean-noLM-hyp.ark", "test-clean-noLM-ref.ark"},
    "elp_er": {"test_fold1_predict.txt", "test_fold1_truth.txt"},
    "elp_ic": {"test_predict.csv", "test_truth.csv"},
}
USUAL_ANSWERS = {"test_predict.txt", "test_truth.txt"}


@pytest.fixture(autouse=True)
def corpora(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    return toy_corpora.write_all(tmp_path / "data")


def make(task, folder, **datarc):
    modelrc = {**SMALL_HEAD.get(task, {}), "head": "linear"}
    return make_expert(task, folder, datarc={**SMALL_DATA.get(task, {}), **datarc}, modelrc=modelrc)


def content(batch):
    return sorted((name, len(wav)) for name, wav in zip(names_in(batch), batch[0], strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_batches_of_seconds_hold_each_utterance_once(task, tmp_path, capsys):
    expert = make(task, tmp_path / "exp", train_batch_seconds=SECONDS)
    usual = make(task, tmp_path / "usual")
    for epoch in range(2):
        batches = list(expert.get_dataloader("train", epoch=epoch))
        assert all(len(wavs) * max(map(len, wavs)) <= SECONDS * 16000 for wavs, *_ in batches)
        assert max(len(wavs) for wavs, *_ in batches) > 1
        together = sorted(pair for batch in batches for pair in content(batch))
        expected = list(usual.get_dataloader("train", epoch=epoch))
        assert together == sorted(pair for batch in expected for pair in content(batch))
    printed = capsys.readouterr().out
    assert printed.count(f"[{task}] batches of at most 1.5 s with padding: ") == 1


@pytest.mark.parametrize("task", TASKS)
def test_the_lengths_are_those_of_the_items(task, tmp_path):
    """For the training set exactly; an evaluation of SV trims its utterances, so that they may be shorter."""
    expert = make(task, tmp_path, train_batch_seconds=SECONDS, eval_batch_seconds=SECONDS)
    for split in ("train", "test"):
        loader = expert.get_dataloader(split)
        lengths, items = loader.dataset.lengths(), [loader.dataset[place] for place in range(len(loader.dataset))]
        found = [len(item[0]) for item in items]
        if (task, split) == ("elp_sv", "test"):
            assert all(one <= other for one, other in zip(found, lengths, strict=True)) and len(set(found)) > 1
        else:
            assert found == lengths


@pytest.mark.parametrize("task", TASKS)
def test_length_buckets_keep_the_number_of_utterances(task, tmp_path):
    size = "batch_size" if task == "elp_asr" else "train_batch_size"
    buckets = make(task, tmp_path / "buckets", length_buckets=True, **{size: 3})
    sizes = [len(wavs) for wavs, *_ in buckets.get_dataloader("train")]
    assert sorted(sizes)[1:] == [3] * (len(sizes) - 1), "all but the last one, wherever it is"
    both = make(task, tmp_path / "both", length_buckets=True, train_batch_seconds=100, **{size: 2})
    assert max(len(wavs) for wavs, *_ in both.get_dataloader("train")) == 2


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", TASKS)
def test_an_epoch_continues_from_any_batch(task, workers, tmp_path):
    """With the same crops; the loader of an epoch is made anew, as in a resumed run."""
    expert = make(task, tmp_path, train_batch_seconds=SECONDS, num_workers=workers)
    whole = list(Epoch(expert, "train", epoch=1, seed=3))
    for start in range(len(whole)) if workers == 0 else (1,):
        rest = list(Epoch(expert, "train", epoch=1, seed=3, start=start))
        assert [names_in(batch) for batch in rest] == [names_in(batch) for batch in whole[start:]]
        for one, other in zip(rest, whole[start:], strict=True):
            assert all((a == b).all() for a, b in zip(one[0], other[0], strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_in_the_data_sets_order(task, tmp_path):
    """With the same answers and values as one by one, since these heads do not depend on the batch."""
    extra = {"snorm": 5} if task == "elp_sv" else {}
    found = {}
    for name, options in (("single", {"eval_batch_size": 1}), ("seconds", {"eval_batch_seconds": SECONDS})):
        expert = make(task, tmp_path / name, **options, **extra).eval()
        batches = len(expert.get_dataloader("test"))
        with torch.no_grad():
            records, *_ = run_split(expert, "test")
        line = json.loads((tmp_path / name / "metrics.jsonl").read_text())
        found[name] = (batches, [str(key) for key in records], line["metrics"])
    assert found["seconds"][0] < found["single"][0]
    assert found["seconds"][2] == pytest.approx(found["single"][2], rel=1e-4)
    for file in ANSWERS.get(task, USUAL_ANSWERS):
        single, seconds = ((tmp_path / name / file).read_text().splitlines() for name in ("single", "seconds"))
        if task == "elp_sv" and "predict" in file:
            assert [line.split()[0] for line in single] == [line.split()[0] for line in seconds]
            scores = [[float(line.split()[1]) for line in lines] for lines in (single, seconds)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-3, abs=1e-4)
        else:
            assert single == seconds and len(single) > 2
    if task in ("elp_er", "elp_ic"):  # their toys differ in length, so the order of evaluation is another one
        names = [item for batch in expert.get_dataloader("test") for item in names_in(batch)]
        assert names != expert.dataset("test").item_names()


def test_the_cohort_of_sv_keeps_its_order():
    order = [f"{TrialUtterances.COHORT}{number}" for number in (10, 2, 0)]
    assert cohort_names(["id1/v/1.wav", *order]) == order[::-1]


def file_of(files, name):
    """The file of an item; tasks name items after the file and up to two folders."""
    wanted = name.replace("/", "-").removesuffix(".wav")
    return next(f for f in files if wanted in {"-".join(f.with_suffix("").parts[-depth:]) for depth in (1, 2, 3)})


@pytest.mark.parametrize("task", TASKS)
def test_bad_files_are_skipped_in_batches_of_seconds(task, tmp_path, monkeypatch):
    """A file without a header, and one whose end is damaged, which its header does not show."""
    monkeypatch.setenv("ELP_SKIP_BAD_FILES", "1")
    options = {"train_batch_seconds": SECONDS, "eval_batch_seconds": SECONDS}
    whole, damage = make(task, tmp_path / "whole", **options), (lambda file: file.write_bytes(b"RIFF"), break_late)
    before, bad = {}, {}
    for split in ("train", "test"):
        before[split] = [name for batch in whole.get_dataloader(split) for name in names_in(batch)]
        files, different = whole.dataset(split).files(), list(dict.fromkeys(before[split]))
        bad[split] = [file_of(files, different[0]), file_of(files, different[-1])]
        for spoil, file in zip(damage, bad[split], strict=True):
            spoil(file)
    expert = make(task, tmp_path / "exp", **options)
    for split in ("train", "test"):
        names = [name for batch in expert.get_dataloader(split) for name in names_in(batch)]
        files = whole.dataset(split).files()
        assert names and not {file_of(files, name) for name in names} & set(bad[split])
        good = [name for name in before[split] if file_of(files, name) not in bad[split]]
        assert set(good) <= set(names)
        if split == "test":
            assert sorted(names) == sorted(good)
        listed = [row.split("\t")[1] for row in (tmp_path / "exp" / FILE).read_text().splitlines()]
        assert {str(file) for file in bad[split]} <= set(listed)


@pytest.mark.parametrize("task", TASKS)
def test_wrong_options_are_refused(task, tmp_path):
    for key in ("train_batch_seconds", "eval_batch_seconds"):
        for value in (0, -1, "384", True):
            with pytest.raises(ElpError, match=rf"datarc\.{key} must be a number above 0, but is {value!r}"):
                make(task, tmp_path, **{key: value})
    with pytest.raises(ElpError, match=r"datarc\.length_buckets must be true or false, but is 8"):
        make(task, tmp_path, length_buckets=8)
    config = packaged_config(task)
    config["runner"]["evaluate_ratio"] = 0.5
    make_expert(task, tmp_path, config=config, datarc=SMALL_DATA.get(task))
    with pytest.raises(
        ElpError, match=r"runner\.evaluate_ratio must be 1 with datarc\.eval_batch_seconds, but is 0\.5"
    ):
        make_expert(task, tmp_path, config=config, datarc={**SMALL_DATA.get(task, {}), "eval_batch_seconds": 2})


@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_stops_and_resumes(task, corpora, tmp_path):
    """With batches of seconds in training and evaluation; it ends as if it had never stopped."""
    expdir, straight = tmp_path / "run", tmp_path / "straight"
    keys = "downstream_expert.datarc"
    flags = flags_of(task, corpora, expdir, workers=0)
    flags = with_settings(flags, f"{keys}.train_batch_seconds={SECONDS}", f"{keys}.eval_batch_seconds={SECONDS}")
    run(flags)
    shutil.copytree(expdir, straight)
    forget_after(expdir, 2)
    run(resuming(expdir, corpora))
    assert_same_run(straight, expdir)
    assert {line["split"] for line in lines_of(expdir / "metrics.jsonl")} == {"train", DEV[task]}
