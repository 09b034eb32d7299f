"""SqueezeNet's shapes, counts and the Fire generator, against the paper and against onnx's own shape inference."""

from __future__ import annotations

import onnx
import pytest

from model_build.describe import compare, rows
from model_build.export import to_onnx
from model_build.squeezenet import Architecture, Fire, FireGenerator, squeezenet_1_0, squeezenet_1_1
from tests.support.networks import random_network

OUTPUT_PX_1_0 = {"conv1": 111, "pool1": 55, "fire4": 55, "pool4": 27, "fire8": 27, "pool8": 13, "conv10": 15}
OUTPUT_PX_1_1 = {"conv1": 113, "pool1": 56, "fire3": 56, "pool3": 28, "pool5": 14, "fire9": 14, "conv10": 14}


@pytest.mark.parametrize(("architecture", "parameters"), [(squeezenet_1_0(), 1_248_424), (squeezenet_1_1(), 1_235_496)])
def test_parameters_are_the_released_networks(architecture: Architecture, parameters: int) -> None:
    assert architecture.parameters == parameters
    assert len(architecture.convolutions) == 26


@pytest.mark.parametrize(
    ("architecture", "sides"), [(squeezenet_1_0(), OUTPUT_PX_1_0), (squeezenet_1_1(), OUTPUT_PX_1_1)]
)
def test_sizes_are_the_papers(architecture: Architecture, sides: dict[str, int]) -> None:
    found = {stage.name: after for stage, _, after in architecture.sizes()}
    assert {name: found[name] for name in sides} == sides


@pytest.mark.parametrize("architecture", [squeezenet_1_0(), squeezenet_1_1()])
def test_sizes_and_operations_agree_with_shape_inference(architecture: Architecture) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(to_onnx(random_network(architecture)))).graph
    shapes = {value.name: [one.dim_value for one in value.type.tensor_type.shape.dim] for value in graph.value_info}
    for row in rows(architecture):
        height, width, channels = row.output
        assert shapes[row.name][1:] == [channels, height, width]
    macs = sum(
        convolution.inputs * convolution.kernel_px**2 * shapes[convolution.name][1] * shapes[convolution.name][2] ** 2
        for convolution in architecture.convolutions
    )
    assert architecture.macs == macs == sum(row.macs for row in rows(architecture))


def test_the_default_generator_makes_the_papers_fire_modules() -> None:
    assert [(fire.squeeze, fire.expand1x1, fire.expand3x3) for fire in FireGenerator().fires(96)] == [
        (16, 64, 64), (16, 64, 64), (32, 128, 128), (32, 128, 128),
        (48, 192, 192), (48, 192, 192), (64, 256, 256), (64, 256, 256),
    ]  # fmt: skip


def test_metaparameters_move_what_they_name() -> None:
    fire = FireGenerator(base_expand=64, expand_increment=32, frequency=3, squeeze_ratio=0.5, share_3x3=0.75).fire(
        4, 10
    )
    assert fire == Fire("fire6", 10, squeeze=48, expand1x1=24, expand3x3=72)


@pytest.mark.parametrize("wrong", [{"squeeze_ratio": 0.0}, {"share_3x3": 1.5}, {"frequency": 0}, {"base_expand": 0}])
def test_impossible_metaparameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        FireGenerator(**wrong)  # type: ignore[arg-type]


def test_fire_needs_85_percent_fewer_weights_than_plain_convolution() -> None:
    found = compare(256, 512, 64)
    assert (found.plain, found.fire) == (1_179_648, 180_224)
    assert round(100 * found.saved, 2) == 84.72


def test_a_head_for_other_classes_changes_the_head_alone() -> None:
    other = squeezenet_1_0().with_classes(10)
    assert other.classes == 10
    assert other.convolutions[:-1] == squeezenet_1_0().convolutions[:-1]
