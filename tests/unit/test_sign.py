"""The publisher's signature: what it extends, what it refuses to sign, and how a key file can be bad."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from model_build.sign import LIFETIME, NewTargets, extend, load_signer
from ota_protocol.errors import MalformedError, RequestError, TrustError
from ota_protocol.manifest import FileRef

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
ARTIFACT, MANIFEST = FileRef(digest="a" * 64, length_bytes=1000), FileRef(digest="b" * 64, length_bytes=20)
NEW = NewTargets("squeezenet", "1.1.0", ARTIFACT, MANIFEST)
SIGNER = CryptoSigner.generate_ed25519()


def current(signer: CryptoSigner = SIGNER, **counters: int) -> bytes:
    """Return targets metadata, version 7, with a delegation and a release per counter."""
    delegated = DelegatedRole("deltas", [], threshold=1, terminating=True, paths=["deltas/*"])
    targets = Targets(version=7, expires=NOW - timedelta(days=3), delegations=Delegations({}, {"deltas": delegated}))
    for name, counter in counters.items():
        path = f"models/{name.replace('__', '/')}/model.onnx"
        custom = {"custom": {"release_counter": counter}}
        targets.targets[path] = TargetFile(5, {"sha256": "c" * 64}, path, custom)
    metadata = Metadata(targets)
    metadata.sign(signer)
    return metadata.to_bytes()


def test_the_next_version_lists_what_was_and_both_new_files() -> None:
    before = current(squeezenet__1_0_0=4)
    signed = extend(before, SIGNER, NEW, NOW)
    metadata = Metadata[Targets].from_bytes(signed.body)
    SIGNER.public_key.verify_signature(metadata.signatures[SIGNER.public_key.keyid], metadata.signed_bytes)
    targets, old = metadata.signed, Metadata[Targets].from_bytes(before).signed
    assert (targets.version, signed.version, signed.release_counter) == (8, 8, 5)
    assert targets.expires == (NOW + LIFETIME).replace(microsecond=0)
    assert targets.delegations == old.delegations
    assert targets.targets == {
        **old.targets,
        **{
            path: TargetFile(file.length_bytes, {"sha256": file.digest}, path, {"custom": {"release_counter": 5}})
            for path, file in {
                "models/squeezenet/1.1.0/model.onnx": ARTIFACT,
                "models/squeezenet/1.1.0/manifest.json": MANIFEST,
            }.items()
        },
    }


def test_the_body_is_compact() -> None:
    assert b"\n" not in extend(current(), SIGNER, NEW, NOW).body
    assert b'": ' not in extend(current(), SIGNER, NEW, NOW).body


def test_counters_grow_by_model() -> None:
    body = current(squeezenet__0_9_0=11, squeezenet__1_0_0=4, other__1_0_0=90, squeezenet_x__1_0_0=70)
    assert extend(body, SIGNER, NEW, NOW).release_counter == 12
    assert extend(current(), SIGNER, NEW, NOW).release_counter == 1


def test_metadata_of_another_key_is_not_signed_again() -> None:
    with pytest.raises(TrustError, match="not signed by this targets key"):
        extend(current(CryptoSigner.generate_ed25519()), SIGNER, NEW, NOW)


def test_tampered_metadata_is_not_signed_again() -> None:
    body = json.loads(current(squeezenet__1_0_0=4))
    body["signed"]["targets"]["models/squeezenet/1_0_0/model.onnx"]["length"] = 6
    with pytest.raises(TrustError, match="someone has tampered"):
        extend(json.dumps(body).encode(), SIGNER, NEW, NOW)


def test_signed_metadata_of_another_role_is_refused() -> None:
    from tuf.api.metadata import Snapshot

    metadata = Metadata(Snapshot(version=7, expires=NOW))
    metadata.sign(SIGNER)
    with pytest.raises(MalformedError, match="snapshot metadata"):
        extend(metadata.to_bytes(), SIGNER, NEW, NOW)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"signed": 1, "signatures": []}', b"\xff\xfe"])
def test_what_is_no_metadata_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError, match="does not parse"):
        extend(body, SIGNER, NEW, NOW)


def test_a_release_is_never_signed_with_other_bytes() -> None:
    once = extend(current(), SIGNER, NEW, NOW).body
    other = NewTargets("squeezenet", "1.1.0", FileRef(digest="d" * 64, length_bytes=1000), MANIFEST)
    with pytest.raises(RequestError, match="signed with other bytes; publish under another release number"):
        extend(once, SIGNER, other, NOW)
    assert extend(once, SIGNER, NEW, NOW).version == 9


# ── key files ──


def test_a_key_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "targets.pem").write_bytes(SIGNER.private_bytes)
    assert load_signer(tmp_path / "targets.pem").public_key.keyid == SIGNER.public_key.keyid


def rsa_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted_key() -> bytes:
    key = SIGNER._private_key
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no plain PEM key"),
        (SIGNER.private_bytes[:60], "holds no plain PEM key"),
        (b"secret stuff", "holds no plain PEM key"),
        (encrypted_key(), "holds no plain PEM key"),
        (rsa_key(), "holds no ed25519 key"),
    ],
    ids=["empty", "cut off", "no key", "encrypted", "another kind"],
)
def test_a_bad_key_file_is_refused_and_not_shown(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "targets.pem").write_bytes(content)
    with pytest.raises(RequestError, match=said) as caught:
        load_signer(tmp_path / "targets.pem")
    assert "secret" not in str(caught.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read the key .*targets\.pem: No such file"):
        load_signer(tmp_path / "targets.pem")
