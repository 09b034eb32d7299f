"""Owns weights as a numpy archive: `<layer>.kernel` (O, I, kh, kw) and `<layer>.bias` (O,), float32, no pickles."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_build.network import FloatLayer
from ota_protocol.errors import MalformedError

MAX_UNPACKED_BYTES = 256 << 20
"""What a compressed archive may unpack to; the same bound as for a file that is read plainly."""


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
            raise MalformedError(f"{what} unpacks to {unpacked:,} bytes, at most {MAX_UNPACKED_BYTES:,} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError, NotImplementedError) as error:
        raise MalformedError(f"{what} is no numpy archive of weights: {error}", remedy="copy it again") from error
