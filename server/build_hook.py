"""Puts the migrations into the wheel. Part of the build alone: no wheel carries this file."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class MigrationsHook(BuildHookInterface[Any]):
    """Hatchling's custom hook; it finds the class by its base."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Include `../migrations`, unless the install is editable and finds them in the checkout."""
        if version == "standard":
            build_data["force_include"]["../migrations"] = "migrations"
