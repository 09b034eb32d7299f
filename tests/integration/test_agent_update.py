"""The agent from enrolment to a confirmed release and on, against a registry in memory with real signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.machine import State
from edge_client.runtime import self_test_in_child
from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import ModelManifest
from ota_protocol.wire import EventKind
from tests.support.agent_fake import Driver, driving, enrolled
from tests.support.model_fake import (
    TinyRelease,
    endless_artifact,
    fine_tuned,
    manifest_for,
    tiny_release,
    wrong_release,
)
from tests.support.registry_fake import FakeRegistry, Reply, Request

FIRST = tiny_release("1.0.0", 1, hidden=400)
SECOND = fine_tuned(FIRST, "1.1.0", 2)
THIRD = fine_tuned(SECOND, "1.2.0", 3)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry.offering(FIRST)


@pytest.fixture
def state(tmp_path: Path, registry: FakeRegistry) -> Path:
    return enrolled(tmp_path / "car", registry)


def publish_delta(registry: FakeRegistry, base: TinyRelease, result: TinyRelease) -> None:
    registry.publish(result)
    registry.add_delta(base.artifact, result.artifact)
    registry.add_delta(base.manifest, result.manifest)


def test_first_release_is_fetched_tried_and_confirmed(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        driver.until(lambda each: each.parts.inference.count.served > 5)
        assert driver.parts.inference.count.lost == 0
        (update,) = driver.parts.journal.history()
    assert driver.states == [
        State.ASSIGNED,
        State.DOWNLOADING,
        State.VERIFYING,
        State.STAGING,
        State.ACTIVATING,
        State.TRIAL,
        State.CONFIRMING,
        State.IDLE,
    ]
    assert registry.kinds() == [
        EventKind.ASSIGNED,
        EventKind.DOWNLOADED,
        EventKind.VERIFIED,
        EventKind.STAGED,
        EventKind.ACTIVATED,
        EventKind.CONFIRMED,
    ]
    assert (update.result, update.via, update.resumed) == ("confirmed", "raw", 0)
    assert update.payload_bytes == len(FIRST.artifact) + len(FIRST.manifest)
    said = registry.check_ins[-1].vehicle
    assert said.active is not None
    assert set(said.bases) == {said.active.artifact, said.active.manifest}


def test_first_release_comes_as_compressed_full(state: Path, registry: FakeRegistry) -> None:
    registry.add_delta(None, FIRST.artifact)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        (update,) = driver.parts.journal.history()
    assert update.via == "full"


def test_second_release_comes_as_delta_and_loses_no_frame(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        publish_delta(registry, FIRST, SECOND)
        registry.assign("1.1.0", "second")
        driver.until_runs("1.1.0")
        driver.until(lambda each: each.parts.inference.predictions[-1].release == "1.1.0")
        update = driver.parts.journal.history()[-1]
        assert driver.parts.inference.count.lost == 0
    assert update.via == "delta"
    assert update.payload_bytes < len(SECOND.artifact) / 2
    assert all(SECOND.release not in path for path in registry.fetched())


def test_vehicle_two_releases_behind_takes_the_chain(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        publish_delta(registry, FIRST, SECOND)
        publish_delta(registry, SECOND, THIRD)
        registry.assign("1.2.0", "third")
        driver.until_runs("1.2.0")
        assert driver.parts.journal.history()[-1].via == "chain"


def test_nothing_new_is_one_request(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        before = len(registry.requests)
        driver.until(lambda _: len(registry.requests) >= before + 3)
    assert {request.path for request in registry.requests[before:]} == {"/api/v1/check-in"}


def test_dropped_connection_is_resumed_where_it_ended(state: Path, registry: FakeRegistry) -> None:
    cuts = iter([10_000, 5_000])

    def cut(each: FakeRegistry, request: Request) -> Reply | None:
        after = next(cuts, None) if request.path.endswith(".onnx") else None
        if after is None:
            return None
        reply = each.honest(request)
        reply.cut_after = after
        return reply

    registry.faults.append(cut)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        (update,) = driver.parts.journal.history()
    ranges = [request.headers["range"] for request in registry.requests if request.path.endswith(".onnx")]
    assert [each.split("-")[0] for each in ranges] == ["bytes=0", "bytes=10000", "bytes=15000"]
    assert update.resumed == 2
    assert update.payload_bytes <= len(FIRST.artifact) + len(FIRST.manifest)
    assert EventKind.RESUMED in registry.kinds()


def test_dead_registry_leaves_the_model_running_and_heals(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.faults.append(lambda *_: Reply(503))
        served = driver.parts.inference.count.served
        driver.until(lambda each: each.parts.inference.count.served > served + 10)
        publish_delta(registry, FIRST, SECOND)
        registry.assign("1.1.0", "second")
        registry.faults.clear()
        driver.until_runs("1.1.0")
        assert driver.parts.inference.count.lost == 0


def test_newer_assignment_replaces_one_that_is_being_fetched(state: Path, registry: FakeRegistry) -> None:
    registry.publish(SECOND)
    registry.faults.append(lambda _, request: Reply(503) if FIRST.release in request.path else None)
    with driving(state, registry, backoff_s=0.001, backoff_max_s=0.001) as driver:
        stall_on(registry, FIRST.artifact)
        driver.until(lambda each: each.state is State.DOWNLOADING)
        registry.assign("1.1.0", "second")
        driver.until_runs("1.1.0")
        assert [each.release for each in driver.parts.journal.history()] == ["1.1.0"]


def test_withdrawn_assignment_is_dropped_while_fetching(state: Path, registry: FakeRegistry) -> None:
    stall_on(registry, FIRST.artifact)
    with driving(state, registry, backoff_s=0.001, backoff_max_s=0.001) as driver:
        driver.until(lambda each: each.state is State.DOWNLOADING)
        registry.assign(None)
        driver.until(lambda each: each.state is State.IDLE)
        assert driver.confirmed is None


def stall_on(registry: FakeRegistry, artifact: bytes) -> None:
    """Let the link fail on one artifact."""

    def stall(_: FakeRegistry, request: Request) -> Reply | None:
        is_it = request.path.endswith(".onnx") and registry.targets[request.path] == artifact
        return Reply(503) if is_it else None

    registry.faults.append(stall)


def test_budget_is_kept_and_the_file_comes_in_parts(state: Path, registry: FakeRegistry) -> None:
    budget, spent = 30_000, [0]
    with driving(
        state, registry, budget_bytes=budget, budget_period_s=0.4, link_class="cellular", check_in_s=2.0
    ) as driver:
        count_payload(driver, registry)

        def is_done(each: Driver) -> bool:
            spent.append(each.parts.ledger.count().period_bytes)
            return each.confirmed == "1.0.0"

        driver.until(is_done)
        (update,) = driver.parts.journal.history()
    assert budget / 2 < max(spent) <= budget
    assert update.resumed >= 2
    assert update.payload_bytes == len(FIRST.artifact) + len(FIRST.manifest)
    assert driver.states.count(State.WAITING) == update.resumed


def count_payload(driver: Driver, registry: FakeRegistry) -> None:
    """Count what the registry answers into the ledger, as the socket would that is not there."""
    ledger = driver.parts.ledger

    def count(each: FakeRegistry, request: Request) -> Reply:
        reply = each.honest(request)
        ledger.add(sent=len(request.body) + 200, received=len(reply.body) + 200)
        return reply

    registry.faults.append(count)


def test_roaming_vehicle_downloads_nothing(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry, link_class="roaming") as driver:
        driver.until(lambda each: each.state is State.WAITING)
        driver.until(lambda _: EventKind.WAITING in registry.kinds())
    assert registry.fetched() == []


def test_release_that_fails_its_golden_sample_is_never_activated(state: Path, registry: FakeRegistry) -> None:
    bad = wrong_release("2.0.0", 2)
    registry.publish(bad)
    with driving(state, registry, self_test=self_test_in_child(60.0)) as driver:
        driver.until_runs("1.0.0")
        registry.assign("2.0.0", "second")
        driver.until(lambda _: EventKind.FAILED in registry.kinds())
        assert driver.confirmed == "1.0.0"
        assert State.TRIAL not in driver.states[driver.states.index(State.IDLE) :]
        fetched = len(registry.fetched())
        driver.until(lambda _: registry.kinds().count(EventKind.FAILED) >= 3)
        assert len(registry.fetched()) == fetched, "a release that cannot run is fetched again"
        assert "golden sample" in driver.parts.journal.history()[-1].reason


def test_release_that_fails_in_its_trial_is_rolled_back(state: Path, registry: FakeRegistry) -> None:
    bad = wrong_release("2.0.0", 2)
    registry.publish(bad)
    with driving(state, registry, self_test=lambda *_: None) as driver:
        driver.until_runs("1.0.0")
        registry.assign("2.0.0", "second")
        driver.until(lambda _: EventKind.FAILED in registry.kinds())
        assert State.ROLLING_BACK in driver.states
        assert driver.confirmed == "1.0.0"
        served = driver.parts.inference.count.served
        driver.until(lambda each: each.parts.inference.count.served > served + 3)
        assert driver.parts.inference.predictions[-1].release == "1.0.0"
        assert driver.parts.inference.count.lost == 0
        assert driver.parts.journal.history()[-1].result == "rolled_back"
    assert EventKind.ROLLED_BACK in registry.kinds()


def test_first_release_that_fails_leaves_the_vehicle_empty_and_willing(state: Path, registry: FakeRegistry) -> None:
    registry.publish(wrong_release("0.9.0", 1))
    registry.assign("0.9.0", "bad")
    with driving(state, registry, self_test=lambda *_: None) as driver:
        driver.until(lambda _: EventKind.ROLLED_BACK in registry.kinds())
        assert driver.parts.slots.active is None
        registry.assign("1.0.0", "good")
        driver.until_runs("1.0.0")


def test_crash_loop_in_the_trial_is_rolled_back(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
    registry.publish(SECOND)
    registry.assign("1.1.0", "second")
    starts = 0
    while EventKind.FAILED not in registry.kinds():
        starts += 1
        with driving(state, registry, trial_frames=10_000, trial_boots=3) as driver:
            driver.until(lambda each: each.state is State.TRIAL or EventKind.FAILED in registry.kinds())
    assert starts == 5  # the one that activated it, three more, and the one that gave up
    with driving(state, registry) as driver:
        assert driver.confirmed == "1.0.0"
        assert "started 4 times" in driver.parts.journal.history()[-1].reason


def test_model_that_hangs_in_its_trial_is_cancelled_and_rolled_back(state: Path, registry: FakeRegistry) -> None:
    artifact = endless_artifact()
    golden = ModelManifest.from_bytes(FIRST.manifest).golden_samples[0]
    manifest = manifest_for(artifact, "tiny", "2.0.0", golden=golden)
    registry.publish(TinyRelease("tiny", "2.0.0", 2, artifact, manifest.to_bytes()))
    with driving(state, registry, self_test=lambda *_: None, self_test_timeout_s=0.5) as driver:
        driver.until_runs("1.0.0")
        registry.assign("2.0.0", "second")
        driver.until(lambda _: EventKind.ROLLED_BACK in registry.kinds())
        served = driver.parts.inference.count.served
        driver.until(lambda each: each.parts.inference.count.served > served + 5)
        assert driver.confirmed == "1.0.0"
        assert driver.parts.inference.count.lost == 0


def test_kept_model_that_no_longer_loads_gives_way_to_the_one_before(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.assign("1.1.0", "second")
        driver.until_runs("1.1.0")
        slot = driver.parts.slots.active
        assert slot is not None
        broken = slot.release.model_copy(update={"artifact": sha256_hex(b"no model")})
        slot.model_path.unlink()
        slot.model_path.write_bytes(b"no model")
        (slot.folder / "slot.json").write_text(broken.model_dump_json())
    registry.assign(None)
    with driving(state, registry) as driver:
        assert driver.confirmed == "1.0.0"
        driver.until(lambda each: len(each.parts.inference.predictions) > 3)


def test_trial_without_frames_ends(state: Path, registry: FakeRegistry, tmp_path: Path) -> None:
    empty = tmp_path / "no-frames"
    empty.mkdir()
    with driving(state, registry, frames=empty, trial_timeout_s=0.2) as driver:
        driver.until(lambda _: EventKind.ROLLED_BACK in registry.kinds())
        assert "0 of 3 frames" in driver.parts.journal.history()[-1].reason


def test_lost_answer_to_a_check_in_does_not_double_events(state: Path, registry: FakeRegistry) -> None:
    lost = iter(range(6))

    def lose(each: FakeRegistry, request: Request) -> Reply | None:
        if request.path.endswith("/check-in") and next(lost, None) is not None:
            each.honest(request)
            return Reply(502)
        return None

    registry.faults.append(lose)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
    ids = [event.id for event in registry.events]
    assert len(ids) == len(set(ids))
    assert registry.kinds().count(EventKind.CONFIRMED) == 1


def test_release_with_the_same_artifact_fetches_only_its_manifest(state: Path, registry: FakeRegistry) -> None:
    relabelled = TinyRelease(
        "tiny", "1.0.1", 2, FIRST.artifact, FIRST.manifest.replace(b'"release":"1.0.0"', b'"release":"1.0.1"')
    )
    registry.publish(relabelled)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        before = len(registry.fetched())
        registry.assign("1.0.1", "second")
        driver.until_runs("1.0.1")
    assert [path.rpartition(".")[2] for path in registry.fetched()[before:]] == ["json"]
