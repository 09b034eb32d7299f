"""Owns weights as a numpy archive: `<layer>.kernel` (O, I, kh, kw) and `<layer>.bias` (O,), float32."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_build.network import FloatLayer
from ota_protocol.errors import MalformedError

MAX_UNPACKED_BYTES = 64 << 20
"""What a compressed archive may unpack to: fp32 SqueezeNet with 20,000 classes takes 44 MB."""


def parse(data: bytes, what: str) -> dict[str, FloatLayer]:
    """Return the layers of a numpy archive.

    Raises:
        MalformedError: it is truncated, corrupt, holds a pickle, unpacks beyond the bound, or names are not as above.
    """
    arrays = _arrays(data, what)
    names = {name.rpartition(".")[0] for name in arrays}
    if strange := sorted(arrays.keys() ^ {f"{name}.{part}" for name in names for part in ("kernel", "bias")}):
        raise MalformedError(
            f"{what}: {strange[0]!r} is missing or strange", remedy="name arrays <layer>.kernel, .bias"
        )
    return {name: FloatLayer(arrays[f"{name}.kernel"], arrays[f"{name}.bias"]) for name in names}


def pack(layers: Mapping[str, FloatLayer]) -> bytes:
    """Return the archive of `layers`, which `parse` reads; equal layers give equal bytes."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, layer in layers.items():
        arrays[f"{name}.kernel"], arrays[f"{name}.bias"] = layer.kernel, layer.bias
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(data: bytes, what: str) -> dict[str, NDArray[np.float32]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise MalformedError(f"{what} unpacks to {unpacked:,} bytes, {MAX_UNPACKED_BYTES:,} are allowed")
            return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError, NotImplementedError) as error:
        raise MalformedError(f"{what} is no numpy archive of weights: {error}", remedy="copy it again") from error


def _array(member: bytes) -> NDArray[np.float32]:
    """Return the array of one member; `np.load` would allocate what its header claims before it looks at the bytes.

    Raises:
        ValueError: it is no plain array of numbers, or not as long as its header says.
    """
    file = io.BytesIO(member)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another format than 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    rest = member[file.tell() :]
    if dtype.hasobject or fortran or math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"an array of {dtype} and shape {shape} does not fit its {len(rest):,} bytes")
    return np.frombuffer(rest, dtype).reshape(shape)
