"""Owns teaching the head new pictures: conv10 as the linear layer it is, in numpy; conv1 to fire9 stay as they are.

The features of fire9 are computed once. Each step is one of full-batch gradient descent with momentum on the cross
entropy of `softmax(mean over positions of relu(W·features + b))`. Three things hold the head to what it knew: the
target keeps a share of the old answer (learning without forgetting, Li & Hoiem 2016, arXiv:1606.09282), the rows of W
are pulled towards the old ones, and rows of classes that play no part in any picture, and all biases, do not move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_build.export import PROBABILITIES, input_of, to_onnx
from model_build.inference import Session, batches
from model_build.network import FloatLayer, Network
from ota_protocol.errors import RequestError

MAX_PICTURES = 512
"""Features of one picture take 460 kB, so this many take 236 MB."""
CHUNK = 32
"""Pictures whose class maps are in memory at once: 29 MB with 1,000 classes."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Schedule:
    """How the head is taught; the defaults suit some ten to a few hundred pictures.

    Args:
        steps: at most so many.
        rate: learning rate, in units of the features' mean square.
        momentum: share of the last step in the next one.
        pull: strength of the pull towards the old weights.
        share: share of the right class in the target; the rest is the old answer.
        enough: stops once the right class of every picture has this probability.
        patience: stops after so many steps in a row without a lower loss.
        moving: classes with at least this old probability in some picture may move.
        leak: slope of ReLU below zero in the gradient, so that a class that is silent everywhere can learn to speak.
    """

    steps: int = 80
    rate: float = 2.0
    momentum: float = 0.9
    pull: float = 1e-4
    share: float = 0.9
    enough: float = 0.85
    patience: int = 8
    moving: float = 1e-3
    leak: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """The network with its new head.

    Args:
        before, after: (pictures,) probability of each picture's right class.
        steps: how many were taken.
        rows: classes whose weights moved.
    """

    network: Network
    before: Array
    after: Array
    steps: int
    rows: int


def finetune_head(
    network: Network,
    images: Array,
    classes: Sequence[int],
    progress: Callable[[float], None],
    schedule: Schedule | None = None,
) -> Taught:
    """Return `network` with a head that knows the given pictures.

    Args:
        images: (N, 3, side, side) preprocessed.
        classes: the right class of each.
        progress: called with the share that is done, from 0 to 1.

    Raises:
        RequestError: there are no pictures, too many, or a label for each is not given.
    """
    if not 1 <= len(images) <= MAX_PICTURES or len(images) != len(classes):
        raise RequestError(f"{len(images)} pictures are given", remedy=f"give 1 to {MAX_PICTURES}, each with a label")
    name = network.architecture.head.name
    old = network.layers[name]
    assert isinstance(old, FloatLayer)
    features, answers = _features(network, images)
    lesson = _Lesson(old, features, answers, np.asarray(classes), schedule or Schedule())
    kernel, steps = lesson.learn(progress)
    taught = replace(network, layers={**network.layers, name: FloatLayer(kernel, old.bias)})
    right = (np.arange(len(classes)), np.asarray(classes))
    after = lesson.answers(kernel.reshape(len(kernel), -1))[right]
    return Taught(taught, answers[right], after, steps, len(lesson.rows))


def _features(network: Network, images: Array) -> tuple[Array, Array]:
    """Return what the head reads, (N, inputs, positions), padding included, and its answers, (N, classes)."""
    head = network.architecture.head
    tensor = input_of(network)[head.name]
    session = Session(to_onnx(network, expose=[tensor]))
    pairs = [session.run(batch, [tensor, PROBABILITIES]) for batch in batches(images)]
    features = np.concatenate([pair[0] for pair in pairs])
    edge = (head.padding, head.padding)
    padded = np.pad(features, ((0, 0), (0, 0), edge, edge))
    return padded.reshape(len(padded), head.inputs, -1), np.concatenate([pair[1] for pair in pairs])


class _Lesson:
    """One fine-tuning: the pictures' features, the targets, and which rows of the head may move."""

    def __init__(
        self, old: FloatLayer, features: Array, answers: Array, classes: NDArray[np.int64], schedule: Schedule
    ) -> None:
        self._old, self._features, self._schedule = old, features, schedule
        self._kernel = old.kernel.reshape(len(old.bias), -1)
        self._scale = np.float32((features**2).sum(axis=1).mean())
        self._classes = classes
        self._right = (np.arange(len(classes)), classes)
        self._target = answers * np.float32(1 - schedule.share)
        self._target[self._right] += np.float32(schedule.share)
        self.rows = np.union1d(np.flatnonzero(answers.max(axis=0) > schedule.moving), classes)
        self._logits = np.concatenate([maps.mean(axis=2) for maps, _ in self._maps(self._kernel, slice(None))])

    def learn(self, progress: Callable[[float], None]) -> tuple[Array, int]:
        """Return the best kernel found, (classes, inputs, 1, 1), and the steps taken."""
        moving = self._kernel[self.rows]
        best, least, stale, steps = moving, np.inf, 0, 0
        velocity = np.zeros_like(moving)
        while steps < self._schedule.steps:
            loss, gradient, worst = self._look(moving)
            best, least, stale = (moving, loss, 0) if loss < least else (best, least, stale + 1)
            if worst >= self._schedule.enough or stale >= self._schedule.patience:
                break
            velocity = self._schedule.momentum * velocity - self._schedule.rate / self._scale * gradient
            moving = (moving + velocity).astype(np.float32)
            steps += 1
            progress(steps / self._schedule.steps)
        progress(1.0)
        return self._merged(best).reshape(self._old.kernel.shape), steps

    def answers(self, kernel: Array) -> Array:
        """Return the probabilities, (N, classes), that a kernel (classes, inputs) gives."""
        return _softmax(np.concatenate([maps.mean(axis=2) for maps, _ in self._maps(kernel, slice(None))]))

    def _look(self, moving: Array) -> tuple[float, Array, float]:
        """Return the loss, its gradient for the moving rows, and the lowest probability of a right class."""
        count, _, positions = self._features.shape
        logits, signs = self._logits.copy(), []
        for start, (maps, sign) in enumerate(self._maps(moving, self.rows)):
            logits[start * CHUNK : (start + 1) * CHUNK, self.rows] = maps.mean(axis=2)
            signs.append(sign)
        answers = _softmax(logits)
        away = moving - self._kernel[self.rows]
        pull = self._schedule.pull * self._scale
        slope = ((answers - self._target) / (count * positions))[:, self.rows, np.newaxis]
        gradient = pull * away
        for start, sign in enumerate(signs):
            part = slice(start * CHUNK, (start + 1) * CHUNK)
            weight = slope[part] * np.where(sign, np.float32(1), np.float32(self._schedule.leak))
            gradient = gradient + np.einsum("nop,ncp->oc", weight, self._features[part], optimize=True)
        entropy = -(self._target * np.log(answers.clip(1e-12))).sum(axis=1).mean()
        return float(entropy + pull / 2 * (away**2).sum()), gradient, float(answers[self._right].min())

    def _maps(self, kernel: Array, rows: NDArray[np.int64] | slice) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
        """Yield the class maps after ReLU, (chunk, rows, positions), and where they are above zero."""
        bias = self._old.bias[rows, np.newaxis]
        for start in range(0, len(self._features), CHUNK):
            linear = kernel @ self._features[start : start + CHUNK] + bias
            yield np.maximum(linear, 0), linear > 0

    def _merged(self, moving: Array) -> Array:
        kernel = self._kernel.copy()
        kernel[self.rows] = moving
        return kernel


def _softmax(logits: Array) -> Array:
    powers: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
