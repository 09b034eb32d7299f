"""Which ways a vehicle is offered to come by a file."""

from __future__ import annotations

from ota_protocol.manifest import FileRef
from ota_protocol.wire import TransferOffer
from server.domain.release import delta_target
from server.domain.transfers import MAX_CANDIDATES, DeltaGraph, delta_offer, file_offer


def digest(letter: str) -> str:
    return letter * 64


def edge(base: str | None, result: str, length_bytes: int) -> TransferOffer:
    start = digest(base) if base else None
    return delta_offer(start, digest(result), delta_target(start, digest(result)), digest("f"), length_bytes)


FILE = FileRef(digest=digest("c"), length_bytes=1000)


def kinds(graph: DeltaGraph, *held: str) -> list[tuple[str, int]]:
    offer = file_offer("models/m/1.0.0/model.onnx", FILE, graph, frozenset(map(digest, held)))
    return [(candidate.kind, candidate.length_bytes) for candidate in offer.candidates]


def test_without_deltas_there_is_the_raw_file() -> None:
    assert kinds(DeltaGraph([])) == [("raw", 1000)]


def test_a_delta_is_offered_only_to_who_holds_its_base() -> None:
    graph = DeltaGraph([edge("a", "c", 50), edge(None, "c", 600)])
    assert kinds(graph, "a") == [("delta", 50), ("compressed_full", 600), ("raw", 1000)]
    assert kinds(graph, "b") == [("compressed_full", 600), ("raw", 1000)]


def test_a_cheaper_chain_comes_before_the_delta() -> None:
    graph = DeltaGraph([edge("a", "c", 400), edge("a", "b", 30), edge("b", "c", 40)])
    assert kinds(graph, "a") == [("chain", 70), ("delta", 400), ("raw", 1000)]


def test_a_chain_may_begin_with_a_compressed_full() -> None:
    graph = DeltaGraph([edge(None, "b", 500), edge("b", "c", 40)])
    assert kinds(graph) == [("chain", 540), ("raw", 1000)]


def test_a_chain_has_three_transfers_at_most() -> None:
    graph = DeltaGraph([edge("a", "b", 1), edge("b", "d", 1), edge("d", "e", 1), edge("e", "c", 1)])
    assert kinds(graph, "a") == [("raw", 1000)]
    assert kinds(graph, "b") == [("chain", 3), ("raw", 1000)]


def test_a_circle_of_deltas_ends() -> None:
    graph = DeltaGraph([edge("a", "b", 1), edge("b", "a", 1), edge("b", "c", 1)])
    assert kinds(graph, "a") == [("chain", 2), ("raw", 1000)]
    assert kinds(graph) == [("raw", 1000)]


def test_what_is_not_smaller_than_the_raw_file_is_not_offered() -> None:
    assert kinds(DeltaGraph([edge(None, "c", 1000)])) == [("raw", 1000)]


def test_no_more_candidates_than_the_message_carries() -> None:
    letters = "0123456789abde"
    graph = DeltaGraph([edge(letter, "c", 10 + index) for index, letter in enumerate(letters)])
    offered = kinds(graph, *letters)
    assert len(offered) == MAX_CANDIDATES
    assert offered[0] == ("delta", 10)
    assert offered[-1] == ("raw", 1000)
