"""The OpenAPI description in docs/ is the one of the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.app import api
from server.description import describe, description_text

DOCS = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return describe(api())


def test_the_page_is_the_code() -> None:
    assert DOCS.read_text("utf-8") == description_text(api()), "run: ota-server openapi --out docs/openapi.json"


def test_every_body_has_an_example_and_every_path_its_problems(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            if path.startswith("/api/"):
                assert {"401"} <= set(said["responses"]), (method, path)
            for media in said.get("requestBody", {}).get("content", {}).values():
                assert media["schema"].get("format") == "binary" or "example" in str(media), (method, path)


def test_every_problem_is_a_problem(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            for status, answer in said["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {"application/problem+json"}, (method, path, status)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    for part in description_text(api()).split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
