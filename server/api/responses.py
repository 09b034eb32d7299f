"""Owns how the problems of a path are stated in OpenAPI."""

from __future__ import annotations

from typing import Any

from ota_protocol.wire import Problem

TITLES = {
    400: "the body is not what was named, or does not parse",
    401: "no token, or one that nobody holds",
    403: "the token is not allowed to do that",
    404: "it does not exist",
    408: "the bytes stopped coming",
    409: "it exists already, and is another",
    413: "more bytes than are admitted",
    416: "the range is not within the file",
    422: "a check of the content failed",
    503: "the database or the blob store does not answer",
    507: "the registry's disk is full",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries for these failures."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": TITLES[status],
            "content": {"application/problem+json": {"schema": schema, "example": _example(status)}},
        }
        for status in statuses
    }


def _example(status: int) -> dict[str, Any]:
    remedy = {401: "send the header `Authorization: Bearer <token>`", 413: "send less"}.get(status, "see `detail`")
    return Problem(title=TITLES[status], status=status, detail=TITLES[status], remedy=remedy).model_dump(
        exclude_defaults=True
    )
