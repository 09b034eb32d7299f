"""Owns what an API function can ask for: the services of its app, and who is calling.

What does not wait is `async`, since FastAPI calls everything else in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from server.domain.refusals import UnauthenticatedError
from server.metrics import Metrics
from server.services.catalog import Catalog
from server.services.check_in import CheckInDesk
from server.services.enrol import Registrar
from server.services.files import TargetFiles
from server.services.gate import Gate
from server.services.publish import Publisher
from server.services.rollouts import RolloutDesk
from server.services.savings import SavingsDesk
from server.services.uploads import Uploader
from server.services.watch import Watch


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the API calls; made once by `create_app`."""

    gate: Gate
    uploader: Uploader
    publisher: Publisher
    registrar: Registrar
    check_ins: CheckInDesk
    rollouts: RolloutDesk
    savings: SavingsDesk
    files: TargetFiles
    watch: Watch
    catalog: Catalog
    metrics: Metrics


BEARER = HTTPBearer(auto_error=False, description="operator, enrolment or vehicle token")
"""Puts the scheme into OpenAPI; `token` does the reading, so that each failure is a problem of ours."""


async def services(request: Request) -> Services:
    """Return the services of the app that the request came to."""
    return cast("Services", request.app.state.services)


async def token(request: Request) -> str:
    """Return the bearer token of a request.

    Raises:
        UnauthenticatedError: there is none.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise UnauthenticatedError("the request has no token", remedy="send the header `Authorization: Bearer <token>`")
    return value.strip()


App = Annotated[Services, Depends(services)]
Token = Annotated[str, Depends(token)]


def operator(app: App, presented: Token) -> None:
    """Let the operator alone pass."""
    app.gate.require(presented, "operator")


def enrolling(app: App, presented: Token) -> None:
    """Let the operator and whoever may enrol pass."""
    app.gate.require(presented, "operator", "enrolment")


def anyone(app: App, presented: Token) -> None:
    """Let every holder of a token pass."""
    if not app.gate.admits(presented, "operator", "enrolment"):
        app.check_ins.vehicle_of(presented)
