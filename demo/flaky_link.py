"""Owns the demo's bad link: a TCP proxy that resets a connection after so many bytes have come down it.

The vehicle behind it meets what a vehicle in a tunnel meets: a transfer that ends in the middle, without a farewell.
Standard library alone, so that a vehicle's container runs it as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import struct
from dataclasses import dataclass

CHUNK_BYTES = 16 << 10
"""Read size; a cut falls at most this far from the byte it is meant for, and never before it."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Cuts:
    """When connections are reset.

    Args:
        after_bytes: downstream bytes that one connection carries before it is cut.
        most: connections that are cut in all; later ones live, so that the demo ends.
    """

    after_bytes: int
    most: int


class FlakyLink:
    """Forwards connections to one upstream, and resets the first few that carry a download.

    Args:
        host: name or address of the upstream.
        port: its TCP port.
        cuts: when connections are reset.
    """

    def __init__(self, host: str, port: int, cuts: Cuts) -> None:
        self._host = host
        self._port = port
        self._cuts = cuts
        self.cut = 0
        """Connections reset so far."""

    async def carry(self, down: asyncio.StreamReader, down_writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a vehicle until either side closes it, or the cut."""
        try:
            up, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            _reset(down_writer)
            return
        tasks = (asyncio.create_task(_copy(down, up_writer)), asyncio.create_task(self._copy_down(up, down_writer)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in (up_writer, down_writer):
            with contextlib.suppress(OSError):
                writer.close()

    async def _copy_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy the upstream's bytes to the vehicle; reset the connection where a cut is due."""
        left = self._cuts.after_bytes
        while chunk := await reader.read(CHUNK_BYTES):
            if len(chunk) > left and self.cut < self._cuts.most:
                self.cut += 1
                writer.write(chunk[:left])
                await asyncio.sleep(0)  # what was written leaves before the reset
                _reset(writer)
                return
            left = max(0, left - len(chunk))
            writer.write(chunk)
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, as a dead link would, not by an orderly FIN."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def serve(link: FlakyLink, listen_port: int) -> None:
    """Listen on loopback until SIGTERM or SIGINT.

    Raises:
        OSError: the port is taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(link.carry, "127.0.0.1", listen_port)
    await stop.wait()
    server.close()


def main() -> None:
    """Run the link: `python -m demo.flaky_link --listen 9000 --to 127.0.0.1:8080 --cut-after 200000 --cuts 3`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--listen", type=int, required=True, metavar="PORT")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--cut-after", type=int, required=True, metavar="BYTES")
    parser.add_argument("--cuts", type=int, required=True, metavar="N")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    link = FlakyLink(host, int(port), Cuts(options.cut_after, options.cuts))
    asyncio.run(serve(link, options.listen))


if __name__ == "__main__":
    main()
