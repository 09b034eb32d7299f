"""`docs/model-build.md` names commands and options that exist, and every command that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from model_build.__main__ import app

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "model-build.md").read_text("utf-8")


def commands() -> dict[str, set[str]]:
    """Return the options of each subcommand."""
    group = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in getattr(group, "commands").items()  # noqa: B009 typer's own click has no public type
    }


def test_every_command_is_documented() -> None:
    text = "\n".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    assert [name for name in commands() if f"ota-build {name}" not in text] == []


def test_commands_that_are_shown_exist_with_their_options() -> None:
    shown = re.findall(r"^\$ ota-build (\S+)((?:[^\n]*\\\n)*[^\n]*)", TEXT, re.MULTILINE)
    assert len(shown) >= 6
    for name, rest in shown:
        assert set(re.findall(r"--[a-z0-9-]+", rest)) <= commands()[name]


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z0-9-]+)", TEXT))))
def test_options_that_are_named_exist(option: str) -> None:
    assert option in set().union(*commands().values()) | {"--out"}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (DOCS / target).exists()
