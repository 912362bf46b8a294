"""Advance torch's random numbers without drawing them, as if so many had been drawn.

torch's CPU generator is MT19937 [Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998]: 32-bit words
x[k+624] = x[k+397] + the upper bit of x[k] and the lower bits of x[k+1], times a matrix A, with additions in GF(2). Its
state space has 19937 dimensions, so the words obey a linear recurrence with a characteristic polynomial p of that
degree. If t^J mod p is a sum of powers t^i, then x[J+k] is the sum of the words x[i+k], for all k > 0
[Haramoto et al., "Efficient jump ahead for F2-linear random number generators", INFORMS J. Comput. 20(3), 2008].
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

WORDS, MIDDLE, LOWER = 624, 397, 31
DEGREE = 32 * WORDS - LOWER
MATRIX = 0x9908B0DF
"""The last row of A; the other rows shift by one bit."""
_LEFT, _NEXT, _STATE, _REST = 8, 16, 24, 24 + 8 * WORDS
"""Bytes of torch's state: the seed, the words left and the seeded flag (int32), the next word, the words (64 bits each,
of which 32 are used), and numbers that were drawn in pairs and not used yet."""
_FEW = 64
"""Blocks of words up to which stepping through them is faster."""


def advanced(state: Tensor, draws: int) -> Tensor:
    """Return the state of a CPU generator after a number of 32-bit words have been drawn.

    Args:
        state: a result of ``torch.get_rng_state()``, shape (bytes,).
        draws: at least 0.
    """
    raw = state.numpy().copy()
    left, following = raw[_LEFT:_NEXT].view(np.int32), raw[_NEXT:_STATE].view(np.uint64)
    words = raw[_STATE:_REST].view(np.uint64)
    # a new generator has no words left, and says that it stands at the first word, whose block is not made yet
    drawn = WORDS if left[0] == 1 else int(following[0])
    blocks, position = divmod(drawn + draws - 1, WORDS)
    if draws:
        words[:] = _later(words.astype(np.uint32), blocks)
        following[0], left[0] = position + 1, WORDS - position
    return torch.from_numpy(raw)


def pending(state: Tensor) -> bytes:
    """Return the part of a state that holds numbers that were drawn in pairs and not used yet."""
    return state.numpy()[_REST:].tobytes()


def _later(block: np.ndarray, blocks: int) -> np.ndarray:
    """Return the 624 words that come a number of blocks after a block of words."""
    if blocks <= _FEW:
        for _ in range(blocks):
            block = _following(block)
        return block
    sequence = [block]
    for _ in range(DEGREE // WORDS + 1):
        sequence.append(_following(sequence[-1]))
    # the lower bits of the first word are not part of the state: begin with the second one, and jump by one less
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate(sequence)[1:], WORDS)
    digits = bin(_power(blocks * WORDS - 1))[:1:-1]
    chosen = np.frombuffer(digits.encode(), dtype=np.uint8) == ord("1")
    return np.bitwise_xor.reduce(windows[: len(chosen)][chosen], axis=0)


def _following(block: np.ndarray) -> np.ndarray:
    """Return the 624 words after a block of words."""
    new = np.empty_like(block)
    one = WORDS - MIDDLE
    for begin, end in ((0, one), (one, 2 * one), (2 * one, WORDS - 1), (WORDS - 1, WORDS)):
        after = block[begin + 1 : end + 1] if end < WORDS else new[:1]
        far = block[begin + MIDDLE : end + MIDDLE] if begin < one else new[begin - one : end - one]
        mixed = (block[begin:end] & np.uint32(0x80000000)) | (after & np.uint32(0x7FFFFFFF))
        new[begin:end] = far ^ (mixed >> np.uint32(1)) ^ ((mixed & np.uint32(1)) * np.uint32(MATRIX))
    return new


# polynomials over GF(2): bit i of an integer is the coefficient of t^i ----------------------------------------------


@functools.cache
def _characteristic() -> tuple[int, ...]:
    """Return the exponents of p, except for the largest one (appendix A of the paper)."""
    powers = [_shifted(1, WORDS, MIDDLE)]  # times the powers of t^623 + t^396
    for _ in range(LOWER):
        powers.append(_shifted(powers[-1], WORDS - 1, MIDDLE - 1))
    found = powers[LOWER]
    for bit in range(LOWER + 1):
        if MATRIX >> bit & 1:
            found ^= powers[LOWER - 1 - bit] if bit < LOWER else 1
    return tuple(place for place in range(DEGREE) if found >> place & 1)


def _shifted(polynomial: int, one: int, other: int) -> int:
    """Multiply a polynomial by t^one + t^other."""
    return polynomial << one ^ polynomial << other


def _power(exponent: int) -> int:
    """Return t^exponent mod p."""
    found = 1
    for bit in bin(exponent)[2:]:
        found = _reduced(int(bin(found)[2:], 4) << int(bit))  # a square has a zero between all coefficients
    return found


def _reduced(polynomial: int) -> int:
    while high := polynomial >> DEGREE:
        polynomial &= (1 << DEGREE) - 1
        for place in _characteristic():
            polynomial ^= high << place
    return polynomial
