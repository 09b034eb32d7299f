"""Owns the choice of a loader by the text a user gives: `ndf`, `deep-compression:F`, `onnx:F` or `npz:F`."""

from __future__ import annotations

from pathlib import Path

from model_build.network import Network
from model_build.squeezenet import Architecture
from model_build.weights import deep_compression, ndf_package, npz, onnx_graph
from model_build.weights.check import network_of
from ota_protocol.errors import RequestError, StorageError

MAX_WEIGHTS_BYTES = 256 << 20
"""fp32 SqueezeNet with the most classes takes 50 MB; nothing larger is read into memory."""

_LOADERS = {"deep-compression": deep_compression.parse, "onnx": onnx_graph.parse, "npz": npz.parse}


def load(source: str, architecture: Architecture | None = None) -> Network:
    """Return the float network of `source`.

    Args:
        source: `ndf`, `deep-compression:<file>`, `onnx:<file>` or `npz:<file>`.
        architecture: the one the weights must be of; None detects it.

    Raises:
        RequestError: the source is of no known kind, or its file does not exist or is too large.
        DigestMismatchError: the installed `ndf` ships other weights than the ones known.
        MalformedError: the file is truncated, corrupt, not finite or of another architecture.
        StorageError: the file cannot be read.
    """
    if source == "ndf":
        return network_of(ndf_package.parse(ndf_package.read()), source, architecture)
    kind, _, name = source.partition(":")
    if kind not in _LOADERS or not name:
        raise RequestError(
            f"unknown weights {source[:80]!r}", remedy="use ndf, deep-compression:<file>, onnx:<file> or npz:<file>"
        )
    path = Path(name)
    return network_of(_LOADERS[kind](_read(path), path.name), path.name, architecture)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_WEIGHTS_BYTES:
            raise RequestError(f"{path} has {size:,} bytes, at most {MAX_WEIGHTS_BYTES:,} are read")
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise RequestError(f"there is no weights file {path}", remedy="check the path") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", remedy="check its permissions") from error
