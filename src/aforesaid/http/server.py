"""The HTTP server around the routes: routing, request ids, deadlines, and the errors of last resort.

uvicorn has no deadline for a request's head and none for a client that reads too slowly; ``Protocol`` adds both.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aforesaid.errors import AforesaidError, Invalid, NotFound
from aforesaid.http.body import Disconnected
from aforesaid.http.endpoint import Dialect, Endpoint, Reply, Route, WrongMethod

log = logging.getLogger("aforesaid.http")

HEAD_S = 10.0
"""How long the head of a request may take."""
HEAD_BYTES = 32 << 10
"""Size of a request's line and headers."""
READ_S = 60.0
"""How long a client may take nothing of an answer that waits for it."""
KEEP_ALIVE_S = 75
"""How long a connection is kept between two requests."""

DRAIN_BYTES = 64 << 10
"""An unread body of at most this length is taken before the answer, so that the connection can go on."""
DRAIN_S = 0.5
"""And for so long: then the connection is closed after the answer."""
LINGER_BYTES = 64 << 20
"""How much of a longer one is thrown away after the answer, before the connection is closed."""
LINGER_S = 2.0
"""And for how long: closed at once, the client might never see the answer."""

ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_S = "86400"
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with deadlines for slow clients and a limit for heads."""

    head_s = HEAD_S
    read_s = READ_S
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _head_size = 0
    _heads = 0
    _unparsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # The parser tells of a header when it is whole, and keeps what it has until then, however much that is.
        waiting, heads = self._head_timer is not None, self._heads
        super().data_received(data)
        if waiting and self._head_timer is not None and heads == self._heads:
            self._unparsed += len(data)
            if self._unparsed > HEAD_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        self._heads += 1
        self._head_size = self._unparsed = 0
        self._expect_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                self._refuse(b"501 Not Implemented", b"the only transfer encoding taken is chunked")
                raise ValueError("unknown transfer encoding")
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(self.read_s, self._give_up)

    def resume_writing(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        super().resume_writing()

    def _unset_keepalive_if_required(self) -> None:
        # Bytes between two requests that begin none (blank lines, one by one) get no more time than a head.
        if self.timeout_keep_alive_task is not None:
            self._expect_head()
        super()._unset_keepalive_if_required()

    def _expect_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.head_s, self._late)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_BYTES:
            self._refuse_head()
            raise ValueError("the head of the request is too large")

    def _refuse_head(self) -> None:
        self._refuse(b"431 Request Header Fields Too Large", b"the head of the request is too large")

    def _late(self) -> None:
        self._head_timer = None
        if self._head_size:
            self._refuse(b"408 Request Timeout", b"the head of the request came too slowly")
        self.transport.close()

    def _refuse(self, status: bytes, told: bytes) -> None:
        if not self.transport.is_closing() and not self._answering():
            head = b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, len(told)) + told)
        self.transport.close()

    def _answering(self) -> bool:
        """Whether an answer to an earlier request is on its way: nothing may be written into it."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.response_started and not cycle.response_complete

    def _give_up(self) -> None:
        self._read_timer = None
        self.transport.abort()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._read_timer = None

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if self._answering():
            self.transport.close()
        else:
            super().send_400_response(msg)


class Incoming:
    """A request's body on its way in, and whether all of it has come."""

    __slots__ = ("_expects", "_receive", "_size", "whole")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._size: int | None = 0
        self._expects = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                self._size = int(value) if value.isdigit() and len(value) < 19 else None
            elif name == b"transfer-encoding":
                self._size = None
            elif name == b"expect":
                self._expects = True
        self.whole = self._size == 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self.whole = True
        return message

    async def settle(self) -> None:
        """A short body that nobody wanted has come, so that the connection can go on; a long one is left alone."""
        if not self.whole and not self._expects and self._size is not None and self._size <= DRAIN_BYTES:
            await self._drain(DRAIN_S)

    async def linger(self) -> None:
        """What the client still sent has been thrown away, within limits: now it can see its answer."""
        if not self._expects:
            await self._drain(LINGER_S)

    async def _drain(self, seconds: float) -> None:
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(seconds):
                while not self.whole and left > 0:
                    left -= len((await self()).get("body", b""))
        except TimeoutError:
            return


class Mounted:
    """A dialect's endpoints under one prefix."""

    def __init__(self, prefix: str, dialect: Dialect, endpoints: Sequence[Endpoint]) -> None:
        self.prefix = prefix
        self.dialect = dialect
        self.endpoints = tuple(endpoints)


def routes(mounted: Sequence[Mounted], make: Callable[[Endpoint, Dialect], Route]) -> list[StarletteRoute]:
    """The routing table, in the order given."""
    return [
        StarletteRoute(mount.prefix + endpoint.path, make(endpoint, mount.dialect), methods=[endpoint.method])
        for mount in mounted
        for endpoint in mount.endpoints
    ]


class Server:
    """The ASGI application: every request has an id, and an answer in the form of its dialect, whatever happens."""

    def __init__(self, table: Sequence[StarletteRoute], dialect_of: Callable[[str], Dialect], lifespan: Any) -> None:
        self._router = Router(routes=list(table), redirect_slashes=False, default=_missing, lifespan=lifespan)
        self._table = tuple(table)
        self._dialect_of = dialect_of
        self.requests: dict[int, int] = {}
        """Answers given, by status."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        request_id = _request_id(scope)
        incoming = Incoming(scope, receive)
        browser = any(name == b"origin" for name, _ in scope["headers"])
        begun = time.perf_counter()
        status = 0
        closing = False

        async def sending(message: Message) -> None:
            nonlocal status, closing
            if message["type"] == "http.response.start":
                status = message["status"]
                headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                if not any(name == b"x-request-id" for name, _ in headers):
                    headers.append((b"x-request-id", request_id))
                headers.append((b"x-content-type-options", b"nosniff"))
                if browser:
                    headers.append((b"access-control-allow-origin", b"*"))
                    headers.append((b"access-control-expose-headers", b"*"))
                if not incoming.whole:
                    await incoming.settle()
                    closing = not incoming.whole
                    if closing:
                        headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            elif closing and not message.get("more_body"):
                await send({**message, "more_body": True})
                await incoming.linger()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        scope["app"] = self  # makes the router raise instead of answering by itself
        scope["state"] = {"request_id": request_id.decode()}
        try:
            await self._answer(scope, incoming, sending)
        except Disconnected:
            status = 499
        except Exception:
            log.exception("request %s failed: %s %r", request_id.decode(), scope["method"], scope["path"])
            if status == 0:
                error = AforesaidError("something went wrong on our side; the log has it under the request id")
                await self._dialect_of(scope["path"]).refuse(error, None)(scope, incoming, sending)
        self.requests[status] = self.requests.get(status, 0) + 1
        if log.isEnabledFor(logging.INFO):
            seconds = time.perf_counter() - begun
            path = scope.get("raw_path", b"").decode("latin-1")
            log.info("%s %s %d %.1f ms %s", scope["method"], path, status, seconds * 1000, request_id.decode())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await self._preflight(scope, receive, send)
            return
        dialect = self._dialect_of(scope["path"])
        # Bytes that are no UTF-8 come as U+FFFD: two different addresses must not become one.
        if "\x00" in scope["path"] or "\ufffd" in scope["path"]:
            await dialect.refuse(Invalid("must be UTF-8 without NUL", "path"), None)(scope, receive, send)
            return
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            if error.status_code == 405:
                reply = dialect.refuse(WrongMethod(f"{scope['method']} is not for this address"), None)
                reply.headers["allow"] = self._allowed(scope)
            else:
                reply = dialect.refuse(NotFound("Route"), None)
            await reply(scope, receive, send)

    async def _preflight(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What browsers ask before they send a key from another site's page. No cookie is ever looked at."""
        wanted = next((v for n, v in scope["headers"] if n == b"access-control-request-headers"), b"*")
        headers = {
            "access-control-allow-methods": ALLOWED_METHODS,
            "access-control-allow-headers": wanted.decode("latin-1"),
            "access-control-max-age": PREFLIGHT_S,
            "allow": self._allowed(scope),
            "vary": "access-control-request-headers",
        }
        await Reply(204, headers=headers)(scope, receive, send)

    def _allowed(self, scope: Scope) -> str:
        methods = {"OPTIONS"}
        for route in self._table:
            if route.path_regex.match(scope["path"]):
                methods |= route.methods or set()
        return ", ".join(sorted(methods))


async def _missing(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)


def _request_id(scope: Scope) -> bytes:
    """The caller's own request id if it is a sane one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return bytes(value)
    return b"req_" + secrets.token_hex(12).encode()


def application(table: Sequence[StarletteRoute], dialect_of: Callable[[str], Dialect], lifespan: Any) -> ASGIApp:
    """The whole application."""
    return Server(table, dialect_of, lifespan)
