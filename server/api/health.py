"""Health: alive, ready, and figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from server.api.responses import problems
from server.deps import App

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_health() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses=problems(503))
def get_ready(app: App) -> dict[str, str]:
    """Tell whether database, blob store and metadata work."""
    app.watch.require_ready()
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
def get_metrics(app: App) -> Response:
    """Figures in the Prometheus text format."""
    app.metrics.vehicles.set(app.watch.vehicles())
    for role, left_s in app.watch.metadata_left_s().items():
        app.metrics.expires.labels(role).set(left_s)
    for state, count in app.watch.deltas().items():
        app.metrics.deltas.labels(state).set(count)
    return Response(app.metrics.render(), media_type=CONTENT_TYPE_LATEST)
