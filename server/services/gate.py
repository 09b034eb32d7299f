"""Owns who may pass: compares tokens by digest, in constant time, and never repeats them."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from ota_protocol.digest import sha256_hex
from server.domain.refusals import ForbiddenError, UnauthenticatedError
from server.store import tokens, vehicles
from server.store.database import Database

KINDS = ("operator", "enrolment")


class Gate:
    """Knows the registry's own tokens, as digests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def admits(self, token: str, *kinds: str) -> bool:
        """Tell whether the token is of one of these kinds."""
        return any(kind in kinds for kind in self._kinds(token, kinds))

    def require(self, token: str, *kinds: str) -> None:
        """Let a token of one of these kinds pass.

        Raises:
            ForbiddenError: it is a good token of another kind.
            UnauthenticatedError: nobody holds it.
        """
        if self.admits(token, *kinds):
            return
        if self._kinds(token, KINDS) or self._is_vehicle(token):
            raise ForbiddenError(
                f"this token is not allowed to do that, the {kinds[0]} token is",
                remedy=f"use keys/{kinds[0]}.token of the registry",
            )
        raise UnauthenticatedError("nobody has this token", remedy=f"use keys/{kinds[0]}.token of the registry")

    def _kinds(self, token: str, kinds: Sequence[str]) -> list[str]:
        presented = sha256_hex(token.encode())
        with self._database.read() as session:
            kept = {kind: tokens.digest(session, kind) for kind in kinds}
        return [kind for kind, digest in kept.items() if digest and hmac.compare_digest(digest, presented)]

    def _is_vehicle(self, token: str) -> bool:
        with self._database.read() as session:
            return vehicles.by_token(session, sha256_hex(token.encode())) is not None
