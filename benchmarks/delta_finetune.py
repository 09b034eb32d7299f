"""Fine-tunes SqueezeNet 1.1 for a few steps of gradient descent, as the releases between which deltas are measured.

Runs in an environment with torch, which nothing else here needs: `python benchmarks/delta_finetune.py BASE PICTURES
OUT_FOLDER`, where BASE is an archive of `<layer>.kernel` and `<layer>.bias`. Writes `head.npz` and `all.npz`.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name by which everybody knows it
from PIL import Image

STEPS, BATCH, MOMENTUM = 40, 8, 0.9
MEAN_BGR = (104.0, 117.0, 123.0)
SIDE_PX = 227

Weights = dict[str, torch.Tensor]


def main() -> None:
    base_file, pictures, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    with np.load(base_file) as archive:
        base = {name: torch.tensor(archive[name]) for name in archive.files}
    with (pictures / "labels.csv").open(newline="") as lines:
        labels = [(pictures / row["file"], int(row["class_index"])) for row in csv.DictReader(lines)]
    for name, trained, rate in (("head", ["conv10.kernel", "conv10.bias"], 1e-4), ("all", list(base), 2e-5)):
        tuned = fine_tune(base, trained, rate, labels)
        np.savez(out / f"{name}.npz", **{key: value.numpy() for key, value in tuned.items()})


def fine_tune(base: Weights, trained: list[str], rate: float, labels: list[tuple[Path, int]]) -> Weights:
    """Return the weights after `STEPS` steps on batches drawn with a fixed seed."""
    weights = {name: value.clone().requires_grad_(name in trained) for name, value in base.items()}
    optimiser = torch.optim.SGD([weights[name] for name in trained], lr=rate, momentum=MOMENTUM)
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        chosen = [labels[index] for index in generator.choice(len(labels), BATCH, replace=False)]
        images = torch.tensor(np.stack([read(path) for path, _ in chosen]))
        loss = F.cross_entropy(logits(images, weights), torch.tensor([label for _, label in chosen]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: value.detach() for name, value in weights.items()}


def read(path: Path) -> np.ndarray:
    """Return a 256 × 256 picture as (3, 227, 227) float32, BGR less the mean."""
    edge = (256 - SIDE_PX) // 2
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)
    centre = pixels[edge : edge + SIDE_PX, edge : edge + SIDE_PX, ::-1] - np.array(MEAN_BGR, np.float32)
    return np.ascontiguousarray(centre.transpose(2, 0, 1))


def logits(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """SqueezeNet 1.1 up to the averaged class maps."""

    def convolve(x: torch.Tensor, name: str, stride: int = 1, padding: int = 0) -> torch.Tensor:
        return F.relu(F.conv2d(x, weights[f"{name}.kernel"], weights[f"{name}.bias"], stride, padding))

    x = convolve(x, "conv1", stride=2)
    for fire in range(2, 10):
        if fire in (2, 4, 6):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        squeezed = convolve(x, f"fire{fire}/squeeze1x1")
        wide = convolve(squeezed, f"fire{fire}/expand3x3", padding=1)
        x = torch.cat([convolve(squeezed, f"fire{fire}/expand1x1"), wide], 1)
    return convolve(x, "conv10").mean((2, 3))


if __name__ == "__main__":
    main()
