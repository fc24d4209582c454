"""Sockets to anything but this machine are refused while tests run.

It hangs on the interpreter's audit events (PEP 578), so it sees every socket that goes through Python's own: asyncio,
aiohttp, http.client, a library's. libpq and libuv open theirs in C; servers under test are other processes.
"""

import ipaddress
import sys

_attempts: list[str] = []
_installed = False


class OutsideCall(AssertionError):
    """A test tried to reach another machine, or to ask a name server for one."""


def is_local(host: object) -> bool:
    """Whether an address or name means this machine. Addresses in numbers need no name server, so asking is local."""
    if host is None:
        return True
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    name = name.partition("%")[0].rstrip(".").lower()
    if name in ("", "localhost", "0.0.0.0", "::") or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_numeric(host: object) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True


def _refuse(what: str) -> None:
    _attempts.append(what)
    raise OutsideCall(f"tests speak to this machine only, not: {what}")


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        # Unix sockets have a path for an address, netlink ones two integers.
        if isinstance(address, tuple) and isinstance(address[0], str | bytes) and not is_local(address[0]):
            _refuse(f"{event} {address}")
    elif event == "socket.getaddrinfo":
        host = args[0]
        if not is_local(host) and not _is_numeric(host):
            _refuse(f"{event} {host!r}")
    elif event == "socket.gethostbyname" and not is_local(args[0]) and not _is_numeric(args[0]):
        _refuse(f"{event} {args[0]!r}")


def install() -> None:
    """From now on, until the process ends, calls to the outside raise OutsideCall. Twice is the same as once."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_watch)


def taken_attempts() -> list[str]:
    """What was refused since the last time this was asked: code under test may have swallowed the error."""
    taken = _attempts.copy()
    _attempts.clear()
    return taken
