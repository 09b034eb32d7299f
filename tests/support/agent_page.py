"""Fills the generated parts of docs/agent.md from the code: `python -m tests.support.agent_page` rewrites the page."""

from __future__ import annotations

from pathlib import Path

from edge_client.machine import MEANING, diagram, resume_table
from edge_client.settings import settings_table

PAGE = Path(__file__).parents[2] / "docs" / "agent.md"


def parts() -> dict[str, str]:
    """Return the generated parts by name."""
    outcomes = "\n".join(
        ["| outcome | meaning |", "|---|---|", *(f"| {what} | {why} |" for what, why in MEANING.items())]
    )
    return {
        "diagram": f"```mermaid\n{diagram()}\n```",
        "outcomes": outcomes,
        "resume": resume_table(),
        "settings": settings_table(),
    }


def render(page: str) -> str:
    """Return the page with its generated parts as the code has them now."""
    for name, body in parts().items():
        before, opening, rest = page.partition(f"<!-- generated: {name} -->\n")
        _, closing, after = rest.partition("<!-- /generated -->")
        assert opening, f"docs/agent.md has no part named {name}"
        assert closing, f"the part {name} of docs/agent.md does not end"
        page = f"{before}{opening}{body}\n{closing}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
