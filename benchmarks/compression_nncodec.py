"""Codes weights with NNCodec (ISO/IEC 15938-17) and decodes them: `compression_nncodec.py WEIGHTS QP OUT`.

Runs in an environment of its own. WEIGHTS and OUT are numpy archives; prints the bytes of the bitstream. NNCodec
imports torchvision for training sets that are not used here, and torchvision does not load beside a torch built for
processors alone: an empty stand-in is enough.
"""

from __future__ import annotations

import sys
import tempfile
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

STANDS_IN_FOR = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.models")


def main() -> None:
    weights, qp, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    for name in STANDS_IN_FOR:
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__getattr__ = lambda _name: MagicMock()  # type: ignore[method-assign]
        sys.modules[name] = module
    from nncodec.nn import decode, encode  # noqa: PLC0415 - the stand-ins come first

    with np.load(weights) as archive:
        parameters = {name: archive[name] for name in archive.files}
    with tempfile.TemporaryDirectory() as folder:
        stream = encode(parameters, {"qp": qp, "use_dq": True, "results": folder, "verbose": False})
    decoded = decode(stream)
    if isinstance(decoded, tuple):
        decoded = decoded[0]
    arrays = {name: np.asarray(decoded[name], np.float32).reshape(value.shape) for name, value in parameters.items()}
    np.savez(out, **arrays)  # type: ignore[arg-type, unused-ignore]  # older numpy takes no other option
    sys.stdout.write(f"\nbytes {len(stream)}\n")


if __name__ == "__main__":
    main()
