"""Metrics, files, options and corpus roots that the tasks share."""

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from downstream_heads.common import files
from downstream_heads.common.base import TaskExpert
from downstream_heads.common.heads import LinearMeanHead, SuperbMeanHead, masked_mean, pad_features
from downstream_heads.common.metrics import accuracy, error_rate, majority_accuracy, unweighted_accuracy
from downstream_heads.contract import ACCURACY, Metric, Task
from tests import toy_corpora
from tests.task_tools import Scalars
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import problem_list, read_options
from upstream_elp.corpora.registry import corpus as describe
from upstream_elp.corpora.registry import corpus_root, modules


def plain_distance(a, b):
    """Compute the Levenshtein distance by its recursion."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    table[:, 0], table[0, :] = range(len(a) + 1), range(len(b) + 1)
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (x != y))
    return int(table[-1, -1])


def test_error_rate_by_hand():
    hypotheses = [["the", "cat", "sat"], [], ["a", "b", "c", "d"]]
    references = [["the", "hat", "sat"], ["x"], ["a", "b", "d"]]
    assert error_rate(hypotheses, references) == pytest.approx(100 * (1 + 1 + 1) / 7)
    assert error_rate([["a", "b"]], [["c"]]) == 200.0
    assert error_rate([[]], [[]]) == 100.0  # S3PRL's answer when there is nothing to recognise
    with pytest.raises(ValueError):
        error_rate([[]], [])


tokens = st.lists(st.sampled_from("abc|"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=4))
def test_error_rate_equals_plain_recursion(pairs):
    errors = sum(plain_distance(h, r) for h, r in pairs)
    total = sum(len(r) for _, r in pairs)
    expected = 100 * errors / total if total else 100.0
    assert error_rate([h for h, _ in pairs], [r for _, r in pairs]) == pytest.approx(expected)


def test_accuracies_by_hand():
    truth, guess = ["a", "a", "a", "b"], ["a", "a", "c", "c"]
    assert accuracy(guess, truth) == 50.0
    assert unweighted_accuracy(guess, truth) == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert majority_accuracy(["b", "b", "a"], truth) == 25.0
    assert math.isnan(accuracy([], [])) and math.isnan(unweighted_accuracy([], []))


def test_pooling_ignores_padding():
    features = [torch.randn(n, 5) for n in (3, 7, 1)]
    padded, frames_len = pad_features(features)
    garbage = padded.clone()
    garbage[0, 3:] = float("nan")
    expected = torch.stack([feature.mean(dim=0) for feature in features])
    torch.testing.assert_close(masked_mean(garbage, frames_len), expected)


def test_the_two_utterance_heads_are_one_function():
    superb, linear = SuperbMeanHead(5, 3), LinearMeanHead(5, 3)
    linear.classifier.load_state_dict(superb.post_net.linear.state_dict())
    padded, frames_len = pad_features([torch.randn(n, 5) for n in (3, 7, 1)])
    torch.testing.assert_close(superb(padded, frames_len), linear(padded, frames_len))


def test_options_are_strict():
    assert read_options({"b": 2}, {"a": 1, "b": None}, where="x") == {"a": 1, "b": 2}
    assert read_options({"old": 2}, {"a": 1}, where="x", ignored=("old",)) == {"a": 1}
    with pytest.raises(ElpError, match=r"unknown config key x\.batchsize; did you mean batch_size\?"):
        read_options({"batchsize": 2}, {"batch_size": 1}, where="x")
    with pytest.raises(ElpError, match="must be a mapping"):
        read_options([1], {"a": 1}, where="x")
    assert problem_list([str(n) for n in range(12)]).endswith("9; and 2 more")


def test_written_files_are_whole(tmp_path):
    files.write_text(tmp_path / "sub" / "a.txt", "1\n2\n")
    assert (tmp_path / "sub" / "a.txt").read_bytes() == b"1\n2\n"
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ElpError, match="cannot write"):
        files.write_text(tmp_path / "file" / "below.txt", "x")


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path))
    assert files.cache_dir() == tmp_path
    monkeypatch.delenv("ELP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / "s3prl-elp"


@pytest.mark.parametrize("name", modules())
def test_a_missing_corpus_says_where_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.delenv("ELP_DATA", raising=False)
    with pytest.raises(ElpError, match=r"--data DIR .*https://"):
        corpus_root({}, name)
    with pytest.raises(ElpError, match=r"from downstream_expert\.datarc\.root\): no such folder"):
        corpus_root({"root": str(tmp_path / "nothing")}, name)
    with pytest.raises(ElpError, match="does not look like"):
        corpus_root({"root": str(tmp_path)}, name)
    toy_corpora.librilight(toy_corpora.write_all(tmp_path))
    monkeypatch.setenv("ELP_DATA", str(tmp_path))
    folder = tmp_path / describe(name).folder
    assert corpus_root({"root": None}, name) == folder
    for key in describe(name).keys:
        assert corpus_root({key: str(folder)}, name) == folder
    with pytest.raises(ElpError, match="unknown corpus"):
        corpus_root({}, "TIMIT")


TOY = Task(
    name="toy",
    title="toy",
    corpus="LibriSpeech",
    metrics={"acc": ACCURACY, "uacc": Metric("unweighted accuracy", higher_is_better=True)},
)


class Higher(TaskExpert):
    about = TOY


class Lower(TaskExpert):
    about = replace(TOY, metrics={"eer": Metric("EER", chance=50.0)})


def expert(cls, tmp_path):
    return cls(upstream_dim=4, upstream_rate=320, downstream_expert={}, expdir=tmp_path)


def test_best_score(tmp_path):
    up, down = expert(Higher, tmp_path), expert(Lower, tmp_path)
    assert [up.keep_best("dev", value) for value in (0.0, 0.0, 5.0, float("nan"), 4.0)] == [
        ["dev-best.ckpt"], [], ["dev-best.ckpt"], [], []
    ]  # fmt: skip
    assert [bool(down.keep_best("dev", value)) for value in (100.0, 100.0, 50.0, 60.0)] == [True, False, True, False]
    assert up.best_score.item() == 5.0
    copy = expert(Higher, tmp_path)
    copy.load_state_dict(up.state_dict())
    assert copy.keep_best("dev", 4.5) == []


def test_report(tmp_path, capsys):
    toy, scalars = expert(Higher, tmp_path / "new"), Scalars()
    toy.report("dev", 3, {"acc": 12.5, "uacc": float("nan")}, logger=scalars, items=8, loss=0.5, chance={"acc": 25.0})
    toy.report("dev", 4, {"acc": 13.0}, logger=None, items=8)
    first, second = [json.loads(line) for line in (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()]
    assert {key: first[key] for key in ("task", "split", "step", "items", "metrics", "chance")} == {
        "task": "toy",
        "split": "dev",
        "step": 3,
        "items": 8,
        "metrics": {"acc": 12.5, "uacc": None, "loss": 0.5},
        "chance": {"acc": 25.0},
    }
    assert second["step"] == 4
    assert scalars.values["toy/dev-acc"] == (12.5, 3)
    assert "[toy] dev, step 3: acc 12.5 % (chance 25), uacc nan %, loss 0.5\n" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ElpError, match="cannot write"):
        files.write_text(tmp_path / "x", "")
