"""Owns the encoder's choice of each tensor's parameters: least squares over the codes themselves.

Only the encoder runs this, and sends what it found; the decoder trusts no floating-point solution. The sums that are
solved are of whole numbers, hence the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.kernel_taps import (
    CHANNEL_TAPS,
    TAP_UNIT,
    Parameters,
    Position,
    neutral_parameters,
    positions,
)
from ota_protocol.delta.rounds import rounds
from ota_protocol.delta.surroundings import MEAN_LIMIT, MEAN_UNIT, WIDTH_BITS, Surroundings
from ota_protocol.delta.trail import Trail
from ota_protocol.delta.traversal import Grid, lane_groups

_RIDGE: Final = 5.0
"""As if so many codes of magnitude one spoke for no prediction at all."""
_TAP_LIMIT: Final = 127
_WIDTH_SHIFT: Final = WIDTH_BITS - 8
_CODES_A_PARAMETER: Final = 16
"""A tensor with fewer codes than this for each parameter keeps the neutral ones."""

Codes = NDArray[np.int32]
Whole = NDArray[np.float64]


def fit(grids: Sequence[Grid], has_base: Sequence[bool], codes: Codes) -> list[Parameters]:
    """Return the parameters of each tensor.

    Args:
        grids: of the tensors.
        has_base: for each tensor, whether a base's codes stand in place of the mean.
        codes: (n,) of all tensors.
    """
    parameters = [neutral_parameters(grid) for grid in grids]
    worth = [
        not based and grid.codes >= _CODES_A_PARAMETER * own.size
        for grid, based, own in zip(grids, has_base, parameters, strict=True)
    ]
    if not any(worth):
        return parameters
    channels = _channel_features(grids, has_base, codes)
    ends = np.cumsum([grid.codes for grid in grids])
    for number, (grid, end) in enumerate(zip(grids, ends, strict=True)):
        if worth[number]:
            here = slice(end - grid.codes, end)
            features = channels[:, here].reshape(len(channels), -1, grid.positions)
            parameters[number] = _fit_tensor(grid, features, codes[here].reshape(-1, grid.positions))
    return parameters


def _channel_features(grids: Sequence[Grid], has_base: Sequence[bool], codes: Codes) -> NDArray[np.float32]:
    """Return (4, n): what the decoder will expect at each code, by `CHANNEL_TAPS` means and by the channels' width."""
    features = np.zeros((CHANNEL_TAPS + 1, codes.size), np.float32)
    surroundings = Surroundings(grids)
    groups = [(group, Trail(group)) for group in lane_groups(grids, has_base)]
    for first_step, last_step in rounds(max(group.turns * group.grid.positions for group, _ in groups)):
        surroundings.refresh()
        for group, trail in groups:
            count = group.grid.positions
            for turn in range(-(-first_step // count), min(-(-last_step // count), group.turns)):
                stretch, valid = group.stretch(turn, turn + 1)
                places = stretch.take(0, valid[0].nonzero()[0])
                expected = np.stack([*surroundings.means(places), trail.means(places), surroundings.width(places)])
                for first in range(count):
                    features[:, places.first + first] = expected
                    surroundings.note(places, codes[places.first + first])
                if count == 1:
                    trail.note(places, codes[places.first])
    return features


def _fit_tensor(grid: Grid, channels: NDArray[np.float32], codes: Codes) -> Parameters:
    """Return one tensor's parameters from (4, cells, positions) channel features and (cells, positions) codes."""
    parameters = neutral_parameters(grid)
    clipped = np.clip(codes, -MEAN_LIMIT, MEAN_LIMIT).astype(np.float64)
    layout = positions(grid.height, grid.width)
    by_channel = channels[:CHANNEL_TAPS].reshape(CHANNEL_TAPS, -1).astype(np.float64) / MEAN_UNIT
    residual = clipped - _weighted(
        clipped, layout, _solve_taps(clipped, clipped, layout, parameters.size, kind="mean"), "mean"
    )
    parameters[:CHANNEL_TAPS] = _rounded(_solve(by_channel @ by_channel.T, by_channel @ residual.ravel()))
    from_channels = (parameters[:CHANNEL_TAPS] @ by_channel / TAP_UNIT).reshape(clipped.shape)
    if grid.positions == 1:
        return parameters
    taps = _solve_taps(clipped, clipped - from_channels, layout, parameters.size, kind="mean")
    expected = from_channels + _weighted(clipped, layout, _rounded(taps) / TAP_UNIT, "mean")
    sizes = np.minimum(np.abs(codes - expected), float(MEAN_LIMIT))
    width = np.floor(channels[CHANNEL_TAPS].astype(np.float64) / (1 << _WIDTH_SHIFT)) / 256
    spread = _solve_taps(np.abs(clipped), sizes, layout, parameters.size, kind="width", channels=width)
    fitted = _rounded(taps + spread)
    parameters[CHANNEL_TAPS:] = fitted[CHANNEL_TAPS:]
    return parameters


def _solve_taps(
    inputs: Whole,
    targets: Whole,
    layout: Sequence[Position],
    count: int,
    *,
    kind: str,
    channels: Whole | None = None,
) -> Whole:
    """Return (count,) parameters, the taps of `kind` filled in, that predict (cells, positions) targets from inputs."""
    gram, moment = np.zeros((count, count)), np.zeros(count)
    for place, position in enumerate(layout):
        columns = inputs[:, position.before].T
        index = np.arange(count)[position.mean if kind == "mean" else position.width]
        if channels is not None:
            columns = np.concatenate([columns, channels[np.newaxis, :, place]])
            index = np.append(index, position.channels)
        gram[np.ix_(index, index)] += columns @ columns.T
        moment[index] += columns @ targets[:, place]
    return _solve(gram, moment)


def _solve(gram: Whole, moment: Whole) -> Whole:
    return np.linalg.solve(gram + _RIDGE * np.eye(moment.size), moment).astype(np.float64)


def _weighted(inputs: Whole, layout: Sequence[Position], taps: Whole, kind: str) -> Whole:
    """Return (cells, positions): at each position the sum of the inputs before it, weighted by `taps`."""
    result = np.zeros_like(inputs)
    for place, position in enumerate(layout):
        weights = taps[position.mean if kind == "mean" else position.width]
        result[:, place] = inputs[:, position.before] @ weights
    return result


def _rounded(weights: Whole) -> Parameters:
    return np.clip(np.round(weights * TAP_UNIT), -_TAP_LIMIT, _TAP_LIMIT).astype(np.int32)
