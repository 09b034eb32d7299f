"""Owns what is authentic: TUF metadata by `tuf.ngclient`, from a pinned root, and the targets it vouches for.

The registry's check-in carries the current timestamp and the version of the newest root; both are fed to the updater
in place of two requests, and are verified like bytes from anywhere. A `TrustedRelease` can be made here alone.
Does not own the transfer of targets.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import TargetFile
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge_client.disk import Disk, storage_errors
from edge_client.registry import refusal
from ota_protocol.digest import DigestHex
from ota_protocol.errors import MalformedError, OtaError, TransportError, TrustError
from ota_protocol.manifest import MAX_MANIFEST_BYTES
from ota_protocol.wire import Assignment, FileOffer, TransferOffer

METADATA_PATH: Final = "/tuf/metadata/"
TARGETS_PATH: Final = "/tuf/targets/"

LIMITS: Final = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=4,
    root_max_length=64 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=256 << 10,
    targets_max_length=4 << 20,
)
"""About 290 bytes a target: four MiB of targets are 14,000 files."""

_ROOT_URL = re.compile(r"/(\d+)\.root\.json$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hint:
    """What the check-in said about the metadata."""

    timestamp: bytes | None
    root_version: int


@dataclass(frozen=True, slots=True)
class TrustedFile:
    """A target as signed metadata describes it."""

    target: str
    digest: DigestHex
    length_bytes: int

    @property
    def url_path(self) -> str:
        """Where its bytes lie: the consistent-snapshot name, which carries the digest."""
        folder, _, name = self.target.rpartition("/")
        return f"{TARGETS_PATH}{folder}/{self.digest}.{name}"


@dataclass(frozen=True, slots=True)
class TrustedRelease:
    """A release that the offline key vouches for."""

    model: str
    release: str
    release_counter: int
    artifact: TrustedFile
    manifest: TrustedFile


class TrustedTargets:
    """What the metadata of one refresh vouches for."""

    def __init__(self, updater: Updater) -> None:
        self._updater = updater

    def release(self, assignment: Assignment, highest_confirmed: int) -> TrustedRelease:
        """Return the release of an assignment as signed, whatever the registry says about it.

        Raises:
            TrustError: the metadata does not list it, lists other files, or its counter is below what was confirmed.
        """
        folder = f"models/{assignment.model}/{assignment.release}"
        artifact, artifact_counter = self._listed(f"{folder}/model.onnx", assignment.artifact)
        manifest, manifest_counter = self._listed(f"{folder}/manifest.json", assignment.manifest)
        if artifact_counter != manifest_counter or artifact_counter != assignment.release_counter:
            raise TrustError(
                f"the release counters of {assignment.model} {assignment.release} differ between its signed files"
                " and the assignment",
                remedy="publish the release again",
            )
        if artifact_counter < highest_confirmed:
            raise TrustError(
                f"{assignment.model} {assignment.release} has release counter {artifact_counter}, below the confirmed"
                f" {highest_confirmed}: an old release is offered as new",
                remedy="publish the old artifact as a new release if it is wanted",
            )
        if manifest.length_bytes > MAX_MANIFEST_BYTES:
            raise TrustError(f"the signed manifest of {assignment.release} is longer than {MAX_MANIFEST_BYTES:,} bytes")
        return TrustedRelease(assignment.model, assignment.release, artifact_counter, artifact, manifest)

    def transfer(self, offer: TransferOffer) -> TrustedFile:
        """Return the target of a transfer as signed.

        Raises:
            TrustError: the metadata does not list it, or lists other bytes.
            TransportError: its role's metadata could not be fetched.
        """
        file = self._file(self._target(offer.target))
        if (file.digest, file.length_bytes) != (offer.digest, offer.length_bytes):
            raise TrustError(f"{offer.target} is not the file that the metadata lists", remedy="wait for new metadata")
        return file

    def _listed(self, target: str, offer: FileOffer) -> tuple[TrustedFile, int]:
        found = self._target(target)
        file = self._file(found)
        offered = (offer.target, offer.file.digest, offer.file.length_bytes)
        if (target, file.digest, file.length_bytes) != offered:
            raise TrustError(
                f"the registry offers other bytes for {target} than were signed", remedy="wait for new metadata"
            )
        counter = found.custom.get("release_counter") if found.custom else None
        if not isinstance(counter, int) or counter < 1:
            raise TrustError(f"{target} carries no release counter", remedy="publish the release again")
        return file, counter

    def _target(self, target: str) -> TargetFile:
        with trust_errors(f"look up {target}"):
            found = self._updater.get_targetinfo(target)
        if found is None:
            raise TrustError(f"no signed metadata lists {target}", remedy="publish the release again")
        return found

    @staticmethod
    def _file(found: TargetFile) -> TrustedFile:
        digest = found.hashes.get("sha256")
        if digest is None:
            raise TrustError(f"the metadata gives no sha256 of {found.path}", remedy="publish the release again")
        return TrustedFile(found.path, digest, found.length)


class Trust:
    """The TUF client of one vehicle.

    Args:
        folder: cache of verified metadata.
        pinned_root: bytes of the root that was put on the vehicle beforehand.
        client: an HTTP client of the registry.
        disk: durable file operations.
    """

    def __init__(self, folder: Path, pinned_root: bytes, client: httpx.Client, disk: Disk) -> None:
        self._folder = folder
        self._root = pinned_root
        self._client = client
        self._disk = disk
        disk.make_folder(folder)

    def refresh(self, hint: Hint) -> TrustedTargets:
        """Bring the metadata up to date; with nothing new it costs no request.

        Raises:
            TrustError: forged, expired, rolled back or mixed metadata; the cached metadata stays.
            TransportError: a metadata file could not be fetched.
            StorageError: it could not be kept.
        """
        fetcher = _Fetcher(self._client, hint)
        with trust_errors("refresh the metadata"):
            updater = Updater(str(self._folder), METADATA_PATH, fetcher=fetcher, config=LIMITS, bootstrap=self._root)
            updater.refresh()
        if fetcher.requests:
            self._make_durable()
        return TrustedTargets(updater)

    def _make_durable(self) -> None:
        """Flush the cache: ngclient replaces files without an fsync, and a lost timestamp forgets what was seen."""
        with storage_errors("keep the metadata"):
            for path in self._folder.glob("**/*.json"):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    self._disk.flush(descriptor, path)
                finally:
                    os.close(descriptor)
            self._disk.sync_folder(self._folder)


class _Fetcher(FetcherInterface):
    """Moves metadata bytes over httpx, and answers from the check-in what the check-in knows."""

    def __init__(self, client: httpx.Client, hint: Hint) -> None:
        self._client = client
        self._hint = hint
        self.requests = 0

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Collect in memory: the inherited method goes through a temporary file elsewhere."""
        body = bytearray()
        for chunk in self.fetch(url):
            body += chunk
            if len(body) > max_length:
                raise tuf_errors.DownloadLengthMismatchError(f"{url} is longer than {max_length:,} bytes")
        return bytes(body)

    def _fetch(self, url: str) -> Iterator[bytes]:
        root = _ROOT_URL.search(url)
        if root and int(root[1]) > self._hint.root_version:
            raise tuf_errors.DownloadHTTPError("the check-in names no newer root", 404)
        if url.endswith("/timestamp.json") and self._hint.timestamp is not None:
            yield self._hint.timestamp
            return
        self.requests += 1
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code >= 400:
                    raise tuf_errors.DownloadHTTPError(f"{response.status_code} for {url}", response.status_code)
                yield from response.iter_raw()
        except httpx.HTTPError as error:
            raise tuf_errors.DownloadError(f"{url}: {error or type(error).__name__}") from error


@contextlib.contextmanager
def trust_errors(what: str) -> Iterator[None]:
    """Map ngclient's errors into the tree."""
    try:
        yield
    except OtaError:
        raise
    except tuf_errors.DownloadLengthMismatchError as error:
        raise MalformedError(f"cannot {what}: {error}", remedy="check the registry's address") from error
    except tuf_errors.DownloadHTTPError as error:
        mapped = refusal(error.status_code, b"", what)
        raise mapped from error
    except tuf_errors.DownloadError as error:
        raise TransportError(f"cannot {what}: {error}", remedy="check the link") from error
    except tuf_errors.ExpiredMetadataError as error:
        raise TrustError(
            f"cannot {what}: {error}", remedy="check the vehicle's clock, and that the registry re-signs its metadata"
        ) from error
    except (tuf_errors.RepositoryError, ValueError) as error:
        raise TrustError(
            f"cannot {what}: {error}", remedy="check that the registry is the one whose root was pinned"
        ) from error
    except OSError as error:
        with storage_errors(what):
            raise error
