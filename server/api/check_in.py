"""The check-in: `POST /api/v1/check-in`, the one periodic call of a vehicle."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from ota_protocol.wire import CheckIn, Instruction
from server.api.responses import problems
from server.deps import App, Services, Token
from server.domain.refusals import CheckFailedError

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
    answer = await run_in_threadpool(_answer, app, token, body)
    return Response(answer, media_type="application/json")


def _answer(app: Services, token: str, body: bytes) -> bytes:
    vehicle = app.check_ins.vehicle_of(token)
    instruction = app.check_ins.check_in(vehicle, _parsed(body))
    return instruction.model_dump_json(exclude_none=True).encode()


def _parsed(body: bytes) -> CheckIn:
    try:
        return CheckIn.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise CheckFailedError(
            f"the check-in is malformed at {place}: {first['msg']}"[:500], remedy="send what /openapi.json describes"
        ) from error
