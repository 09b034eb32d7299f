"""Owns the child process of a self-test: `python -m edge_client.selftest MODEL MANIFEST SECONDS`."""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path
from typing import Final

from edge_client.runtime import load
from ota_protocol.errors import OtaError

MEMORY_BYTES: Final = 4 << 30
"""Address space of the child: libraries map over 1 GiB; a model that wants more than the rest has no place here."""


def main() -> int:
    """Load the model and compare every golden sample; return the exit status."""
    # An agent that is killed cannot stop its child: after the time limit the kernel does.
    signal.alarm(int(sys.argv[3]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    model_path, manifest_path = map(Path, sys.argv[1:3])
    try:
        load(model_path, manifest_path).check_golden_samples()
    except OtaError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
