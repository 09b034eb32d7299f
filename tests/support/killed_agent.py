"""An agent that is killed with SIGKILL right after it has saved a given state.

`python -m tests.support.killed_agent STATE_FOLDER FRAMES WHEN [setting=value ...]`
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from edge_client.agent import Agent
from edge_client.composition import compose
from edge_client.machine import State
from edge_client.settings import AgentSettings


def main(state: Path, frames: Path, when: State, changes: dict[str, str]) -> None:
    """Run the agent as `ota-agent run` does, with an observer that ends it."""

    def observe(now: State) -> None:
        if now is when:
            os.kill(os.getpid(), signal.SIGKILL)

    quick: dict[str, Any] = {"check_in_s": 0.2, "frame_interval_s": 0.01, "trial_frames": 5, "backoff_s": 0.1}
    settings = AgentSettings(**(quick | changes | {"state": state, "frames": frames}))
    with compose(settings, threading.Event()) as parts:
        Agent(parts, observe).run()


if __name__ == "__main__":
    pairs = (argument.partition("=") for argument in sys.argv[4:])
    main(Path(sys.argv[1]), Path(sys.argv[2]), State(sys.argv[3]), {name: value for name, _, value in pairs})
