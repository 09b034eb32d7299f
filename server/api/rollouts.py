"""Rollouts: making them and reading their progress."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response

from ota_protocol.manifest import Name
from ota_protocol.wire import Rollout, RolloutRequest
from server.api.responses import problems
from server.deps import App, operator

router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"], dependencies=[Depends(operator)])

EXAMPLE = {"model": "squeezenet", "release": "1.1.0", "vehicles": []}


@router.put(
    "/{rollout}",
    status_code=201,
    responses={200: {"model": Rollout, "description": "made already"}, **problems(401, 403, 404, 409, 413, 422)},
)
def put_rollout(
    rollout: Name, request: Annotated[RolloutRequest, Body(examples=[EXAMPLE])], app: App, response: Response
) -> Rollout:
    """Bring a release to the fleet, or to the vehicles that are named. It runs once its deltas are made."""
    made, is_new = app.rollouts.create(rollout, request)
    response.status_code = 201 if is_new else 200
    return made


@router.get("", responses=problems(401, 403))
def get_rollouts(app: App) -> list[Rollout]:
    """List all rollouts, newest first."""
    return app.rollouts.show_all()


@router.get("/{rollout}", responses=problems(401, 403, 404))
def get_rollout(rollout: Name, app: App) -> Rollout:
    """Show a rollout and how far each vehicle has come. Installed is not confirmed."""
    return app.rollouts.show(rollout)
