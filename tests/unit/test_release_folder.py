"""Release folders and single files: whole or not there, and checked when read back."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from model_build.atomic_files import disk_errors, write_file, write_folder
from model_build.release_folder import BuiltRelease, check_artifact, read_artifact, read_manifest, write
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import DigestMismatchError, DiskFullError, MalformedError, RequestError, StorageError
from ota_protocol.manifest import ModelManifest
from tests.support.onnx_models import manifest_of

ARTIFACT = b"an ONNX file" * 100
MANIFEST: ModelManifest = manifest_of(ARTIFACT, "tiny", "1.0.0")
BUILT = BuiltRelease(ARTIFACT, MANIFEST, {"seconds": 1.5})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_release_is_written_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "builds" / "1.0.0"
    write(BUILT, folder, {"model.onnx.full": b"more"})
    assert names(folder) == ["manifest.json", "model.onnx", "model.onnx.full", "report.json"]
    assert read_manifest(folder) == MANIFEST
    assert read_artifact(folder, MANIFEST) == ARTIFACT
    assert names(tmp_path / "builds") == ["1.0.0"]


def test_the_same_release_again_is_no_error(tmp_path: Path) -> None:
    write(BUILT, tmp_path / "r")
    write(replace(BUILT, report={"seconds": 9.9}), tmp_path / "r")
    assert b"1.5" in (tmp_path / "r" / "report.json").read_bytes()


def test_an_empty_folder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    write(BUILT, tmp_path / "r")
    assert read_manifest(tmp_path / "r") == MANIFEST


def test_another_release_is_never_replaced(tmp_path: Path) -> None:
    write(BUILT, tmp_path / "r")
    with pytest.raises(RequestError, match="exists already; remove it, or give another --out"):
        write(replace(BUILT, artifact=b"other"), tmp_path / "r")
    assert read_artifact(tmp_path / "r", MANIFEST) == ARTIFACT
    assert names(tmp_path) == ["r"]


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")
    with pytest.raises(RequestError, match="exists already"):
        write(BUILT, tmp_path / "r")
    assert (tmp_path / "r").read_text() == "mine"


def test_a_changed_artifact_is_noticed(tmp_path: Path) -> None:
    write(BUILT, tmp_path / "r")
    (tmp_path / "r" / "model.onnx").write_bytes(ARTIFACT[:-1])
    for check in (check_artifact, read_artifact):
        with pytest.raises(DigestMismatchError, match="build the folder again"):
            check(tmp_path / "r", MANIFEST)


def test_a_folder_without_a_release_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RequestError, match=r"there is no .*manifest\.json; give a folder that export wrote"):
            read_manifest(folder)
    with pytest.raises(RequestError, match=r"there is no .*model\.onnx"):
        check_artifact(tmp_path, MANIFEST)


def test_a_malformed_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(MANIFEST.to_bytes()[:-20])
    with pytest.raises(MalformedError, match=r"manifest\.json: model manifest is malformed.*build the folder again"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(RequestError, match="more than 1,048,576 bytes"):
        read_manifest(tmp_path)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "w.npz", b"old")
    write_file(tmp_path / "w.npz", b"new")
    assert (tmp_path / "w.npz").read_bytes() == b"new"
    assert names(tmp_path) == ["w.npz"]


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*No such file"):
        write_file(tmp_path / "nowhere" / "w.npz", b"new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_a_clear_error() -> None:
    with pytest.raises(DiskFullError, match=r"no room to write .*; free some space"), disk_errors(Path("w.npz")):
        Path("/dev/full").write_bytes(b"x")


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC])
def test_a_used_up_quota_is_a_full_disk(code: int) -> None:
    with pytest.raises(DiskFullError), disk_errors(Path("w.npz")):
        raise OSError(code, os.strerror(code))


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """The kernel stops the child's second file in the middle, as a full disk would."""
    program = (
        "import signal, sys; from pathlib import Path; from model_build.atomic_files import write_folder;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"write_folder(Path({str(tmp_path / 'r')!r}), {{'a': b'x' * 1000, 'b': b'y' * 9000}})"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert "StorageError: cannot write" in done.stderr
    assert names(tmp_path) == []


def test_files_of_a_folder_come_together(tmp_path: Path) -> None:
    write_folder(tmp_path / "r", {"a": b"1", "b": b"2"})
    assert {name: sha256_hex((tmp_path / "r" / name).read_bytes()) for name in names(tmp_path / "r")} == {
        "a": sha256_hex(b"1"),
        "b": sha256_hex(b"2"),
    }
