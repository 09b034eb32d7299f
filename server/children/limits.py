"""Owns the bounds of a child process: memory, CPU time, files, and no life after its parent."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that the kernel sends when the parent thread ends."""


def bound(*, memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Put the bounds on this process. The parent passes them; they hold before hostile input is touched.

    Args:
        memory_bytes: address space.
        cpu_s: CPU time, after which the kernel kills the process.
        file_bytes: largest file that may be written; 0 for none.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(5)
