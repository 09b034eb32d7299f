"""Owns range coding by asymmetric numeral systems over many interleaved lanes; knows no symbols and no models.

A lane is a 32-bit rANS state of its own (Duda 2013, arXiv:1311.2540; lanes after Giesen 2014, arXiv:1402.3392). All
lanes move together, one numpy operation for all, and share one stream of 16-bit words: after each step the lanes that
ran low take one word each, in lane order. Integers alone, so every machine decodes the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.errors import DeltaError

PROBABILITY_BITS: Final = 12
"""Probabilities are multiples of 2**-12: one packed 32-bit table entry holds symbol, frequency and offset."""
STATE_LOW: Final = 1 << 16
"""Lanes live in [STATE_LOW, 2**32) and are refilled by 16 bits."""

_WORD_BITS: Final = 16
_SLOT_MASK: Final = np.uint32((1 << PROBABILITY_BITS) - 1)
_EMIT_SHIFT: Final = np.uint32(32 - PROBABILITY_BITS)

U32 = NDArray[np.uint32]


def encode_lanes(starts: U32, frequencies: U32, lanes: int) -> bytes:
    """Code symbols given as intervals; symbol `j` is coded by lane ``j % lanes`` in step ``j // lanes``.

    Args:
        starts: (n,) start of each symbol's interval, of 2**12.
        frequencies: (n,) length of each symbol's interval, 1 to 2**12 - 1 (2**12 costs no bit and is allowed too).
        lanes: number of lanes, at least 1.

    Returns:
        `lanes` final states as little-endian 32-bit words, then the shared 16-bit words in the order of decoding.
    """
    states = np.full(lanes, STATE_LOW, np.uint64)
    emitted: list[NDArray[np.uint16]] = []
    for first in range((starts.size - 1) // lanes * lanes, -1, -lanes) if starts.size else ():
        start = starts[first : first + lanes].astype(np.uint64)
        frequency = frequencies[first : first + lanes].astype(np.uint64)
        active = states[: start.size]
        full = active >= frequency << np.uint64(_EMIT_SHIFT)
        emitted.append(active[full].astype(np.uint16))
        active[full] >>= np.uint64(_WORD_BITS)
        quotient, remainder = np.divmod(active, frequency)
        active[:] = (quotient << np.uint64(PROBABILITY_BITS)) + remainder + start
    words = np.concatenate([np.zeros(0, np.uint16), *reversed(emitted)])
    return states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


class LaneDecoder:
    """Reads what `encode_lanes` wrote, one step of at most `lanes` symbols at a time.

    Raises:
        DeltaError: the payload is shorter than its lanes.
    """

    def __init__(self, payload: bytes | memoryview, lanes: int) -> None:
        if len(payload) < 4 * lanes or len(payload) % 2:
            raise DeltaError(f"{len(payload)} bytes cannot hold {lanes} lanes", op="entropy")
        self._states: U32 = np.frombuffer(payload, "<u4", lanes).astype(np.uint32)
        self._words: U32 = np.frombuffer(payload, "<u2", offset=4 * lanes).astype(np.uint32)
        self._next = 0

    def slots(self, count: int) -> U32:
        """Return the (count,) slots, in [0, 2**12), that the first `count` lanes point at."""
        return self._states[:count] & _SLOT_MASK

    def advance(self, frequencies: U32, offsets: U32) -> None:
        """Consume one symbol in each of the first lanes.

        Args:
            frequencies: (count,) length of the interval of the symbol that each slot fell into.
            offsets: (count,) position of the slot in that interval.

        Raises:
            DeltaError: the words ran out.
        """
        active = self._states[: frequencies.size]
        active >>= np.uint32(PROBABILITY_BITS)
        active *= frequencies
        active += offsets
        low = np.flatnonzero(active < STATE_LOW)
        words = self._words[self._next : self._next + low.size]
        if words.size < low.size:
            raise DeltaError("coded data ended early", op="entropy")
        active[low] = (active[low] << np.uint32(_WORD_BITS)) | words
        self._next += low.size

    def finish(self) -> None:
        """Check that everything was consumed and that each lane is back where the encoder began.

        Raises:
            DeltaError: words are left over, or a lane ended elsewhere: the payload is not what was coded.
        """
        if self._next != self._words.size or bool(np.any(self._states != STATE_LOW)):
            raise DeltaError("coded data does not end where its symbols end", op="entropy")
