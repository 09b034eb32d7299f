"""Owns the words to systemd: ready, alive, stopping. The protocol of sd_notify(3): a datagram to `$NOTIFY_SOCKET`.

Without a supervisor that listens, nothing is said and nothing fails.
"""

from __future__ import annotations

import contextlib
import os
import socket


def tell_supervisor(message: str) -> None:
    """Send lines such as `READY=1` or `WATCHDOG=1`."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An address that begins with "@" is in the abstract namespace, whose first byte is zero.
    path = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.settimeout(1.0)
        link.sendto(message.encode(), path)
