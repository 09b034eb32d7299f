"""Owns the two manifests: what a release is (`ModelManifest`) and what a vehicle says it runs (`VehicleManifest`).

Both cross process borders as JSON and are parsed only after the bytes were verified. Does not own how a model is run
(`edge_client.runtime`) or how a manifest is made (`model_build`).
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ota_protocol.digest import DigestHex
from ota_protocol.errors import MalformedError

MAX_MANIFEST_BYTES = 1 << 20
"""A model manifest with 1,000 labels and 8 golden samples takes some 40 kB; one MiB leaves room for 20,000 labels."""

MAX_ARTIFACT_BYTES = 1 << 30
"""No ONNX file above 1 GiB: protobuf itself ends at 2 GiB, and a vehicle of 1 GB memory could not load it."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$")]
"""A model, vehicle or rollout name: lower case, digits, '-' and '_', at most 64; safe in a path and in a URL."""

ReleaseName = Annotated[
    str, StringConstraints(pattern=r"^(?:0|[1-9]\d{0,5})(?:\.(?:0|[1-9]\d{0,5})){2}(?:-[0-9a-z]{1,16})?$")
]
"""A release: three numbers as in semantic versioning, and an optional short suffix."""


class Frozen(BaseModel):
    """Base of all bodies: immutable, and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRef(Frozen):
    """One immutable file known by digest."""

    digest: DigestHex
    length_bytes: int = Field(ge=1, le=MAX_ARTIFACT_BYTES)


class TensorSpec(Frozen):
    """One input or output of the graph; a dimension given by name is free (the batch)."""

    name: str = Field(min_length=1, max_length=128)
    dtype: Literal["float32", "float16", "uint8", "int8", "int64"]
    shape: tuple[int | str, ...] = Field(min_length=1, max_length=8)


class Preprocessing(Frozen):
    """How a photograph becomes the input tensor.

    The shorter side is resized to `resize_px`, the centre `crop_px` square is cut, channels are ordered, `mean` is
    subtracted and the result multiplied by `scale`; the tensor is NCHW float32.
    """

    resize_px: int = Field(default=256, ge=1, le=4096)
    crop_px: int = Field(default=227, ge=1, le=4096)
    channel_order: Literal["RGB", "BGR"] = "BGR"
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)
    scale: float = 1.0

    @model_validator(mode="after")
    def _crop_fits(self) -> Preprocessing:
        if self.crop_px > self.resize_px:
            raise ValueError(f"crop_px {self.crop_px} is larger than resize_px {self.resize_px}")
        return self

    def tensor(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input tensor of one cropped picture.

        Args:
            pixels: (crop_px, crop_px, 3) uint8, RGB.

        Returns:
            (1, 3, crop_px, crop_px) float32.
        """
        ordered = pixels[..., ::-1] if self.channel_order == "BGR" else pixels
        scaled = (ordered.astype(np.float32) - np.asarray(self.mean, np.float32)) * np.float32(self.scale)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


class GoldenSample(Frozen):
    """An input and the expected output, for the self-test on the vehicle.

    The input travels as a thumbnail of `patch_px` × `patch_px` RGB pixels that is repeated to the crop size by nearest
    neighbour: integers alone, so every machine makes the same tensor, in under 1.1 kB for 16 × 16.
    """

    patch_px: int = Field(ge=1, le=64)
    patch_base64: str = Field(max_length=4 * 64 * 64)
    expected: tuple[tuple[int, float], ...] = Field(min_length=1, max_length=16)
    """(class index, probability) of the most probable classes, most probable first."""
    tolerance: float = Field(gt=0, le=0.5)
    """Largest admitted absolute difference of each probability."""

    @model_validator(mode="after")
    def _patch_is_whole(self) -> GoldenSample:
        try:
            raw = base64.b64decode(self.patch_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"patch_base64 is not base64: {error}") from error
        if len(raw) != self.patch_px * self.patch_px * 3:
            raise ValueError(f"patch has {len(raw)} bytes, {self.patch_px}×{self.patch_px}×3 are needed")
        return self

    def pixels(self, crop_px: int) -> NDArray[np.uint8]:
        """Return the input picture: (crop_px, crop_px, 3) uint8, RGB."""
        raw = base64.b64decode(self.patch_base64)
        patch = np.frombuffer(raw, np.uint8).reshape(self.patch_px, self.patch_px, 3)
        index = np.arange(crop_px) * self.patch_px // crop_px
        return np.ascontiguousarray(patch[index][:, index])


class ModelManifest(Frozen):
    """What a release is. Its bytes are a TUF target, signed by the offline `targets` role."""

    format: Literal[1] = 1
    model: Name
    release: ReleaseName
    artifact: FileRef
    opset: int = Field(ge=17, le=64)
    """ONNX opset of the default domain: the vehicle refuses one that its onnxruntime does not know."""
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=16)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=16)
    preprocessing: Preprocessing
    labels: tuple[str, ...] = Field(min_length=1, max_length=20_000)
    golden_samples: tuple[GoldenSample, ...] = Field(min_length=1, max_length=64)
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    """Figures that `ota-build evaluate` measured: top1, top5, agreement, kl, parameters, ..."""
    recipe: str = Field(default="", max_length=4096)
    """How the artifact was made: the command or the list of passes."""

    def to_bytes(self) -> bytes:
        """Return the canonical JSON bytes: equal manifests give equal bytes."""
        return self.model_dump_json(exclude_defaults=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelManifest:
        """Parse verified bytes.

        Raises:
            MalformedError: too long, not JSON, or a field breaks its bound.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise MalformedError(f"model manifest has {len(data):,} bytes, at most {MAX_MANIFEST_BYTES:,} are allowed")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "document"
            raise MalformedError(f"model manifest is malformed at {where}: {first['msg']}") from error


class RuntimeSpec(Frozen):
    """What the vehicle can run."""

    onnxruntime: str = Field(max_length=32)
    max_opset: int = Field(ge=1, le=1024)
    machine: str = Field(max_length=64)


class InstalledRelease(Frozen):
    """One slot of a vehicle."""

    model: Name
    release: ReleaseName
    release_counter: int = Field(ge=1)
    artifact: DigestHex
    manifest: DigestHex


class VehicleManifest(Frozen):
    """What a vehicle says it runs."""

    vehicle: Name
    agent: str = Field(max_length=32)
    runtime: RuntimeSpec
    active: InstalledRelease | None = None
    """The release that answers frames now."""
    state: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")] = "idle"
    """The state of the agent's state machine; `trial` means that `active` is not confirmed yet."""
    bases: tuple[DigestHex, ...] = Field(default=(), max_length=16)
    """Digests of verified files on this vehicle that a delta may start from (artifacts and manifests)."""
    link_class: Literal["wifi", "cellular", "roaming"] = "wifi"
