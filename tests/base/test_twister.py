"""torch's random state is advanced as if random numbers had been drawn."""

import pytest
import torch

from upstream_elp.base import twister

BLOCK = twister.WORDS


@pytest.mark.parametrize("before", [None, 1, 623, 624, 625, 4000], ids=lambda drawn: f"after {drawn}")
@pytest.mark.parametrize(
    "draws", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 64 * BLOCK, 64 * BLOCK + 1, 65 * BLOCK + 3, 1_234_567]
)
def test_the_state_is_that_after_drawing(before, draws):
    generator = torch.Generator()
    generator.manual_seed(before or 7)
    if before is not None:
        torch.empty(before, dtype=torch.uint8).random_(generator=generator)
    state = generator.get_state()
    kept = state.clone()
    if draws:
        torch.empty(draws, dtype=torch.uint8).random_(generator=generator)
    assert torch.equal(twister.advanced(state, draws), generator.get_state())
    assert torch.equal(state, kept)


def test_two_jumps_are_one_jump():
    state = torch.Generator().manual_seed(3).get_state()
    one, other = 5 * 10**9, 3 * 10**8 + 1
    assert torch.equal(twister.advanced(twister.advanced(state, one), other), twister.advanced(state, one + other))


def test_numbers_drawn_in_pairs_are_pending():
    generator = torch.Generator()
    before = twister.pending(generator.get_state())
    torch.empty(3).normal_(generator=generator)
    assert twister.pending(generator.get_state()) != before
