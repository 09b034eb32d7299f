"""The arms of the compression benchmark: ways to make a network smaller, each a list of (setting, network, bytes)."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model_build.compression.flow import portions, workers
from model_build.compression.known import Base, known_layers
from model_build.compression.plan import Plan
from model_build.compression.reference import observe
from model_build.compression.sensitivity import sensitivities
from model_build.compression.walk import walk
from model_build.export import to_onnx
from model_build.network import FloatLayer, Network, QuantizedLayer
from model_build.passes.quantize_activations import QuantizeActivations
from model_build.weights import npz
from model_build.weights.check import network_of
from ota_protocol.delta.encode import encode

Images = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Arm = Iterator[tuple[str, Network, int]]

LARGEST_CODE = 127
NNCODEC_TIMEOUT_S = 1800


def ours(network: Network, learn: Images, prices: list[float], *, eight_bits: bool, threads: int | None = None) -> Arm:
    """Yield what `compress` makes at given prices of a bit, with float or 8-bit activations."""
    held = QuantizeActivations(learn).rewrite(network, _silent) if eight_bits else network
    with workers(threads) as team:
        reference = observe(network, portions(learn), team, _silent)
        found = sensitivities(reference, team, _silent)
        for price in prices:
            made = walk(reference, Plan(price, found, {}, held.activations), team, _silent).network
            yield f"price {price:.1e}", made, len(encode(None, to_onnx(made)))


def from_base(network: Network, learn: Images, base: Base, prices: list[float]) -> Arm:
    """Yield what `compress --base` makes of changed weights, and its bytes as a delta."""
    with workers() as threads:
        reference = observe(network, portions(learn), threads, _silent)
        found = sensitivities(reference, threads, _silent)
        known = known_layers(base.network, network)
        for price in prices:
            plan = Plan(price, found, known, base.network.activations)
            made = walk(reference, plan, threads, _silent).network
            yield f"price {price:.1e}", made, len(encode(base.artifact, to_onnx(made)))


def nearest(network: Network, factors: list[float]) -> Arm:
    """Yield weights rounded to the nearest multiple of one factor of each layer's deviation, in our coder."""
    for factor in factors:
        layers = {}
        for name, layer in network.layers.items():
            step = max(factor * float(layer.kernel.std()), float(np.abs(layer.kernel).max()) / LARGEST_CODE)
            codes = np.rint(layer.kernel / step).clip(-LARGEST_CODE, LARGEST_CODE).astype(np.int8)
            bias = layer.bias.astype(np.float16).astype(np.float32)
            layers[name] = QuantizedLayer(codes, np.asarray(step, np.float32), bias)
        made = Network(network.architecture, layers)
        yield f"step {factor:g} σ", made, len(encode(None, to_onnx(made)))


def nncodec(network: Network, qps: list[int], python: Path) -> Arm:
    """Yield what NNCodec makes at given quantisation parameters, decoded to floats."""
    layers = {name: FloatLayer(layer.kernel, layer.bias) for name, layer in network.layers.items()}
    script = Path(__file__).with_name("compression_nncodec.py")
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "weights.npz", Path(folder) / "decoded.npz"
        source.write_bytes(npz.pack(layers))
        for qp in qps:
            done = subprocess.run(  # noqa: S603 - our own script
                [python, script, source, str(qp), out],
                check=True,
                timeout=NNCODEC_TIMEOUT_S,
                stdout=subprocess.PIPE,
                text=True,
                env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
            )
            decoded = network_of(npz.parse(out.read_bytes(), "NNCodec"), "NNCodec", network.architecture)
            yield f"qp {qp}", decoded, int(done.stdout.rsplit("bytes ", 1)[1])


def _silent(_share: float) -> None:
    pass
