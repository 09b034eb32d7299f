"""Stands at the coder's place and adds up what the model's decisions cost, and what their own contexts would allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.code_model import SMALL, CodeModel, expected_shares
from ota_protocol.delta.fixed_log import CHANCE_BITS
from ota_protocol.delta.magnitude_choice import split
from ota_protocol.delta.mixing import SHARE_UNIT, Decision
from ota_protocol.delta.tap_fit import fit
from ota_protocol.delta.traversal import grids_of

Codes = NDArray[np.int32]
Index = NDArray[np.intp]
Flags = NDArray[np.bool_]


class WatchedDecision(Decision):
    """A decision that counts every flag in every context."""

    made: ClassVar[list[WatchedDecision]] = []

    def __init__(self, sizes: Sequence[int], groups: int, share: int = SHARE_UNIT // 2) -> None:
        super().__init__(sizes, groups, share)
        self.counts = [np.zeros((size, 2), np.int64) for size in sizes]
        self._contexts: Index = np.zeros((len(sizes), 0), np.intp)
        self.made.append(self)

    def predict(self, contexts: Index, ends: Sequence[int]) -> NDArray[np.uint32]:
        self._contexts = contexts
        return super().predict(contexts, ends)

    def learn(self, flags: Flags, *, keep: bool = True) -> None:
        for counts, context in zip(self.counts, self._contexts, strict=True):
            np.add.at(counts, (context, flags.astype(np.intp)), 1)
        super().learn(flags, keep=keep)

    def entropy_bits(self) -> list[float]:
        """Return for each table the empirical conditional entropy of all flags given the table's contexts."""
        return [_entropy(counts) for counts in self.counts]


class Scales:
    """A coder that only weighs."""

    def __init__(self) -> None:
        self.decision_bits = 0.0
        self.other_bits = 0.0

    def begin_step(self, left: int) -> None:
        pass

    def flags(self, chances: NDArray[np.uint32], wanted: Flags | None) -> Flags:
        assert wanted is not None
        whole = 1 << CHANCE_BITS
        self.decision_bits -= float(np.log2(np.where(wanted, chances, whole - chances) / whole).sum())
        return wanted

    def choices(self, ends: NDArray[np.uint32], wanted: Index | None) -> Index:
        assert wanted is not None
        lane = np.arange(len(ends))
        widths = np.diff(ends.astype(np.int64), axis=1, prepend=0)[lane, wanted]
        self.other_bits -= float(np.log2(widths / (1 << CHANCE_BITS)).sum())
        return wanted

    def plain(self, widths: Index, wanted: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
        assert wanted is not None
        self.other_bits += float(widths.sum())
        return wanted


def audit(tensors: Sequence[Codes]) -> tuple[Scales, float]:
    """Return what the decisions about these tensors cost, and the entropy of all decisions in their best contexts."""
    WatchedDecision.made.clear()
    none = [False] * len(tensors)
    grids = grids_of([tensor.shape for tensor in tensors], none)
    codes = np.concatenate([tensor.ravel() for tensor in tensors])
    classes = int(split(np.array([max(0, int(np.abs(codes).max()) - SMALL)]))[0][0]) + 1
    scales = Scales()
    model = CodeModel(
        grids,
        none,
        np.zeros(0, np.int32),
        fit(grids, none, codes),
        classes=classes,
        shares=expected_shares(codes),
        coder=scales,
        decision=WatchedDecision,
    )
    model.run(codes)
    return scales, sum(min(decision.entropy_bits()) for decision in WatchedDecision.made)


def _entropy(counts: NDArray[np.int64]) -> float:
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    return float(-(counts * np.log2(np.where(counts > 0, shares, 1.0))).sum())
