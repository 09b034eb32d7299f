"""Owns who this vehicle is: its name, its registry, its token and the root it trusts, as files of the state folder."""

from __future__ import annotations

import json
import logging
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import Field, TypeAdapter, ValidationError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from edge_client.disk import Disk, storage_errors
from edge_client.registry import Registry, make_client
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Frozen, Name

MAX_ROOT_BYTES: Final = 64 << 10
_NAME: Final = TypeAdapter(Name)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,512}")
"""One word of visible ASCII: anything else cannot travel in a header, and httpx would show it in its error."""

_log = logging.getLogger(__name__)


class _Enrolled(Frozen):
    vehicle: Name
    registry: str = Field(pattern=r"^https?://[^\s/]+(/[^\s]*)?$", max_length=512)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this vehicle is. The token is kept out of every text made of it."""

    vehicle: str
    registry: str
    token: str
    root: bytes

    def __repr__(self) -> str:
        return f"Identity({self.vehicle!r}, {self.registry!r})"

    @classmethod
    def read(cls, state: Path) -> Identity:
        """Read what `enrol` wrote.

        Raises:
            RequestError: the vehicle is not enrolled, or its token is damaged.
        """
        try:
            enrolled = _Enrolled.model_validate_json((state / "enrolment.json").read_bytes())
            token = _saved_token(state)
            return cls(enrolled.vehicle, enrolled.registry, token, (state / "root.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError) as error:
            raise RequestError(
                f"the vehicle of {state} is not enrolled", remedy="run `ota-agent enrol` first"
            ) from error
        except PermissionError as error:
            raise RequestError(f"{state} may not be read", remedy="run the agent as the owner of the folder") from error


def enrol(
    state: Path,
    registry: str,
    vehicle: str,
    *,
    enrolment_token: str,
    root: bytes,
    transport: httpx.BaseTransport | None = None,
) -> Identity:
    """Make this vehicle known to the registry. Doing it again, also after a failure, changes nothing.

    The token is made and saved before it is told, so that an answer which is lost does not lock the vehicle out.

    Raises:
        RequestError: a name, address or root that cannot be; or the folder belongs to another vehicle.
        RefusedError: the registry says no.
        TransportError: the registry does not answer.
        StorageError: the folder cannot be written.
    """
    enrolled = _checked(vehicle, registry)
    if not _TOKEN.fullmatch(enrolment_token):
        raise RequestError(
            "the enrolment token is not one word of plain characters",
            remedy="give the file enrolment.token that the registry's operator handed out",
        )
    _check_root(root)
    disk = Disk()
    disk.make_folder(state, mode=0o700)
    _require_same(state, enrolled)
    token = _token(state, disk)
    client = make_client(transport or httpx.HTTPTransport(trust_env=False), registry, timeout_s=20.0)
    with client:
        Registry(client, token).enrol(vehicle, enrolment_token)
    disk.write(state / "root.json", root)
    disk.write(state / "enrolment.json", enrolled.model_dump_json().encode())
    return Identity(vehicle, registry, token, root)


def _checked(vehicle: str, registry: str) -> _Enrolled:
    try:
        _NAME.validate_python(vehicle)
    except ValidationError as error:
        raise RequestError(
            f"{vehicle[:80]!r} cannot be the name of a vehicle", remedy="use a-z, 0-9, '-' and '_', at most 64"
        ) from error
    try:
        httpx.URL(registry)
        return _Enrolled(vehicle=vehicle, registry=registry.rstrip("/"))
    except (ValidationError, httpx.InvalidURL) as error:
        raise RequestError(
            f"{registry[:80]!r} is not the address of a registry", remedy="give one like http://registry:8080"
        ) from error


def _check_root(root: bytes) -> None:
    try:
        if len(root) > MAX_ROOT_BYTES:
            raise ValueError("it is too long")
        Metadata[Root].from_bytes(root).verify_delegate(Root.type, Metadata[Root].from_bytes(root))
    except (RepositoryError, ValueError) as error:
        raise RequestError(
            f"the root to pin is not a signed TUF root: {error}",
            remedy="give the root.json that the registry's operator handed out",
        ) from error


def _require_same(state: Path, enrolled: _Enrolled) -> None:
    path = state / "enrolment.json"
    if path.exists():
        with storage_errors("read the enrolment"):
            body = path.read_bytes()
        try:
            known = json.loads(body)["vehicle"]
        except (ValueError, TypeError, KeyError):
            # The registry refuses a token of another vehicle, so that a new record cannot mix up two.
            _log.warning("%s is damaged and is written anew", path)
            return
        if known != enrolled.vehicle:
            raise RequestError(
                f"{state} belongs to the vehicle {known!r}", remedy="give each vehicle a state folder of its own"
            )


def _token(state: Path, disk: Disk) -> str:
    path = state / "token"
    if not path.exists():
        disk.write(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    with storage_errors("read the token"):
        return _saved_token(state)


def _saved_token(state: Path) -> str:
    token = (state / "token").read_text("ascii", errors="replace").strip()
    if not _TOKEN.fullmatch(token):
        raise RequestError(
            f"{state / 'token'} is damaged", remedy="restore the state folder, or remove it and enrol under a new name"
        )
    return token
