"""Owns the binding to DBOS: a delta is a durable workflow, recovered after a crash, done once however often asked for.

DBOS keeps one instance a process; `DurableQueue` is the one place that touches it. Its system database lies beside
ours: a SQLite file in the data folder, or the schema `dbos` of the same PostgreSQL database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID, StepOptions, error
from sqlalchemy.engine import URL

from ota_protocol.errors import OtaError
from server.services.deltas import DeltaMaker
from server.store.deltas import DeltaTask

log = logging.getLogger(__name__)

QUEUE = "deltas"
POLL_S = 0.25
"""How often an idle worker looks into the queue."""
STOP_S = 5
"""How long running workflows may take at a stop; what is cut off is recovered at the next start."""
ATTEMPTS = 5
"""Of one step, 2, 6, 18 and 54 seconds apart: a full disk or a busy database gets some time to heal."""


class DurableQueue:
    """Delta tasks as DBOS workflows, one at a time in each process."""

    def __init__(self, url: URL, data: Path) -> None:
        self._config = DBOSConfig(
            name="squeezeota",
            system_database_url=system_database_url(url, data),
            application_version="1",  # fixed: a workflow begun by an older build is finished by a newer one
            executor_id="registry",
            log_level="WARNING",
            enable_otlp=False,
        )
        self._workflow: Callable[[str, str], str] | None = None

    def start(self, maker: DeltaMaker) -> None:
        """Launch DBOS, recover what was running, and put what a crash kept from the queue."""
        DBOS(config=self._config)
        self._workflow = DBOS.workflow(name="make_delta")(_workflow(maker))
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL_S)
        for task in maker.unsettled():
            self.put(task)
        maker.start_prepared()

    def put(self, task: DeltaTask) -> None:
        """Have the task done; a task that was put before is not done twice."""
        if self._workflow is None:
            return  # not started yet: `start` puts all that is unsettled
        with SetWorkflowID(f"delta-{task.base or 'empty'}-{task.result}-{task.attempt}"):
            DBOS.enqueue_workflow(QUEUE, self._workflow, task.base or "", task.result)

    def stop(self) -> None:
        """Stop taking tasks, and end."""
        self._workflow = None
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=STOP_S)


def system_database_url(url: URL, data: Path) -> str:
    """Return where DBOS keeps its state, beside ours."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{data / 'workflows.sqlite'}"
    return url.render_as_string(hide_password=False)


def _patient(name: str) -> StepOptions:
    return StepOptions(name=name, retries_allowed=True, interval_seconds=2.0, max_attempts=ATTEMPTS, backoff_rate=3.0)


def _workflow(maker: DeltaMaker) -> Callable[[str, str], str]:
    def make_delta(base: str, result: str) -> str:
        try:
            DBOS.run_step(_patient("make"), maker.make, base or None, result)
            state = DBOS.run_step(_patient("offer"), maker.offer, base or None, result)
        except (OtaError, error.DBOSException) as failure:
            log.error("delta to %s: %s", result[:16], failure)
            state = DBOS.run_step(_patient("fail"), maker.fail, base or None, result, str(failure))
        DBOS.run_step(_patient("start_prepared"), maker.start_prepared)
        return str(state)

    return make_delta
