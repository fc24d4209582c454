"""A stream under way: bytes in from a model server, whole events out, and a clear end or a clear break.

An event is passed on when its last byte is there. A stream has ended when its end mark came, or when every choice
said why it ended; any other end is a break, told after the last whole event.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

import aiohttp
import msgspec

from aforesaid.errors import UpstreamFailed
from aforesaid.providers.breaker import Breaker
from aforesaid.providers.completions import DONE
from aforesaid.providers.exchange import MAX_ANSWER_BYTES, StreamBroken, Upstream
from aforesaid.providers.sse import Splitter, finishes, is_done, payloads

LINGER_S = 0.25
"""How long a connection may take after the end mark of a stream to end its body and become reusable."""

_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


def end_with_connection(response: aiohttp.ClientResponse) -> None:
    """The body ends, by an error, when its connection does.

    After a malformed chunk length the client library closes the connection and leaves the reader waiting for ever.
    """
    content, connection = response.content, response.connection
    if connection is None or content.is_eof():
        return

    def ended(closed: "asyncio.Future[None] | None") -> None:
        if closed is not None:
            closed.exception()
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the body is malformed"))

    closed = connection.protocol.closed if connection.protocol is not None else None
    if closed is None:
        ended(None)
    else:
        closed.add_done_callback(ended)


async def whole_body(response: aiohttp.ClientResponse, limit: int, name: str) -> bytes:
    """The body. *Raises*: UpstreamFailed beyond ``limit`` bytes, before they are read where it says its length."""
    too_long = UpstreamFailed(f"{name} answered with more than {limit} bytes")
    if (response.content_length or 0) > limit:
        raise too_long
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise too_long
    return b"".join(pieces)


def error_in_answer(name: str, payload: bytes) -> UpstreamFailed:
    """An error that came with status 200: its own status where it names one, else 502."""
    status = 502
    try:
        error = msgspec.json.decode(payload).get("error")
        code = error.get("code") or error.get("status") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code <= 599:
            status = code
    except (msgspec.DecodeError, RecursionError, AttributeError):
        pass
    return UpstreamFailed(f"{name} answered with an error", status=status, body=payload)


class RelayedAnswer:
    """A stream under way. Its bytes are passed on as they came, cut only where an event ends."""

    status = 200
    streaming = True

    def __init__(
        self,
        upstream: Upstream,
        breaker: Breaker,
        response: aiohttp.ClientResponse,
        headers: dict[str, str],
        model: str,
        asked: bytes,
        deadline: float,
    ) -> None:
        self.headers = {**headers, "content-type": response.headers.get("content-type", "text/event-stream")}
        self.model = model
        self.upstream = upstream.name
        self.first = b""
        self._settings = upstream
        self._breaker = breaker
        self._response = response
        self._asked = asked
        self._splitter = Splitter()
        self._finished = 0
        self._last = b""
        self._size = 0
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + deadline - time.monotonic()
        self._waiting_since: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._why: StreamBroken | None = None

    async def begin(self) -> bool:
        """The first whole event is there. False when it is no stream: ``first`` is the whole body then."""
        content = self._response.content
        raw = b""
        if self._response.content_type != "text/event-stream":
            while len(raw.lstrip()) < len("event:") and not content.at_eof():
                raw += await self._piece()
            if not raw.lstrip().startswith(_EVENT_STARTS):
                self.first = raw + await whole_body(self._response, MAX_ANSWER_BYTES - len(raw), self.upstream)
                return False
        whole = self._splitter.feed(raw)
        while not whole:
            if content.at_eof():
                whole = self._splitter.finish()
                if not whole:
                    raise aiohttp.ServerDisconnectedError("the stream ended before its first event")
                break
            whole = self._splitter.feed(await self._piece())
        said = payloads(whole) if b'"error"' in whole else []
        if said and b'"choices"' not in said[0] and b'"error"' in said[0]:
            raise error_in_answer(self.upstream, said[0])
        self.first = whole
        return True

    async def body(self) -> bytes:
        """All events in one piece."""
        return b"".join([piece async for piece in self.events()])

    async def events(self) -> AsyncGenerator[bytes, None]:
        read, feed, now = self._piece, self._splitter.feed, self._loop.time
        self._look()
        whole, self.first = self.first, b""
        try:
            while True:
                if whole:
                    self._last = whole
                    if is_done(whole):
                        self._linger()
                        yield whole
                        return
                    self._finished += finishes(whole)
                    self._size += len(whole)
                    yield whole
                if self._size > MAX_ANSWER_BYTES:
                    raise UpstreamFailed(f"{self.upstream} streamed more than {MAX_ANSWER_BYTES} bytes")
                self._waiting_since = now()
                piece = await read()
                self._waiting_since = None
                if not piece:
                    break
                whole = feed(piece)
            if not self._splitter.finish() and not self._ended():
                raise UpstreamFailed(f"{self.upstream} ended its stream before the answer was whole")
        except (aiohttp.ClientError, OSError, EOFError) as error:
            if self._why is not None or not self._ended():
                told = f"the connection to {self.upstream} broke before the answer was whole"
                raise self._broken(told) from error
        except UpstreamFailed as error:
            raise self._broken(error.message) from error.__cause__
        finally:
            self._waiting_since = None
            if self._watch is not None:
                self._watch.cancel()
            if not self._response.content.is_eof() and not is_done(self._last):
                self._response.close()
        # The answer is whole, but the server left out the end mark, or broke while sending it.
        yield DONE

    async def _piece(self) -> bytes:
        """What has come since the last piece; empty at the end."""
        content = self._response.content
        try:
            return await content.readany()
        except (aiohttp.ClientError, OSError, EOFError):
            # The reader raises before it gives what it already holds; those bytes came, so they are delivered first.
            held = b"".join(content._buffer)
            content._buffer.clear()
            if held and self._why is None:
                return held
            raise

    def _broken(self, told: str) -> StreamBroken:
        """What ended the stream: our own giving up, where it was that, else the server's fault as told."""
        if self._why is not None:
            return self._why
        self._breaker.failed()
        last = payloads(self._last)[-1:] if b'"error"' in self._last else []
        return StreamBroken(told, reported=bool(last) and b'"error"' in last[0] and b'"choices"' not in last[0])

    def _ended(self) -> bool:
        """Whether every choice said why it ended: then the end mark may be missing, and so may a clean close."""
        if not self._finished:
            return False
        try:
            wanted = msgspec.json.decode(self._asked, type=dict[str, msgspec.Raw]).get("n")
            return self._finished >= (msgspec.json.decode(wanted, type=int) if wanted else 1)
        except msgspec.DecodeError:
            return True

    def _look(self) -> None:
        """The timer: the server is given up when it has kept us waiting too long, or the whole takes too long.

        One timer a stream, set anew when it fires, instead of one an event. Time in which the caller does not read
        is not the server's.
        """
        now, idle_s = self._loop.time(), self._settings.idle_timeout_s
        since = self._waiting_since
        if now >= self._deadline:
            told = f"{self.upstream} took longer than {self._settings.answer_timeout_s:g} s"
        elif since is not None and now - since >= idle_s:
            told = f"{self.upstream} sent nothing for {idle_s:g} s"
        else:
            due = min((now if since is None else since) + idle_s, self._deadline)
            self._watch = self._loop.call_at(due, self._look)
            return
        self._why = StreamBroken(told, status=504)
        self._breaker.failed()
        self._response.close()

    def _linger(self) -> None:
        """The end mark came: the connection goes back to the pool if its body ends soon, else it is closed."""
        if not self._response.content.is_eof():
            self._loop.call_later(LINGER_S, self._response.close)

    async def close(self) -> None:
        if self._why is None:
            self._why = StreamBroken("the answer was closed", status=499)
        if self._watch is not None:
            self._watch.cancel()
        self._response.close()
