"""Owns the OpenAPI description: what FastAPI finds, the body of the check-in, which is read raw, and `Problem`."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from ota_protocol.wire import CheckIn, Problem
from server.api.responses import problems

FRAMEWORK_ERRORS = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of an app."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        separate_input_output_schemas=False,
    )
    _, extra = models_json_schema(
        [(CheckIn, "validation"), (Problem, "validation")], ref_template="#/components/schemas/{model}"
    )
    schemas = described["components"]["schemas"]
    for methods in described["paths"].values():
        for said in methods.values():
            _replace_framework_errors(said["responses"])
    for name in FRAMEWORK_ERRORS:
        schemas.pop(name, None)
    described["components"]["schemas"] = dict(sorted((extra["$defs"] | schemas).items()))
    return described


def _replace_framework_errors(responses: dict[str, Any]) -> None:
    """FastAPI announces errors of its own shape where it parses a path or a body; the app answers them as problems."""
    for status, said in responses.items():
        if "HTTPValidationError" in str(said):
            responses[status] = problems(int(status))[int(status)]


def description_text(app: FastAPI) -> str:
    """Return the description as a text: the same bytes for the same API."""
    return json.dumps(describe(app), indent=1, ensure_ascii=False) + "\n"
