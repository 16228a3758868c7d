"""Refuse every address outside this machine, in this process and in its Python children.

The root conftest loads this file into pytest and puts its folder on `PYTHONPATH`, whence each
Python that a test starts loads it by itself: `sitecustomize` is the name the interpreter looks
for. An audit hook sees a connection whichever library makes it, and cannot be patched away.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

OUTSIDE_ALLOWED = "LLM_TESTS_OUTSIDE_ALLOWED"
"""The environment variable that lifts the refusal; the conftest sets it for tests marked `live`."""

# Event -> where its arguments hold the address, or the host's name.
# https://docs.python.org/3/library/audit_events.html
WATCHED_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}


class OutsideNetworkError(RuntimeError):
    """A test tried to leave this machine."""


def is_on_this_machine(address: object) -> bool:
    """Tell whether `address`, as a socket takes it, stays here.

    A file system path (AF_UNIX), a missing or unspecified host and `localhost` stay here, as does
    every loopback address of IPv4 and IPv6. Any other name does not, wherever it may resolve to.
    """
    if isinstance(address, tuple):
        host = address[0]
    elif isinstance(address, str) and "/" not in address:
        host = address
    else:
        return True
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost") or not isinstance(host, str):
        return True
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return bool(mapped.is_loopback or mapped.is_unspecified)


def refuse_outside(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise `OutsideNetworkError` when an audited event would leave this machine."""
    place = WATCHED_EVENTS.get(event)
    if place is None or os.environ.get(OUTSIDE_ALLOWED):
        return
    address = arguments[place]
    if not is_on_this_machine(address):
        raise OutsideNetworkError(
            f"{event} to {address!r} refused: tests stay on 127.0.0.1 and ::1; "
            "start a server there, or mark the test `live` and run it with `-m live`"
        )


sys.addaudithook(refuse_outside)
