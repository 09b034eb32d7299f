"""A bad delta is only a slow download: whatever is wrong with it, the vehicle ends on the signed bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_client.verify import VerifiedArtifact
from ota_protocol.delta.encode import encode
from ota_protocol.digest import sha256_hex
from ota_protocol.wire import Candidate, EventKind, Instruction, TransferOffer
from tests.support.agent_fake import Driver, driving, enrolled
from tests.support.model_fake import TinyRelease, fine_tuned, tiny_release
from tests.support.registry_fake import FakeRegistry, Reply, Request

FIRST = tiny_release("1.0.0", 1, hidden=200)
SECOND = fine_tuned(FIRST, "1.1.0", 2)
STRANGER = tiny_release("9.9.9", 9, seed=7, hidden=200)
HONEST = encode(FIRST.artifact, SECOND.artifact)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry.offering(FIRST)


@pytest.fixture
def state(tmp_path: Path, registry: FakeRegistry) -> Path:
    return enrolled(tmp_path / "car", registry)


def ends_on_the_signed_bytes(driver: Driver, via: str) -> None:
    driver.until_runs("1.1.0")
    slot = driver.parts.slots.active
    assert slot is not None
    assert slot.model_path.read_bytes() == SECOND.artifact
    assert driver.parts.journal.history()[-1].via == via
    assert driver.parts.inference.count.lost == 0


BAD_DELTAS: dict[str, Callable[[], bytes]] = {
    "cut off": lambda: HONEST[: len(HONEST) // 2],
    "a byte changed": lambda: HONEST[:-40] + bytes([HONEST[-40] ^ 1]) + HONEST[-39:],
    "no delta at all": lambda: b"\x7fELF" + b"\x00" * 500,
    "of another result": lambda: encode(FIRST.artifact, STRANGER.artifact),
    "for another base": lambda: encode(STRANGER.artifact, SECOND.artifact),
    "one byte": lambda: b"S",
}


@pytest.mark.parametrize("name", BAD_DELTAS)
def test_delta_that_is_signed_and_bad(state: Path, registry: FakeRegistry, name: str) -> None:
    """The online key of deltas signs it: stolen, or its worker is broken."""
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.add_delta(FIRST.artifact, SECOND.artifact, delta=BAD_DELTAS[name]())
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")


def test_delta_whose_result_is_a_bomb(state: Path, registry: FakeRegistry) -> None:
    bomb = encode(None, b"\x00" * (2 << 20))
    assert len(bomb) < 100_000
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.add_delta(FIRST.artifact, SECOND.artifact, delta=bomb)
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")


def test_tampered_delta_on_the_way(state: Path, registry: FakeRegistry) -> None:
    def tamper(each: FakeRegistry, request: Request) -> Reply | None:
        if not request.path.endswith(".sqd"):
            return None
        reply = each.honest(request)
        reply.body = bytes([reply.body[0] ^ 255]) + reply.body[1:]
        return reply

    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.add_delta(FIRST.artifact, SECOND.artifact)
        registry.faults.append(tamper)
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")
    assert EventKind.FAILED not in registry.kinds()


def test_bad_delta_is_followed_by_the_compressed_full(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.add_delta(FIRST.artifact, SECOND.artifact, delta=HONEST[:-7])
        registry.add_delta(None, SECOND.artifact)
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "full")


def test_delta_that_is_gone_from_the_registry(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.add_delta(FIRST.artifact, SECOND.artifact)
        registry.faults.append(lambda _, request: Reply(404) if request.path.endswith(".sqd") else None)
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")


def test_delta_for_a_base_that_is_not_here_is_not_fetched(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.add_delta(STRANGER.artifact, SECOND.artifact)
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")
    assert not any(path.endswith(".sqd") for path in registry.fetched())


def test_offer_that_names_the_held_base_for_a_delta_of_another(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        offer = registry.add_delta(STRANGER.artifact, SECOND.artifact)
        lie = offer.model_copy(update={"base": sha256_hex(FIRST.artifact)})
        registry.deltas[offer.result] = [lie]
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")


def test_base_that_is_damaged_on_the_disk(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        slot = driver.parts.slots.active
        assert slot is not None
        damaged = bytearray(slot.model_path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        slot.model_path.write_bytes(damaged)
        registry.publish(SECOND)
        registry.add_delta(FIRST.artifact, SECOND.artifact)
        registry.assign("1.1.0", "second")
        ends_on_the_signed_bytes(driver, "raw")


def test_instruction_whose_candidates_yield_another_file(state: Path, registry: FakeRegistry) -> None:
    """Candidates that lead elsewhere are not even fetched."""
    registry.publish(SECOND)
    evil = TransferOffer(target="deltas/a-b.sqd", digest="1" * 64, length_bytes=10, result="2" * 64)

    def mangle(instruction: Instruction) -> Instruction:
        if instruction.assignment is None or instruction.assignment.release != "1.1.0":
            return instruction
        offer = instruction.assignment.artifact
        changed = (Candidate(kind="delta", transfers=(evil,)), *offer.candidates)
        artifact = offer.model_copy(update={"candidates": changed})
        return instruction.model_copy(
            update={"assignment": instruction.assignment.model_copy(update={"artifact": artifact})}
        )

    registry.mangle = mangle
    registry.assign("1.1.0", "second")
    with driving(state, registry) as driver:
        ends_on_the_signed_bytes(driver, "raw")
    assert not any("deltas/" in path for path in registry.fetched())


def test_raw_file_that_stays_wrong_is_given_up_and_tried_again_later(state: Path, registry: FakeRegistry) -> None:
    registry.publish(SECOND)
    path = f"/tuf/targets/models/tiny/1.1.0/{sha256_hex(SECOND.artifact)}.model.onnx"
    with driving(state, registry, cooldown_s=0.2) as driver:
        driver.until_runs("1.0.0")
        registry.targets[path] = STRANGER.artifact[: len(SECOND.artifact)].ljust(len(SECOND.artifact), b"\0")
        registry.assign("1.1.0", "second")
        driver.until(lambda _: EventKind.FAILED in registry.kinds())
        assert registry.fetched().count(path) <= 5
        assert driver.confirmed == "1.0.0"
        registry.targets[path] = SECOND.artifact
        driver.until_runs("1.1.0")


def test_manifest_of_another_artifact(state: Path, registry: FakeRegistry) -> None:
    """Mix and match by whoever signs: the two signed files of a release do not belong together."""
    mixed = TinyRelease("tiny", "2.0.0", 2, STRANGER.artifact, SECOND.manifest)
    registry.publish(mixed)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.assign("2.0.0", "second")
        driver.until(lambda _: EventKind.FAILED in registry.kinds())
        assert driver.confirmed == "1.0.0"
        assert "describes" in driver.parts.journal.history()[-1].reason


def test_model_for_a_newer_runtime_is_refused_before_it_is_paid_for(state: Path, registry: FakeRegistry) -> None:
    newer = TinyRelease(
        "tiny",
        "2.0.0",
        2,
        SECOND.artifact,
        SECOND.manifest.replace(b'"1.1.0"', b'"2.0.0"').replace(b'"opset":17', b'"opset":64'),
    )
    registry.publish(newer)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.assign("2.0.0", "second")
        driver.until(lambda _: EventKind.FAILED in registry.kinds())
        assert "opset 64" in driver.parts.journal.history()[-1].reason
    assert not any(path.endswith("onnx") and "2.0.0" in path for path in registry.fetched())


def test_verified_artifact_cannot_be_made_elsewhere(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        slot = driver.parts.slots.active
        assert slot is not None
        with pytest.raises(TypeError, match=r"edge_client\.verify"):
            VerifiedArtifact(slot.model_path, slot.manifest_path, slot.manifest(), slot.release, object())
