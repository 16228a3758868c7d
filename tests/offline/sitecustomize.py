"""Refuse every address outside this machine, in this process and in its Python children.

The root conftest loads this file into pytest and puts its folder on `PYTHONPATH`, whence each
Python that a test starts loads it by itself: `sitecustomize` is the name the interpreter looks
for. An audit hook sees a connection whichever library makes it, and cannot be patched away.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from typing import Any

OUTSIDE_ALLOWED = "LLM_TESTS_OUTSIDE_ALLOWED"
"""The environment variable that lifts the refusal; the conftest sets it for tests marked `live`."""

# Event -> where its arguments hold the address, or the name to look up.
# https://docs.python.org/3/library/audit_events.html
CONNECTIONS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
LOOK_UPS = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}


class OutsideNetworkError(RuntimeError):
    """A test tried to leave this machine."""


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return `host` as an address, one of IPv4 in IPv6's clothes as itself; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def stays_here(host: str) -> bool:
    """Tell whether a connection to `host` stays on this machine; a name other than localhost may not."""
    address = parse_address(host)
    if address is None:
        return host in ("", "localhost")
    return address.is_loopback or address.is_unspecified


def cannot_exist(name: str) -> bool:
    """Tell whether no resolver may know `name`: it is no host name, or ends in `.invalid` (RFC 2606)."""
    return not re.fullmatch(r"[\w.-]+", name) or name.rstrip(".").endswith(".invalid")


def refuse_outside(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise `OutsideNetworkError` when an audited event would leave this machine.

    Looking up a name that cannot exist raises `socket.gaierror`, as a resolver would.
    """
    if event in CONNECTIONS:
        address = arguments[CONNECTIONS[event]]
        host = address[0] if isinstance(address, tuple) else ""  # AF_UNIX has a path
    elif event in LOOK_UPS:
        address = host = arguments[LOOK_UPS[event]]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str) or stays_here(host) or os.environ.get(OUTSIDE_ALLOWED):
        return
    if event in LOOK_UPS:
        if parse_address(host) is not None:
            return  # nobody is asked for the address of an address
        if cannot_exist(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    raise OutsideNetworkError(
        f"{event} to {address!r} refused: tests stay on 127.0.0.1 and ::1; "
        "start a server there, or mark the test `live` and run it with `-m live`"
    )


sys.addaudithook(refuse_outside)
