"""Frames from a folder: cropped as the manifest says, and nothing that is no picture."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_client.frames import FrameFolder, read_frame
from ota_protocol.errors import MalformedError, RequestError
from ota_protocol.manifest import Preprocessing
from tests.support.model_fake import make_frames

RULE = Preprocessing(resize_px=64, crop_px=32)


def save(path: Path, mode: str, size: tuple[int, int]) -> Path:
    Image.new(mode, size, 200 if mode in {"L", "1"} else None).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"), mode, (100, 50))
    pixels = read_frame(path, RULE)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.dtype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (31, 77), (64, 64)])
def test_every_shape_is_cropped_to_the_square(tmp_path: Path, size: tuple[int, int]) -> None:
    assert read_frame(save(tmp_path / "x.png", "RGB", size), RULE).shape == (32, 32, 3)


def test_crop_is_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 48:80] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert read_frame(tmp_path / "x.png", RULE)[:, 2:-2].min() == 255


@pytest.mark.parametrize("data", [b"", b"junk", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50])
def test_file_that_is_no_picture(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(MalformedError, match=r"x\.png"):
        read_frame(tmp_path / "x.png", RULE)


def test_truncated_picture(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", "RGB", (300, 300))
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:700])
    with pytest.raises(MalformedError):
        read_frame(tmp_path / "x.jpg", RULE)


def test_bomb_is_not_decoded(tmp_path: Path) -> None:
    save(tmp_path / "x.png", "1", (20_000, 10_000))
    with pytest.raises(MalformedError):
        read_frame(tmp_path / "x.png", RULE)


def test_folder_is_walked_over_and_over(tmp_path: Path) -> None:
    make_frames(tmp_path, 2)
    (tmp_path / "notes.txt").write_text("no frame")
    names = [path.name for path in islice(FrameFolder(tmp_path).paths(), 5)]
    assert names == ["frame0.png", "frame1.png"] * 2 + ["frame0.png"]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--frames"):
        FrameFolder(tmp_path / "none")
