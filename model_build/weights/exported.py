"""Owns reading back a file that `export` wrote, exactly: codes stay codes. `onnx_graph` reads anybody's, as floats."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model_build.network import ActivationScale, FloatLayer, Layer, Network, QuantizedLayer
from model_build.weights.check import network_of
from model_build.weights.onnx_graph import read_graph
from ota_protocol.errors import MalformedError

Arrays = dict[str, NDArray[np.generic]]


def read(data: bytes, what: str) -> Network:
    """Return the network that `export.to_onnx` was given; 8-bit biases come back as the floats that they stand for.

    Raises:
        MalformedError: it is no sound ONNX file, or not one of `export`.
    """
    arrays = _arrays(read_graph(data, what), what)
    names = [
        name.removesuffix(".kernel").removesuffix(".codes") for name in arrays if name.endswith((".kernel", ".codes"))
    ]
    try:
        layers = {name: _layer(name, arrays) for name in names}
        activations = {
            name.removesuffix("/scale"): ActivationScale(float(value), int(arrays[f"{name[:-6]}/zero_point"]))
            for name, value in arrays.items()
            if name.endswith("/scale")
        }
    except (KeyError, ValueError, TypeError) as error:
        raise MalformedError(f"{what} was not written by export: {error}", remedy="give a release of ours") from error
    checked = network_of({name: FloatLayer(layer.kernel, layer.bias) for name, layer in layers.items()}, what)
    return Network(
        checked.architecture, {one.name: layers[one.name] for one in checked.architecture.convolutions}, activations
    )


def _arrays(graph: onnx.GraphProto, what: str) -> Arrays:
    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except (ValueError, TypeError) as error:
        raise MalformedError(f"{what} holds a corrupt weight", remedy="export it again") from error


def _layer(name: str, arrays: Arrays) -> Layer:
    if f"{name}.kernel" in arrays:
        return FloatLayer(_floats(arrays[f"{name}.kernel"]), _bias(name, arrays))
    codes, scale = arrays[f"{name}.codes"], _floats(arrays[f"{name}.scale"])
    if codes.dtype != np.int8 or codes.ndim != 4 or scale.size not in (1, len(codes)):
        raise ValueError(f"{name} has {codes.dtype} codes of shape {codes.shape} with {scale.size} steps")
    return QuantizedLayer(codes.astype(np.int8), scale.reshape(-1) if scale.ndim else scale, _bias(name, arrays))


def _bias(name: str, arrays: Arrays) -> NDArray[np.float32]:
    if f"{name}.bias" in arrays:
        return _floats(arrays[f"{name}.bias"])
    return _floats(arrays[f"{name}.bias_codes"]) * _floats(arrays[f"{name}.bias_scale"])


def _floats(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
