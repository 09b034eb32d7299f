"""Owns the networks that bytes are compared with: what would travel if a large fp32 model were sent instead.

Parameter counts: SqueezeNet 1.0 and AlexNet as in Iandola et al. (2016, arXiv:1602.07360) and the weights they
released (AlexNet with grouped convolutions: 60,965,224); ResNet-50 and VGG-16 from the tables of torchvision's
`resnet50` (25,557,032) and `vgg16` (138,357,544) documentation. Four bytes a parameter, container overhead left out.
"""

from __future__ import annotations

from typing import Final

FP32_PARAMETERS: Final = {
    "squeezenet": 1_248_424,
    "alexnet": 60_965_224,
    "resnet50": 25_557_032,
    "vgg16": 138_357_544,
}

FP32_BYTES: Final = {name: 4 * count for name, count in FP32_PARAMETERS.items()}
