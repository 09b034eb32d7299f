"""Check-ins are spread by chance: a fleet whose power returns at once does not arrive in one second."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_client.agent import FIRST_CHECK_IN_S, JITTER, Agent
from tests.support.agent_fake import driving, enrolled
from tests.support.registry_fake import FakeRegistry

INTERVAL_S = 1_000.0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_check_ins_are_spread_by_chance(tmp_path: Path, share: float) -> None:
    registry = FakeRegistry()
    with driving(enrolled(tmp_path / "car", registry), registry, check_in_s=INTERVAL_S) as driver:
        agent = Agent(replace(driver.parts, jitter=lambda: share))
        agent.resume()
        assert agent._check_in_at - time.monotonic() == pytest.approx(FIRST_CHECK_IN_S * share, abs=1.0)
        agent._check_in_at = 0.0
        agent.turn()
        assert agent._check_in_at - time.monotonic() == pytest.approx(INTERVAL_S * (1 - JITTER * share), abs=1.0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_vehicles_return_to_a_dead_registry_at_different_times(tmp_path: Path, share: float) -> None:
    registry = FakeRegistry()
    with driving(enrolled(tmp_path / "car", registry), registry, backoff_s=100.0, backoff_max_s=400.0) as driver:
        agent = Agent(replace(driver.parts, jitter=lambda: share))
        pauses = [agent._backoff_s(failures) for failures in (1, 2, 3, 4)]
    assert pauses == [100 * (1 - share / 2), 200 * (1 - share / 2), 400 * (1 - share / 2), 400 * (1 - share / 2)]
