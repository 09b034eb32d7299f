"""The check-in: `POST /api/v1/check-in`, the one periodic call of a vehicle."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from ota_protocol.wire import Instruction
from server.api.responses import problems
from server.deps import App, Token

router = APIRouter(prefix="/api/v1", tags=["vehicles"])

EXAMPLE: dict[str, Any] = {
    "vehicle": {
        "vehicle": "car-17",
        "agent": "0.1.0",
        "runtime": {"onnxruntime": "1.32.0", "max_opset": 23, "machine": "aarch64"},
        "state": "idle",
        "link_class": "cellular",
    },
    "events": [],
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CheckIn"}, "example": EXAMPLE}},
    }
}


@router.post("/check-in", response_model=Instruction, responses=problems(401, 403, 413, 422), openapi_extra=BODY)
async def post_check_in(request: Request, app: App, token: Token) -> Response:
    """Say what the vehicle runs and what happened; hear what it should run. 64 KiB at most."""
    body = await request.body()
    answer = app.check_ins.repeated(token, body) or await run_in_threadpool(app.check_ins.answer, token, body)
    return Response(answer, media_type="application/json")
