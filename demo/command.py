"""Owns running one of the product's commands to its end, as an operator would, with its output kept in a log."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo.fleet import last_lines
from ota_protocol.errors import OtaError


def scripts_folder() -> Path:
    """Return the folder that holds the `ota-*` commands of this very installation."""
    return Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs `ota-*` commands.

    Args:
        scripts: folder of the commands.
        logs: folder for `<command>.log`; made by the caller.
        timeout_s: a command that takes longer is ended: the demo never hangs.
        env: variables beyond our own.
    """

    scripts: Path
    logs: Path
    timeout_s: float = 300.0
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path) -> str:
        """Run one command and return what it wrote to standard output.

        Raises:
            OtaError: it is not there, took too long, or ended with another code than 0 (with its last words).
        """
        name, *arguments = map(str, command)
        log = self.logs / f"{name}.log"
        with log.open("a") as err:
            err.write(f"\n$ {name} {' '.join(arguments)}\n")
            err.flush()
            started = time.monotonic()
            ended = self._ended([str(self.scripts / name), *arguments], err.fileno())
            err.write(f"{ended.stdout}[exit code {ended.returncode}, {time.monotonic() - started:.1f} s]\n")
        if ended.returncode != 0:
            shown = f"{name} {arguments[0]}" if arguments else name
            raise OtaError(f"`{shown}` ended with code {ended.returncode}: {last_lines(log)}", remedy=f"read {log}")
        return ended.stdout

    def _ended(self, command: list[str], err: int) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env}
        try:
            return subprocess.run(  # noqa: S603  (our own commands, no shell)
                command, stdout=subprocess.PIPE, stderr=err, text=True, timeout=self.timeout_s, env=env, check=False
            )
        except OSError as error:
            raise OtaError(f"{command[0]} does not start: {error}", remedy="run `make install`") from error
        except subprocess.TimeoutExpired as error:
            raise OtaError(
                f"{command[0]} took more than {self.timeout_s:.0f} s", remedy="try a faster machine"
            ) from error
