"""Covers: stretches of a text that another holds, and the coder that weaves them."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_protocol.delta.apply import apply_bytes
from ota_protocol.delta.coders import weave
from ota_protocol.delta.covers import LEAST_COVER, MAX_BYTES, find_covers
from ota_protocol.delta.describe import describe_kinds
from ota_protocol.delta.encode import encode
from ota_protocol.delta.format import read_delta
from ota_protocol.delta.packing import pack
from ota_protocol.delta.source import BytesSource

WORDS = st.lists(
    st.sampled_from([b"/block", b"Conv_", b"12", b"expand", b"/", b"weight", b"\x00\xff", b"\n"]), max_size=60
)


@given(WORDS, WORDS)
def test_covers_lie_in_both_texts_in_order(known_words: list[bytes], words: list[bytes]) -> None:
    known, text = b"".join(known_words), b"".join(words)
    end = 0
    for cover in find_covers(known, text):
        assert cover.text >= end and cover.length >= LEAST_COVER
        end = cover.end
        assert known[cover.base :][: cover.length] == text[cover.text : end]


@pytest.mark.parametrize("shift", [0, 1, 7])
def test_a_text_that_is_known_is_one_cover(shift: int) -> None:
    text = random.Random(1).randbytes(300)
    assert [(cover.base, cover.length) for cover in find_covers(bytes(shift) + text, text)] == [(shift, 300)]


def test_nothing_in_common_gives_no_covers() -> None:
    assert find_covers(b"abcdefgh", b"stuvwxyz") == [] == find_covers(b"", b"text")
    assert weave.encode(b"stuvwxyz", b"abcdefgh") is None


def graph(prefix: str, first: int = 0) -> bytes:
    names = [(number, f"{prefix}/layer_{number}/conv.{'abcd'[number * 5 % 4]}") for number in range(first, 400)]
    return "\n".join(f"{name} -> {name}/out {number * 7919 % 9973}" for number, name in names).encode()


def test_a_renamed_graph_is_woven_shorter_than_with_a_dictionary() -> None:
    base, result = graph("module"), graph("backbone.stem", 7)
    delta = encode(base, result)
    assert "weave" in {line.kind for line in describe_kinds(read_delta(BytesSource(delta)))}
    assert apply_bytes(base, delta) == result
    assert len(delta) < 0.9 * len(pack(result, base))


def test_texts_that_are_too_long_are_left_alone() -> None:
    assert weave.encode(bytes(MAX_BYTES), b"known") is None


def test_a_long_text_of_one_byte_does_not_take_for_ever() -> None:
    start = time.process_time()
    assert find_covers(bytes(MAX_BYTES // 2), bytes(MAX_BYTES // 2 - 1))
    assert time.process_time() - start < 30
