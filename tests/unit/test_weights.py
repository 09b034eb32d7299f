"""Loading weights: each source's good file, and each way in which a file can be bad."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from model_build.export import to_onnx
from model_build.network import ActivationScale, FloatLayer, Network, QuantizedLayer
from model_build.squeezenet import squeezenet_1_0, squeezenet_1_1
from model_build.weights import deep_compression, exported, ndf_package, npz, onnx_graph
from model_build.weights.check import network_of
from model_build.weights.source import load
from ota_protocol.errors import DigestMismatchError, MalformedError, OtaError, RequestError
from tests.support.networks import random_network, real_network

Layers = dict[str, FloatLayer]


def floats(network: Network) -> Layers:
    return {name: layer for name, layer in network.layers.items() if isinstance(layer, FloatLayer)}


def same(one: Layers, other: Layers) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name].kernel, other[name].kernel) and np.array_equal(one[name].bias, other[name].bias)
        for name in one
    )


# ── ndf ──


def test_ndf_holds_squeezenet_1_1() -> None:
    network = real_network()
    assert network.architecture == squeezenet_1_1()
    assert sum(layer.kernel.size + layer.bias.size for layer in network.layers.values()) == 1_235_496


def test_ndf_asked_for_as_1_0_is_refused() -> None:
    with pytest.raises(MalformedError, match=r"conv1 has shape .* is needed"):
        load("ndf", squeezenet_1_0())


class Exploit:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch /tmp/squeezeota-exploited",)


def test_a_pickle_that_runs_code_runs_none() -> None:
    with pytest.raises(MalformedError, match="system is not admitted"):
        ndf_package.parse(pickle.dumps({"conv1": Exploit()}))
    assert not Path("/tmp/squeezeota-exploited").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 7000, -1])
def test_a_truncated_pickle_is_refused(cut: int) -> None:
    data = ndf_package.read()
    with pytest.raises(MalformedError, match="do not parse"):
        ndf_package.parse(data[:cut])


def test_other_bytes_than_the_known_pickle_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "ndf" / "example_models" / "weights"
    inside.mkdir(parents=True)
    (tmp_path / "ndf" / "__init__.py").touch()
    (inside / "squeezenet_weights.pkl").write_bytes(ndf_package.read() + b"\0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DigestMismatchError, match="expected f286bbf493e6389"):
        load("ndf")


# ── npz ──


def test_npz_gives_back_what_was_packed(tmp_path: Path) -> None:
    layers = floats(random_network())
    (tmp_path / "w.npz").write_bytes(npz.pack(layers))
    assert same(floats(load(f"npz:{tmp_path / 'w.npz'}")), layers)


def test_npz_of_equal_layers_has_equal_bytes() -> None:
    assert npz.pack(floats(random_network(seed=3))) == npz.pack(floats(random_network(seed=3)))


def saved(**arrays: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no numpy archive"),
        (b"PK\x03\x04 but no more", "no numpy archive"),
        (npz.pack(floats(random_network()))[:-1000], "no numpy archive"),
        (saved(conv1=np.zeros(3)), "missing or strange"),
        (saved(**{"conv1.kernel": np.zeros(3)}), "missing or strange"),
        (saved(**{"a.kernel": np.array([object()]), "a.bias": np.zeros(1)}), "no numpy archive"),
    ],
)
def test_a_broken_npz_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        npz.parse(data, "w.npz")


def test_an_array_that_claims_more_than_it_has_is_refused_before_it_is_made() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 44,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("conv1.kernel.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(MalformedError, match="does not fit its 64 bytes"):
        npz.parse(buffer.getvalue(), "w.npz")


def test_an_npz_that_unpacks_to_far_more_is_refused() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{"conv1.kernel": np.zeros(1 << 25, np.float32)})  # type: ignore[arg-type]
    assert len(buffer.getvalue()) < 1 << 20
    with pytest.raises(MalformedError, match="unpacks to"):
        npz.parse(buffer.getvalue(), "w.npz")


# ── what every source's layers must be ──


def spoilt(layers: Layers, name: str, kernel: NDArray[np.float32]) -> Layers:
    return {**layers, name: FloatLayer(kernel, layers[name].bias)}


def test_nan_weights_are_refused() -> None:
    layers = floats(random_network())
    kernel = layers["fire5/squeeze1x1"].kernel.copy()
    kernel[3, 1] = np.nan
    with pytest.raises(MalformedError, match="kernel of fire5/squeeze1x1 holds NaN"):
        network_of(spoilt(layers, "fire5/squeeze1x1", kernel), "w")


def test_infinite_biases_are_refused() -> None:
    layers = floats(random_network())
    bad = FloatLayer(layers["conv1"].kernel, np.full_like(layers["conv1"].bias, np.inf))
    with pytest.raises(MalformedError, match="bias of conv1 holds NaN or infinity"):
        network_of({**layers, "conv1": bad}, "w")


def test_wrong_shapes_are_refused() -> None:
    layers = floats(random_network())
    kernel = np.zeros((64, 16, 5, 5), np.float32)
    with pytest.raises(MalformedError, match=r"fire2/expand3x3 has shape \(64, 16, 5, 5\), \(64, 16, 3, 3\) is needed"):
        network_of(spoilt(layers, "fire2/expand3x3", kernel), "w")


def test_other_number_types_are_refused() -> None:
    layers = floats(random_network())
    kernel = layers["conv1"].kernel.astype(np.float64)
    with pytest.raises(MalformedError, match="float64, float32 is needed"):
        network_of(spoilt(layers, "conv1", kernel), "w")  # type: ignore[arg-type]


def test_a_missing_layer_is_named() -> None:
    layers = floats(random_network())
    del layers["fire9/expand1x1"]
    with pytest.raises(MalformedError, match="lacks 'fire9/expand1x1'"):
        network_of(layers, "w")


def test_another_architecture_is_refused() -> None:
    layers = {"conv1": FloatLayer(np.zeros((64, 3, 11, 11), np.float32), np.zeros(64, np.float32))}
    with pytest.raises(MalformedError, match=r"another architecture \(conv1 of shape \(64, 3, 11, 11\)\)"):
        network_of(layers, "alexnet.npz")


def test_a_head_with_more_classes_is_found() -> None:
    assert network_of(floats(random_network(squeezenet_1_0().with_classes(1001))), "w").architecture.classes == 1001


# ── deep compression ──


def packed(network: Network, share: float = 0.2) -> tuple[bytes, Layers]:
    """Return a file in the released layout, and the layers that it stands for."""
    chance, counts, body, layers = np.random.default_rng(1), [], b"", {}
    for convolution in network.architecture.convolutions:
        size = int(np.prod(convolution.kernel_shape))
        positions = [-1]
        while positions[-1] < size - 20:
            positions.append(positions[-1] + 1 + int(min(15, chance.geometric(share) - 1)))
        found = np.array(positions[1:])
        runs = np.diff(positions) - 1
        codes = chance.integers(0, 256, len(found)).astype(np.uint8)
        codebook = chance.normal(size=256).astype("<f4")
        bias = chance.normal(size=convolution.outputs).astype("<f4")
        nibbles = np.append(runs, [0] * (len(runs) % 2)).astype(np.uint8)
        counts.append(len(found))
        body += codebook.tobytes() + bias.tobytes() + codes.tobytes() + (nibbles[::2] | nibbles[1::2] << 4).tobytes()
        kernel = np.zeros(size, np.float32)
        kernel[found] = codebook[codes]
        layers[convolution.name] = FloatLayer(kernel.reshape(convolution.kernel_shape), bias)
    return np.array(counts, "<u4").tobytes() + body, layers


@pytest.fixture(scope="module")
def compressed() -> tuple[bytes, Layers]:
    return packed(random_network(squeezenet_1_0()))


def test_deep_compression_gives_back_what_was_packed(compressed: tuple[bytes, Layers], tmp_path: Path) -> None:
    data, layers = compressed
    (tmp_path / "squeezenet.net").write_bytes(data)
    network = load(f"deep-compression:{tmp_path / 'squeezenet.net'}")
    assert network.architecture == squeezenet_1_0()
    assert same(floats(network), layers)


@pytest.mark.parametrize("share", [0, 0.00001, 0.3, 0.99])
def test_a_truncated_deep_compression_file_is_refused(compressed: tuple[bytes, Layers], share: float) -> None:
    data, _ = compressed
    with pytest.raises(MalformedError, match="truncated"):
        deep_compression.parse(data[: int(len(data) * share)], "squeezenet.net")


def test_trailing_bytes_are_refused(compressed: tuple[bytes, Layers]) -> None:
    with pytest.raises(MalformedError, match="1 bytes too many"):
        deep_compression.parse(compressed[0] + b"\0", "squeezenet.net")


def test_a_count_beyond_the_kernel_is_refused_before_it_is_read(compressed: tuple[bytes, Layers]) -> None:
    with pytest.raises(MalformedError, match="stores 4,294,967,295 weights of conv1"):
        deep_compression.parse(b"\xff\xff\xff\xff" + compressed[0][4:], "squeezenet.net")


def test_a_weight_outside_its_kernel_is_refused(compressed: tuple[bytes, Layers]) -> None:
    data = bytearray(compressed[0])
    count = int.from_bytes(data[:4], "little")
    runs = 26 * 4 + 256 * 4 + 96 * 4 + count
    data[runs : runs + count // 2] = b"\xff" * (count // 2)
    with pytest.raises(MalformedError, match="lies outside its kernel"):
        deep_compression.parse(bytes(data), "squeezenet.net")


# ── onnx ──


@pytest.mark.parametrize("architecture", [squeezenet_1_0(), squeezenet_1_1()])
def test_onnx_gives_back_what_was_exported(architecture: object, tmp_path: Path) -> None:
    network = random_network(squeezenet_1_0() if architecture == squeezenet_1_0() else squeezenet_1_1())
    (tmp_path / "model.onnx").write_bytes(to_onnx(network))
    loaded = load(f"onnx:{tmp_path / 'model.onnx'}")
    assert loaded.architecture == network.architecture
    assert same(floats(loaded), floats(network))


@pytest.mark.parametrize("per_channel", [True, False])
def test_onnx_gives_back_quantised_weights_as_they_run(per_channel: bool) -> None:
    network = random_network()
    chance = np.random.default_rng(0)
    codes = chance.integers(-127, 128, (16, 64, 1, 1)).astype(np.int8)
    scale = chance.uniform(0.01, 0.1, 16).astype(np.float32) if per_channel else np.asarray(0.05, np.float32)
    layer = QuantizedLayer(codes, scale, network.layers["fire2/squeeze1x1"].bias)
    found = onnx_graph.parse(to_onnx(network.with_layer("fire2/squeeze1x1", layer)), "m")
    assert np.array_equal(found["fire2/squeeze1x1"].kernel, layer.kernel)


def quantised(*, held: bool) -> Network:
    """Return a network with one layer in 8 bits, and that layer's input too if it is `held` so."""
    chance, network = np.random.default_rng(0), random_network()
    codes = chance.integers(-127, 128, (16, 64, 1, 1)).astype(np.int8)
    scale = chance.uniform(0.01, 0.1, 16).astype(np.float32)
    layer = QuantizedLayer(codes, scale, network.layers["fire2/squeeze1x1"].bias)
    scales = {"pool1": ActivationScale(0.25, 3)} if held else {}
    return replace(network.with_layer("fire2/squeeze1x1", layer), activations=scales)


@pytest.mark.parametrize("held", [True, False])
def test_a_file_of_ours_is_read_back_exactly(held: bool) -> None:
    network = quantised(held=held)
    found = exported.read(to_onnx(network), "m")
    layer, old = found.layers["fire2/squeeze1x1"], network.layers["fire2/squeeze1x1"]
    assert isinstance(layer, QuantizedLayer)
    assert isinstance(old, QuantizedLayer)
    assert np.array_equal(layer.codes, old.codes)
    assert np.array_equal(layer.scale, old.scale)
    assert np.allclose(layer.bias, old.bias, atol=0 if not held else float(old.scale.max()) * 0.25)
    assert found.activations == network.activations
    assert list(found.layers) == list(network.layers)
    assert np.array_equal(found.layers["conv10"].kernel, network.layers["conv10"].kernel)


def test_a_file_of_others_is_told_from_ours() -> None:
    def rename(model: onnx.ModelProto) -> None:
        conv1 = next(node for node in model.graph.node if node.output[0] == "conv1/linear")
        conv1.input[1] = model.graph.initializer[0].name = "features.0.weight"

    with pytest.raises(MalformedError, match="conv1"):
        exported.read(edited(rename), "m")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_onnx_file_is_refused(share: float) -> None:
    data = to_onnx(random_network())
    with pytest.raises(MalformedError):
        network_of(onnx_graph.parse(data[: int(len(data) * share)], "m"), "m")


@pytest.mark.parametrize("seed", range(20))
def test_a_corrupt_onnx_file_is_refused_or_read_and_nothing_else(seed: int) -> None:
    data = bytearray(to_onnx(random_network()))
    chance = np.random.default_rng(seed)
    for place in chance.integers(0, 3000, 40):
        data[place] = chance.integers(0, 256)
    try:
        network_of(onnx_graph.parse(bytes(data), "m"), "m")
    except OtaError as error:
        assert error.message


def edited(change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(to_onnx(random_network()))
    change(model)
    return bytes(model.SerializeToString())


def drop_last_layers(model: onnx.ModelProto) -> None:
    keep = next(index for index, node in enumerate(model.graph.node) if node.output[0] == "fire9")
    del model.graph.node[keep + 1 :]
    model.graph.output[0].name = "fire9"


def move_outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


@pytest.mark.parametrize(
    ("change", "said"), [(drop_last_layers, "25 convolutions, 26 are needed"), (move_outside, "another file|no sound")]
)
def test_an_onnx_file_of_another_kind_is_refused(change: Callable[[onnx.ModelProto], None], said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        onnx_graph.parse(edited(change), "m")


# ── the choice of a source ──


@pytest.mark.parametrize("source", ["", "npz:", "torch:weights.pt", "weights.npz", "deep-compression"])
def test_an_unknown_source_is_refused_with_the_known_ones(source: str) -> None:
    with pytest.raises(RequestError, match="use ndf, deep-compression:<file>, onnx:<file> or npz:<file>"):
        load(source)


@pytest.mark.parametrize("kind", ["npz", "onnx", "deep-compression"])
def test_a_missing_file_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no weights file .*nowhere"):
        load(f"{kind}:{tmp_path / 'nowhere'}")
    with pytest.raises(RequestError, match="there is no weights file"):
        load(f"{kind}:{tmp_path}")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.npz").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RequestError, match="at most 268,435,456 are read"):
        load(f"npz:{tmp_path / 'huge.npz'}")


def test_networks_are_not_changed_in_place() -> None:
    network = random_network()
    other = replace(network, layers={})
    assert network.layers
    assert not other.layers
