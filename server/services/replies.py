"""Owns the replies that can be given again: a vehicle that repeats itself is answered from memory.

A reply holds as long as what is offered has not changed and the vehicle says the same bytes, with no event among them.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from ota_protocol.digest import sha256_hex
from server.services.catalog import View

MAX_REPLIES = 50_000
"""Some 1 kB each; beyond it all are forgotten and made anew as vehicles check in."""

MAX_AGE_S = 900.0
"""What another replica learnt of a vehicle reaches this one at the latest after this time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and what it holds for."""

    vehicle: str
    body_sha256: str
    view: View
    made_at_s: float
    answer: bytes


class Replies:
    """The last reply to each vehicle, by the digest of its token."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_token: dict[str, Reply] = {}

    def find(self, token: str, body: bytes, view: View) -> Reply | None:
        """Return the reply to the same bytes from the same vehicle under the same view."""
        reply = self._by_token.get(sha256_hex(token.encode()))
        if reply is None or reply.view is not view or time.monotonic() - reply.made_at_s > MAX_AGE_S:
            return None
        return reply if reply.body_sha256 == sha256_hex(body) else None

    def keep(self, token: str, vehicle: str, body: bytes, view: View, answer: bytes) -> None:
        """Keep a reply for the next time, in place of the last one."""
        reply = Reply(vehicle, sha256_hex(body), view, time.monotonic(), answer)
        with self._lock:
            if len(self._by_token) >= MAX_REPLIES:
                self._by_token.clear()
            self._by_token[sha256_hex(token.encode())] = reply

    def forget(self, token: str) -> None:
        """Drop the reply to a vehicle that said something new."""
        with self._lock:
            self._by_token.pop(sha256_hex(token.encode()), None)
