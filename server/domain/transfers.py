"""Owns which ways there are to come by a file: raw, compressed full, delta, chain of deltas. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ota_protocol.delta.plan import plan
from ota_protocol.digest import DigestHex
from ota_protocol.manifest import FileRef
from ota_protocol.wire import Candidate, FileOffer, TransferOffer
from server.domain.release import KnownRelease

MAX_CHAIN = 3
"""Transfers in one chain. Each costs a request and an apply; more than three hardly ever beat the compressed full."""

MAX_CANDIDATES = 8
"""As many as `FileOffer` carries."""


Way = tuple[TransferOffer, ...]


class DeltaGraph:
    """The deltas on offer, as edges from base to result. Frozen after construction."""

    def __init__(self, offers: Iterable[TransferOffer]) -> None:
        self._into: dict[DigestHex, list[TransferOffer]] = {}
        for offer in offers:
            self._into.setdefault(offer.result, []).append(offer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeltaGraph) and self._into == other._into

    __hash__ = None  # type: ignore[assignment]  # compared, never a key

    def into(self, result: DigestHex) -> tuple[TransferOffer, ...]:
        """Return the deltas and the compressed full that yield `result`."""
        return tuple(self._into.get(result, ()))

    def ways(self, held: Collection[DigestHex], result: DigestHex) -> list[Way]:
        """Return the ways to `result` for who holds `held`: each single transfer, and the cheapest chain of several."""
        singles: list[Way] = [(o,) for o in self.into(result) if o.base is None or o.base in held]
        chain = self._cheapest(frozenset(held), result, MAX_CHAIN, {})
        return [*singles, chain] if len(chain) > 1 else singles

    def _cheapest(
        self, held: frozenset[DigestHex], result: DigestHex, transfers: int, known: dict[tuple[DigestHex, int], Way]
    ) -> Way:
        """Return the cheapest way of at most so many transfers; none at all is the empty way.

        Each file is looked at once for each length (Bellman, 1958), so that many releases cost little.
        """
        key = (result, transfers)
        if key not in known:
            known[key] = ()
            ways = [self._ending(offer, held, transfers, known) for offer in self.into(result)]
            known[key] = min((way for way in ways if way), key=_length, default=())
        return known[key]

    def _ending(
        self, offer: TransferOffer, held: frozenset[DigestHex], transfers: int, known: dict[tuple[DigestHex, int], Way]
    ) -> Way:
        """Return the cheapest way that ends with `offer`, or the empty way if there is none so short."""
        if offer.base is None or offer.base in held:
            return (offer,)
        before = self._cheapest(held, offer.base, transfers - 1, known) if transfers > 1 else ()
        return (*before, offer) if before else ()


def _length(way: Way) -> int:
    return sum(offer.length_bytes for offer in way)


def file_offer(target: str, file: FileRef, graph: DeltaGraph, held: Collection[DigestHex]) -> FileOffer:
    """Return the ways in which a vehicle that holds `held` can come by `file`: cheapest first, the raw file last.

    What moves more bytes than the compressed full, or not fewer than the raw file, is left out: it would be slower.
    """
    whole = TransferOffer(target=target, digest=file.digest, length_bytes=file.length_bytes, result=file.digest)
    raw = Candidate(kind="raw", transfers=(whole,))
    usable = plan(held, [_candidate(way) for way in graph.ways(held, file.digest)])
    full_bytes = min((c.length_bytes for c in usable if c.kind == "compressed_full"), default=file.length_bytes)
    kept = [c for c in usable if c.length_bytes <= full_bytes and c.length_bytes < file.length_bytes]
    return FileOffer(target=target, file=file, candidates=(*kept[: MAX_CANDIDATES - 1], raw))


def _candidate(way: Way) -> Candidate:
    if len(way) > 1:
        return Candidate(kind="chain", transfers=way)
    return Candidate(kind="delta" if way[0].base is not None else "compressed_full", transfers=way)


def delta_offer(
    base: DigestHex | None, result: DigestHex, target: str, digest: DigestHex, length_bytes: int
) -> TransferOffer:
    """Return the offer of one delta."""
    return TransferOffer(target=target, digest=digest, length_bytes=length_bytes, base=base, result=result)


def forecast_bytes(release: KnownRelease, graph: DeltaGraph, held: Collection[DigestHex]) -> int:
    """Return the bytes that a vehicle which holds `held` moves to come by a release the cheapest way."""
    return sum(
        file_offer(target, file, graph, held).candidates[0].length_bytes
        for target, file in (
            (release.artifact_target, release.artifact),
            (release.manifest_target, release.manifest),
        )
        if file.digest not in held
    )
