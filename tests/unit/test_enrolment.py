"""Enrolment: it may be repeated after anything, and no secret is shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge_client.enrolment import Identity, enrol
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import RefusedError, RequestError, TransportError
from tests.support.agent_fake import ADDRESS
from tests.support.registry_fake import ENROLMENT_TOKEN, FakeRegistry, FakeTransport, Reply


def try_enrol(
    state: Path, registry: FakeRegistry, *, vehicle: str = "car-1", address: str = ADDRESS, token: str = ENROLMENT_TOKEN
) -> Identity:
    root = registry.repository.pinned_root
    return enrol(state, address, vehicle, enrolment_token=token, root=root, transport=FakeTransport(registry))


def test_enrolled_vehicle_knows_itself(tmp_path: Path) -> None:
    registry = FakeRegistry()
    made = try_enrol(tmp_path / "car", registry)
    assert Identity.read(tmp_path / "car") == made
    assert registry.tokens == {"car-1": sha256_hex(made.token.encode())}


def test_token_is_secret(tmp_path: Path) -> None:
    made = try_enrol(tmp_path / "car", FakeRegistry())
    assert stat.S_IMODE((tmp_path / "car" / "token").stat().st_mode) == 0o600
    assert made.token not in repr(made) + str(made)
    assert len(made.token) >= 43


def test_again_changes_nothing(tmp_path: Path) -> None:
    registry = FakeRegistry()
    assert try_enrol(tmp_path / "car", registry) == try_enrol(tmp_path / "car", registry)


def test_lost_answer_does_not_lock_the_vehicle_out(tmp_path: Path) -> None:
    registry = FakeRegistry()

    def lose(each: FakeRegistry, request: object) -> Reply:
        each.honest(request)  # type: ignore[arg-type]
        return Reply(502)

    registry.faults.append(lose)
    with pytest.raises(TransportError):
        try_enrol(tmp_path / "car", registry)
    with pytest.raises(RequestError, match="not enrolled"):
        Identity.read(tmp_path / "car")
    registry.faults.clear()
    try_enrol(tmp_path / "car", registry)


def test_wrong_enrolment_token(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="401"):
        try_enrol(tmp_path / "car", FakeRegistry(), token="wrong")


def test_name_that_is_taken(tmp_path: Path) -> None:
    registry = FakeRegistry()
    try_enrol(tmp_path / "one", registry)
    with pytest.raises(RefusedError, match="409"):
        try_enrol(tmp_path / "two", registry)


def test_folder_of_another_vehicle(tmp_path: Path) -> None:
    registry = FakeRegistry()
    try_enrol(tmp_path / "car", registry)
    with pytest.raises(RequestError, match="belongs to the vehicle 'car-1'"):
        try_enrol(tmp_path / "car", registry, vehicle="car-2")


@pytest.mark.parametrize("vehicle", ["", "Car", "../up", "a b", "x" * 65])
def test_impossible_name(tmp_path: Path, vehicle: str) -> None:
    with pytest.raises(RequestError, match="name of a vehicle"):
        try_enrol(tmp_path / "car", FakeRegistry(), vehicle=vehicle)
    assert not (tmp_path / "car").exists()


@pytest.mark.parametrize(
    "address", ["", "registry:8080", "ftp://x", "http://", "http://a b", "http://[::1", "http://a:b"]
)
def test_impossible_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(RequestError, match="address of a registry"):
        try_enrol(tmp_path / "car", FakeRegistry(), address=address)


@pytest.mark.parametrize("token", ["", "two\nlines", "caf\u00e9", "a b", "\ufffd" * 9])
def test_enrolment_token_that_cannot_be_one_is_refused_and_not_shown(tmp_path: Path, token: str) -> None:
    with pytest.raises(RequestError, match="enrolment token is not one word") as caught:
        try_enrol(tmp_path / "car", FakeRegistry(), token=token)
    assert not token or token not in str(caught.value)
    assert not (tmp_path / "car").exists()


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\x00", b"[]", b"{}"])
def test_damaged_record_is_written_anew(tmp_path: Path, junk: bytes) -> None:
    registry = FakeRegistry()
    made = try_enrol(tmp_path / "car", registry)
    (tmp_path / "car" / "enrolment.json").write_bytes(junk)
    with pytest.raises(RequestError, match="not enrolled"):
        Identity.read(tmp_path / "car")
    assert try_enrol(tmp_path / "car", registry) == made == Identity.read(tmp_path / "car")


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\x00", b"a\nb"])
def test_damaged_token_is_told(tmp_path: Path, junk: bytes) -> None:
    registry = FakeRegistry()
    try_enrol(tmp_path / "car", registry)
    (tmp_path / "car" / "token").write_bytes(junk)
    with pytest.raises(RequestError, match="token is damaged"):
        Identity.read(tmp_path / "car")
    with pytest.raises(RequestError, match="token is damaged"):
        try_enrol(tmp_path / "car", registry)


@pytest.mark.parametrize("root", [b"", b"{}", b"junk", b"{" * 100_000])
def test_root_that_is_none(tmp_path: Path, root: bytes) -> None:
    with pytest.raises(RequestError, match="not a signed TUF root"):
        enrol(tmp_path / "car", ADDRESS, "car-1", enrolment_token="x", root=root)


def test_root_whose_signature_is_broken(tmp_path: Path) -> None:
    root = FakeRegistry().repository.pinned_root.replace(b'"version":1', b'"version":2')
    with pytest.raises(RequestError, match="not a signed TUF root"):
        enrol(tmp_path / "car", ADDRESS, "car-1", enrolment_token="x", root=root)


def test_vehicle_that_is_not_enrolled(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="ota-agent enrol"):
        Identity.read(tmp_path)
