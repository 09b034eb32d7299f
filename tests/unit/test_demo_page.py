"""The demo's page names every check and every field of the report, in their own words."""

from __future__ import annotations

from pathlib import Path

from demo.checks import RULES
from demo.profiles import CUTS_MOST, FLAKY, METERED
from demo.report_schema import schema_page

PAGE = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()


def test_the_page_names_every_check() -> None:
    listed = PAGE.partition("## What has to hold")[2].partition("## ")[0]
    assert [line.removeprefix("- ") for line in listed.splitlines() if line.startswith("- ")] == list(RULES)


def test_the_page_explains_every_field_of_the_report() -> None:
    assert schema_page() in PAGE


def test_the_page_tells_the_links_as_they_are() -> None:
    assert f"{METERED.budget_bytes:,} bytes in any period of {METERED.budget_period_s:g} s" in PAGE
    assert f"at most {METERED.rate_bytes_per_s:,} bytes/s" in PAGE
    assert f"after {FLAKY.cut_after_bytes:,} bytes down it" in PAGE
    assert f"{CUTS_MOST} times in all" in PAGE
