"""A child program that misbehaves on request: ``python -m tests.support.misbehaving_child HOW [FILE]``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from server.children.limits import bound


def main(how: str, *files: str) -> None:
    bound(memory_bytes=1 << 30, cpu_s=1, file_bytes=1 << 20)
    for file in files:
        Path(file).write_text(str(os.getpid()))
    if how == "sleep":
        time.sleep(60)
    while how == "spin":
        pass
    if how == "eat":
        len(bytes(1 << 31))
    if how == "crash":
        os.abort()
    if how == "mumble":
        sys.stdout.write("no json")
    if how == "tell":
        sys.stdout.write(json.dumps({"environment": sorted(os.environ)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
