"""The folder of cached features: complete or absent, shared by processes, bounded, and never trusted blindly."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream_elp.base.errors import ElpError
from upstream_elp.caching import folders, store
from upstream_elp.caching.store import Store, bytes_in, stored_as

LARGE = 10**12


def opened(folder, limit=LARGE):
    return Store(folder / "kind", limit=limit, description={"kind": "layers", "place": "the hidden states"})


def tensor_of(number, dtype=torch.float32):
    return torch.randn(2, 3 + number % 5, 4, generator=torch.Generator().manual_seed(number)).to(dtype)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "flush", "open again", "another process"]), st.integers(0, 9))))
def test_what_was_put_is_found_bit_by_bit(tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("cache")
    mine, expected = opened(folder), {}
    for action, number in actions:
        if action == "put":
            mine.put(str(number), tensor_of(number))
            expected[str(number)] = tensor_of(number)
        elif action == "another process":
            other = opened(folder)
            other.put(f"other {number}", tensor_of(number))
            other.flush()
            expected[f"other {number}"] = tensor_of(number)
        else:
            mine.flush()
            mine = opened(folder) if action == "open again" else mine
    for key, tensor in expected.items():
        assert torch.equal(mine.get(key), tensor)
    assert mine.get("absent") is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_and_shapes_are_kept(tmp_path, dtype):
    mine = opened(tmp_path)
    mine.put("a", tensor_of(1, dtype))
    mine.flush()
    found = opened(tmp_path).get("a")
    assert found.dtype == dtype and torch.equal(found, tensor_of(1, dtype))


def test_a_shard_is_written_when_enough_is_collected(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD", 3 * tensor_of(0).numel() * 4)
    mine = opened(tmp_path)
    for number in range(7):
        mine.put(str(number), tensor_of(0))
    assert len(opened(tmp_path)) == 6


def test_after_a_while_a_small_shard_is_written_too(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SECONDS", 0.0)
    mine = opened(tmp_path)
    mine.put("a", tensor_of(1))
    assert opened(tmp_path).get("a") is not None


def test_the_limit_counts_all_folders_and_says_what_to_do(tmp_path):
    first = opened(tmp_path)
    first.put("a", tensor_of(1))
    first.flush()
    second = Store(tmp_path / "other", limit=bytes_in(tmp_path) + 8, description={})
    second.put("b", tensor_of(2))
    second.flush()
    assert "has 0.0 GB, and its limit is 0.0 GB" in second.full and "runner.cache_gb" in store.ADVICE
    second.put("c", tensor_of(3))
    assert second.get("b") is None and second.get("c") is None  # computed again
    assert bytes_in(tmp_path / "other") == 0


def test_a_disk_that_is_almost_full_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FREE", 2**62)
    mine = opened(tmp_path)
    mine.put("a", tensor_of(1))
    mine.flush()
    assert "GB left" in mine.full and opened(tmp_path).get("a") is None


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    mine = opened(tmp_path)
    mine.put("a", tensor_of(1))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    mine.flush()
    assert "cannot be written: No space left on device" in mine.full
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [store.DESCRIPTION]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "kind").write_text("a file")
    with pytest.raises(ElpError, match=r"the cache .*kind cannot be created: .*; set ELP_CACHE to a writable folder"):
        opened(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_damaged_shard_is_reported_and_never_used(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    good, bad = opened(folder), opened(folder)
    good.put("good", tensor_of(1))
    good.flush()
    bad.put("bad", tensor_of(2))
    bad.flush()
    (path,) = {*(folder / "kind").glob("*.safetensors")} - {folder / "kind" / name for name in good._shards}
    content = path.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "header", "empty", "text"]))
    cut = data.draw(st.integers(1, len(content) - 1))
    damaged = {
        "cut": content[:cut],
        "header": os.urandom(8) + content[8:],
        "empty": b"",
        "text": b"not a shard",
    }[kind]
    path.write_bytes(damaged)
    after = opened(folder)
    assert after.get("bad") is None and torch.equal(after.get("good"), tensor_of(1))
    (entry,) = folders.entries(folder)
    assert (entry.utterances, entry.damaged) == (1, 1)


def _fill_until_killed(folder, start):
    store.SHARD = 200
    mine = opened(folder)
    for number in range(start, 10**6):
        mine.put(str(number), tensor_of(number))


def _both_have_written(folder, size):
    keys = [int(key) for key in opened(folder)._place] if bytes_in(folder) > size else []
    return any(key >= 500_000 for key in keys) and any(key < 500_000 for key in keys)


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_time_it_has_only_whole_tensors(tmp_path, seed):
    """Two processes write at the same time until they are killed; temporary files are not shards."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill_until_killed, args=(tmp_path, start)) for start in (0, 500_000)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 300
    while not _both_have_written(tmp_path, 4000 + 700 * seed):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    after = opened(tmp_path)
    keys = list(after._place)
    assert any(int(key) >= 500_000 for key in keys) and any(int(key) < 500_000 for key in keys)
    for key in keys:
        assert torch.equal(after.get(key), tensor_of(int(key)))


def test_another_run_may_clear_it_at_any_time(tmp_path):
    mine = opened(tmp_path)
    mine.put("a", tensor_of(1))
    mine.flush()
    folders.remove(folders.entries(tmp_path)[0])
    assert torch.equal(mine.get("a"), tensor_of(1))  # still mapped
    assert mine.get("b") is None
    mine.put("b", tensor_of(2))
    mine.flush()
    assert "cannot be written" in mine.full or torch.equal(opened(tmp_path).get("b"), tensor_of(2))


def test_bound_removes_what_was_used_longest_ago(tmp_path):
    for number in range(3):
        each = Store(tmp_path / f"kind-{number}", limit=LARGE, description={})
        each.put("a", tensor_of(0))
        each.flush()
        os.utime(tmp_path / f"kind-{number}" / store.DESCRIPTION, (number, number))
    size = bytes_in(tmp_path) // 3
    removed = folders.bound(tmp_path, 2 * size)
    assert [entry.folder.name for entry in removed] == ["kind-0"]
    assert folders.bound(tmp_path, 2 * size) == []
    assert [entry.folder.name for entry in folders.entries(tmp_path)] == ["kind-2", "kind-1"]


def test_the_description_is_plain_json(tmp_path):
    opened(tmp_path)
    assert json.loads((tmp_path / "kind" / store.DESCRIPTION).read_text())["kind"] == "layers"


def test_half_precision_is_rounded_and_too_large_values_are_refused():
    values = torch.tensor([1.0, 3.14159265, -70.001])
    for dtype, digits in ((torch.float16, 2**-11), (torch.bfloat16, 2**-8)):
        kept = stored_as(values, dtype)
        assert kept.dtype == dtype and float(((kept.float() - values) / values).abs().max()) <= digits
    with pytest.raises(ElpError, match=r"cache_dtype is fp16, but a feature is larger than 65504; choose bf16 or fp32"):
        stored_as(torch.tensor([70000.0]), torch.float16)
