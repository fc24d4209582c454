"""A scripted model server on loopback that speaks OpenAI's chat completions, and misbehaves to order.

It is raw asyncio in a thread of its own, so that it can break a connection at any byte, and be used by synchronous
tests, by tests on an event loop and by other processes alike::

    with Upstream() as upstream:
        upstream.queue(Script(status=429, headers={"retry-after": "2"}), Script(text="Paris."))
        ...  # two requests to upstream.base_url + "/chat/completions"
        assert upstream.requests[0].json["model"] == "gpt-4"

**Which script answers** a chat completion: the next one of the queue; if it is empty, the one that the model name
spells; else ``upstream.default``. A model name spells a script by a query string after it, which needs no access to
this object: ``gpt-4?die_after=3&death=reset``, ``gpt-4?status=429&header=retry-after:2&text=slow+down``,
``m?split_every=1``, ``m?tool=weather:{"city":"Oslo"}``. Keys are the fields of ``Script`` that hold a number, a text
or a flag (0 or 1), ``header=name:value`` and ``tool=name:arguments``; both may come more than once.

**Events** of a stream are counted from 0: for each choice the role, one for each piece of the text, one or more for
each tool call, the finish; then the usage chunk where the request asks for it; ``[DONE]`` is the last.

Also there: ``GET /v1/models`` (``upstream.models``), ``POST /v1/embeddings`` (vectors that depend on the text alone).
Every request is recorded as it was received, with the moment its client left when that came before the end.
"""

import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tests.support.upstream_script import (
    Script,
    embedding,
    framed,
    half_character,
    script_of_model,
    stream_payloads,
    whole_answer,
)

__all__ = ["Received", "Script", "Upstream"]

MAX_HEAD_BYTES = 256 * 1024
MAX_REQUEST_BYTES = 128 * 1024 * 1024
BODY_PARTS = 8  # a whole answer is sent in so many writes, which `die_after` and `stall_after` count
RESET_DELAY_S = 0.01
SPLIT_PAUSE_S = 0.005


class Received:
    """A request as it arrived, and what became of it. Times are ``time.monotonic()`` seconds."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.arrived_s = time.monotonic()
        self.events_sent = 0
        self.left_s: float | None = None
        self._ended = threading.Event()

    @property
    def json(self) -> Any:
        """Its body, decoded."""
        return json.loads(self.body)

    def ended(self, left_s: float | None = None) -> None:
        """The exchange is over; ``left_s`` when the client ended it before the answer was complete."""
        self.left_s = left_s
        self._ended.set()

    def wait(self, timeout_s: float = 30.0) -> float | None:
        """The exchange is over. *Gives*: when the client left, or None when it stayed to the end."""
        assert self._ended.wait(timeout_s), f"{self.method} {self.path} is still going on after {timeout_s} s"
        return self.left_s


class _Over(Exception):
    """The connection is at its end: the client left, or the script ended it."""


class _Watching(asyncio.StreamReaderProtocol):
    """A connection that knows at once when its client has left, without taking bytes of a next request."""

    def __init__(self, server: "Upstream") -> None:
        super().__init__(asyncio.StreamReader(limit=MAX_HEAD_BYTES), server._connected)
        self.left = asyncio.Event()

    def eof_received(self) -> bool | None:
        self.left.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left.set()
        super().connection_lost(exc)


class Upstream:
    """A running upstream. ``base_url`` ends in ``/v1``, as OPENAI_BASE_URL does."""

    def __init__(self, default: Script | None = None) -> None:
        self.default = default or Script()
        self.models = ["gpt-4", "small"]
        self.requests: list[Received] = []
        self.connections = 0
        self.base_url = ""
        self.port = 0
        self._queue: deque[Script] = deque()
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._ready = threading.Event()

    # -- what tests use ------------------------------------------------------------------------------------------

    def queue(self, *scripts: Script) -> None:
        """The next completions are answered by these, one each, in order."""
        self._queue.extend(scripts)

    @property
    def chats(self) -> list[Received]:
        """The chat completions among the requests."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def __enter__(self) -> "Upstream":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    # -- the server ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        make = self._loop.create_server(lambda: _Watching(self), "127.0.0.1", 0, backlog=1024)
        server = self._loop.run_until_complete(make)
        self.port = server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._open:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._open, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # transports close in the loop's next round
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            while True:
                request = await _read_request(reader)
                self.requests.append(request)
                await self._serve(request, writer)
        except (_Over, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the ordinary ways for a connection to end
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Answers one request; stops at once when its client leaves."""
        protocol = writer.transport.get_protocol()
        assert isinstance(protocol, _Watching)
        watch = asyncio.create_task(protocol.left.wait())
        answer = asyncio.create_task(self._answer(request, writer))
        left_s = None
        try:
            await asyncio.wait({watch, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                left_s = time.monotonic()
                raise _Over
            answer.result()
        except OSError:
            left_s = time.monotonic()
            raise
        finally:
            for task in (watch, answer):
                task.cancel()
            await asyncio.gather(watch, answer, return_exceptions=True)
            request.ended(left_s)

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        path = request.path.partition("?")[0]
        if request.method == "POST" and path.endswith("/chat/completions"):
            await self._complete(request, writer)
        elif request.method == "GET" and path.endswith("/models"):
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.models]
            await _send_json(writer, {"object": "list", "data": models})
        elif request.method == "POST" and path.endswith("/embeddings"):
            asked = request.json
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            rows = [{"object": "embedding", "index": i, "embedding": embedding(t)} for i, t in enumerate(texts)]
            usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
            await _send_json(writer, {"object": "list", "model": asked["model"], "data": rows, "usage": usage})
        else:
            await _send_json(writer, {"error": {"message": f"no {path} here", "type": "not_found"}}, status=404)

    async def _complete(self, request: Received, writer: asyncio.StreamWriter) -> None:
        asked = request.json
        name = str(asked.get("model", ""))
        try:
            script = self._queue.popleft() if self._queue else script_of_model(name) or self.default
        except (ValueError, TypeError, AssertionError) as misspelt:
            await _send_json(writer, {"error": {"message": f"{name}: {misspelt}", "type": "script"}}, status=400)
            return
        model = name.partition("?")[0]
        await asyncio.sleep(script.delay_s)
        if script.status != 200 or script.body is not None:
            error = {"error": {"message": script.text, "type": "scripted", "param": None, "code": None}}
            body = json.dumps(error).encode() if script.body is None else script.body
            await _send(writer, body, script.status, script.content_type, script.headers)
        elif asked.get("stream"):
            await _send_stream(writer, stream_payloads(script, asked, model), script, request)
        else:
            await _send_in_parts(writer, json.dumps(whole_answer(script, asked, model)).encode(), script, request)


# -- reading ----------------------------------------------------------------------------------------------------------


async def _read_request(reader: asyncio.StreamReader) -> Received:
    """The next request of a connection."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        length = int(headers.get("content-length", "0"))
        assert length <= MAX_REQUEST_BYTES
        body = await reader.readexactly(length)
    return Received(method, path, headers, body)


# -- writing ----------------------------------------------------------------------------------------------------------


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _send(
    writer: asyncio.StreamWriter, body: bytes, status: int, content_type: str, headers: Mapping[str, str]
) -> None:
    own = {"content-type": content_type, "content-length": str(len(body))}
    await _write(writer, _head(status, own | dict(headers)) + body)


async def _send_json(writer: asyncio.StreamWriter, value: object, status: int = 200) -> None:
    await _send(writer, json.dumps(value).encode(), status, "application/json", {})


async def _reset(writer: asyncio.StreamWriter) -> None:
    """The connection ends with a TCP reset, after what was written before has been read or had its time."""
    await asyncio.sleep(RESET_DELAY_S)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise _Over


async def _send_in_parts(writer: asyncio.StreamWriter, body: bytes, script: Script, request: Received) -> None:
    headers = {"content-type": "application/json", "content-length": str(len(body))} | dict(script.headers)
    await _write(writer, _head(200, headers))
    size = -(-len(body) // BODY_PARTS)
    for i in range(BODY_PARTS):
        if i == script.stall_after:
            await asyncio.Event().wait()
        if i == script.die_after:
            if script.death == "reset":
                await _reset(writer)
            raise _Over
        await _write(writer, body[i * size : (i + 1) * size])
        request.events_sent = i + 1
        if script.pause_s:
            await asyncio.sleep(script.pause_s)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _send_stream(writer: asyncio.StreamWriter, payloads: list[bytes], script: Script, request: Received) -> None:
    headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"} | dict(script.headers)
    await _write(writer, _head(200, headers))
    if script.split_at:
        whole = b"".join(framed(script, payload) for payload in payloads)
        await _write(writer, _chunk(whole[: script.split_at]))
        await asyncio.sleep(SPLIT_PAUSE_S)
        if script.split_at < len(whole):
            await _write(writer, _chunk(whole[script.split_at :]))
        request.events_sent = len(payloads)
        payloads = []
    for i, payload in enumerate(payloads):
        if i == script.stall_after:
            await asyncio.Event().wait()
        if i == script.die_after:
            await _die(writer, script, payload)
        event = framed(script, payload)
        step = script.split_every or len(event)
        for start in range(0, len(event), step):
            await _write(writer, _chunk(event[start : start + step]))
            if script.pause_s or script.split_every:
                await asyncio.sleep(script.pause_s)
        request.events_sent = i + 1
    await _write(writer, b"0\r\n\r\n")


async def _die(writer: asyncio.StreamWriter, script: Script, payload: bytes) -> None:
    """The stream ends before this event, in the script's way."""
    match script.death:
        case "reset":
            await _reset(writer)
        case "close":
            await _write(writer, b"0\r\n\r\n")
        case "half_event":
            event = framed(script, payload)
            await _write(writer, _chunk(event[: len(event) // 2]) + b"0\r\n\r\n")
        case "half_character":
            await _write(writer, _chunk(half_character(script, payload)) + b"0\r\n\r\n")
        case "wrong_length":
            event = framed(script, payload)
            await _write(writer, b"%x\r\n" % (2 * len(event)) + event)
        case "cut":
            pass
    raise _Over
