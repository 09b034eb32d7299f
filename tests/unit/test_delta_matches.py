"""What two byte strings share: found wherever it lies, extended to its ends, never overlapping."""

from __future__ import annotations

import numpy as np
import pytest

from ota_protocol.delta.matches import Match, approximate, find_matches

NOISE = np.random.default_rng(0).bytes(20_000)


def check(base: bytes, text: bytes, matches: list[Match]) -> None:
    end = 0
    for match in matches:
        assert match.text >= end
        assert base[match.base : match.base + match.length] == text[match.text : match.end]
        end = match.end


@pytest.mark.parametrize(("start", "length"), [(0, 20_000), (777, 5_000), (19_000, 1_000), (5, 40)])
def test_a_part_of_the_base_is_found_whole(start: int, length: int) -> None:
    text = b"before" + NOISE[start : start + length] + b"after"
    found = find_matches(NOISE, text, (), search=True)
    check(NOISE, text, found)
    assert (found[0].text, found[0].base, found[0].length) == (6, start, length)


def test_moved_parts_are_found_in_their_new_order() -> None:
    text = NOISE[10_000:] + NOISE[:10_000]
    found = find_matches(NOISE, text, (), search=True)
    check(NOISE, text, found)
    assert sum(match.length for match in found) == len(text)


def test_seeds_are_extended_without_a_search() -> None:
    found = find_matches(NOISE, NOISE, (Match(500, 500, 10), Match(900, 900, 10)), search=False)
    assert found == [Match(0, 0, len(NOISE))]


def test_what_is_not_shared_is_not_found() -> None:
    assert find_matches(NOISE, np.random.default_rng(1).bytes(20_000), (), search=True) == []


@pytest.mark.parametrize(("base", "text"), [(b"", b""), (b"", NOISE), (NOISE, b""), (b"abc", b"abcdef")])
def test_too_little_to_search_in(base: bytes, text: bytes) -> None:
    assert find_matches(base, text, (), search=True) == []


def test_repeated_bytes_end() -> None:
    base, text = bytes(50_000), bytes(70_000)
    check(base, text, find_matches(base, text, (), search=True))


def test_a_stretch_with_few_changes_is_joined() -> None:
    changed = bytearray(NOISE)
    for place in range(5_000, 15_000, 20):
        changed[place] ^= 0xFF
    text = bytes(changed)
    grown = approximate(NOISE, text, find_matches(NOISE, text, (), search=True))
    assert grown == [Match(0, 0, len(NOISE))]


def test_a_stretch_of_noise_is_not_joined() -> None:
    text = NOISE[:5_000] + np.random.default_rng(2).bytes(5_000) + NOISE[10_000:]
    grown = approximate(NOISE, text, find_matches(NOISE, text, (), search=True))
    assert 9_990 < sum(match.length for match in grown) - 5_000 < 10_200
