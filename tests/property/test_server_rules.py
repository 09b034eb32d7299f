"""What holds for every graph of deltas, every row of events and every Range header."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from ota_protocol.manifest import FileRef
from ota_protocol.wire import EventKind, VehicleProgress
from server.api.ranges import parse_range
from server.domain.release import delta_target
from server.domain.rollout import Progress
from server.domain.transfers import MAX_CANDIDATES, MAX_CHAIN, DeltaGraph, delta_offer, file_offer

LETTERS = "abcdef"
digests = st.sampled_from([letter * 64 for letter in LETTERS])
edges = st.builds(
    lambda base, result, length: delta_offer(base, result, delta_target(base, result), "9" * 64, length),
    st.none() | digests,
    digests,
    st.integers(1, 2_000),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(edges, max_size=14), st.sets(digests), digests, st.integers(1, 1_000))
def test_every_candidate_can_be_used_and_none_is_worse_than_the_raw_file(
    offered: list[object], held: set[str], wanted: str, length_bytes: int
) -> None:
    file = FileRef(digest=wanted, length_bytes=length_bytes)
    offer = file_offer("models/m/1.0.0/model.onnx", file, DeltaGraph(offered), held)  # type: ignore[arg-type]
    lengths = [candidate.length_bytes for candidate in offer.candidates]
    assert offer.candidates[-1].kind == "raw"
    assert lengths == sorted(lengths)
    assert lengths.count(length_bytes) == 1
    assert len(offer.candidates) <= MAX_CANDIDATES
    for candidate in offer.candidates[:-1]:
        at_hand: set[str | None] = {None, *held}
        for transfer in candidate.transfers:
            assert transfer.base in at_hand
            at_hand.add(transfer.result)
        assert wanted in at_hand
        assert len(candidate.transfers) <= MAX_CHAIN


@given(st.lists(st.sampled_from(list(EventKind)), max_size=30), st.integers(1, 5))
def test_progress_only_ends_once(kinds: list[EventKind], max_failures: int) -> None:
    progress = Progress()
    for kind in kinds:
        after = progress.after(kind, max_failures=max_failures)
        assert progress.failures <= after.failures <= max_failures
        if progress.state is VehicleProgress.CONFIRMED:
            assert after == progress
        if progress.state is VehicleProgress.FAILED:
            assert after.state in {VehicleProgress.FAILED, VehicleProgress.CONFIRMED}
        assert (after.state is VehicleProgress.FAILED) <= (after.failures == max_failures)
        progress = after
    assert (progress.state is VehicleProgress.CONFIRMED) == (EventKind.CONFIRMED in kinds)


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True), st.integers(1, 10_000))
def test_every_range_lies_within_the_file(header: str, length_bytes: int) -> None:
    try:
        found = parse_range(header, length_bytes)
    except HTTPException as refused:
        assert refused.status_code == 416
        return
    assert 0 <= found.start < found.end <= length_bytes
