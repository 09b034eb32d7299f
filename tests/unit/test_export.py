"""The ONNX file: sound, the same bytes each time, and the network that it was made of."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from model_build.export import OPSET, input_of, inputs, outputs, to_onnx
from model_build.inference import Session
from model_build.network import ActivationScale, FloatLayer, Network, QuantizedLayer
from model_build.squeezenet import Architecture, squeezenet_1_0, squeezenet_1_1
from model_build.weights import exported, onnx_graph
from ota_protocol.digest import sha256_hex
from tests.support.networks import random_images, random_network
from tests.support.tiny_network import smooth_images, tiny_network

ARCHITECTURES = [squeezenet_1_0(), squeezenet_1_1()]


def rounded(network: Network, per_channel: bool = True) -> Network:
    """Return `network` in 8 bits, rounded to nearest."""
    layers = {}
    for name, layer in network.layers.items():
        most = np.abs(layer.kernel).max(axis=(1, 2, 3) if per_channel else None)
        scale = np.asarray(most / 127, np.float32)
        steps = scale.reshape(-1, 1, 1, 1) if per_channel else scale
        layers[name] = QuantizedLayer(np.rint(layer.kernel / steps).astype(np.int8), scale, layer.bias)
    return Network(network.architecture, layers)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_file_is_sound_and_says_what_it_is(architecture: Architecture) -> None:
    model = onnx.load_from_string(to_onnx(random_network(architecture)))
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert OPSET >= 17
    assert (model.producer_name, model.doc_string, list(model.metadata_props)) == ("squeezeota", "", [])
    assert all(tensor.HasField("raw_data") for tensor in model.graph.initializer)


def convolve(network: Network, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return conv1 and its pool, computed here by the definitions of the paper and of Caffe's pooling."""
    first, layer = network.architecture.convolutions[0], network.layers["conv1"]
    view = np.lib.stride_tricks.sliding_window_view(image, (first.kernel_px,) * 2, axis=(1, 2))
    windows = view[:, :: first.stride, :: first.stride]
    maps = np.einsum("chwij,ocij->ohw", windows, layer.kernel, optimize=True) + layer.bias[:, None, None]
    active = np.maximum(maps, 0)
    side = -(-(active.shape[1] - 3) // 2) + 1
    edge = (0, max(0, (side - 1) * 2 + 3 - active.shape[1]))
    padded = np.pad(active, ((0, 0), edge, edge), constant_values=-np.inf)
    pooled = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
    return [active, pooled]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_layers_are_the_papers(architecture: Architecture) -> None:
    network, images = random_network(architecture), random_images(1)
    session = Session(to_onnx(network, expose=["conv1", "pool1"]))
    for found, expected in zip(session.run(images, ["conv1", "pool1"]), convolve(network, images[0]), strict=True):
        assert found.shape[1:] == expected.shape
        assert np.allclose(found[0], expected, rtol=1e-3, atol=1e-2)


def test_a_fire_module_puts_its_1x1_filters_first() -> None:
    names = ["fire2/squeeze1x1", "fire2/expand1x1", "fire2/expand3x3", "fire2"]
    network, images = random_network(), random_images(1)
    squeezed, small, large, both = Session(to_onnx(network, expose=names)).run(images, names)
    assert np.array_equal(both, np.concatenate([small, large], axis=1))
    layer = network.layers["fire2/expand1x1"]
    expected = np.maximum(np.einsum("nchw,oc->nohw", squeezed, layer.kernel[:, :, 0, 0]) + layer.bias[:, None, None], 0)
    assert np.allclose(small, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_the_mean_of_the_class_maps(architecture: Architecture) -> None:
    session = Session(to_onnx(random_network(architecture), expose=["conv10"]))
    maps, answers = session.run(random_images(3), ["conv10", "probabilities"])
    logits = maps.mean(axis=(2, 3), dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    # These logits go into the hundreds, so the runtime's float32 mean shows in the third digit.
    assert np.allclose(answers, powers / powers.sum(axis=1, keepdims=True), atol=2e-3)
    assert maps.shape[2] == {"squeezenet-1.0": 15, "squeezenet-1.1": 14}[architecture.name]


def test_any_number_of_pictures_goes_in() -> None:
    session, images = Session(to_onnx(random_network())), random_images(5)
    together = session.run(images, ["probabilities"])[0]
    alone = np.concatenate([session.run(one[np.newaxis], ["probabilities"])[0] for one in images])
    assert together.shape == (5, 1000)
    assert np.allclose(together, alone, atol=1e-5)


def test_the_schema_names_the_graphs_own_ends() -> None:
    network = random_network()
    graph = onnx.load_from_string(to_onnx(network)).graph
    for values, specs in ((graph.input, inputs(network)), (graph.output, outputs(network))):
        shapes = [tuple(one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim) for value in values]
        assert [(value.name, shape) for value, shape in zip(values, shapes, strict=True)] == [
            (spec.name, spec.shape) for spec in specs
        ]


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantised_weights_run_as_the_floats_they_stand_for(per_channel: bool) -> None:
    network, images = rounded(random_network(), per_channel), random_images(2)
    plain = Network(
        network.architecture, {name: FloatLayer(layer.kernel, layer.bias) for name, layer in network.layers.items()}
    )
    small, large = to_onnx(network), to_onnx(plain)
    assert len(small) < 0.27 * len(large)
    assert np.allclose(Session(small).probabilities(images), Session(large).probabilities(images), atol=1e-5)


def test_8_bit_activations_stay_near_the_float_network() -> None:
    network, images = rounded(random_network()), random_images(2)
    names = ["image", *dict.fromkeys(input_of(network).values())][1:]
    values = Session(to_onnx(network, expose=names[1:])).run(images, names[1:])
    scales = {"image": ActivationScale(float(np.abs(images).max()) / 127, 128)}
    scales |= {name: ActivationScale(float(v.max()) / 255, 0) for name, v in zip(names[1:], values, strict=True)}
    held = Network(network.architecture, network.layers, scales)
    model = onnx.load_from_string(to_onnx(held))
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == len(scales)
    exact, coarse = Session(to_onnx(network)).probabilities(images), Session(to_onnx(held)).probabilities(images)
    assert np.abs(exact - coarse).sum(axis=1).max() < 0.25
    assert np.abs(exact - np.roll(coarse, 1, axis=1)).sum(axis=1).min() > 0.5


def test_a_picture_in_8_bits_is_widened_for_a_small_first_kernel_alone() -> None:
    for architecture, widened in ((squeezenet_1_1(), True), (squeezenet_1_0(), False)):
        held = replace(rounded(random_network(architecture)), activations={"image": ActivationScale(0.5, 128)})
        made = to_onnx(held)
        kinds = [node.op_type for node in onnx.load_from_string(made).graph.node]
        assert kinds.count("Pad") == 2 * widened
        assert to_onnx(exported.read(made, "it")) == made
        assert onnx_graph.parse(made, "it")["conv1"].kernel.shape == held.layers["conv1"].kernel.shape


def test_a_widened_picture_gives_the_same() -> None:
    network = rounded(tiny_network())
    images = (2 * np.round(smooth_images(2).clip(-250, 250) / 2)).astype(np.float32)
    held = replace(network, activations={"image": ActivationScale(2, 128)})
    wanted, found = (Session(to_onnx(one)).probabilities(images) for one in (network, held))
    assert np.allclose(wanted, found, atol=1e-3)


def test_the_rim_of_a_padded_head_is_made_of_its_bias() -> None:
    assert squeezenet_1_0().rim_share == pytest.approx(1 - 13**2 / 15**2) and squeezenet_1_1().rim_share == 0
    tiny = tiny_network()
    stages = (*tiny.architecture.stages[:-1], replace(tiny.architecture.head, padding=1))
    network = rounded(replace(tiny, architecture=replace(tiny.architecture, stages=stages)))
    images = smooth_images(2)
    values = Session(to_onnx(network, expose=["pool3"])).run(images, ["pool3"])[0]
    held = replace(network, activations={"pool3": ActivationScale(float(values.max()) / 255, 0)})
    shares = [onnx.numpy_helper.to_array(one) for one in _initializers(held) if one.name.endswith(".share")]
    assert sum(shares) == pytest.approx(1) and len(shares) == 2
    exact, bare = Session(to_onnx(network)).probabilities(images), Session(to_onnx(held)).probabilities(images)
    plain = Session(to_onnx(rounded(tiny))).probabilities(images)
    assert np.abs(exact - bare).max() < 0.01
    assert np.abs(exact - plain).max() > 0.05


def _initializers(network: Network) -> list[onnx.TensorProto]:
    return list(onnx.load_from_string(to_onnx(network)).graph.initializer)


def test_every_convolution_reads_what_the_graph_feeds_it() -> None:
    network = random_network()
    nodes = {node.output[0]: node for node in onnx.load_from_string(to_onnx(network)).graph.node}
    for name, source in input_of(network).items():
        assert nodes[f"{name}/linear"].input[0] == source


def test_the_same_network_gives_the_same_bytes() -> None:
    assert to_onnx(random_network(seed=5)) == to_onnx(random_network(seed=5))
    assert to_onnx(random_network(seed=5)) != to_onnx(random_network(seed=6))


def test_another_process_with_another_hash_seed_gives_the_same_digest() -> None:
    program = (
        "from tests.support.networks import random_network; from model_build.export import to_onnx;"
        "from ota_protocol.digest import sha256_hex; print(sha256_hex(to_onnx(random_network(seed=5))))"
    )
    environment = {"PYTHONHASHSEED": "77", "PATH": ""}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.strip() == sha256_hex(to_onnx(random_network(seed=5)))
