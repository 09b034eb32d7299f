"""Owns what a step returns, and what several steps do alike: report once, give up, take another way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from edge_client.journal import Refusal
from edge_client.machine import Outcome, State, admits
from edge_client.parts import Parts, Work
from edge_client.policy import Decision
from edge_client.trust import TrustedFile, TrustedRelease, TrustedTargets
from edge_client.update import Update, UpdateRecord
from ota_protocol.errors import OtaError, PeerError
from ota_protocol.wire import Candidate, Event, EventKind, FileOffer

PEER_ATTEMPTS: Final = 4
"""How often the raw file is tried when the registry gives wrong bytes or none: it may be in the middle of a repair."""
WAIT_PAUSE_S: Final = 60.0
"""Longest wait before the policy is asked again: the clock it looks at may be set meanwhile."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a step found."""

    outcome: Outcome
    update: Update
    events: tuple[Event, ...] = ()
    pause_s: float = 0.0
    """How long to wait before the same step is run again."""
    backoff: bool = False
    """Whether a growing pause is due instead, because the other side failed."""
    record: UpdateRecord | None = None
    refusal: Refusal | None = None


Step = Callable[[Parts, Work, Update], Result]


def earned(work: Work) -> tuple[TrustedRelease, TrustedTargets]:
    assert work.trusted is not None
    assert work.targets is not None
    return work.trusted, work.targets


def files_of(trusted: TrustedRelease, update: Update) -> Iterator[tuple[TrustedFile, FileOffer]]:
    """Yield the manifest first: it is small, and may tell that the artifact is not worth its bytes."""
    yield trusted.manifest, update.assignment.manifest
    yield trusted.artifact, update.assignment.artifact


def other_way(update: Update, candidate: Candidate | None, error: PeerError) -> Result:
    """Try the next candidate; the raw file a few times, since it is the last."""
    if candidate is not None and candidate.kind != "raw":
        rejected = (*update.rejected, candidate.transfers[-1].digest)
        return Result(Outcome.NEXT, update.model_copy(update={"rejected": rejected, "reason": str(error)[:512]}))
    update = update.model_copy(update={"faults": update.faults + 1, "reason": str(error)[:512]})
    if update.faults >= PEER_ATTEMPTS:
        return Result(Outcome.REFUSED, given_up(update, error, permanent=False))
    return Result(Outcome.NEXT, update, backoff=True)


def failed(parts: Parts, state: State, update: Update, error: OtaError) -> Result:
    """Judge a failure of the link, of our disk or of this program: again, later and later, at last not for a while."""
    if parts.stop.is_set():
        return Result(Outcome.AGAIN, update)
    _log.warning("%s: %s", state, error)
    counted = {"attempts": update.attempts + 1, "reason": str(error)[:512], "permanent": False}
    update = update.model_copy(update=counted)
    if update.attempts >= parts.settings.attempts and admits(state, Outcome.REFUSED):
        return Result(Outcome.REFUSED, update)
    return Result(Outcome.AGAIN, update, backoff=True)


def given_up(update: Update, error: PeerError, *, permanent: bool) -> Update:
    return update.model_copy(update={"reason": str(error)[:512], "permanent": permanent})


def once(parts: Parts, update: Update, kind: EventKind, detail: str = "") -> tuple[tuple[Event, ...], Update]:
    """Return an event unless the update reported it before."""
    if kind in update.reported:
        return (), update
    event = parts.event(kind, update, detail, parts.figures(update))
    return (event,), update.model_copy(update={"reported": (*update.reported, kind)})


def pause_s(parts: Parts, decision: Decision) -> float:
    if decision.until_s is None:
        return WAIT_PAUSE_S
    return min(WAIT_PAUSE_S, max(0.05, decision.until_s - parts.clock()))
