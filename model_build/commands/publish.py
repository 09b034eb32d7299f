"""Owns `ota-build publish`: a release folder to a registry, signed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_build.commands.progress import progress_bars
from model_build.publish import publish as publish_release
from model_build.registry import Registry
from model_build.sign import load_signer
from ota_protocol.errors import RequestError

MAX_TOKEN_BYTES = 4096


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder that export or compress wrote.", metavar="FOLDER")],
    *,
    registry: Annotated[str, typer.Option(help="URL of the registry.", metavar="URL", envvar="SQUEEZEOTA_REGISTRY")],
    token_file: Annotated[Path, typer.Option(help="File with the operator's token.", metavar="FILE")],
    targets_key: Annotated[
        Path, typer.Option(help="The offline key that signs releases: targets.pem.", metavar="FILE")
    ],
) -> None:
    """Upload a release, sign it, and publish it; doing it twice changes nothing."""
    signer, token = load_signer(targets_key), _token(token_file)
    with Registry(registry, token, on_retry=_tell_retry) as remote, progress_bars() as progress:
        release = publish_release(folder, remote, signer, sleep=time.sleep, progress=progress)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{release.model} {release.release} is published, release counter {release.release_counter}")
    console.print(f"artifact {release.artifact.digest}  {release.artifact.length_bytes:,} bytes")
    console.print(f"manifest {release.manifest.digest}  {release.manifest.length_bytes:,} bytes")


def _tell_retry(failure: str) -> None:
    typer.echo(f"ota-build: {failure}; trying again", err=True)


def _token(path: Path) -> str:
    """Return the token in a file; its content is never shown."""
    remedy = "give the operator.token that ota-server init made"
    try:
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read a token from {path}", remedy=remedy) from error
    if not token or not token.isprintable() or " " in token:
        raise RequestError(f"{path} holds no token", remedy=remedy)
    return token
