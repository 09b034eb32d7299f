"""Reading folders of photographs: every kind of picture, and every way in which one can be bad."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_build.pictures import View, evenly, list_labelled, list_pictures, read_pixels, read_tensors, read_views
from ota_protocol.errors import MalformedError, RequestError
from ota_protocol.manifest import Preprocessing
from tests.support.photographs import photograph, write_photographs

PLAN = Preprocessing(resize_px=64, crop_px=48)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def gradient(width: int, height: int) -> Image.Image:
    rows = np.linspace(0, 255, height)[:, np.newaxis, np.newaxis]
    columns = np.linspace(0, 255, width)[np.newaxis, :, np.newaxis]
    pixels = np.concatenate([rows + 0 * columns, columns + 0 * rows, 0 * rows * columns + 40], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (300, 100), (100, 300), (48, 48), (20, 500)])
def test_any_shape_is_cut_to_its_centre(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = read_pixels(save(tmp_path / "p.png", gradient(*size)), PLAN)
    assert pixels.shape == (48, 48, 3)
    assert pixels.dtype == np.uint8
    middle = pixels[23:25, 23:25].mean(axis=(0, 1))
    assert np.allclose(middle, [127.5, 127.5, 40], atol=4)


def test_a_picture_of_the_right_size_is_cut_exactly(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    pixels = read_pixels(save(tmp_path / "p.png", Image.fromarray(noise)), PLAN)
    assert np.array_equal(pixels, noise[8:56, 16:64])


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1", "YCbCr"])
def test_every_kind_of_colour_becomes_rgb(mode: str, tmp_path: Path) -> None:
    name = {"CMYK": "p.jpg", "YCbCr": "p.jpg"}.get(mode, "p.png")
    flat = Image.new("RGB", (80, 80), (200, 200, 200)).convert(mode)
    pixels = read_pixels(save(tmp_path / name, flat), PLAN)
    assert pixels.shape == (48, 48, 3)
    assert abs(pixels.mean() - 200) <= 3
    assert np.ptp(pixels.mean(axis=(0, 1))) <= 3


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((80, 80), 0x8000, np.uint16))
    assert np.all(read_pixels(save(tmp_path / "p.png", grey), PLAN) == 0x80)


def test_a_photograph_taken_sideways_stands_upright(tmp_path: Path) -> None:
    picture = gradient(100, 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = picture.rotate(90, expand=True)
    upright = read_pixels(save(tmp_path / "a.png", picture), PLAN)
    turned = read_pixels(save(tmp_path / "b.png", sideways, exif=exif), PLAN)
    assert np.abs(upright.astype(int) - turned.astype(int)).max() <= 2


def test_tensors_are_what_preprocessing_makes_of_the_pixels(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "p")
    plan, paths = Preprocessing(), list_pictures(folder)
    tensors = read_tensors(paths, plan)
    assert tensors.shape == (4, 3, 227, 227)
    assert np.array_equal(tensors[2:3], plan.tensor(read_pixels(paths[2], plan)))


# ── bad pictures ──


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.98])
def test_a_truncated_picture_is_named(share: float, tmp_path: Path) -> None:
    data = photograph("rocket.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MalformedError, match=r"cut\.jpg .*; remove or replace it"):
        read_pixels(tmp_path / "cut.jpg", PLAN)


@pytest.mark.parametrize("seed", range(12))
def test_a_corrupt_picture_is_refused_or_read_and_nothing_else(seed: int, tmp_path: Path) -> None:
    data, chance = bytearray(photograph("chelsea.png").read_bytes()), np.random.default_rng(seed)
    for place in chance.integers(8, len(data), 30):
        data[place] = chance.integers(0, 256)
    (tmp_path / "p.png").write_bytes(data)
    try:
        assert read_pixels(tmp_path / "p.png", PLAN).shape == (48, 48, 3)
    except MalformedError as error:
        assert "p.png" in str(error)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    with pytest.raises(MalformedError, match=r"notes\.jpg is no picture"):
        read_pixels(tmp_path / "notes.jpg", PLAN)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_decompression_bomb_is_refused_undecoded(side: int, tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(MalformedError, match=r"bomb\.png"):
        read_pixels(tmp_path / "bomb.png", PLAN)


# ── folders and labels ──


def test_pictures_come_by_name_and_other_files_do_not(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "labels.csv", "c.webp", "readme.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "c.webp"]


def test_a_missing_folder_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no folder"):
        list_pictures(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="holds no pictures"):
        list_pictures(tmp_path)


def test_labels_are_read_in_their_order(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "p", labels=True)
    assert [(one.path.name, one.class_index) for one in list_labelled(folder, 1000)] == [
        ("chelsea.jpg", 285),
        ("coffee.jpg", 967),
        ("rocket.jpg", 657),
        ("motorcycle_left.jpg", 670),
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "names no picture"),
        ("file,class_index\n", "names no picture"),
        ("name,label\nrocket.jpg,657\n", "line 2: no picture ''"),
        ("file,class_index\nnone.jpg,1\n", "line 2: no picture 'none.jpg'"),
        ("file,class_index\n../p/rocket.jpg,657\n", "no picture '../p/rocket.jpg'"),
        ("file,class_index\nrocket.jpg,1000\n", "'1000' is no class; give an index from 0 to 999"),
        ("file,class_index\nrocket.jpg,-1\n", "'-1' is no class"),
        ("file,class_index\nrocket.jpg,cat\n", "'cat' is no class"),
        ("file,class_index\nrocket.jpg\n", "'' is no class"),
        ("file,class_index\nrocket.jpg,²\n", "'²' is no class"),
    ],
)
def test_bad_labels_are_named_by_line(table: str, said: str, tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "p")
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    with pytest.raises(RequestError, match=said):
        list_labelled(folder, 1000)


def test_labels_that_are_missing_or_no_text_are_refused(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "p")
    with pytest.raises(RequestError, match=r"has no labels\.csv"):
        list_labelled(folder, 1000)
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RequestError, match="is no table"):
        list_labelled(folder, 1000)


def test_evenly_takes_the_same_spread_each_time() -> None:
    paths = [Path(str(index)) for index in range(10)]
    assert [path.name for path in evenly(paths, 4)] == ["0", "2", "5", "7"]
    assert evenly(paths, 20) == tuple(paths)


def test_views_are_crops_and_mirrors_of_the_whole(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    paths, prepared = [tmp_path / "p.png"] * 2, Preprocessing()
    found = read_views(paths, prepared, [View(), View(0, 1), View(0, 0, mirrored=True)])
    assert found.shape == (6, 3, 227, 227)
    assert np.array_equal(found[:2], read_tensors(paths, prepared))
    whole = prepared.model_copy(update={"crop_px": 256}).tensor(pixels)[0]
    assert np.array_equal(found[2], whole[:, :227, 29:])
    assert np.array_equal(found[5], whole[:, :227, :227][:, :, ::-1])
