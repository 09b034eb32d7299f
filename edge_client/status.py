"""Owns what the agent shows of itself: `status.json`, written each second, and the report of `ota-agent status`."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from edge_client.disk import Disk
from edge_client.enrolment import Identity
from edge_client.inference import FrameCount, Inference
from edge_client.journal import Journal
from edge_client.ledger import read_count
from edge_client.slots import NAMES, Slots

INTERVAL_S: Final = 1.0
_log = logging.getLogger(__name__)


class StatusWriter(threading.Thread):
    """Writes frames and predictions each second, so that they can be seen from outside and outlive a restart."""

    def __init__(self, state: Path, inference: Inference, stop: threading.Event) -> None:
        super().__init__(name="status", daemon=True)
        self._path = state / "status.json"
        self._inference = inference
        self._stop_event = stop

    def run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop_event.wait(INTERVAL_S)
            self._write()

    def _write(self) -> None:
        """Replace the file; not flushed, since a power cut may cost some seconds of a count."""
        body = {
            "frames": asdict(self._inference.count),
            "predictions": [asdict(each) for each in self._inference.predictions],
        }
        temporary = self._path.with_name("status.json.tmp")
        try:
            temporary.write_text(json.dumps(body))
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("the status cannot be written: %s", error)


def read_frame_count(state: Path) -> FrameCount:
    """Return the frames of earlier runs; zeros where there were none."""
    try:
        return FrameCount(**_read_status(state)["frames"])
    except (KeyError, TypeError):
        return FrameCount()


def report(state: Path) -> dict[str, Any]:
    """Return all that is known of a vehicle, from its state folder, while its agent runs or not.

    Raises:
        RequestError: the vehicle is not enrolled.
        StorageError: the folder cannot be read.
    """
    identity = Identity.read(state)
    slots = Slots(state / "slots", Disk())
    journal = Journal(state / "journal.db")
    try:
        saved, history = journal.load(), journal.history()
        waiting = journal.waiting()
    finally:
        journal.close()
    count, shown, active = read_count(state / "ledger"), _read_status(state), slots.active
    return {
        "vehicle": identity.vehicle,
        "registry": identity.registry,
        "state": saved.state.value,
        "active": active.release.model_dump() if active else None,
        "on_trial": slots.pointer.trial is not None,
        "slots": {name: slot.release.model_dump() if (slot := slots.read(name)) else None for name in NAMES},
        "confirmed_counters": slots.pointer.confirmed_counters,
        "update": saved.update.model_dump(mode="json", exclude={"assignment"}) if saved.update else None,
        "ledger": asdict(count),
        "frames": shown.get("frames", asdict(FrameCount())),
        "predictions": shown.get("predictions", []),
        "outbox": waiting,
        "updates": [record.model_dump() for record in history],
    }


def _read_status(state: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        body = json.loads((state / "status.json").read_text())
        if isinstance(body, dict):
            return body
    return {}
