"""Owns the publisher's side of trust: reads the offline `targets` key, checks current targets and signs the next.

`docs/protocol.md` section 2 states the rules; the metadata is TUF's (specification 1.0). Nothing is sent from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from ota_protocol.errors import MalformedError, RequestError, TrustError
from ota_protocol.manifest import FileRef

LIFETIME = timedelta(days=365)
"""How long signed targets hold; every release starts it anew, and a vehicle that was parked longer waits for one."""
MAX_KEY_BYTES = 16 << 10
"""An ed25519 key in PEM takes 119 bytes; anything far larger is another file."""


@dataclass(frozen=True, slots=True)
class NewTargets:
    """The two files of a release, as they go into `targets`."""

    model: str
    release: str
    artifact: FileRef
    manifest: FileRef

    @property
    def files(self) -> dict[str, FileRef]:
        """By the path of the target."""
        folder = f"models/{self.model}/{self.release}"
        return {f"{folder}/model.onnx": self.artifact, f"{folder}/manifest.json": self.manifest}


@dataclass(frozen=True, slots=True)
class SignedTargets:
    """The next version of `targets`, signed."""

    body: bytes
    version: int
    release_counter: int


def load_signer(path: Path) -> CryptoSigner:
    """Return the signer of an ed25519 key file (PEM, PKCS8, not encrypted).

    Raises:
        RequestError: the file is missing, unreadable, or holds no such key. Its content is never shown.
    """
    remedy = "give the targets.pem that ota-server init made (KEYS/offline/targets.pem)"
    try:
        with path.open("rb") as file:
            key = load_pem_private_key(file.read(MAX_KEY_BYTES), password=None)
    except OSError as error:
        raise RequestError(f"cannot read the key {path}: {error.strerror}", remedy=remedy) from error
    except (ValueError, TypeError) as error:
        raise RequestError(f"{path} holds no plain PEM key", remedy=remedy) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RequestError(f"{path} holds no ed25519 key", remedy=remedy)
    return CryptoSigner(key)


def extend(current: bytes, signer: CryptoSigner, new: NewTargets, now: datetime) -> SignedTargets:
    """Return the next `targets`: the current ones and the files of one more release.

    Args:
        current: targets metadata as the registry serves it.
        signer: the offline key; `current` must be signed by it.
        now: the reference time of the new expiry.

    Raises:
        TrustError: `current` is not signed by this key: what it lists must not be signed again.
        MalformedError: it is no targets metadata.
        RequestError: it lists the release with other bytes.
    """
    metadata = _verified(current, signer)
    targets = metadata.signed
    counter = _next_counter(targets, new.model)
    for path, file in new.files.items():
        listed = targets.targets.get(path)
        if listed is not None and (listed.hashes.get("sha256"), listed.length) != (file.digest, file.length_bytes):
            raise RequestError(f"{path} is signed with other bytes", remedy="publish under another release number")
        targets.targets[path] = TargetFile(
            file.length_bytes, {"sha256": file.digest}, path, {"custom": {"release_counter": counter}}
        )
    targets.version += 1
    targets.expires = (now + LIFETIME).replace(microsecond=0)
    metadata.sign(signer)
    return SignedTargets(metadata.to_bytes(JSONSerializer(compact=True)), targets.version, counter)


def _verified(current: bytes, signer: CryptoSigner) -> Metadata[Targets]:
    try:
        metadata = Metadata[Targets].from_bytes(current)
        if not isinstance(metadata.signed, Targets):
            raise TypeError(f"it is {metadata.signed.type} metadata")
    except (DeserializationError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise MalformedError(f"the registry's targets metadata does not parse: {str(error)[:200]}") from error
    signature = metadata.signatures.get(signer.public_key.keyid)
    try:
        if signature is None:
            raise UnverifiedSignatureError("no signature of this key")
        signer.public_key.verify_signature(signature, metadata.signed_bytes)
    except (UnverifiedSignatureError, VerificationError) as error:
        raise TrustError(
            "the registry's targets metadata is not signed by this targets key",
            remedy="use the key of this registry; if it is the right one, someone has tampered with the registry",
        ) from error
    return metadata


def _next_counter(targets: Targets, model: str) -> int:
    """Return one more than the highest release counter of a model."""
    prefix = f"models/{model}/"
    counters = [
        (target.custom or {}).get("release_counter", 0)
        for path, target in targets.targets.items()
        if path.startswith(prefix)
    ]
    return max((counter for counter in counters if isinstance(counter, int)), default=0) + 1
