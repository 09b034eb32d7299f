"""Owns golden samples: inputs and expected outputs, with which a vehicle tests a staged model before it goes live."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_build.inference import Session
from model_build.pictures import evenly, read_pixels
from ota_protocol.manifest import GoldenSample, Preprocessing

PATCH_PX = 16
SAMPLES = 4
CANDIDATES = 24
"""Thumbnails tried; those that the model is surest of are kept, since a broken model would answer them otherwise."""
EXPECTED_CLASSES = 3
LEAST_TOLERANCE = 0.02
"""Room for runtimes and processors not seen here: their float sums differ in order, not in kind."""
SPREAD_FACTOR = 4
"""Room over the largest difference between this machine's own ways to run the model."""


def golden_samples(model: bytes, pictures: Sequence[Path], preprocessing: Preprocessing) -> tuple[GoldenSample, ...]:
    """Return samples made of `pictures`, answered by `model`.

    Args:
        pictures: photographs; at most `CANDIDATES` of them are read.

    Raises:
        MalformedError: a picture cannot be read, or the model does not run.
    """
    chosen = evenly(pictures, CANDIDATES)
    patches = [_patch(path, preprocessing) for path in chosen]
    blank = [_sample(patch, [(0, 0.0)], LEAST_TOLERANCE) for patch in patches]
    images = np.concatenate([preprocessing.tensor(sample.pixels(preprocessing.crop_px)) for sample in blank])
    fast, plain = Session(model), Session(model, optimized=False)
    # One picture a run, as on a vehicle: a batch may take other kernels.
    answers = np.concatenate([fast.probabilities(image[np.newaxis]) for image in images])
    spread = float(np.abs(answers - plain.probabilities(images)).max())
    tolerance = min(0.5, max(LEAST_TOLERANCE, math.ceil(SPREAD_FACTOR * spread * 1000) / 1000))
    return tuple(_sample(patches[index], _ranked(answers[index]), tolerance) for index in _surest(answers))


def _patch(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    picture = Image.fromarray(read_pixels(path, preprocessing))
    return np.asarray(picture.resize((PATCH_PX, PATCH_PX), Image.Resampling.BOX))


def _sample(patch: NDArray[np.uint8], expected: Sequence[tuple[int, float]], tolerance: float) -> GoldenSample:
    text = base64.b64encode(patch.tobytes()).decode()
    return GoldenSample(patch_px=PATCH_PX, patch_base64=text, expected=tuple(expected), tolerance=tolerance)


def _ranked(answer: NDArray[np.float32]) -> list[tuple[int, float]]:
    """Return the first classes with their probabilities, rounded to what a tolerance can tell apart."""
    order = np.argsort(-answer, kind="stable")[:EXPECTED_CLASSES]
    return [(int(index), round(float(answer[index]), 5)) for index in order]


def _surest(answers: NDArray[np.float32]) -> list[int]:
    """Return the indices of the surest answers, a class once while there are others."""
    order = [int(index) for index in np.argsort(-answers.max(axis=1), kind="stable")]
    classes = answers.argmax(axis=1)
    first = [index for place, index in enumerate(order) if classes[index] not in classes[order[:place]]]
    return [*first, *(index for index in order if index not in first)][:SAMPLES]
