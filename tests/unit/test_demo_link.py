"""The demo's link: it forwards and counts every byte, cuts where told to, and survives a dead upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from demo.link import Cuts, Link, Traffic, read_traffic

ANSWER = bytes(range(256)) * 400


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """A server that answers one line of request with ANSWER and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def listening(link: Link) -> AsyncIterator[int]:
    server = await asyncio.start_server(link.carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def fetch(port: int) -> bytes:
    """Ask once, and return what came before the end, orderly or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"please\n")
    got = b""
    try:
        while chunk := await reader.read(4096):
            got += chunk
    except ConnectionResetError:
        return got
    finally:
        writer.close()
    return got


async def fetch_through(cuts: Cuts, times: int, period_s: float = 0.0) -> tuple[list[bytes], Traffic]:
    async with upstream() as port:
        link = Link("127.0.0.1", port, cuts, period_s)
        async with listening(link) as link_port:
            return [await fetch(link_port) for _ in range(times)], link.traffic


def test_forwards_whole_and_counts_both_ways() -> None:
    got, traffic = asyncio.run(fetch_through(Cuts(), times=2))
    assert got == [ANSWER, ANSWER]
    assert (traffic.up, traffic.down, traffic.cut) == (2 * len(b"please\n"), 2 * len(ANSWER), 0)


def test_cuts_only_as_often_as_told() -> None:
    got, traffic = asyncio.run(fetch_through(Cuts(after_bytes=50_000, most=2), times=3))
    assert all(len(part) <= 50_000 and ANSWER.startswith(part) for part in got[:2])
    assert got[2] == ANSWER
    assert traffic.cut == 2
    assert traffic.down == 2 * 50_000 + len(ANSWER)


def test_counts_by_period_add_up() -> None:
    _, traffic = asyncio.run(fetch_through(Cuts(), times=1, period_s=3600.0))
    assert sum(traffic.periods.values()) == traffic.up + traffic.down
    assert all(float(start) % 3600 == 0 for start in traffic.periods)


def test_forgetting_returns_to_what_was_counted_before() -> None:
    async def after_forgetting() -> Traffic:
        async with upstream() as port:
            link = Link("127.0.0.1", port, Cuts(), period_s=60.0, earlier=Traffic(up=5, down=7, periods={"0.000": 12}))
            async with listening(link) as link_port:
                await fetch(link_port)
                assert link.traffic.down == 7 + len(ANSWER)
                link.forget()
                return link.traffic

    assert asyncio.run(after_forgetting()) == Traffic(up=5, down=7, periods={"0.000": 12})


def test_dead_upstream_resets_the_vehicle() -> None:
    async def attempt() -> bytes:
        async with listening(Link("127.0.0.1", 1, Cuts())) as port:
            return await fetch(port)

    assert asyncio.run(attempt()) == b""


def test_no_count_yet_is_no_traffic(tmp_path: Path) -> None:
    assert read_traffic(tmp_path / "missing.json") == Traffic()


def test_broken_count_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "count.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        read_traffic(tmp_path / "count.json")
