"""Owns the link policy: whether, how much and which way may be transferred now. Pure: values in, values out.

Bytes are those of the ledger, both ways, control traffic included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

from edge_client.ledger import Count, period_start
from edge_client.settings import LinkClass
from ota_protocol.delta.plan import plan
from ota_protocol.digest import DigestHex
from ota_protocol.errors import MalformedError
from ota_protocol.wire import Candidate, FileOffer

REQUEST_BYTES: Final = 700
"""What one ranged request costs beside its payload: request line and headers both ways, rounded up."""
MIN_PART_BYTES: Final = 512
"""A smaller part costs more in headers than it brings."""
CHECK_IN_BYTES: Final = 4 << 10
"""A check-in that brings an assignment with its timestamp takes about this much."""
RESERVED_SHARE: Final = 4
"""A quarter of a budget is kept for check-ins, so that downloads cannot silence a vehicle."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network path, its class and its price."""

    link_class: LinkClass
    download_on: tuple[LinkClass, ...]
    budget_bytes: int | None
    budget_period_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to transfer now.

    `go`: all that is wanted; `partial`: `allowed_bytes` of payload now, more in the next period; `wait`: not before
    `until_s` (Unix time; None: not until the link changes).
    """

    verdict: Literal["go", "partial", "wait"]
    allowed_bytes: int = 0
    until_s: float | None = None
    reason: str = ""


def may_download(link: Link, count: Count, wanted_bytes: int, now_s: float) -> Decision:
    """Decide about a download of `wanted_bytes` of payload."""
    if link.link_class not in link.download_on:
        return Decision("wait", reason=f"no downloads on a {link.link_class} link")
    if link.budget_bytes is None:
        return Decision("go", allowed_bytes=wanted_bytes)
    reserved = min(link.budget_bytes // RESERVED_SHARE, 2 * CHECK_IN_BYTES)
    allowed = link.budget_bytes - reserved - count.period_bytes - REQUEST_BYTES
    if allowed >= wanted_bytes:
        return Decision("go", allowed_bytes=wanted_bytes)
    if allowed >= MIN_PART_BYTES:
        return Decision("partial", allowed_bytes=allowed, reason="the rest of the budget is used")
    reason = f"the budget of {link.budget_bytes:,} bytes a period is used up"
    return Decision("wait", until_s=_period_end(link, count, now_s), reason=reason)


def may_check_in(link: Link, count: Count, now_s: float) -> Decision:
    """Decide about a check-in: control traffic is paid for too."""
    if link.budget_bytes is None or count.period_bytes == 0:
        return Decision("go")
    expected = min(CHECK_IN_BYTES, link.budget_bytes // RESERVED_SHARE)
    if count.period_bytes + expected <= link.budget_bytes:
        return Decision("go")
    return Decision("wait", until_s=_period_end(link, count, now_s), reason="the budget is used up")


def check_in_interval_s(link: Link, wished_s: float, cost_bytes: int) -> float:
    """Return how long to wait between check-ins, so that they take no more than their share of a budget.

    Args:
        wished_s: what was configured.
        cost_bytes: what the last check-in took, both ways.
    """
    if link.budget_bytes is None:
        return wished_s
    fair_s = link.budget_period_s * cost_bytes / (link.budget_bytes / RESERVED_SHARE)
    return max(wished_s, min(fair_s, link.budget_period_s))


def choose(
    offer: FileOffer,
    held: Collection[DigestHex],
    rejected: Collection[DigestHex],
    here_bytes: Callable[[DigestHex], int] = lambda _: 0,
) -> Candidate:
    """Return the candidate that costs this vehicle the fewest bytes from now on and has not failed it before.

    Args:
        offer: the file, and the ways to come by it.
        held: digests that a delta may start from.
        rejected: last transfers of candidates that failed.
        here_bytes: how much of a transfer is on the disk already.

    Raises:
        MalformedError: none is left.
    """
    usable = plan(held, [each for each in offer.candidates if each.transfers[-1].result == offer.file.digest])
    for candidate in sorted(usable, key=lambda each: _left(each, here_bytes)):
        if candidate.kind == "raw" or candidate.transfers[-1].digest not in rejected:
            return candidate
    raise MalformedError(f"no usable way to come by {offer.target}", remedy="publish the release again")


def _left(candidate: Candidate, here_bytes: Callable[[DigestHex], int]) -> int:
    return sum(each.length_bytes - min(each.length_bytes, here_bytes(each.digest)) for each in candidate.transfers)


def _period_end(link: Link, count: Count, now_s: float) -> float:
    return period_start(now_s, link.budget_period_s, count.period_start_s) + link.budget_period_s
