"""TUF metadata and targets: public, cacheable, and targets by range."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from server.api.ranges import Range, parse_range
from server.api.responses import problems
from server.deps import App

router = APIRouter(prefix="/tuf", tags=["tuf"])

IMMUTABLE = "public, max-age=31536000, immutable"
FRESH = "no-cache"


@router.head("/metadata/{name}", include_in_schema=False)
@router.get(
    "/metadata/{name}",
    response_class=Response,
    responses={304: {"description": "not modified"}, **problems(404)},
)
def get_metadata(name: str, request: Request, app: App) -> Response:
    """Fetch `timestamp.json` or `<version>.<role>.json`."""
    file = app.files.metadata(name)
    headers = {"ETag": file.etag, "Cache-Control": IMMUTABLE if file.is_immutable else FRESH}
    if _has(request, file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type="application/json", headers=headers)


@router.head("/targets/{path:path}", include_in_schema=False)
@router.get(
    "/targets/{path:path}",
    response_class=StreamingResponse,
    responses={
        206: {"description": "the range that was asked for"},
        304: {"description": "not modified"},
        **problems(404, 416),
    },
)
async def get_target(path: str, request: Request, app: App) -> Response:
    """Fetch a target file by its consistent-snapshot path `<folder>/<sha256>.<name>`, whole or one range of it."""
    file = await run_in_threadpool(app.files.target, path)
    etag = f'"{file.digest}"'
    headers = {"ETag": etag, "Cache-Control": IMMUTABLE, "Accept-Ranges": "bytes"}
    if _has(request, etag):
        return Response(status_code=304, headers=headers)
    wanted = _wanted(request, etag, file.length_bytes)
    headers |= {"Content-Length": str(wanted.end - wanted.start)}
    if wanted.is_part:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.end - 1}/{file.length_bytes}"
    status = 206 if wanted.is_part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/octet-stream")
    chunks = await app.files.bytes_of(file, wanted.start, wanted.end)
    return StreamingResponse(chunks, status_code=status, headers=headers, media_type="application/octet-stream")


def _has(request: Request, etag: str) -> bool:
    asked = request.headers.get("if-none-match", "")
    return asked == "*" or etag in (part.strip().removeprefix("W/") for part in asked.split(","))


def _wanted(request: Request, etag: str, length_bytes: int) -> Range:
    condition = request.headers.get("if-range")
    if condition is not None and condition != etag:
        return Range(0, length_bytes, is_part=False)
    return parse_range(request.headers.get("range"), length_bytes)
