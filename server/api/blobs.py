"""Blobs: `PUT /api/v1/blobs/{sha256}`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from ota_protocol.digest import DigestHex
from server.api.responses import problems
from server.deps import App, operator

router = APIRouter(prefix="/api/v1/blobs", tags=["publish"], dependencies=[Depends(operator)])

BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put(
    "/{digest}",
    status_code=201,
    responses={200: {"description": "held already"}, **problems(400, 401, 403, 408, 413, 507)},
    openapi_extra=BODY,
    response_class=Response,
)
async def put_blob(digest: DigestHex, request: Request, app: App) -> Response:
    """Upload a file under its sha256. A second time changes nothing; an interrupted upload leaves nothing."""
    is_new = await app.uploader.take(digest, request.stream())
    return Response(status_code=201 if is_new else 200)
