"""The demo's pictures: real photographs, the same cuts at every run, another cut for every purpose."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image

from demo.pictures import FRAME_PX, PHOTOGRAPHS, data_folder, write_calibration, write_frames, write_labelled


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_vehicle_gets_a_frame_of_every_photograph_from_where_it_stands(tmp_path: Path) -> None:
    for vehicle in ("wifi", "metered"):
        write_frames(tmp_path / vehicle, vehicle, data_folder())
    wifi, metered = contents(tmp_path / "wifi"), contents(tmp_path / "metered")
    assert wifi.keys() == metered.keys() == {f"{photograph.name}.jpg" for photograph in PHOTOGRAPHS}
    assert all(wifi[name] != metered[name] for name in wifi)
    for path in (tmp_path / "wifi").iterdir():
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((FRAME_PX, FRAME_PX), "RGB")


def test_the_same_vehicle_sees_the_same_at_every_run(tmp_path: Path) -> None:
    for run in ("one", "two"):
        write_frames(tmp_path / run, "wifi", data_folder())
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_labels_name_every_picture_and_no_frame_is_trained_on(tmp_path: Path) -> None:
    write_labelled(tmp_path / "labelled", data_folder(), cuts=2)
    write_frames(tmp_path / "frames", "wifi", data_folder())
    pictures = contents(tmp_path / "labelled")
    rows = list(csv.DictReader(pictures.pop("labels.csv").decode().splitlines()))
    assert [row["file"] for row in rows] == list(dict.fromkeys(row["file"] for row in rows))
    assert {row["file"] for row in rows} == pictures.keys()
    assert "motorcycle_right-0.jpg" not in pictures
    assert not set(pictures.values()) & set(contents(tmp_path / "frames").values())


def test_calibration_has_cuts_of_all_photographs(tmp_path: Path) -> None:
    write_calibration(tmp_path, data_folder(), cuts=2)
    assert len(contents(tmp_path)) == 2 * len(PHOTOGRAPHS)
