"""Owns the server's settings: every option of the command line, by environment as `SQUEEZEOTA_<NAME>` too."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ota_protocol.manifest import MAX_ARTIFACT_BYTES


class Settings(BaseSettings):
    """What an operator can choose. Nothing is read from files other than those named here."""

    model_config = SettingsConfigDict(env_prefix="SQUEEZEOTA_", extra="ignore", frozen=True)

    data: Path
    """Folder of the database, the blobs and unfinished uploads."""
    keys: Path
    """Folder of the key files; a running server needs `online` in it alone."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    database_url: str | None = None
    """sqlite: or postgresql: URL; without one, `registry.sqlite` in the data folder."""
    blobs_url: str | None = None
    """s3:, gs:, az: or file: URL; without one, `blobs` in the data folder."""
    check_in_after_s: float = Field(default=60.0, ge=0, le=7 * 86_400)
    """How long vehicles wait until the next check-in; they add jitter of their own."""
    max_failures: int = Field(default=3, ge=1, le=100)
    """Failures of one vehicle in one rollout after which it is no longer assigned."""
    max_upload_bytes: int = Field(default=MAX_ARTIFACT_BYTES, ge=1, le=MAX_ARTIFACT_BYTES)
    inspect_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """Wall-clock limit of the child process that checks an uploaded artifact."""
    delta_timeout_s: float = Field(default=600.0, gt=0, le=86_400)
    """Wall-clock limit of the child process that makes one delta."""
    seen_flush_s: float = Field(default=5.0, gt=0, le=3600)
    """How often the times at which vehicles were last seen are written, all at once."""
    resign_every_s: float = Field(default=300.0, gt=0, le=86_400)
    """How often the online metadata is looked at, and signed anew if it is due."""
    stop_timeout_s: int = Field(default=10, ge=1, le=600)
    """How long open requests may take after SIGTERM."""

    @property
    def incoming(self) -> Path:
        """Folder of unfinished uploads and of work files; emptied at each start."""
        return self.data / "incoming"
