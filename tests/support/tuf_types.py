"""The payload classes of python-tuf, which re-exports them without naming them."""

from tuf.api._payload import (
    DelegatedRole,
    Delegations,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

__all__ = ["DelegatedRole", "Delegations", "MetaFile", "Root", "Snapshot", "TargetFile", "Targets", "Timestamp"]
