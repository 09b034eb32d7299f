"""Which codes are added in 16 bits: checked against the integer kernels of onnxruntime themselves."""

from __future__ import annotations

import numpy as np
import pytest

from model_build.compression.pairs import ALONE, PAIR_LIMIT, partners, rooms


def test_pairs_are_neighbours_in_memory() -> None:
    assert partners(4, 1).tolist() == [1, 0, 3, 2]
    assert partners(5, 1).tolist() == [1, 0, 3, 2, ALONE]
    # Column = channel × 4 + position; in memory channels lie innermost.
    assert partners(2, 2).tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    # Three channels of a small kernel are widened to four; of a large one they follow each other without a gap.
    assert partners(3, 3).tolist() == [*range(9, 18), *range(9), *[ALONE] * 9]
    assert partners(3, 7)[0] == 49 and partners(3, 7)[98] == 1


@pytest.mark.parametrize(("inputs", "kernel_px"), [(16, 3), (3, 3), (3, 7), (5, 1)])
def test_partners_are_mutual(inputs: int, kernel_px: int) -> None:
    found = partners(inputs, kernel_px)
    paired = np.flatnonzero(found != ALONE)
    assert found.size == inputs * kernel_px**2
    assert np.array_equal(found[found[paired]], paired)


def test_rooms_keep_every_pair_within_the_limit() -> None:
    codes = np.array([[100, 20, 3, -64, 127], [0, -90, 64, 64, 0]])
    found = rooms(codes, partners(5, 1))
    assert found.tolist() == [[100, 28, 64, 64, 127], [38, 90, 64, 64, 64]]
    assert (np.abs(codes) <= found).all()
    assert (found[:, :4:2] + found[:, 1:4:2]).max() <= PAIR_LIMIT
