"""A scripted model server for load: ``python -m benchmarks.upstream PORT``.

The model's name says what it answers: ``bench-e40-g25`` streams 40 events, 25 ms apart, each written by itself, the
first at once. It is lean, so that on a small machine most of the time is left to what stands before it.
"""

import asyncio
import re
import sys
from functools import partial
from typing import Any

import httptools
import uvloop

_WANTED = re.compile(rb'"model"\s*:\s*"(?:openai/)?bench-e(\d+)-g(\d+)"')
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_CHUNK = (
    'data: {"id":"chatcmpl-benchmark0123456789","object":"chat.completion.chunk","created":1736000000,'
    '"model":"%s","service_tier":"default","system_fingerprint":"fp_0123456789",'
    '"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
)


def name_of(events: int, gap_ms: int) -> str:
    """The model that streams so."""
    return f"bench-e{events}-g{gap_ms}"


def _framed(event: str) -> bytes:
    raw = event.encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


class Answers(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        found = _WANTED.search(b"".join(self._body))
        events, gap_ms = (int(found[1]), int(found[2])) if found else (1, 0)
        name = name_of(events, gap_ms)
        pieces = [_framed(_CHUNK % (name, f'{{"content":" word{i}"}}', "null")) for i in range(events - 1)]
        pieces.append(_framed(_CHUNK % (name, "{}", '"stop"')))
        assert self._transport is not None
        self._transport.write(_HEAD)
        self._next(pieces, 0, gap_ms / 1000)

    def _next(self, pieces: list[bytes], place: int, gap_s: float) -> None:
        if self._transport is None:
            return
        self._transport.write(pieces[place])
        if place + 1 == len(pieces):
            self._transport.write(_framed("data: [DONE]\n\n") + _END)
        else:
            self._loop.call_later(gap_s, partial(self._next, pieces, place + 1, gap_s))


async def serve(port: int) -> None:
    """It listens until it is killed."""
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
