"""Owns the story: two releases on their way to a fleet, told in the same words on one machine and in containers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from demo.checks import judge
from demo.figures import Run, figures
from demo.observation import Observation
from demo.progress import Progress
from demo.registry import Registry, wait_until
from demo.releases import FIRST, MODEL, SECOND, Publisher
from demo.report import Report
from ota_protocol.errors import OtaError
from ota_protocol.wire import RolloutRequest, VehicleProgress

CONFIRM_TIMEOUT_S: Final = 300.0
"""A release takes the slowest vehicle some 25 seconds; ten times that is a busy machine, more is a fault."""
LOOK_TIMEOUT_S: Final = 120.0


class Stage(Protocol):
    """Where the story plays: it has a registry and vehicles, and knows how to look at them."""

    @property
    def fleet(self) -> Literal["processes", "containers"]:
        """What the vehicles run as."""
        ...

    def registry(self) -> Registry:
        """Return the operator's view of the registry."""
        ...

    def publisher(self) -> Publisher:
        """Return who builds and publishes releases."""
        ...

    def begin(self) -> None:
        """Bring up the registry, or wait for it. Raises OtaError: it does not come up."""
        ...

    def send_out(self, act: Literal["first", "second"]) -> Set[str]:
        """Start the vehicles of this act, or wait for them; return the names of all that are out now."""
        ...

    def observe(self, vehicle: str) -> Observation | None:
        """Look at one vehicle; None if there is nothing to see yet. Raises OtaError: it does not answer."""
        ...

    def moved(self) -> Mapping[str, int]:
        """Return the bytes on each vehicle's link so far, as far as known."""
        ...

    def require_alive(self) -> None:
        """Raise OtaError if something of the stage has died."""
        ...


@dataclass(slots=True)
class Story:
    """Tells it once.

    Args:
        stage: where it plays.
        photographs: folder of the photographs that pictures are cut from.
        progress: where it is shown.
    """

    stage: Stage
    photographs: Path
    progress: Progress
    _out: Set[str] = field(default_factory=frozenset)

    def tell(self) -> Report:
        """Bring both releases to the fleet, and return the report with its checks.

        Raises:
            OtaError: a step failed. A figure that falls short is no error but a check that fails.
        """
        started_at, began = datetime.now(UTC), time.monotonic()
        step, publisher = self.progress.step, self.stage.publisher()
        with step("Cut scikit-image's photographs into pictures for calibration and for the head"):
            publisher.cut_pictures(self.photographs)
        with step("Bring up the registry"):
            self.stage.begin()
        self._release(step, FIRST, f"Build {FIRST}: SqueezeNet 1.1 in 8 bits", publisher.build_first)
        before = self._roll_out(FIRST, "first")
        self._release(
            step, SECOND, f"Build {SECOND}: the head fine-tuned on the fleet's pictures", publisher.build_second
        )
        after = self._roll_out(SECOND, "second")
        registry = self.stage.registry()
        run = Run(
            fleet=self.stage.fleet,
            started_at=started_at,
            seconds=time.monotonic() - began,
            steps=tuple(self.progress.times),
            releases=tuple(registry.release(MODEL, release) for release in (FIRST, SECOND)),
            vehicles=registry.vehicles(),
            savings=registry.savings(),
            before=before,
            after=after,
        )
        report = figures(run)
        return report.model_copy(update={"checks": judge(report)})

    def _release(
        self, step: Callable[[str], AbstractContextManager[None]], release: str, title: str, build: Callable[[], None]
    ) -> None:
        with step(title):
            build()
        with step(f"Sign {release} offline and publish it"):
            self.stage.publisher().publish(release)

    def _roll_out(self, release: str, act: Literal["first", "second"]) -> Mapping[str, Observation]:
        """Bring one release to every vehicle, and return how the vehicles look then."""
        rollout = f"to-{release.replace('.', '-')}"
        with self.progress.step(f"Roll out {release}"):
            self.stage.registry().roll_out(rollout, RolloutRequest(model=MODEL, release=release))
            self._out = self.stage.send_out(act)
            wait_until(lambda: self._is_confirmed(rollout), f"rollout of {release}", timeout_s=CONFIRM_TIMEOUT_S)
        with self.progress.step(f"Look at the vehicles, and count the bytes on their links ({release})"):
            return self._look(release)

    def _is_confirmed(self, rollout: str) -> bool:
        """Whether every vehicle that is out has confirmed.

        Raises:
            OtaError: a vehicle failed for good, or something of the stage died.
        """
        self.stage.require_alive()
        registry = self.stage.registry()
        states = registry.rollout(rollout).vehicles
        self.progress.fleet(registry.vehicles(), self.stage.moved())
        failed = sorted(name for name, state in states.items() if state is VehicleProgress.FAILED)
        if failed:
            raise OtaError(f"{', '.join(failed)} gave up {rollout}", remedy="read the logs of the fleet")
        return all(states.get(name) is VehicleProgress.CONFIRMED for name in self._out)

    def _look(self, release: str) -> Mapping[str, Observation]:
        """Return how each vehicle looks at a moment when it runs `release` and nothing is on its way over its link.

        A link that cuts never agrees to the byte with its vehicle, so that is not waited for.
        """
        kept: dict[str, Observation] = {}

        def all_seen() -> bool:
            for name in self._out - kept.keys():
                seen = self.stage.observe(name)
                if seen and seen.status.runs(release) and (seen.is_quiet or seen.traffic.cut > 0):
                    kept[name] = seen
            return self._out <= kept.keys()

        wait_until(all_seen, f"{release} in every status, and ledgers that agree with links", timeout_s=LOOK_TIMEOUT_S)
        return kept
