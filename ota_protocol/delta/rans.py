"""Owns range coding by asymmetric numeral systems over many interleaved lanes; knows no symbols and no models.

A lane is a 32-bit rANS state of its own (Duda 2013, arXiv:1311.2540; interleaving after Giesen 2014, arXiv:1402.3392).
All lanes move together, one numpy operation for all, and share one stream of 16-bit words: after each turn the lanes
that ran low take one word each, in lane order. A batch of symbols is dealt to the lanes in turns: symbol `j` of the
batch goes to lane ``j % lanes``. Integers alone, so every machine decodes the same.

A lane's starting state is free to choose, so the encoder puts 16 plain bits there ("passengers"), which come back when
everything is decoded; a lane then costs only the few bits by which its final state is rounded up.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.errors import DeltaError

STATE_LOW: Final = 1 << 16
"""Lanes live in [STATE_LOW, 2**32) and are refilled by 16 bits."""
PASSENGER_BITS: Final = 16
"""Plain bits that ride in each lane's starting state."""

_WORD_BITS: Final = 16
_MANTISSA_BITS: Final = 31
_LENGTH_BITS: Final = 4

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
Bits = NDArray[np.uint8]


class LaneEncoder:
    """Collects intervals batch by batch in the order of decoding, and codes them all, last to first, in `finish`."""

    def __init__(self, lanes: int, precision: int) -> None:
        """Prepare `lanes` lanes for intervals of 2**`precision`, at most 2**16."""
        self._lanes = lanes
        self._precision = np.uint64(precision)
        self._turns: list[tuple[U32, U32]] = []

    def push(self, starts: U32, frequencies: U32) -> None:
        """Add one batch of symbols.

        Args:
            starts: (n,) start of each symbol's interval.
            frequencies: (n,) length of each symbol's interval, at least 1.
        """
        for first in range(0, starts.size, self._lanes):
            last = first + self._lanes
            self._turns.append((starts[first:last], frequencies[first:last]))

    def finish(self, passengers: U16) -> bytes:
        """Return the payload: the final states, rounded up to bits, then the shared words.

        Args:
            passengers: (lanes,) 16 plain bits for each lane.
        """
        states = passengers.astype(np.uint64) + np.uint64(STATE_LOW)
        emit_shift = np.uint64(32) - self._precision
        emitted: list[U16] = []
        for starts, frequencies in reversed(self._turns):
            active, frequency = states[: starts.size], frequencies.astype(np.uint64)
            full = np.flatnonzero(active >= frequency << emit_shift)
            emitted.append(active[full].astype(np.uint16))
            active[full] >>= np.uint64(_WORD_BITS)
            quotient = active // frequency
            active += (quotient << self._precision) - quotient * frequency + starts
        words = np.concatenate([np.zeros(0, np.uint16), *reversed(emitted)])
        return _write_states(states.astype(np.uint32)) + words.astype("<u2").tobytes()


class LaneDecoder:
    """Reads what `LaneEncoder` wrote, batch by batch.

    Raises:
        DeltaError: the payload is shorter than its lanes.
    """

    def __init__(self, payload: bytes | memoryview, lanes: int, precision: int) -> None:
        self._states, used_bytes = _read_states(payload, lanes)
        if (len(payload) - used_bytes) % 2:
            raise DeltaError("coded data has half a word", op="entropy")
        self._words: U32 = np.frombuffer(payload, "<u2", offset=used_bytes).astype(np.uint32)
        self._next = 0
        self._lanes = lanes
        self._precision = np.uint32(precision)
        self._mask = np.uint32((1 << precision) - 1)

    def flags(self, chances: U32) -> NDArray[np.bool_]:
        """Return (n,) flags decoded with (n,) chances of being set, in units of 2**-precision."""
        flags = np.empty(chances.size, np.bool_)
        whole = np.uint32(1) << self._precision
        for first in range(0, chances.size, self._lanes):
            chance = chances[first : first + self._lanes]
            slots = self._states[: chance.size] & self._mask
            is_set = flags[first : first + self._lanes]
            np.less(slots, chance, out=is_set)
            self._advance(np.where(is_set, chance, whole - chance), np.where(is_set, slots, slots - chance))
        return flags

    def choices(self, cumulative: U32) -> NDArray[np.intp]:
        """Return (n,) symbols decoded with the (n, alphabet) ends of their intervals."""
        symbols = np.empty(len(cumulative), np.intp)
        for first in range(0, len(cumulative), self._lanes):
            ends = cumulative[first : first + self._lanes]
            slots = self._states[: len(ends)] & self._mask
            chosen = (ends <= slots[:, np.newaxis]).sum(axis=1)
            lane = np.arange(len(ends))
            starts = np.where(chosen > 0, ends[lane, chosen - 1], np.uint32(0))
            self._advance(ends[lane, chosen] - starts, slots - starts)
            symbols[first : first + self._lanes] = chosen
        return symbols

    def looked_up(self, rows: U32 | None, count: int, packed: U32) -> NDArray[np.uint8]:
        """Return (count,) symbols decoded with a table of slots; see `frequencies.pack_slots`.

        Args:
            rows: (count,) where each symbol's row begins in `packed`; None where all use the first.
            packed: ``symbol << 24 | (frequency - 1) << 12 | offset`` for each slot of each row.
        """
        symbols = np.empty(count, np.uint8)
        low_bits, one = np.uint32(0xFFF), np.uint32(1)
        for first in range(0, count, self._lanes):
            size = min(self._lanes, count - first)
            slots = self._states[:size] & self._mask
            entry = packed[slots if rows is None else slots + rows[first : first + size]]
            symbols[first : first + size] = entry >> np.uint32(24)
            self._advance(((entry >> np.uint32(12)) & low_bits) + one, entry & low_bits)
        return symbols

    def finish(self) -> U16:
        """Return the (lanes,) passengers.

        Raises:
            DeltaError: words are left over, or a lane did not end where the encoder began.
        """
        passengers = self._states - np.uint32(STATE_LOW)
        if self._next != self._words.size or bool(np.any(passengers >= 1 << PASSENGER_BITS)):
            raise DeltaError("coded data does not end where its symbols end", op="entropy")
        return passengers.astype(np.uint16)

    def _advance(self, frequencies: U32, offsets: U32) -> None:
        """Consume one symbol in each of the first lanes, given its interval's length and the slot's place in it."""
        active = self._states[: frequencies.size]
        active >>= self._precision
        active *= frequencies
        active += offsets
        low = np.flatnonzero(active < STATE_LOW)
        end = self._next + low.size
        if end > self._words.size:
            raise DeltaError("coded data ended early", op="entropy")
        active[low] = (active[low] << np.uint32(_WORD_BITS)) | self._words[self._next : end]
        self._next = end


def write_bits(values: U32, widths: NDArray[np.integer]) -> Bits:
    """Return the bits, one a byte, of each value's lowest `widths` bits, highest first."""
    places = np.arange(_MANTISSA_BITS, -1, -1, dtype=np.uint32)
    spread = (values[:, np.newaxis] >> places) & np.uint32(1)
    return spread[places < widths[:, np.newaxis]].astype(np.uint8)


def read_bits(bits: Bits, widths: NDArray[np.integer]) -> U32:
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
    lengths = read_bits(bits, np.full(lanes, _LENGTH_BITS)) + np.uint32(_WORD_BITS)
    total_bits = head_bits + int(lengths.sum())
    if bits.size < total_bits:
        raise DeltaError(f"{len(payload)} bytes cannot hold {lanes} lanes", op="entropy")
    states = read_bits(bits[head_bits:], lengths) | (np.uint32(1) << lengths)
    return states, -(-total_bits // 8)
