"""Owns how the report's schema reads in `docs/demo.md`: one table a type, made from the types themselves."""

from __future__ import annotations

from typing import Final

from demo.report import (
    CheckResult,
    PredictionFigures,
    ReleaseFigures,
    Report,
    SavingFigures,
    StepTime,
    UpdateFigures,
    VehicleFigures,
)
from ota_protocol.manifest import Frozen

TYPES: Final[dict[str, type[Frozen]]] = {
    "The report": Report,
    "`steps[]`": StepTime,
    "`releases[]`": ReleaseFigures,
    "`vehicles[]`": VehicleFigures,
    "`vehicles[].updates[]`": UpdateFigures,
    "`vehicles[].before`, `vehicles[].after`, by frame": PredictionFigures,
    "`savings[]`": SavingFigures,
    "`checks[]`": CheckResult,
}


def schema_page() -> str:
    """Return the tables as Markdown."""
    return "\n\n".join(f"### {title}\n\n{_table(kind)}" for title, kind in TYPES.items()) + "\n"


def _table(kind: type[Frozen]) -> str:
    rows = [f"| `{name}` | {field.description} |" for name, field in kind.model_fields.items()]
    return "\n".join(["| field | meaning |", "|---|---|", *rows])
