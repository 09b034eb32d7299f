"""Child process: makes one delta, runs it, and lets it pass only if it yields the result bit for bit.

Run as ``python -m server.children.encode_delta MEMORY_BYTES CPU_S FILE_BYTES BASE RESULT DELTA``; BASE may be ``-``.
Encoding is heavy work that would hold up check-ins in the registry's own process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from server.children.limits import bound


def main(arguments: list[str]) -> None:
    """Write the delta and the answer: its length, or why there is none."""
    memory_bytes, cpu_s, file_bytes, base, result, delta = arguments
    bound(memory_bytes=int(memory_bytes), cpu_s=int(cpu_s), file_bytes=int(file_bytes))
    try:
        answer: dict[str, object] = {"length_bytes": make(base, result, delta)}
    except MemoryError:
        answer = {"refused": "making the delta ran out of memory", "remedy": "vehicles take another way"}
    sys.stdout.write(json.dumps(answer))


def make(base: str, result: str, delta: str) -> int:
    """Write the delta from `base` to `result`; return its length in bytes.

    Raises:
        DeltaError: the encoder's output does not yield the result (an error of ours, found before it is offered).
    """
    from ota_protocol.delta.apply import apply_bytes  # noqa: PLC0415 within the bounds
    from ota_protocol.delta.encode import encode  # noqa: PLC0415
    from ota_protocol.errors import DeltaError  # noqa: PLC0415

    start = None if base == "-" else Path(base).read_bytes()
    wanted = Path(result).read_bytes()
    Path(delta).write_bytes(encode(start, wanted))
    if apply_bytes(start, Path(delta).read_bytes()) != wanted:
        raise DeltaError("it does not yield the result", op="trailer")
    return Path(delta).stat().st_size


if __name__ == "__main__":
    main(sys.argv[1:])
