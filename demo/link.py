"""Owns the demo's links: a TCP proxy before the registry that counts every byte, and resets connections if told to.

Each vehicle has a link of its own. What it counts is the demo's evidence from outside: the vehicle's ledger must agree
with it, and a budget must hold by it. A link that cuts gives its vehicle what a tunnel gives: a transfer that ends in
the middle, without a farewell. Standard library alone, so that a vehicle's container runs it as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import json
import signal
import socket
import struct
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 16 << 10
SAVE_EVERY_S: Final = 0.2
"""How often the count is written to its file, if it changed."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Cuts:
    """When connections are reset.

    Args:
        after_bytes: downstream bytes that one connection carries before it is cut.
        most: connections that are cut in all; later ones live, so that the demo ends.
    """

    after_bytes: int = 0
    most: int = 0


@dataclass(slots=True)
class Traffic:
    """What crossed a link so far.

    Args:
        up: bytes from the vehicle.
        down: bytes to the vehicle.
        cut: connections that the link reset.
        periods: bytes both ways by the start of the budget period (Unix seconds); empty without a budget.
    """

    up: int = 0
    down: int = 0
    cut: int = 0
    periods: dict[str, int] = field(default_factory=dict)


class Link:
    """Forwards connections to one upstream.

    Args:
        host: name or address of the upstream.
        port: its TCP port.
        cuts: when connections are reset.
        period_s: length of the vehicle's budget periods; 0 without a budget.
        earlier: what it counted when it ran before.
    """

    def __init__(self, host: str, port: int, cuts: Cuts, period_s: float = 0.0, earlier: Traffic | None = None) -> None:
        self._host = host
        self._port = port
        self._cuts = cuts
        self._period_s = period_s
        self._earlier = earlier or Traffic()
        self.traffic = copy.deepcopy(self._earlier)

    def forget(self) -> None:
        """Count from the start again: a vehicle's ledger begins after its enrolment, which crosses the link too."""
        self.traffic = copy.deepcopy(self._earlier)

    async def carry(self, down: asyncio.StreamReader, down_writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the vehicle until either side closes it, or the cut."""
        try:
            up, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            _reset(down_writer)
            return
        tasks = (asyncio.create_task(self._up(down, up_writer)), asyncio.create_task(self._down(up, down_writer)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in (up_writer, down_writer):
            with contextlib.suppress(OSError):
                writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            self._count(up=len(chunk))
            writer.write(chunk)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy the upstream's bytes to the vehicle; reset the connection where a cut is due."""
        left = self._cuts.after_bytes
        while chunk := await reader.read(CHUNK_BYTES):
            if self.traffic.cut < self._cuts.most and len(chunk) > left:
                self.traffic.cut += 1
                self._count(down=left)
                writer.write(chunk[:left])
                _reset(writer)
                return
            left = max(0, left - len(chunk))
            self._count(down=len(chunk))
            writer.write(chunk)
            await writer.drain()

    def _count(self, *, up: int = 0, down: int = 0) -> None:
        self.traffic.up += up
        self.traffic.down += down
        if self._period_s:
            now = time.time()
            start = f"{now - now % self._period_s:.3f}"
            self.traffic.periods[start] = self.traffic.periods.get(start, 0) + up + down


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, as a dead link would, not by an orderly FIN."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def read_traffic(file: Path) -> Traffic:
    """Return what a link has written of its count; nothing if it has not written yet."""
    try:
        return Traffic(**json.loads(file.read_bytes()))
    except FileNotFoundError:
        return Traffic()


async def serve(link: Link, listen_port: int, count_file: Path | None) -> None:
    """Listen on loopback until SIGTERM or SIGINT, and keep the count in a file. SIGUSR1 is `Link.forget`.

    Raises:
        OSError: the port is taken, or the file cannot be written.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, link.forget)
    server = await asyncio.start_server(link.carry, "127.0.0.1", listen_port)
    saved = ""
    while not stop.is_set():
        saved = _save(link.traffic, saved, count_file)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SAVE_EVERY_S)
    server.close()
    _save(link.traffic, saved, count_file)


def _save(traffic: Traffic, saved: str, file: Path | None) -> str:
    """Replace the file if the count changed. No flush: a figure of a demo need not outlive a power cut."""
    text = json.dumps(asdict(traffic))
    if file is not None and text != saved:
        new = file.with_suffix(".new")
        new.write_text(text)
        new.replace(file)
    return text


def main() -> None:
    """Run a link: `python -m demo.link --listen 9000 --to 127.0.0.1:8080 --cut-after 200000 --cuts 3`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--listen", type=int, required=True, metavar="PORT")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--count-file", type=Path, metavar="FILE", help="where the count is kept, as JSON")
    parser.add_argument("--cut-after", type=int, default=0, metavar="BYTES")
    parser.add_argument("--cuts", type=int, default=0, metavar="N")
    parser.add_argument("--period-s", type=float, default=0.0, metavar="S", help="count by periods of this length too")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    earlier = read_traffic(options.count_file) if options.count_file else None
    link = Link(host, int(port), Cuts(options.cut_after, options.cuts), options.period_s, earlier)
    asyncio.run(serve(link, options.listen, options.count_file))


if __name__ == "__main__":
    main()
