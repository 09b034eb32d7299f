"""The manifests: what they bound, what they say when a bound is broken, and that golden samples are exact."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from ota_protocol.errors import MalformedError
from ota_protocol.manifest import (
    MAX_MANIFEST_BYTES,
    FileRef,
    GoldenSample,
    ModelManifest,
    Preprocessing,
    TensorSpec,
)


def a_manifest() -> ModelManifest:
    patch = bytes(range(48))
    return ModelManifest(
        model="squeezenet",
        release="1.0.0",
        artifact=FileRef(digest="ab" * 32, length_bytes=1000),
        opset=17,
        inputs=(TensorSpec(name="image", dtype="float32", shape=("N", 3, 227, 227)),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("N", 1000)),),
        preprocessing=Preprocessing(),
        labels=("tench", "goldfish"),
        golden_samples=(
            GoldenSample(
                patch_px=4, patch_base64=base64.b64encode(patch).decode(), expected=((0, 0.9),), tolerance=0.02
            ),
        ),
        metrics={"top1": 0.64},
    )


def test_a_manifest_survives_its_bytes() -> None:
    manifest = a_manifest()
    assert ModelManifest.from_bytes(manifest.to_bytes()) == manifest
    assert ModelManifest.from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model", "../etc", "model"),
        ("model", "Squeeze Net", "model"),
        ("release", "1.0", "release"),
        ("release", "01.0.0", "release"),
        ("opset", 16, "opset"),
        ("format", 2, "format"),
        ("labels", [], "labels"),
        ("golden_samples", [], "golden_samples"),
        ("artifact", {"digest": "xyz", "length_bytes": 1}, "artifact.digest"),
        ("artifact", {"digest": "ab" * 32, "length_bytes": 1 << 40}, "artifact.length_bytes"),
        ("preprocessing", {"resize_px": 100, "crop_px": 200}, "preprocessing"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_field_out_of_bounds_is_named(field: str, value: object, says: str) -> None:
    document = json.loads(a_manifest().to_bytes())
    document[field] = value
    with pytest.raises(MalformedError, match=says):
        ModelManifest.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}"])
def test_bytes_that_are_no_manifest(data: bytes) -> None:
    with pytest.raises(MalformedError):
        ModelManifest.from_bytes(data)


def test_a_manifest_above_the_bound_is_not_parsed() -> None:
    with pytest.raises(MalformedError, match="at most"):
        ModelManifest.from_bytes(b" " * (MAX_MANIFEST_BYTES + 1))


@pytest.mark.parametrize("patch", ["!!!!", base64.b64encode(bytes(47)).decode()])
def test_a_golden_sample_holds_a_whole_patch(patch: str) -> None:
    with pytest.raises(ValueError, match="patch"):
        GoldenSample(patch_px=4, patch_base64=patch, expected=((0, 1.0),), tolerance=0.1)


def test_golden_pixels_repeat_the_patch_by_nearest_neighbour() -> None:
    sample = a_manifest().golden_samples[0]
    pixels = sample.pixels(227)
    assert pixels.shape == (227, 227, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [0, 1, 2]
    assert pixels[226, 226].tolist() == [45, 46, 47]
    assert pixels[0, 56].tolist() == [0, 1, 2]
    assert pixels[0, 57].tolist() == [3, 4, 5]


def test_preprocessing_orders_channels_and_subtracts_the_mean() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[..., 0] = 200
    bgr = Preprocessing(resize_px=2, crop_px=2, channel_order="BGR", mean=(1, 2, 3), scale=0.5).tensor(pixels)
    rgb = Preprocessing(resize_px=2, crop_px=2, channel_order="RGB", mean=(1, 2, 3), scale=0.5).tensor(pixels)
    assert bgr.shape == (1, 3, 2, 2)
    assert bgr[0, :, 0, 0].tolist() == [-0.5, -1.0, 98.5]
    assert rgb[0, :, 0, 0].tolist() == [99.5, -1.0, -1.5]
