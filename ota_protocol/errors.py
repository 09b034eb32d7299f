"""The error tree of SqueezeOTA: families by blame, each text saying what the operator can do.

::

    OtaError
    ├── PeerError             the other side sent something wrong; its bytes are not to be used
    │   ├── MalformedError        it does not parse, or breaks a stated bound
    │   ├── DigestMismatchError   the bytes are not the bytes that were named
    │   ├── TrustError            a signature, role, version or expiry does not hold
    │   ├── DeltaError            a delta is broken, hostile, or meant for another base (names the op)
    │   ├── SelfTestError         the model answered its golden samples wrongly
    │   └── RefusedError          the registry said no (carries its HTTP status)
    ├── TransportError        the link or the server failed; worth another try later
    ├── StorageError          our own disk failed
    │   └── DiskFullError         there is no room
    └── RequestError          what we were asked to do cannot be done as asked (a user's input)

Foreign errors are mapped into this tree once, at the rim where they arise, with ``raise ... from``.
"""

from __future__ import annotations


class OtaError(Exception):
    """Root of the tree.

    Args:
        message: what happened, in one line.
        remedy: what the operator can do about it; may be empty where nothing can be done.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class PeerError(OtaError):
    """The other side sent something wrong."""

    exit_code = 3


class MalformedError(PeerError):
    """The bytes do not parse, or break a stated bound."""


class DigestMismatchError(PeerError):
    """The bytes are not the bytes that were named."""


class TrustError(PeerError):
    """A signature, role, version or expiry does not hold."""


class DeltaError(PeerError):
    """A delta is broken, hostile, or meant for another base.

    Args:
        op: which part refused: ``"header"``, ``"op 3 (tensor)"``, ``"trailer"``, ...
    """

    def __init__(self, message: str, *, op: str, remedy: str = "") -> None:
        super().__init__(f"delta {op}: {message}", remedy=remedy)
        self.op = op


class SelfTestError(PeerError):
    """The model answered its golden samples wrongly, or did not run at all."""


class RefusedError(PeerError):
    """The registry said no.

    Args:
        status: the HTTP status of the answer.
    """

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class TransportError(OtaError):
    """The link or the server failed; another try later may succeed."""

    exit_code = 4


class StorageError(OtaError):
    """Our own disk failed."""

    exit_code = 5


class DiskFullError(StorageError):
    """There is no room on our disk."""


class RequestError(OtaError):
    """What we were asked to do cannot be done as asked."""

    exit_code = 2
