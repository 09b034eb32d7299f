"""Owns range coding by asymmetric numeral systems over many interleaved lanes; knows no symbols and no models.

A lane is a 32-bit rANS state of its own (Duda 2013, arXiv:1311.2540; interleaving after Giesen 2014, arXiv:1402.3392).
All lanes move together, one numpy operation for all, and share one stream of 16-bit words: after each turn the lanes
that ran low take one word each, in lane order. A batch of symbols is dealt to the lanes in turns: symbol `j` of the
batch goes to lane ``j % lanes``. Integers alone, so every machine decodes the same.

Every lane has to start from somewhere, which would cost 16 bits a lane. So, shortly before the end, all but a few
lanes retire: the encoder, which works from the last symbol to the first, lets them start from words that it has
written already, and the decoder puts what they end with back in front of its words.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.errors import DeltaError

STATE_LOW: Final = 1 << 16
"""Lanes live in [STATE_LOW, 2**32) and are refilled by 16 bits."""
FEW_LANES: Final = 128
"""Lanes that go on when the others retire, and ..."""
LAST_LANES: Final = 16
"""... those that code the very last step: few, so that their starting states cost little."""

_WORD_BITS: Final = 16
_MANTISSA_BITS: Final = 31
_LENGTH_BITS: Final = 4

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
Bits = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Index = NDArray[np.intp]


class LaneEncoder:
    """Collects intervals batch by batch in the order of decoding, and codes them all, last to first, in `finish`."""

    def __init__(self, precision: int) -> None:
        """Prepare for intervals of 2**`precision`, at most 2**15."""
        self._precision = precision
        self._batches: list[tuple[U16, U16]] = []
        self._steps: list[int] = []

    def begin_step(self, _left: int) -> None:
        """Mark a place between batches where lanes may retire."""
        self._steps.append(len(self._batches))

    def push(self, starts: U32, frequencies: U32) -> None:
        """Add one batch of symbols.

        Args:
            starts: (n,) start of each symbol's interval.
            frequencies: (n,) length of each symbol's interval, at least 1.
        """
        self._batches.append((starts.astype(np.uint16), frequencies.astype(np.uint16)))

    def flags(self, chances: U32, wanted: Flags | None) -> Flags:
        """Add `wanted` flags, (n,), that have these chances of being set, in 2**-precision; return them."""
        assert wanted is not None
        whole = np.uint32(1 << self._precision)
        self.push(np.where(wanted, np.uint32(0), chances), np.where(wanted, chances, whole - chances))
        return wanted

    def choices(self, ends: U32, wanted: Index | None) -> Index:
        """Add `wanted` symbols, (n,), whose alphabet's intervals have these (n, alphabet) ends; return them."""
        assert wanted is not None
        lane = np.arange(len(ends))
        starts = np.where(wanted > 0, ends[lane, wanted - 1], np.uint32(0))
        self.push(starts, ends[lane, wanted] - starts)
        return wanted

    def plain(self, widths: Index, wanted: U32 | None) -> U32:
        """Add `wanted` numbers, (n,), of so many bits each, none likelier than another; return them."""
        assert wanted is not None
        for taken in range(0, int(widths.max(initial=0)), self._precision):
            width = np.clip(widths - taken, 0, self._precision).astype(np.uint32)
            part = (wanted >> np.uint32(taken)) & ((np.uint32(1) << width) - np.uint32(1))
            shift = np.uint32(self._precision) - width
            self.push(part << shift, np.uint32(1) << shift)
        return wanted

    def bits(self) -> NDArray[np.float64]:
        """Return the information in each step's batches, (steps,)."""
        lengths = [float(np.log2(frequencies).sum()) for _, frequencies in self._batches]
        sizes = [starts.size for starts, _ in self._batches]
        totals = self._precision * np.cumsum([0, *sizes]) - np.cumsum([0.0, *lengths])
        return np.diff(totals[[*self._steps, len(self._batches)]])

    def finish(self, lanes: int, retire_steps: int) -> bytes:
        """Return the payload: the final states, rounded up to bits, then the shared words.

        Args:
            lanes: number of lanes, at least 1.
            retire_steps: so many steps before the end all but `FEW_LANES` lanes retire; 0 if they do not.
        """
        ends = [len(self._batches)]
        counts = [lanes]
        if retire_steps:
            ends = [self._steps[-retire_steps], self._steps[-1], len(self._batches)]
            counts = [lanes, min(lanes, FEW_LANES), min(lanes, LAST_LANES)]
        states, words = np.zeros(0, np.uint64), np.zeros(0, np.uint16)
        for count, first, last in zip(counts[::-1], [0, *ends[:-1]][::-1], ends[::-1], strict=True):
            states, words = _grow(states, words, count)
            words = np.concatenate([self._code(states, first, last), words])
        return _write_states(states.astype(np.uint32)) + words.astype("<u2").tobytes()

    def _code(self, states: U64, first_batch: int, last_batch: int) -> U16:
        """Code these batches into the states, last to first; return the words in the order of decoding."""
        precision, emit_shift = np.uint64(self._precision), np.uint64(32 - self._precision)
        emitted: list[U16] = []
        for starts, frequencies in reversed(self._batches[first_batch:last_batch]):
            for first in range((starts.size - 1) // states.size * states.size, -1, -states.size):
                frequency = frequencies[first : first + states.size].astype(np.uint64)
                active = states[: frequency.size]
                full = (active >= frequency << emit_shift).nonzero()[0]
                emitted.append(active[full].astype(np.uint16))
                active[full] >>= np.uint64(_WORD_BITS)
                quotient = active // frequency
                active += (quotient << precision) - quotient * frequency + starts[first : first + states.size]
        return np.concatenate([np.zeros(0, np.uint16), *reversed(emitted)])


class LaneDecoder:
    """Reads what `LaneEncoder` wrote, batch by batch.

    Raises:
        DeltaError: the payload is shorter than its lanes.
    """

    def __init__(self, payload: bytes | memoryview, lanes: int, precision: int, retire_steps: int = 0) -> None:
        self._states, used_bytes = _read_states(payload, lanes)
        self._payload = payload
        self._words_end = used_bytes
        self._words = self._read_words()
        self._next = 0
        self._put_back = 0
        self._lanes = lanes
        self._retire_steps = retire_steps
        self._precision = np.uint32(precision)
        self._mask = np.uint32((1 << precision) - 1)
        self._low = np.uint32(STATE_LOW)
        self._word_bits = np.uint32(_WORD_BITS)

    def begin_step(self, left: int) -> None:
        """Begin the last step but `left` - 1; lanes retire if this is where the encoder let them.

        Raises:
            DeltaError: a lane does not end where a lane can start.
        """
        if self._retire_steps and left == self._retire_steps:
            self._retire(FEW_LANES)
        if self._retire_steps and left == 1:
            self._retire(LAST_LANES)

    def flags(self, chances: U32, _wanted: Flags | None = None) -> Flags:
        """Return (n,) flags decoded with (n,) chances of being set, in 2**-precision."""
        flags = np.empty(chances.size, np.bool_)
        for first in range(0, chances.size, self._lanes):
            chance = chances[first : first + self._lanes]
            active = self._states[: chance.size]
            slots = active & self._mask
            is_set = flags[first : first + self._lanes]
            np.less(slots, chance, out=is_set)
            share = (active >> self._precision) * chance
            slots += share
            share += chance
            np.subtract(active, share, out=active)
            np.copyto(active, slots, where=is_set)
            self._refill(active)
        return flags

    def choices(self, ends: U32, _wanted: Index | None = None) -> Index:
        """Return (n,) symbols decoded with the (n, alphabet) ends of their intervals."""
        symbols = np.empty(len(ends), np.intp)
        for first in range(0, len(ends), self._lanes):
            own = ends[first : first + self._lanes]
            slots = self._states[: len(own)] & self._mask
            chosen = (own > slots[:, np.newaxis]).argmax(axis=1)
            lane = np.arange(len(own))
            starts = np.where(chosen > 0, own[lane, chosen - 1], np.uint32(0))
            self._advance(own[lane, chosen] - starts, slots - starts)
            symbols[first : first + self._lanes] = chosen
        return symbols

    def plain(self, widths: Index, _wanted: U32 | None = None) -> U32:
        """Return (n,) numbers of so many bits each, none of which is likelier than another."""
        numbers = np.zeros(widths.size, np.uint32)
        for taken in range(0, int(widths.max(initial=0)), int(self._precision)):
            width = np.clip(widths - taken, 0, int(self._precision)).astype(np.uint32)
            for first in range(0, widths.size, self._lanes):
                shift = self._precision - width[first : first + self._lanes]
                slots = self._states[: shift.size] & self._mask
                part = slots >> shift
                numbers[first : first + self._lanes] |= part << np.uint32(taken)
                self._advance(np.uint32(1) << shift, slots - (part << shift))
        return numbers

    def look_up(self, rows: U32 | None, packed: U32, symbols: NDArray[np.uint8]) -> None:
        """Fill in `symbols`, (n,), decoded with a table of slots; see `frequencies.pack_slots`.

        Args:
            rows: (n,) where each symbol's row begins in `packed`; None where all use the first.
            packed: ``symbol << 24 | (frequency - 1) << 12 | offset`` for each slot of each row.
            symbols: what to fill.
        """
        low_bits, one = np.uint32(0xFFF), np.uint32(1)
        for first in range(0, symbols.size, self._lanes):
            own = symbols[first : first + self._lanes]
            slots = self._states[: own.size] & self._mask
            entry = packed[slots if rows is None else slots + rows[first : first + own.size]]
            np.right_shift(entry, np.uint32(24), out=own, casting="unsafe")
            self._advance(((entry >> np.uint32(12)) & low_bits) + one, entry & low_bits)

    def finish(self) -> bytes | memoryview:
        """Return what follows the words in the payload.

        Raises:
            DeltaError: a lane did not end where the encoder began.
        """
        if bool(np.any(self._require_start(self._states))):
            raise DeltaError("coded data does not end where its symbols end", op="entropy")
        return self._payload[self._words_end + 2 * max(0, self._next - self._put_back) :]

    def _read_words(self) -> U32:
        whole = (len(self._payload) - self._words_end) // 2
        return np.frombuffer(self._payload, "<u2", whole, self._words_end).astype(np.uint32)

    def _retire(self, lanes: int) -> None:
        """Let all but the first `lanes` lanes retire, and put the words that they started from back in front."""
        put_back = self._require_start(self._states[lanes:])
        self._words_end += 2 * max(0, self._next - self._put_back)
        self._put_back = max(0, self._put_back - self._next) + put_back.size
        self._words = np.concatenate([put_back, self._words[self._next :]])
        self._next = 0
        self._states = self._states[:lanes]
        self._lanes = min(self._lanes, lanes)

    @staticmethod
    def _require_start(states: U32) -> U32:
        """Return how far above the lowest state each lane is, if it is a place to start from."""
        above = states - np.uint32(STATE_LOW)
        if bool(np.any(above >= 1 << _WORD_BITS)):
            raise DeltaError("a lane does not end where it can have started", op="entropy")
        return above

    def _advance(self, frequencies: U32, offsets: U32) -> None:
        """Consume one symbol in each of the first lanes, given its interval's length and the slot's place in it."""
        active = self._states[: frequencies.size]
        active >>= self._precision
        active *= frequencies
        active += offsets
        self._refill(active)

    def _refill(self, active: U32) -> None:
        """Let the first lanes that ran low take their next word."""
        low = (active < self._low).nonzero()[0]
        end = self._next + low.size
        if end > self._words.size:
            raise DeltaError("coded data ended early", op="entropy")
        refilled = active[low]
        refilled <<= self._word_bits
        refilled |= self._words[self._next : end]
        active[low] = refilled
        self._next = end


def _grow(states: U64, words: U16, lanes: int) -> tuple[U64, U16]:
    """Add lanes up to `lanes` that start from the first of the words, or from nothing; return the other words."""
    added = max(0, lanes - states.size)
    if states.size == 0:
        return np.full(lanes, STATE_LOW, np.uint64), words
    taken = words[:added].astype(np.uint64)
    starts = np.concatenate([taken, np.zeros(added - taken.size, np.uint64)]) + np.uint64(STATE_LOW)
    return np.concatenate([states, starts]), words[taken.size :]


def write_bits(values: U32, widths: Index) -> Bits:
    """Return the bits, one a byte, of each value's lowest `widths` bits, highest first."""
    places = np.arange(_MANTISSA_BITS, -1, -1, dtype=np.uint32)
    spread = (values[:, np.newaxis] >> places) & np.uint32(1)
    return spread[places < widths[:, np.newaxis]].astype(np.uint8)


def read_bits(bits: Bits, widths: Index) -> U32:
    """Return the values that `write_bits` spread over the first ``widths.sum()`` of `bits`."""
    places = np.arange(_MANTISSA_BITS, -1, -1, dtype=np.uint32)
    spread = np.zeros((widths.size, places.size), np.uint32)
    used = places < widths[:, np.newaxis]
    spread[used] = bits[: int(widths.sum())]
    result: U32 = (spread << places).sum(axis=1, dtype=np.uint32)
    return result


def _write_states(states: U32) -> bytes:
    """Write each state as 4 bits of length and, without its leading one, 16 to 31 bits."""
    lengths = np.frexp(states.astype(np.float64))[1] - 1
    heads = write_bits((lengths - _WORD_BITS).astype(np.uint32), np.full(states.size, _LENGTH_BITS))
    return np.packbits(np.concatenate([heads, write_bits(states, lengths)])).tobytes()


def _read_states(payload: bytes | memoryview, lanes: int) -> tuple[U32, int]:
    """Return the states that `_write_states` wrote and the bytes they took."""
    head_bits = lanes * _LENGTH_BITS
    bits = np.unpackbits(np.frombuffer(payload[: (lanes * (_LENGTH_BITS + _MANTISSA_BITS) + 7) // 8], np.uint8))
    if bits.size < head_bits:
        raise DeltaError(f"{len(payload)} bytes cannot hold {lanes} lanes", op="entropy")
    lengths = read_bits(bits, np.full(lanes, _LENGTH_BITS)).astype(np.intp) + _WORD_BITS
    total_bits = head_bits + int(lengths.sum())
    if bits.size < total_bits:
        raise DeltaError(f"{len(payload)} bytes cannot hold {lanes} lanes", op="entropy")
    states = read_bits(bits[head_bits:], lengths) | (np.uint32(1) << lengths.astype(np.uint32))
    return states, -(-total_bits // 8)
