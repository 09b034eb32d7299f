"""docs/operations.md names every setting with the default of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from server.repository.roles import LIFETIMES
from server.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `SQUEEZEOTA_(\w+)` \| `?([^`|]+?)`? \|", PAGE, re.MULTILINE))


def test_the_table_has_every_setting_and_no_other() -> None:
    assert {name.lower() for name in ROWS} == set(Settings.model_fields)


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_the_default_is_the_one_of_the_code(name: str, field: FieldInfo) -> None:
    nothing = field.default is None or field.default is PydanticUndefined
    assert ROWS[name.upper()] == ("–" if nothing else str(field.default))


def test_the_lifetimes_are_those_of_the_code() -> None:
    days = {role: lifetime.days for role, lifetime in LIFETIMES.items()}
    assert days == {"root": 3 * 365, "targets": 365, "snapshot": 30, "timestamp": 3, "deltas": 30}
    assert "(3, 30 and 30 days)" in PAGE
