"""Owns the kinds of vehicle that the fleet shows, each with its link. Standard library alone: containers use it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LinkClass = Literal["wifi", "cellular", "roaming"]

CUTS_MOST: Final = 4
"""Connections that a flaky link cuts in all: enough for the report, few enough for three minutes."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of vehicle.

    Args:
        name: what the report calls it.
        link_class: what the agent is told about its link.
        budget_bytes: bytes that it may move in one period; None is no budget.
        budget_period_s: seconds of that period.
        rate_bytes_per_s: the link's speed; None is as fast as it goes.
        cut_after_bytes: bytes after which the link drops a connection; None is a sound link.
    """

    name: str
    link_class: LinkClass = "wifi"
    budget_bytes: int | None = None
    budget_period_s: float | None = None
    rate_bytes_per_s: int | None = None
    cut_after_bytes: int | None = None

    def agent_options(self) -> list[str]:
        """Return the options of `ota-agent run` that set this link."""
        options = ["--link-class", self.link_class]
        for option, value in (
            ("--budget-bytes", self.budget_bytes),
            ("--budget-period-s", self.budget_period_s),
            ("--rate-bytes-per-s", self.rate_bytes_per_s),
        ):
            if value is not None:
                options += [option, str(value)]
        return options

    def link_options(self) -> list[str]:
        """Return the options of `demo.link` that make this link."""
        options = []
        if self.cut_after_bytes is not None:
            options += ["--cut-after", str(self.cut_after_bytes), "--cuts", str(CUTS_MOST)]
        if self.budget_period_s is not None:
            options += ["--period-s", str(self.budget_period_s)]
        return options


WIFI: Final = Profile("wifi")
METERED: Final = Profile(
    "metered",
    link_class="cellular",
    budget_bytes=400_000,  # under half of a compressed SqueezeNet, so the first release takes three periods
    budget_period_s=6.0,
    rate_bytes_per_s=150_000,
)
FLAKY: Final = Profile("flaky", cut_after_bytes=220_000)
LATE: Final = Profile("late")

BY_NAME: Final = {profile.name: profile for profile in (WIFI, METERED, FLAKY, LATE)}
BY_NUMBER: Final = (WIFI, METERED, FLAKY)
"""What a replica of the containers' fleet becomes: number 1 the first, and so on in turn."""


def of_number(number: int) -> Profile:
    """Return the profile of replica `number` (from 1)."""
    return BY_NUMBER[(number - 1) % len(BY_NUMBER)]
