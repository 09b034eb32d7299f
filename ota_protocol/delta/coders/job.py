"""Owns what a coder is given and what it must offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ota_protocol.delta.format import Op
from ota_protocol.delta.pools import Pools


@dataclass(frozen=True, slots=True)
class Job:
    """One op about to be run."""

    op: Op
    part: str
    """How errors name the op."""
    reference: bytes
    """The op's ranges of the base, one after the other."""
    payload: bytes
    pools: Pools
    memory_bytes: int
    """What the op may allocate."""


@dataclass(frozen=True, slots=True)
class Coder:
    """How one kind of op runs.

    Args:
        memory: bytes that the op needs while it runs, beside its reference and payload.
        decode: yields the op's bytes, in pieces.
    """

    memory: Callable[[Op], int]
    decode: Callable[[Job], Iterator[bytes]]
