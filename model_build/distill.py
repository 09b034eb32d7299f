"""Owns distillation: moving the codes of a compressed network so that it answers more like the uncompressed one.

The only module that imports torch, which comes with the extra `distill`. Steps, scales and activation scales stay; what
is learnt are codes and biases. Codes are rounded on the way forward and passed straight through on the way back (Bengio
et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, arXiv:1308.3432); the loss is the KL of
the student from the teacher on random crops (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015,
arXiv:1503.02531), so that pictures need no labels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_build.atomic_files import write_file
from model_build.compression.eight_bits import LEVELS
from model_build.compression.pairs import partners, rooms
from model_build.compression.rounding import LIMIT
from model_build.evaluate import closeness
from model_build.export import IMAGE, to_onnx
from model_build.inference import Session
from model_build.network import ActivationScale, Layer, Network, QuantizedLayer
from model_build.squeezenet import Convolution, Fire, MaxPool
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import RequestError

Images = NDArray[np.float32]

NEAREST_EDGE = 0.45
"""How far a real code starts from the whole one at most; at 0.5 it would round to the next."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how boldly is learnt.

    Args:
        steps: of gradient descent.
        batch: random crops a step.
        rate: how far a step moves a weight, in steps of its layer: ten times as much ruins a network.
        check_every: steps between measurements on the pictures held back, and between checkpoints.
    """

    steps: int = 300
    batch: int = 12
    rate: float = 0.002
    check_every: int = 25


def distill(
    student: Network,
    teacher: Network,
    *,
    learn: Images,
    check: Images,
    schedule: Schedule,
    checkpoint: Path | None,
    progress: Callable[[float], None],
) -> Network:
    """Return the student after learning, at the moment when it was best on `check`; never worse than it was.

    Args:
        student: compressed.
        teacher: uncompressed.
        learn: (N, 3, side, side) preprocessed pictures, at least as large as the network's input: crops are cut.
        check: (M, 3, input, input) preprocessed pictures that nothing is learnt from.
        checkpoint: file that the state is kept in; a run that was cut off goes on from it.

    Raises:
        RequestError: the checkpoint is of another run.
        StorageError: it cannot be written.
    """
    run = _Run(student, teacher, schedule, checkpoint)
    wanted = Session(to_onnx(teacher)).probabilities(check)
    run.resume(closeness(Session(to_onnx(student)).probabilities(check), wanted)["kl"])
    while run.step < schedule.steps:
        run.learn(_crops(learn, student.architecture.input_px, schedule.batch, run.step))
        if run.step % schedule.check_every == 0 or run.step == schedule.steps:
            run.keep(closeness(Session(to_onnx(run.network())).probabilities(check), wanted)["kl"])
        progress(run.step / schedule.steps)
    return run.best


class _Run:
    """The state of one distillation: latent codes, biases, the optimiser's moments, the best network so far."""

    def __init__(self, student: Network, teacher: Network, schedule: Schedule, checkpoint: Path | None) -> None:
        self._student, self._schedule, self._checkpoint = student, schedule, checkpoint
        self._teacher = {name: _floats(layer) for name, layer in teacher.layers.items()}
        self._layers = {name: layer for name, layer in student.layers.items() if isinstance(layer, QuantizedLayer)}
        self._codes = {name: _leaf(_latent(layer, teacher.layers[name])) for name, layer in self._layers.items()}
        self._biases = {name: _leaf(layer.bias) for name, layer in self._layers.items()}
        self._rooms = {name: _rooms(layer, paired=bool(student.activations)) for name, layer in self._layers.items()}
        scales = {name: float(np.abs(layer.kernel).mean()) for name, layer in self._layers.items()}
        self._optimiser = torch.optim.Adam(
            [{"params": list(self._codes.values()), "lr": schedule.rate}]
            + [{"params": [self._biases[name]], "lr": schedule.rate * scales[name]} for name in scales],
            betas=(0.9, 0.99),
        )
        self.step, self.best, self.best_kl = 0, student, float("inf")

    def learn(self, images: Images) -> None:
        """Take one step of gradient descent on a batch."""
        left = 1 - self.step / self._schedule.steps
        for group in self._optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * left
        batch = torch.from_numpy(images)
        with torch.no_grad():
            wanted = torch.log_softmax(_forward(self._student, batch, self._teacher, {}), dim=1)
        found = torch.log_softmax(_forward(self._student, batch, self._weights(), self._student.activations), dim=1)
        loss = (wanted.exp() * (wanted - found)).sum(dim=1).mean()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self.step += 1

    def network(self) -> Network:
        """Return the network as it stands, its codes rounded."""
        layers: dict[str, Layer] = {}
        for name, layer in self._layers.items():
            room = self._rooms[name]
            codes = np.rint(self._codes[name].detach().numpy()).clip(-room, room)
            bias = self._biases[name].detach().numpy().copy()
            layers[name] = QuantizedLayer(codes.astype(np.int8), layer.scale, bias)
        return Network(self._student.architecture, layers, self._student.activations)

    def keep(self, kl: float) -> None:
        """Remember the network if it is the best, and write the checkpoint."""
        if kl < self.best_kl:
            self.best, self.best_kl = self.network(), kl
        if self._checkpoint is not None:
            buffer = io.BytesIO()
            torch.save(self._state(), buffer)
            write_file(self._checkpoint, buffer.getvalue())

    def resume(self, kl: float) -> None:
        """Go on from the checkpoint if there is one; else the student itself, with its `kl`, is the best so far."""
        self.best_kl = kl
        if self._checkpoint is None or not self._checkpoint.is_file():
            return
        remedy = "remove the checkpoint, or give the same weights, goal and pictures again"
        try:
            state = torch.load(self._checkpoint, weights_only=True)
            if state["run"] != self._name():
                raise RequestError(f"{self._checkpoint} is the checkpoint of another run", remedy=remedy)
            self._restore(state)
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(f"{self._checkpoint} is no checkpoint", remedy=remedy) from error

    def _weights(self) -> dict[str, tuple[Any, Any]]:
        """Return kernels with codes rounded forward and straight through backward, and biases."""
        found = {}
        for name, layer in self._layers.items():
            scale = torch.from_numpy(np.array(layer.scale).reshape(-1, 1, 1, 1))
            found[name] = (_straight(self._codes[name], *self._bounds(name)) * scale, self._biases[name])
        return found

    def _bounds(self, name: str) -> tuple[Any, Any]:
        room = torch.from_numpy(self._rooms[name])
        return -room, room

    def _name(self) -> str:
        return sha256_hex(to_onnx(self._student) + repr(asdict(self._schedule)).encode())

    def _state(self) -> dict[str, Any]:
        best = {name: layer for name, layer in self.best.layers.items() if isinstance(layer, QuantizedLayer)}
        return {
            "run": self._name(),
            "step": self.step,
            "codes": {name: value.detach() for name, value in self._codes.items()},
            "biases": {name: value.detach() for name, value in self._biases.items()},
            "optimiser": self._optimiser.state_dict(),
            "best_kl": self.best_kl,
            "best_codes": {name: torch.from_numpy(layer.codes.copy()) for name, layer in best.items()},
            "best_biases": {name: torch.from_numpy(layer.bias.copy()) for name, layer in best.items()},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name in self._layers:
                self._codes[name].copy_(state["codes"][name])
                self._biases[name].copy_(state["biases"][name])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.best_kl = state["step"], state["best_kl"]
        layers: dict[str, Layer] = {
            name: QuantizedLayer(state["best_codes"][name].numpy(), layer.scale, state["best_biases"][name].numpy())
            for name, layer in self._layers.items()
        }
        self.best = Network(self._student.architecture, layers, self._student.activations)


def _forward(network: Network, images: Any, weights: Mapping[str, tuple[Any, Any]], held: Mapping[str, Any]) -> Any:
    """Return the logits of a batch; activations in `held` make the round trip through 8 bits."""

    def convolve(one: Convolution, values: Any) -> Any:
        kernel, bias = weights[one.name]
        made = torch.nn.functional.conv2d(values, kernel, bias, stride=one.stride, padding=one.padding)
        return _held(torch.relu(made), held.get(one.name))

    values = _held(images, held.get(IMAGE))
    for stage in network.architecture.stages:
        if isinstance(stage, MaxPool):
            values = torch.nn.functional.max_pool2d(values, 3, 2, ceil_mode=True)
        elif isinstance(stage, Fire):
            squeeze, *expands = stage.convolutions
            squeezed = convolve(squeeze, values)
            values = torch.cat([convolve(expand, squeezed) for expand in expands], dim=1)
        else:
            values = convolve(stage, values)
    return values.mean(dim=(2, 3))


def _held(values: Any, scale: ActivationScale | None) -> Any:
    if scale is None:
        return values
    return _straight(values / scale.scale, -scale.zero_point, LEVELS - scale.zero_point) * scale.scale


def _straight(values: Any, low: Any, high: Any) -> Any:
    """Return `values` rounded and clipped; the gradient passes as if they were only clipped."""
    clipped = values.clamp(low, high)
    return clipped + (clipped.round() - clipped).detach()


def _rooms(layer: QuantizedLayer, *, paired: bool) -> NDArray[np.float32]:
    """Return how large each code may become; `paired` where codes meet 8-bit activations."""
    shape = layer.codes.shape
    if not paired:
        return np.full(shape, LIMIT, np.float32)
    return rooms(layer.codes.reshape(len(layer.codes), -1), partners(*shape[1:3])).reshape(shape).astype(np.float32)


def _latent(layer: QuantizedLayer, teacher: Layer) -> NDArray[np.float32]:
    """Return real codes that round to those of `layer`, as near to the teacher's weights as that admits.

    A code can then move soon where the teacher lies between two, and late where it does not.
    """
    scale = np.reshape(layer.scale, (-1, 1, 1, 1))
    away = (teacher.kernel / scale - layer.codes).clip(-NEAREST_EDGE, NEAREST_EDGE)
    return np.asarray(layer.codes + away, np.float32)


def _leaf(array: NDArray[np.generic]) -> Any:
    return torch.from_numpy(array.astype(np.float32)).requires_grad_()


def _floats(layer: Layer) -> tuple[Any, Any]:
    return torch.from_numpy(np.array(layer.kernel)), torch.from_numpy(np.array(layer.bias))


def _crops(images: Images, side: int, count: int, step: int) -> Images:
    """Return random crops of random pictures, half of them mirrored; the same ones whenever this step is taken."""
    chance = np.random.default_rng([step, count])
    spare = images.shape[2] - side
    crops = []
    for index in chance.choice(len(images), min(count, len(images)), replace=False):
        top, left = chance.integers(0, spare + 1, 2)
        crop = images[index, :, top : top + side, left : left + side]
        crops.append(crop[:, :, ::-1] if chance.random() < 0.5 else crop)
    return np.ascontiguousarray(np.stack(crops))
