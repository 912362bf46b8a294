"""The maker of batches of similar length: its laws, and the lengths that it gets."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downstream_heads.common import loaders
from downstream_heads.common.batching import WIDTH, Limits, cut, eval_batches, in_order, summary, train_batches
from downstream_heads.common.lengths import header_lengths, replaced
from tests import toy_corpora
from upstream_elp.audio import headers
from upstream_elp.audio.decoding import Decoder

LENGTHS = st.lists(st.integers(0, 50_000), min_size=1, max_size=60)
LIMITS = st.builds(Limits, st.none() | st.integers(1, 200_000), st.none() | st.integers(1, 9))
SEEDS = st.integers(0, 3)


def flat(batches):
    return [place for batch in batches for place in batch]


def keeps(batch, lengths, limits):
    """Whether a batch is within the limits, or a single utterance."""
    longest = max(lengths[place] for place in batch)
    fits = limits.samples is None or len(batch) * longest <= limits.samples
    return len(batch) == 1 or (fits and (limits.utterances is None or len(batch) <= limits.utterances))


def padding(batches, lengths):
    """The share of padding in the batches."""
    padded = sum(len(batch) * max(lengths[place] for place in batch) for batch in batches)
    return 1 - sum(lengths) / padded


def speech(count, seed=0):
    """Lengths of utterances of 0.5 to 20 s, distributed as in conversations."""
    drawn = np.random.default_rng(seed).lognormal(np.log(3.5), 0.6, count)
    return [int(16000 * seconds) for seconds in drawn.clip(0.5, 20)]


@given(LENGTHS, LIMITS, SEEDS, SEEDS)
def test_every_utterance_once_within_the_limits(lengths, limits, seed, epoch):
    batches = train_batches(lengths, limits, seed=seed, epoch=epoch)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    assert all(keeps(batch, lengths, limits) for batch in batches)
    assert batches == train_batches(lengths, limits, seed=seed, epoch=epoch)


@given(LENGTHS, LIMITS, SEEDS, st.integers(2, 5))
def test_ranks_get_equally_many_batches_of_the_same_epoch(lengths, limits, seed, ranks):
    whole = train_batches(lengths, limits, seed=seed, epoch=0)
    shared = train_batches(lengths, limits, seed=seed, epoch=0, ranks=ranks)
    assert len(shared) % ranks == 0 and len(shared) - len(whole) < ranks
    assert all(keeps(batch, lengths, limits) for batch in shared)
    assert set(flat(shared)) == set(range(len(lengths)))
    if len(shared) <= len(lengths):  # enough utterances for a batch each
        assert sorted(flat(shared)) == list(range(len(lengths)))
    parts = {frozenset(batch) for batch in whole}
    assert all(any(part >= set(batch) for part in parts) for batch in shared), "a whole batch, or a part of one"


@given(LENGTHS, LIMITS)
def test_evaluation_goes_from_long_to_short_in_full_batches(lengths, limits):
    batches = eval_batches(lengths, limits)
    order = flat(batches)
    assert order == sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    assert all(keeps(batch, lengths, limits) for batch in batches)
    assert not any(keeps([*one, other[0]], lengths, limits) for one, other in pairwise(batches))


@given(LENGTHS, LIMITS, st.randoms(use_true_random=False))
def test_no_batch_could_take_the_next_utterance(lengths, limits, rng):
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = cut(order, lengths, limits)
    assert flat(batches) == order
    assert not any(keeps([*one, other[0]], lengths, limits) for one, other in pairwise(batches))


def test_epochs_and_seeds_differ_in_what_is_together():
    lengths = speech(300)
    drawn = {(seed, epoch): train_batches(lengths, Limits(10**6), seed=seed, epoch=epoch) for seed, epoch in
             ((0, 0), (0, 1), (1, 0))}  # fmt: skip
    sets = {key: {frozenset(batch) for batch in batches} for key, batches in drawn.items()}
    for one, other in (((0, 0), (0, 1)), ((0, 1), (1, 0)), ((0, 0), (1, 0))):
        assert len(sets[one] & sets[other]) < 0.2 * len(sets[one])
    longest = [max(lengths[place] for place in batch) for batch in drawn[0, 0]]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)


def test_the_global_random_state_stays():
    before = random.getstate(), np.random.get_state()[1].tolist()
    train_batches(speech(50), Limits(10**6), seed=0, epoch=0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("limits", [Limits(384 * 16000), Limits(None, 4), Limits(384 * 16000, 32)])
def test_there_is_little_padding(limits):
    """Far less than in random batches of the same size; within a bucket, it is below the bucket's width."""
    lengths = speech(4000)
    batches = train_batches(lengths, limits, seed=0, epoch=0)
    order, sizes = list(range(4000)), iter([len(batch) for batch in batches])
    random.Random(0).shuffle(order)
    at_random = [[order.pop() for _ in range(size)] for size in sizes]
    assert padding(batches, lengths) < 1 - 1 / WIDTH < padding(at_random, lengths) / 3


def test_utterances_of_one_length_are_shuffled_freely():
    """As SV's crops, which are mostly of one length."""
    first, other = (train_batches([16000] * 100, Limits(160_000), seed=0, epoch=epoch) for epoch in (0, 1))
    assert [len(batch) for batch in first] == [10] * 10
    assert not {frozenset(batch) for batch in first} & {frozenset(batch) for batch in other}


def test_the_line_says_what_a_user_wants_to_know():
    lengths, limits = [16000, 16000, 12000, 64000], Limits(32000)
    line = summary([[0, 1], [2], [3]], lengths, limits)
    assert line == (
        "batches of at most 2 s with padding: 3 in an epoch, with 1.3 utterances on average and 0.0 % padding; "
        "1 utterance is longer than that, each in a batch of its own"
    )
    line = summary([[0, 2]], lengths, Limits(48000, 2), ranks=2)
    assert line.startswith("batches of at most 3 s with padding and 2 utterances: 1 in an epoch of each process, with")
    assert line.endswith("2.0 utterances on average and 12.5 % padding")


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.data())
def test_evaluated_utterances_return_to_the_data_sets_order(names, data):
    """Items of the same name are equally long, so that sorting by length keeps their order; some may be missing."""
    length = {name: place % 3 for place, name in enumerate("dbca")}
    kept = data.draw(st.sets(st.sampled_from("abcd")))
    evaluated = sorted((place for place, name in enumerate(names) if name in kept), key=lambda p: -length[names[p]])
    found = in_order([names[place] for place in evaluated], names)
    assert [evaluated[place] for place in found] == sorted(evaluated)


# --- loaders and lengths ------------------------------------------------------------------------------------------


class Numbers(list):
    """A data set of numbers, whose lengths are ten times the numbers."""

    def lengths(self):
        return [10 * number for number in self]


def _numbers(epoch=0, **options):
    loader = loaders.train_loader(
        Numbers(range(1, 30)), batch_size=5, num_workers=0, collate_fn=list, epoch=epoch, limits=Limits(600), **options
    )
    return list(loader)


@pytest.mark.parametrize("ranks", [2, 3])
def test_each_rank_takes_its_turn(ranks, monkeypatch):
    whole = _numbers()
    found = []
    for rank in range(ranks):
        monkeypatch.setattr(loaders, "process", lambda rank=rank: (rank, ranks))
        found.append(_numbers())
    assert len({len(share) for share in found}) == 1
    assert sorted(number for share in found for batch in share for number in batch) == list(range(1, 30))
    assert {tuple(batch) for batch in whole} & {tuple(batch) for share in found for batch in share}


def test_loaders_differ_by_epoch_only():
    assert _numbers(3) == _numbers(3) != _numbers(4)


@given(st.lists(st.integers(0, 3), max_size=8))
def test_an_unusable_file_is_as_long_as_the_one_in_its_place(lengths):
    """As ``Replacing`` chooses it."""
    for place, found in enumerate(replaced(lengths)):
        following = [length for length in lengths[place:] + lengths[:place] if length]
        assert found == (following[0] if following else 0)


def test_lengths_come_from_headers_and_only_once(tmp_path, monkeypatch, cache):
    for name, seconds, rate in (("a.wav", 0.5, 16000), ("b.flac", 0.75, 8000), ("c.wav", 1.0, 44100)):
        toy_corpora.write_wav(tmp_path / name, toy_corpora.tone(seconds=seconds, rate=rate), rate)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    monkeypatch.setattr(Decoder, "blocks", lambda *_, **__: pytest.fail("audio was decoded"))
    files = ["b.flac", "a.wav", "bad.wav", "c.wav", "a.wav"]
    assert header_lengths(tmp_path, files) == [12000, 8000, 16000, 16000, 8000]
    monkeypatch.setattr(headers, "read_header", lambda *_, **__: pytest.fail("a header was read again"))
    assert header_lengths(tmp_path, files) == [12000, 8000, 16000, 16000, 8000]
