"""Pacing and counting at the socket."""

from __future__ import annotations

import socket
import threading
import time

import httpcore
import httpx
import pytest

from edge_client.ledger import Ledger
from edge_client.metering import MeteredBackend, MeteredTransport, Pacer


class Time:
    """A monotonic clock that only waiting moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s


@pytest.mark.parametrize("piece", [100, 1_000, 4_000])
def test_pacer_keeps_the_rate(piece: int) -> None:
    time = Time()
    pacer = Pacer(1_000, time.wait, time.clock)
    for _ in range(20_000 // piece):
        pacer.take(piece)
    assert time.now_s == pytest.approx(19.0, abs=0.01)  # the first second's worth was in the bucket


def test_pacer_saves_no_more_than_a_second() -> None:
    time = Time()
    pacer = Pacer(1_000, time.wait, time.clock)
    time.now_s = 3_600.0
    pacer.take(5_000)
    assert time.now_s == pytest.approx(3_604.0)


def test_no_cap_never_waits() -> None:
    time = Time()
    Pacer(None, time.wait, time.clock).take(10**9)
    assert time.now_s == 0.0


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger(tmp_path_factory.mktemp("ledger") / "ledger", period_s=60.0, clock=lambda: 0.0)


def test_silent_server_is_left_at_the_time_limit_and_at_once_on_stop(ledger: Ledger) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        backend = MeteredBackend(ledger, Pacer(None, stop.wait), stop)
        stream = backend.connect_tcp("127.0.0.1", server.getsockname()[1], timeout=1.0)
        began = time.monotonic()
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(100, timeout=0.7)
        assert 0.6 < time.monotonic() - began < 2.0
        threading.Timer(0.1, stop.set).start()
        began = time.monotonic()
        with pytest.raises(httpcore.ReadError, match="stopping"):
            stream.read(100, timeout=30.0)
        assert time.monotonic() - began < 2.0
        stream.close()


def test_refused_connection_is_an_error_of_httpx(ledger: Ledger) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    client = httpx.Client(transport=MeteredTransport(MeteredBackend(ledger, Pacer(None, stop.wait), stop)))
    with pytest.raises(httpx.ConnectError):
        client.get(f"http://127.0.0.1:{port}/")
    assert ledger.count().total_bytes == 0
