"""A lean HTTP/1.1 client for load: one connection a client, requests as ready bytes, answers timed and not kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import msgspec

WAIT_S = 120.0


class Timed(msgspec.Struct, kw_only=True):
    """An answer as load sees it. ``first_s`` is the wait for the first byte of its body, ``whole_s`` for all of it."""

    status: int
    first_s: float
    whole_s: float
    size: int
    events: int


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._done: asyncio.Future[None] | None = None
        self._first = 0.0
        self._size = self._events = 0
        self._close = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            if self._close and exc is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"connection" and value.lower() == b"close":
            self._close = True

    def on_body(self, body: bytes) -> None:
        if not self._size:
            self._first = time.perf_counter()
        self._size += len(body)
        self._events += body.count(b"\n\n")

    def on_message_complete(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def ask(self, request: bytes) -> Timed:
        """The request was answered whole."""
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._size = self._events = 0
        assert self._transport is not None
        begun = time.perf_counter()
        self._transport.write(request)
        await asyncio.wait_for(self._done, WAIT_S)
        now = time.perf_counter()
        first = self._first if self._size else now
        status = int(self._parser.get_status_code())
        return Timed(status=status, first_s=first - begun, whole_s=now - begun, size=self._size, events=self._events)

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._close

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connected(port: int) -> Connection:
    """A connection to this machine."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(Connection, "127.0.0.1", port)
    return made


def post(path: str, body: bytes, key: str, extra: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST with JSON."""
    headers = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    } | (extra or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def load(
    port: int,
    clients: int,
    requests: Callable[[], bytes | None],
    *,
    begin: Callable[[int], Awaitable[None]] | None = None,
) -> list[Timed]:
    """Every client asks again and again until ``requests`` gives None.

    *Takes* ``begin``, awaited by each client before its first request, to spread them. *Raises* RuntimeError for a
    status other than 2xx.
    """
    out: list[Timed] = []

    async def run(place: int) -> None:
        connection = await connected(port)
        try:
            if begin is not None:
                await begin(place)
            while (request := requests()) is not None:
                if not connection.usable:
                    connection = await connected(port)
                timed = await connection.ask(request)
                if timed.status // 100 != 2:
                    raise RuntimeError(f"status {timed.status}")
                out.append(timed)
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for place in range(clients):
            group.create_task(run(place))
    return out
