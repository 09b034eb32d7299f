"""Vehicles: enrolling and reading them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response

from ota_protocol.manifest import Name
from ota_protocol.wire import Enrolment, Vehicle
from server.api.responses import problems
from server.deps import App, enrolling, operator

router = APIRouter(prefix="/api/v1/vehicles", tags=["vehicles"])

EXAMPLE = {"token_sha256": "0b5e" * 16}


@router.put(
    "/{vehicle}",
    status_code=201,
    responses={200: {"model": Vehicle, "description": "enrolled already"}, **problems(401, 403, 409, 413, 422)},
    dependencies=[Depends(enrolling)],
)
def put_vehicle(
    vehicle: Name, enrolment: Annotated[Enrolment, Body(examples=[EXAMPLE])], app: App, response: Response
) -> Vehicle:
    """Enrol a vehicle under the sha256 of the token that it made for itself."""
    enrolled, is_new = app.registrar.enrol(vehicle, enrolment)
    response.status_code = 201 if is_new else 200
    return enrolled


@router.get("", responses=problems(401, 403), dependencies=[Depends(operator)])
def get_vehicles(app: App) -> list[Vehicle]:
    """List all vehicles."""
    return app.registrar.show_all()


@router.get("/{vehicle}", responses=problems(401, 403, 404), dependencies=[Depends(operator)])
def get_vehicle(vehicle: Name, app: App) -> Vehicle:
    """Show one vehicle and what it last said that it runs."""
    return app.registrar.show(vehicle)
