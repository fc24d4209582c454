"""Answers that are sent piece by piece. When the client leaves, whoever makes the pieces is told at once."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from aforesaid.http.body import Disconnected

R = TypeVar("R")


async def unless_left(receive: Receive, work: "Coroutine[Any, Any, R]") -> R:
    """What the work gives. When the client leaves first, the work is cancelled at once.

    The body of the request has been read. *Raises* ``Disconnected`` when the client left. *Cost*: one task.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = over = False

    def leave(watch: "asyncio.Task[None]") -> None:
        nonlocal gone
        if not over and not watch.cancelled():
            gone = True
            task.cancel()

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.ensure_future(wait())
    watch.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        raise Disconnected from None
    finally:
        over = True
        watch.cancel()
        if gone:
            task.uncancel()


class Stream:
    """An answer under way: every piece is sent when it is there, on its own.

    When the client leaves, or sending fails, ``pieces`` is closed: its ``finally`` lets go of what it holds. An error
    out of ``pieces`` breaks the connection off, so that half an answer never looks whole.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self._pieces = pieces
        self._status = status
        self._headers = dict(headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in self._headers.items()]

        async def relay() -> None:
            await send({"type": "http.response.start", "status": self._status, "headers": raw})
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        try:
            await unless_left(receive, relay())
        finally:
            await self._pieces.aclose()
