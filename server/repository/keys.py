"""Owns the key files: ed25519, PEM PKCS8, one a role, readable by their owner alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from ota_protocol.errors import RequestError, StorageError

OFFLINE_ROLES = ("root", "targets")
ONLINE_ROLES = ("snapshot", "timestamp", "deltas")


@dataclass(frozen=True, slots=True)
class OfflineKeys:
    """Keys that may stay off the server after `ota-server init`."""

    root: CryptoSigner
    targets: CryptoSigner


@dataclass(frozen=True, slots=True)
class OnlineKeys:
    """Keys that the running server signs with."""

    snapshot: CryptoSigner
    timestamp: CryptoSigner
    deltas: CryptoSigner


def make_keys(folder: Path) -> tuple[OfflineKeys, OnlineKeys]:
    """Return the keys of a new repository, making those that are not there yet.

    Raises:
        RequestError: a key file is there but holds no ed25519 key.
        StorageError: the folder cannot be written.
    """
    offline = [_make(_file(folder, role)) for role in OFFLINE_ROLES]
    online = [_make(_file(folder, role)) for role in ONLINE_ROLES]
    return OfflineKeys(*offline), OnlineKeys(*online)


def load_online(folder: Path) -> OnlineKeys:
    """Return the online keys.

    Raises:
        RequestError: one is missing or holds no ed25519 key.
    """
    return OnlineKeys(*(_load(_file(folder, role)) for role in ONLINE_ROLES))


def write_secret(file: Path, content: bytes) -> None:
    """Write a new file that its owner alone can read: whole and durable, or not at all.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = file.with_name(f".{file.name}.part")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error}", remedy="see that the folder can be written") from error


def _file(folder: Path, role: str) -> Path:
    return folder / ("offline" if role in OFFLINE_ROLES else "online") / f"{role}.pem"


def _make(file: Path) -> CryptoSigner:
    if not file.exists():
        write_secret(file, CryptoSigner.generate_ed25519().private_bytes)
    return _load(file)


def _load(file: Path) -> CryptoSigner:
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except FileNotFoundError as error:
        raise RequestError(
            f"there is no key {file}", remedy="run `ota-server init`, or put the key there from your backup"
        ) from error
    except OSError as error:
        raise RequestError(f"cannot read the key {file}: {error.strerror}", remedy="see who may read it") from error
    except (ValueError, TypeError) as error:
        raise RequestError(f"{file} holds no PEM key", remedy="put the key there from your backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RequestError(f"{file} holds no ed25519 key", remedy="put the key there that init made")
    return CryptoSigner(key)
