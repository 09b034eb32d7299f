"""Thousands of broken deltas: always a DeltaError that names a part, or the right result; never much memory or time.

Each input is a mutation of a valid delta; a mutation that got further than any before (to a later op, or to another
message) is kept and mutated again, so that the search is led by what the applier did.
"""

from __future__ import annotations

import random
import re
import time
import tracemalloc
from functools import cache

import pytest

from ota_protocol.delta.apply import apply_bytes
from ota_protocol.delta.encode import encode
from ota_protocol.delta.limits import Limits
from ota_protocol.errors import DeltaError
from tests.support.delta_files import Pair, pairs
from tests.support.delta_mutations import mutate

LIMITS = Limits(memory_bytes=16 << 20, result_bytes=1 << 22, control_bytes=1 << 18, ops=1000, ranges=10_000)
SLACK_BYTES = 4 << 20
"""Program, tables and pieces on their way, beside the memory that ops may take."""
MOST_SECONDS = 20.0
PARTS = re.compile(r"header|program|trailer|base|op \d+ \([a-z]+( \d+)?\)")
CORPUS_SIZE = 400


@cache
def seeds() -> list[tuple[Pair, bytes]]:
    return [(pair, encode(*pair)) for pair in pairs().values()]


def run(count: int, seed: int) -> set[str]:
    """Try `count` mutations; return the kinds of refusals that were met."""
    choice = random.Random(seed)
    corpus = list(seeds())
    met: set[str] = set()
    tracemalloc.start()
    try:
        tried = 0
        while tried < count:
            (base, result), delta = choice.choice(corpus)
            try:
                broken = mutate(delta, choice)
            except DeltaError:
                continue
            tried += 1
            refusal = attack(base, result, broken)
            if refusal is not None and refusal not in met:
                met.add(refusal)
                corpus = [*corpus[-CORPUS_SIZE:], ((base, result), broken)]
    finally:
        tracemalloc.stop()
    return met


def attack(base: bytes | None, result: bytes, broken: bytes) -> str | None:
    """Apply a broken delta and return how it was refused; None if it gave the right result all the same."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    start = time.process_time()
    refusal = None
    try:
        assert apply_bytes(base, broken, limits=LIMITS) == result
    except DeltaError as error:
        assert PARTS.fullmatch(error.op), error.op
        refusal = re.sub(r"[\d,]+", "#", str(error))
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= LIMITS.memory_bytes + len(result) + SLACK_BYTES, f"{peak:,} bytes for {refusal}"
    assert time.process_time() - start < MOST_SECONDS
    return refusal


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_two_thousand_broken_deltas_are_refused(seed: int) -> None:
    assert len(run(500, seed)) > 20


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 200))
def test_a_hundred_thousand_broken_deltas_are_refused(seed: int) -> None:
    assert len(run(1000, seed)) > 20
