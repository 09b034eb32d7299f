"""Owns the OpenAPI description: what FastAPI finds, and the body of the check-in, which is read raw."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from ota_protocol.wire import CheckIn


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of an app."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        separate_input_output_schemas=False,
    )
    _, extra = models_json_schema([(CheckIn, "validation")], ref_template="#/components/schemas/{model}")
    schemas = described["components"]["schemas"]
    described["components"]["schemas"] = dict(sorted((extra["$defs"] | schemas).items()))
    return described


def description_text(app: FastAPI) -> str:
    """Return the description as a text: the same bytes for the same API."""
    return json.dumps(describe(app), indent=1, ensure_ascii=False) + "\n"
