"""Runs one codec once and prints what it cost, as JSON: bytes, processor seconds, peak memory over what was loaded.

`python benchmarks/delta_measure.py CODEC make|apply BASE RESULT DELTA`; each call is a process of its own, in the
environment that has the codec. BASE `-` is none.
"""

from __future__ import annotations

import json
import lzma
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Codec = tuple[Callable[[], None], Callable[[], None]]
LZMA_PRESET = 9 | lzma.PRESET_EXTREME


def main() -> None:
    codec, action, *files = sys.argv[1:]
    base, result, delta = (Path(name) for name in files)
    make, unmake = CODECS[codec](base, result, delta)
    before = _forget_peak()
    start = _cpu_seconds()
    (make if action == "make" else unmake)()
    seconds = _cpu_seconds() - start
    children = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = children or _memory_bytes("VmHWM") - before
    print(json.dumps({"bytes": delta.stat().st_size, "seconds": seconds, "peak_bytes": peak}))  # noqa: T201 - its result


def _cpu_seconds() -> float:
    """Return the processor time of this process and of the programs that it ran."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _forget_peak() -> int:
    """Return the memory in use, and let the kernel count the peak from here (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_bytes("VmRSS")


def _memory_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def _restored(result: Path) -> Path:
    return result.with_name("restored")


def _ours(base: Path, result: Path, delta: Path) -> Codec:
    from model_build.delta_command import FileSource  # noqa: PLC0415 - only where it is installed
    from ota_protocol.delta.apply import apply  # noqa: PLC0415
    from ota_protocol.delta.encode import encode  # noqa: PLC0415

    known = None if base == Path("-") else base

    def make() -> None:
        delta.write_bytes(encode(known.read_bytes() if known else None, result.read_bytes()))

    def unmake() -> None:
        with _restored(result).open("wb") as out, delta.open("rb") as program:
            if known is None:
                apply(None, FileSource(program), out.write)
                return
            with known.open("rb") as file:
                apply(FileSource(file), FileSource(program), out.write)

    return make, unmake


def _bsdiff4(base: Path, result: Path, delta: Path) -> Codec:
    import bsdiff4  # noqa: PLC0415

    return (
        lambda: _write(delta, bsdiff4.diff(base.read_bytes(), result.read_bytes())),
        lambda: _write(_restored(result), bsdiff4.patch(base.read_bytes(), delta.read_bytes())),
    )


def _hdiffpatch(compression: str) -> Callable[[Path, Path, Path], Codec]:
    def codec(base: Path, result: Path, delta: Path) -> Codec:
        import hdiffpatch  # noqa: PLC0415

        config = hdiffpatch.Lzma2Config(level=9) if compression == "lzma2" else hdiffpatch.ZStdConfig(level=22)
        return (
            lambda: _write(delta, hdiffpatch.diff(base.read_bytes(), result.read_bytes(), config, validate=False)),
            lambda: _write(_restored(result), hdiffpatch.apply(base.read_bytes(), delta.read_bytes())),
        )

    return codec


def _xdelta3(base: Path, result: Path, delta: Path) -> Codec:
    window = str(max(1 << 19, base.stat().st_size, result.stat().st_size))
    return (
        _command("xdelta3", "-e", "-9", "-S", "lzma", "-B", window, "-W", "8388608", "-f", "-s", base, result, delta),
        _command("xdelta3", "-d", "-B", window, "-f", "-s", base, delta, _restored(result)),
    )


def _zstd_patch(base: Path, result: Path, delta: Path) -> Codec:
    return (
        _command("zstd", "-q", "-f", "--ultra", "-22", "--long=27", f"--patch-from={base}", result, "-o", delta),
        _command("zstd", "-q", "-f", "-d", "--long=27", f"--patch-from={base}", delta, "-o", _restored(result)),
    )


def _zstd_full(_base: Path, result: Path, delta: Path) -> Codec:
    return (
        _command("zstd", "-q", "-f", "--ultra", "-22", "--long=27", result, "-o", delta),
        _command("zstd", "-q", "-f", "-d", "--long=27", delta, "-o", _restored(result)),
    )


def _xz_full(_base: Path, result: Path, delta: Path) -> Codec:
    return (
        lambda: _write(delta, lzma.compress(result.read_bytes(), preset=LZMA_PRESET)),
        lambda: _write(_restored(result), lzma.decompress(delta.read_bytes())),
    )


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _command(*words: str | Path) -> Callable[[], None]:
    def run() -> None:
        subprocess.run([str(word) for word in words], check=True)  # noqa: S603 - fixed words and our own files

    return run


CODECS: dict[str, Callable[[Path, Path, Path], Codec]] = {
    "ours": _ours,
    "ours, no base": lambda _base, result, delta: _ours(Path("-"), result, delta),
    "bsdiff4": _bsdiff4,
    "hdiffpatch lzma2": _hdiffpatch("lzma2"),
    "hdiffpatch zstd": _hdiffpatch("zstd"),
    "xdelta3 -9 -S lzma": _xdelta3,
    "zstd --patch-from 22": _zstd_patch,
    "zstd 22": _zstd_full,
    "xz 9e": _xz_full,
}

if __name__ == "__main__":
    main()
