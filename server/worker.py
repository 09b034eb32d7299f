"""Owns the binding to DBOS: a delta is a durable workflow, recovered after a crash, done once however often asked for.

DBOS keeps one instance a process; `DurableQueue` is the one place that touches it. Its system database lies beside
ours: a SQLite file in the data folder, or the schema `dbos` of the same PostgreSQL database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID, StepOptions
from sqlalchemy.engine import URL

from ota_protocol.errors import StorageError
from server.services.child import StoppingError
from server.services.deltas import DeltaMaker
from server.store.deltas import DeltaTask

log = logging.getLogger(__name__)

QUEUE = "deltas"
POLL_S = 0.25
"""How often an idle worker looks into the queue."""
STOP_S = 3
"""How long running workflows may take at a stop; what is cut off is done after the next start."""
UNFINISHED = frozenset({"ENQUEUED", "PENDING", "DELAYED"})
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
        self._maker: DeltaMaker | None = None
        self._workflow: Callable[[str, str], str] | None = None
        self._is_busy = False

    def start(self, maker: DeltaMaker) -> None:
        """Launch DBOS, recover what was running, and put what a crash kept from the queue."""
        self._maker = maker
        DBOS(config=self._config)
        self._workflow = DBOS.workflow(name="make_delta")(self._make_delta())
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL_S)
        self.reconcile()

    def put(self, task: DeltaTask) -> None:
        """Have the task done; a task that was put before is not done twice."""
        if self._workflow is None:
            return  # not started yet, or stopped: `reconcile` puts all that is unsettled
        try:
            with SetWorkflowID(_workflow_id(task)):
                DBOS.enqueue_workflow(QUEUE, self._workflow, task.base or "", task.result)
        except Exception:  # what asked for the delta is committed; `reconcile` puts it again
            log.exception("delta from %s to %s cannot be queued now", task.base or "nothing", task.result)

    def reconcile(self) -> None:
        """Put what is unsettled, whatever became of its workflow, and let prepared rollouts run."""
        if self._maker is None:
            return
        for task in self._maker.unsettled():
            self.put(_open_attempt(self._maker, task))
        self._maker.start_prepared()

    def stop(self) -> None:
        """Stop taking tasks, and end; who calls ended the child processes before, so workflows end by themselves."""
        if self._workflow is not None:
            self._workflow = None
            DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=STOP_S if self._is_busy else 0)

    def _make_delta(self) -> Callable[[str, str], str]:
        def make_delta(base: str, result: str) -> str:  # a plain function: DBOS marks what it is given
            assert self._maker is not None
            self._is_busy = True
            try:
                return _run_steps(self._maker, base or None, result)
            finally:
                self._is_busy = False

        return make_delta


def _run_steps(maker: DeltaMaker, base: str | None, result: str) -> str:
    try:
        DBOS.run_step(_patient("make"), maker.make, base, result)
        state = DBOS.run_step(_patient("offer"), maker.offer, base, result)
    except StoppingError:
        raise  # the next start puts it again
    except Exception as failure:  # whatever it is: a rollout must not wait for this delta for ever
        log.exception("delta from %s to %s", base or "nothing", result)
        state = DBOS.run_step(_patient("fail"), maker.fail, base, result, str(failure))
    DBOS.run_step(_patient("start_prepared"), maker.start_prepared)
    return state


def _open_attempt(maker: DeltaMaker, task: DeltaTask) -> DeltaTask:
    """Return the task under an id that can still run: a stop may have ended its workflow before it was done."""
    status = DBOS.get_workflow_status(_workflow_id(task))
    return task if status is None or status.status in UNFINISHED else maker.again(task)


def system_database_url(url: URL, data: Path) -> str:
    """Return where DBOS keeps its state, beside ours."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{data / 'workflows.sqlite'}"
    return url.render_as_string(hide_password=False)


def _patient(name: str) -> StepOptions:
    return StepOptions(
        name=name,
        retries_allowed=True,
        interval_seconds=2.0,
        max_attempts=ATTEMPTS,
        backoff_rate=3.0,
        should_retry=_is_worth_another_try,
    )


def _is_worth_another_try(failure: BaseException) -> bool:
    return isinstance(failure, StorageError) and not isinstance(failure, StoppingError)


def _workflow_id(task: DeltaTask) -> str:
    return f"delta-{task.base or 'empty'}-{task.result}-{task.attempt}"
