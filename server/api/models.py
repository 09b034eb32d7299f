"""Models and releases: publishing and reading them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response

from ota_protocol.manifest import Name, ReleaseName
from ota_protocol.wire import Model, PublishRelease, Release
from server.api.responses import problems
from server.deps import App, anyone, operator
from server.domain.refusals import NotFoundError
from server.services.publish import shown

router = APIRouter(prefix="/api/v1/models", tags=["publish"])

EXAMPLE = {
    "artifact": {"digest": "5f2c" * 16, "length_bytes": 1_251_003},
    "manifest": {"digest": "9a01" * 16, "length_bytes": 38_412},
    "targets_base64": "eyJzaWduYXR1cmVzIjpbXSwic2lnbmVkIjp7fX0=",
}


@router.put(
    "/{model}/releases/{release}",
    status_code=201,
    responses={200: {"model": Release, "description": "published already"}, **problems(401, 403, 404, 409, 413, 422)},
    dependencies=[Depends(operator)],
)
def put_release(
    model: Name,
    release: ReleaseName,
    request: Annotated[PublishRelease, Body(examples=[EXAMPLE])],
    app: App,
    response: Response,
) -> Release:
    """Publish a release whose two files were uploaded before. Every check comes first, then all changes at once."""
    published, is_new = app.publisher.publish(model, release, request)
    response.status_code = 201 if is_new else 200
    return published


@router.get("", responses=problems(401), dependencies=[Depends(anyone)])
def get_models(app: App) -> list[Model]:
    """List all models with their releases, newest first."""
    view = app.catalog.view()
    names = dict.fromkeys(known.model for known in view.releases)
    return [Model(model=n, releases=tuple(shown(r, view) for r in view.releases if r.model == n)) for n in names]


@router.get("/{model}", responses=problems(401, 404), dependencies=[Depends(anyone)])
def get_model(model: Name, app: App) -> Model:
    """Show one model with its releases, newest first."""
    view = app.catalog.view()
    found = tuple(shown(known, view) for known in view.releases if known.model == model)
    if not found:
        raise NotFoundError(f"there is no model {model}", remedy="see GET /api/v1/models")
    return Model(model=model, releases=found)


@router.get("/{model}/releases/{release}", responses=problems(401, 404), dependencies=[Depends(anyone)])
def get_release(model: Name, release: ReleaseName, app: App) -> Release:
    """Show one release with the deltas that lead to it."""
    view = app.catalog.view()
    known = view.release(model, release)
    if known is None:
        raise NotFoundError(f"there is no release {release} of {model}", remedy=f"see GET /api/v1/models/{model}")
    return shown(known, view)
