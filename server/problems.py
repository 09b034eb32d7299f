"""Owns how every failure becomes RFC 9457 problem details; the one place where our errors meet HTTP statuses."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from ota_protocol.errors import (
    DeltaError,
    DigestMismatchError,
    DiskFullError,
    MalformedError,
    OtaError,
    StorageError,
)
from ota_protocol.wire import Problem
from server.domain.refusals import (
    CheckFailedError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    TooSlowError,
    UnauthenticatedError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUSES: dict[type[OtaError], tuple[int, str]] = {
    UnauthenticatedError: (401, "unauthenticated"),
    ForbiddenError: (403, "forbidden"),
    NotFoundError: (404, "not-found"),
    ConflictError: (409, "conflict"),
    TooSlowError: (408, "too-slow"),
    TooLargeError: (413, "too-large"),
    InvalidError: (400, "invalid"),
    CheckFailedError: (422, "check-failed"),
    DigestMismatchError: (400, "digest-mismatch"),
    MalformedError: (400, "malformed"),
    DeltaError: (422, "delta"),
    DiskFullError: (507, "disk-full"),
    StorageError: (503, "storage"),
}

REMEDIES = {
    404: "see the paths in /openapi.json",
    405: "use a method that the Allow header names",
    413: "send less",
}


def install(app: FastAPI) -> None:
    """Answer every failure of the app as a problem."""
    app.add_exception_handler(OtaError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return the response of a problem."""
    return Response(
        problem.model_dump_json(exclude_defaults=True),
        status_code=problem.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def problem_of(error: OtaError, instance: str) -> Problem:
    """Return the problem of one of our errors."""
    status, slug = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), (500, "internal"))
    return Problem(
        type=f"urn:squeezeota:problem:{slug}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.message,
        instance=instance,
        remedy=error.remedy,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, OtaError)
    problem = problem_of(error, request.url.path)
    if problem.status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "10"}, 507: {"Retry-After": "60"}}
    return answer(problem, headers.get(problem.status))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = dict(error.errors()[0])
    place = ".".join(str(part) for part in first.get("loc", ()))
    status = 400 if first.get("loc", ("",))[0] == "path" or first.get("type") == "json_invalid" else 422
    return answer(
        Problem(
            type="urn:squeezeota:problem:malformed",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=f"{place}: {first.get('msg', 'invalid')}"[:500],
            instance=request.url.path,
            remedy="send what /openapi.json describes",
        )
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer(
        Problem(
            type="urn:squeezeota:problem:http",
            title=HTTPStatus(error.status_code).phrase,
            status=error.status_code,
            detail=str(error.detail),
            instance=request.url.path,
            remedy=REMEDIES.get(error.status_code, "send what /openapi.json describes"),
        ),
        dict(error.headers) if error.headers else None,
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(
        Problem(
            type="urn:squeezeota:problem:internal",
            title="Internal Server Error",
            status=500,
            detail="the registry failed; nothing of the request was kept that was not acknowledged",
            instance=request.url.path,
            remedy="try again; if it stays, give its operator the time and this path",
        )
    )
