"""Owns what happens at the socket: bytes are counted into the ledger, paced to the rate cap, and waits can be stopped.

A network backend of httpcore (`connect_tcp`, `read`, `write`), wrapped around httpcore's own. Does not own HTTP.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore
import httpx

from edge_client.ledger import Ledger

READ_SLICE_S: Final = 0.5
"""A read waits in slices this long, so that SIGTERM is answered within one of them."""

PACED_READ_BYTES: Final = 16 << 10
PACED_BUFFER_BYTES: Final = 64 << 10
"""Receive buffer of a paced socket: what the kernel may take in beyond the cap before the sender is slowed."""

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Pacer:
    """A token bucket over received and sent bytes, holding at most one second's worth.

    Args:
        rate_bytes_per_s: the cap; None lets everything pass.
        wait: sleeps for some seconds, or less when the agent is to stop.
        clock: monotonic seconds.
    """

    def __init__(
        self, rate_bytes_per_s: int | None, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate_bytes_per_s = rate_bytes_per_s
        self._wait = wait
        self._clock = clock
        self._tokens = float(rate_bytes_per_s or 0)
        self._at = clock()

    def take(self, count_bytes: int) -> None:
        """Account for bytes that moved, and wait until the cap is met again."""
        if self.rate_bytes_per_s is None:
            return
        now = self._clock()
        rate = float(self.rate_bytes_per_s)
        self._tokens = min(rate, self._tokens + (now - self._at) * rate) - count_bytes
        self._at = now
        if self._tokens < 0:
            self._wait(-self._tokens / rate)


class MeteredStream(httpcore.NetworkStream):
    """A socket whose bytes are counted and paced."""

    def __init__(self, inner: httpcore.NetworkStream, ledger: Ledger, pacer: Pacer, stop: threading.Event) -> None:
        self._inner = inner
        self._ledger = ledger
        self._pacer = pacer
        self._stop = stop

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._pacer.rate_bytes_per_s is not None:
            max_bytes = min(max_bytes, PACED_READ_BYTES)
        data = self._read_in_slices(max_bytes, timeout)
        self._ledger.add(received=len(data))
        self._pacer.take(len(data))
        return data

    def _read_in_slices(self, max_bytes: int, timeout_s: float | None) -> bytes:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._stop.is_set():
            left = READ_SLICE_S if deadline is None else min(READ_SLICE_S, deadline - time.monotonic())
            try:
                return self._inner.read(max_bytes, max(left, 0.001))
            except httpcore.ReadTimeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
        raise httpcore.ReadError("the agent is stopping")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._ledger.add(sent=len(buffer))
        self._pacer.take(len(buffer))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, timeout)
        return MeteredStream(secured, self._ledger, self._pacer, self._stop)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class MeteredBackend(httpcore.NetworkBackend):
    """Opens sockets that are metered."""

    def __init__(self, ledger: Ledger, pacer: Pacer, stop: threading.Event) -> None:
        self._inner = httpcore.SyncBackend()
        self._ledger = ledger
        self._pacer = pacer
        self._stop = stop

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        options = list(socket_options or ())
        if self._pacer.rate_bytes_per_s is not None:
            options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, PACED_BUFFER_BYTES))
        stream = self._inner.connect_tcp(host, port, timeout, local_address, options)
        return MeteredStream(stream, self._ledger, self._pacer, self._stop)

    def sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)


class MeteredTransport(httpx.HTTPTransport):
    """httpx's own transport over metered sockets; at most one connection, kept alive between requests."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        context = httpx.create_ssl_context(trust_env=False)
        super().__init__(verify=context, trust_env=False)
        # httpx offers no argument for httpcore's network backend, so its pool is replaced by one that has it.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=1,
            keepalive_expiry=30.0,
            network_backend=backend,
        )
