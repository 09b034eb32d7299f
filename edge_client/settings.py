"""Owns the agent's settings: environment `SQUEEZEOTA_AGENT_*`, overridden by the command line. Read at the rim."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LinkClass = Literal["wifi", "cellular", "roaming"]


class AgentSettings(BaseSettings):
    """Everything that can be set on a vehicle."""

    model_config = SettingsConfigDict(env_prefix="SQUEEZEOTA_AGENT_", frozen=True, extra="ignore")

    state: Path = Field(description="folder of everything the agent keeps")
    frames: Path | None = Field(default=None, description="folder of pictures to infer on, in a loop")
    link_class: LinkClass = Field(default="wifi", description="class of the network path: wifi, cellular or roaming")
    download_on: Annotated[tuple[LinkClass, ...], NoDecode] = Field(
        default=("wifi", "cellular"), description="link classes on which models may be downloaded, with commas"
    )
    budget_bytes: int | None = Field(
        default=None, ge=1024, description="bytes allowed per period, both ways, control traffic included"
    )
    budget_period_s: float = Field(default=86_400.0, gt=0, description="length of a budget period")
    rate_bytes_per_s: int | None = Field(default=None, ge=1024, description="cap on bytes per second, both ways")
    check_in_s: float | None = Field(
        default=None, gt=0, le=7 * 86_400, description="seconds between check-ins; the registry decides where not set"
    )
    frame_interval_s: float = Field(default=1.0, ge=0, le=3600, description="seconds between frames")
    trial_frames: int = Field(default=20, ge=1, description="frames a new model must answer before it is kept")
    trial_timeout_s: float = Field(default=600.0, gt=0, description="a trial that takes longer is rolled back")
    trial_boots: int = Field(default=3, ge=1, description="starts of the agent within one trial before it rolls back")
    self_test_timeout_s: float = Field(
        default=60.0, gt=0, description="a self-test, or a frame, that takes longer has failed"
    )
    request_timeout_s: float = Field(default=20.0, gt=0, description="silence on the link after which a request fails")
    attempts: int = Field(default=12, ge=1, description="failed attempts after which a release is given up for a while")
    backoff_s: float = Field(default=1.0, gt=0, description="first wait after a failure; doubled each time")
    backoff_max_s: float = Field(default=300.0, gt=0, description="longest wait after a failure")
    cooldown_s: float = Field(
        default=3600.0, gt=0, description="rest of a release that was given up because of the link or the disk"
    )

    @field_validator("download_on", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def settings_table() -> str:
    """Return the settings as a Markdown table, from the fields themselves."""
    rows = ["| environment | option | default | meaning |", "|---|---|---|---|"]
    for name, field in AgentSettings.model_fields.items():
        default = "required" if field.is_required() else _shown(field.default)
        rows.append(
            f"| `SQUEEZEOTA_AGENT_{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {field.description} |"
        )
    return "\n".join(rows)


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
