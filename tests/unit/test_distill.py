"""Distillation: the student learns, is never worse than it was, and goes on from a checkpoint. Needs torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_build.compression.search import Goal
from model_build.evaluate import closeness
from model_build.export import to_onnx
from model_build.inference import Session
from model_build.network import Network, QuantizedLayer
from model_build.passes.compress_weights import CompressWeights
from model_build.passes.distill_codes import DistillCodes
from model_build.passes.quantize_activations import QuantizeActivations
from model_build.recipe import Pass, Recipe
from ota_protocol.errors import RequestError
from tests.support.tiny_network import smooth_images, tiny_network

pytest.importorskip("torch", reason="distillation needs torch: pip install 'squeezeota-build[distill]'")

LEARN, CHECK = smooth_images(48, 1), smooth_images(24, 2)


def compressed(*, eight_bits: bool = True) -> Network:
    """Return a student that has lost much."""
    rounding = CompressWeights(LEARN, CHECK, Goal(max_kl=0.1))
    passes: list[Pass] = [QuantizeActivations(LEARN), rounding] if eight_bits else [rounding]
    return Recipe(passes).apply(tiny_network(), lambda _name, _share: None)


def kl(network: Network, images: NDArray[np.float32] = CHECK) -> float:
    found, wanted = (Session(to_onnx(one)).probabilities(images) for one in (network, tiny_network()))
    return closeness(found, wanted)["kl"]


def taught(student: Network, steps: int, checkpoint: Path | None = None) -> Network:
    step = DistillCodes(tiny_network(), LEARN, CHECK, steps, checkpoint=checkpoint)
    return Recipe([step]).apply(student, lambda _name, _share: None)


def test_the_student_learns_and_keeps_its_steps() -> None:
    """Measured on the pictures it learns from: forty-eight are too few to learn anything general."""
    from model_build.distill import Schedule, distill

    student, schedule = compressed(eight_bits=False), Schedule(steps=150, batch=16, rate=0.003)
    made = distill(
        student,
        tiny_network(),
        learn=LEARN,
        check=LEARN,
        schedule=schedule,
        checkpoint=None,
        progress=lambda _share: None,
    )
    assert kl(made, LEARN) < 0.8 * kl(student, LEARN)
    before, after = student.layers["conv10"], made.layers["conv10"]
    assert isinstance(before, QuantizedLayer)
    assert isinstance(after, QuantizedLayer)
    assert np.array_equal(before.scale, after.scale)
    assert np.abs(after.codes.astype(int)).max() <= 64


def test_too_few_steps_leave_the_student_as_good_as_it_was() -> None:
    student = compressed()
    assert kl(taught(student, 1)) <= kl(student)


def test_a_run_that_was_cut_off_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    from model_build import distill as module

    student, teacher, file = compressed(), tiny_network(), tmp_path / "state.pt"
    schedule = module.Schedule(steps=60, batch=8, check_every=20)

    class CutOffError(Exception):
        pass

    def cut(share: float) -> None:
        if share >= 0.5:
            raise CutOffError

    def run(checkpoint: Path | None, shares: list[float]) -> Network:
        return module.distill(
            student, teacher, learn=LEARN, check=CHECK, schedule=schedule, checkpoint=checkpoint, progress=shares.append
        )

    with pytest.raises(CutOffError):
        module.distill(student, teacher, learn=LEARN, check=CHECK, schedule=schedule, checkpoint=file, progress=cut)
    resumed: list[float] = []
    whole: list[float] = []
    assert to_onnx(run(file, resumed)) == to_onnx(run(None, whole))
    assert (len(resumed), len(whole)) == (40, 60)


def test_a_checkpoint_of_another_run_or_of_none_is_refused(tmp_path: Path) -> None:
    student, file = compressed(), tmp_path / "state.pt"
    taught(student, 25, file)
    with pytest.raises(RequestError, match="of another run"):
        taught(student, 50, file)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(RequestError, match="is no checkpoint"):
        taught(student, 25, file)


def test_an_uncompressed_network_is_refused() -> None:
    with pytest.raises(RequestError, match="compress it first"):
        taught(tiny_network(), 1)
