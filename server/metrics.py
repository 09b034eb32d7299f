"""Owns the Prometheus figures: one registry an app, so that two apps in one process do not share counters."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """What an operator can watch."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "squeezeota_requests", "HTTP requests", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "squeezeota_request_seconds", "Time to the end of the answer", ["route"], registry=self.registry
        )
        self.deltas = Gauge("squeezeota_deltas", "Deltas, by where they stand", ["state"], registry=self.registry)
        self.vehicles = Gauge("squeezeota_vehicles", "Vehicles enrolled", registry=self.registry)
        self.expires = Gauge(
            "squeezeota_metadata_expires_seconds", "Until TUF metadata expires", ["role"], registry=self.registry
        )

    def render(self) -> bytes:
        """Return all figures in the Prometheus text format."""
        return generate_latest(self.registry)


class CountRequests:
    """Counts requests by route template, never by path, so that names do not become labels. Pure ASGI."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
