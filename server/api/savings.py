"""Savings: `GET /api/v1/savings`."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from ota_protocol.wire import FleetSavings
from server.api.responses import problems
from server.deps import App, operator

router = APIRouter(prefix="/api/v1", tags=["savings"], dependencies=[Depends(operator)])


@router.get("/savings", responses=problems(401, 403))
def get_savings(app: App) -> FleetSavings:
    """Count the bytes really moved against sending large fp32 networks."""
    return app.savings.show()
