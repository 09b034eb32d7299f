"""docs/agent.md says what the code does."""

from __future__ import annotations

from typer.main import get_command

from edge_client.__main__ import app
from edge_client.settings import AgentSettings
from tests.support.agent_page import PAGE, render


def test_generated_parts_are_current() -> None:
    page = PAGE.read_text()
    assert page == render(page), "run `.venv/bin/python -m tests.support.agent_page`"


def test_every_setting_is_an_option_of_run() -> None:
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    options = {name for parameter in run.params for name in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in AgentSettings.model_fields} <= options
