"""Per-item results and their file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.statistics_toys import answers, transcripts, trials
from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Items, items_path, join_folds, load_items, save_items

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
rows = st.lists(
    st.tuples(texts, texts, st.floats(allow_nan=False), st.integers(0, 9), texts, texts), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_a_file_has_everything_that_was_saved(rows, tmp_path_factory):
    keys, speakers, scores, totals, predicted, true = zip(*rows, strict=True)
    columns = {"score": scores, "wer_total": totals, "predicted": predicted, "true": true}
    items = Items(keys, speakers, columns, speakers[::-1], true, {"task": "elp_x", "step": 3})
    path = save_items(tmp_path_factory.mktemp("items") / "items-test.csv", items)
    again = load_items(path)
    assert list(again.keys) == list(keys) and list(again.speaker) == list(speakers)
    assert list(again.second) == list(items.second) and list(again.fold) == list(true)
    assert again.about == items.about and list(again.columns) == list(columns)
    assert all(np.array_equal(again.columns[name], items.columns[name]) for name in columns)


def test_other_programs_can_read_the_file(tmp_path):
    items = transcripts(np.random.default_rng(0), 3)
    frame = pd.read_csv(save_items(items_path(tmp_path, "test-clean"), items), skiprows=1)
    assert list(frame) == ["key", "speaker", "wer_errors", "wer_total"]
    assert frame["wer_errors"].dtype.kind == "i" and frame["wer_errors"].sum() == items.columns["wer_errors"].sum()


def test_a_score_that_is_not_finite_survives(tmp_path):
    items = trials(np.random.default_rng(0), 3, 2)
    scores = items.columns["score"].copy()
    scores[:2] = np.nan, np.inf
    saved = Items(items.keys, items.speaker, {**items.columns, "score": scores}, items.second)
    again = load_items(save_items(tmp_path / "items-test.csv", saved)).columns["score"]
    assert np.array_equal(again, scores, equal_nan=True)


def test_a_folder_with_one_file_needs_no_split(tmp_path):
    items = answers(np.random.default_rng(0), 3)
    with pytest.raises(ElpError, match=r"must have one items-<split>.csv, but has: none; name the file or the split"):
        load_items(tmp_path)
    save_items(items_path(tmp_path, "test"), items)
    assert len(load_items(tmp_path)) == len(load_items(tmp_path, "test")) == len(items)
    save_items(items_path(tmp_path, "dev"), items)
    with pytest.raises(ElpError, match=r"but has: items-dev\.csv, items-test\.csv; name the file or the split"):
        load_items(tmp_path)
    with pytest.raises(ElpError, match=r"has no items-other\.csv \(there are: items-dev\.csv, items-test\.csv\)"):
        load_items(tmp_path, "other")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must be a CSV file with the columns key and speaker behind a line"),
        ("key,speaker,acc\na,b,1\n", "must be a CSV file with the columns key and speaker behind a line"),
        ("# {}\nkey,acc\na,1\n", "must be a CSV file with the columns key and speaker behind a line"),
        ("# {}\nkey,speaker,acc\n", "must be a CSV file with the columns key and speaker behind a line"),
        ("# {}\nkey,speaker,acc\na,b\n", "must have as many values in every line as in its header"),
        ("# {}\nkey,speaker,acc\na,b,1,2\n", "must have as many values in every line as in its header"),
        ("# {}\nkey,speaker,acc\na,b,right\n", "the column 'acc' of per-item results must have numbers only"),
    ],
)
def test_another_file_is_refused(text, sentence, tmp_path):
    path = tmp_path / "items-test.csv"
    path.write_text(text)
    with pytest.raises(ElpError, match=sentence):
        load_items(path)
    with pytest.raises(ElpError, match="does not exist; evaluate the run with `elp run -m evaluate`"):
        load_items(tmp_path / "items-dev.csv")


def test_incomplete_items_are_refused():
    with pytest.raises(ElpError, match="a test set must have at least one item, but has none"):
        Items([], [], {})
    with pytest.raises(ElpError, match=r"the column 'acc' of per-item results must have 2 values, .* but has 1"):
        Items(["a", "b"], ["s", "t"], {"acc": [1]})


def test_folds_of_different_tasks_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ElpError, match="all folds must have the columns acc, but fold2 has wer_errors, wer_total"):
        join_folds({"fold1": answers(rng, 2), "fold2": transcripts(rng, 2)})
    with pytest.raises(ElpError, match="a mean over folds needs at least one fold"):
        join_folds({})


def test_measures_follow_from_the_columns():
    one = {"predicted": ["x"], "true": ["x"], "acc": [1], "action_acc": [1]}
    assert Items(["a"], ["s"], one).measures == ("acc", "action_acc", "uacc")
    two = {"wer_errors": [1], "wer_total": [2], "uer_errors": [1], "uer_total": [9]}
    assert Items(["a"], ["s"], two).measures == ("wer", "uer")
    assert Items(["a"], ["s"], {"score": [1], "same": [1]}, ["t"]).measures == ("eer",)


def test_clusters():
    items = Items(["a", "b", "c", "a"], ["s", "", "t", "s"], {"acc": [1, 1, 1, 0]})
    assert items.clusters == [(False, "s"), (False, "t"), (True, "b")] and items.unknown == 1
    assert items.places[0].tolist() == items.places[1].tolist() == [0, 2, 1, 0]
    pairs = Items(["a", "b"], ["s", "t"], {"score": [1, 2], "same": [1, 0]}, ["s", "s"])
    assert [of.tolist() for of in pairs.places] == [[0, 1], [0, 0]]
