"""The relay against a server that misbehaves: what the caller gets, byte for byte, and how every stream ends."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aforesaid.errors import UpstreamFailed
from aforesaid.providers.chat import ChatAnswer, ChatRequest, Chats, StreamBroken, Upstream
from aforesaid.providers.exchange import MAX_ANSWER_BYTES
from aforesaid.providers.sse import Collector
from tests.support.upstream import Script
from tests.support.upstream import Upstream as Scripted
from tests.support.upstream_script import Death, framed, stream_payloads

DEATHS: tuple[Death, ...] = ("reset", "close", "cut", "half_event", "half_character", "wrong_length")
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def request(stream: bool = True, model: str = "gpt-4", **fields: Any) -> ChatRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": stream, **fields}
    return ChatRequest(body=msgspec.json.encode(body), model=model, stream=stream)


@asynccontextmanager
async def chats(base_url: str, **settings: Any) -> AsyncIterator[Chats]:
    """One configured server, without second attempts unless they are asked for."""
    running = Chats([Upstream(name="openai", base_url=base_url, **{"retries": 0, **settings})])
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def raw_server(*answers: bytes, keep: bool = False, pause_s: float = 0.0) -> AsyncIterator[str]:
    """A server that reads a request and sends these bytes, each in a write of its own; gives its base_url."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))
            for data in answers:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause_s)
            while keep and await reader.read(1000):
                pass
        except OSError:
            pass  # the caller left, as some tests have it
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def head(kind: str = "text/event-stream", status: int = 200, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def event(content: str = "a", reason: str | None = None) -> bytes:
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def drained(answer: ChatAnswer) -> tuple[list[bytes], UpstreamFailed | None]:
    """Everything a stream gives, and how it broke."""
    pieces: list[bytes] = []
    try:
        async for piece in answer.events():
            pieces.append(piece)  # noqa: PERF401 - what came before a break is the point
    except UpstreamFailed as broken:
        return pieces, broken
    return pieces, None


async def asked(base_url: str, stream: bool = True, **settings: Any) -> tuple[bytes, UpstreamFailed | None]:
    """What a caller gets of one request, and the failure, begun or not."""
    async with chats(base_url, **settings) as running:
        try:
            answer = await running.open(request(stream))
        except UpstreamFailed as failed:
            return b"", failed
        if not answer.streaming:
            return await answer.body(), None
        pieces, broken = await drained(answer)
        return b"".join(pieces), broken


# -- whole streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        Script(),
        Script(crlf=True),
        Script(comments=True),
        Script(split_every=1, text="Grüße 🙂"),
        Script(split_every=7),
        Script(tools=(("weather", '{"city":"Oslo"}'), ("time", "{}"))),
        Script(fields={"x_big": 12345678901234567890, "x_float": 1.10, "service_tier": None, "x": {"b": 1, "a": [2]}}),
        Script(words=400),
    ],
)
def test_a_stream_arrives_byte_for_byte(upstream: Scripted, script: Script) -> None:
    upstream.queue(script)

    async def run() -> tuple[bytes, UpstreamFailed | None]:
        async with chats(upstream.base_url) as running:
            pieces, broken = await drained(await running.open(request(n=2, stream_options={"include_usage": True})))
            assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in pieces)
            return b"".join(pieces), broken

    got, broken = asyncio.run(run())
    sent = stream_payloads(script, upstream.chats[0].json, "gpt-4")
    assert broken is None
    if not script.fields:
        created = json.loads(sent[0])["created"]
        seen = json.loads(got.split(b"data: ", 1)[1].split(b"\n")[0])["created"]
        sent = [payload.replace(b'"created":%d' % created, b'"created":%d' % seen) for payload in sent]
        assert got == b"".join(framed(script, payload) for payload in sent)
    else:
        assert b'"x_big":12345678901234567890,"x_float":1.1,"service_tier":null,"x":{"b":1,"a":[2]}' in got


def test_a_stream_cut_at_every_byte_arrives_the_same(upstream: Scripted) -> None:
    script = Script(text="Schöne 🙂", events=tuple(stream_payloads(Script(text="Schöne 🙂"), {}, "m")))
    assert script.events is not None
    whole = b"".join(framed(script, payload) for payload in script.events)

    async def run() -> None:
        async with chats(upstream.base_url) as running:
            for place in range(1, len(whole), 3):
                upstream.queue(Script(events=script.events, split_at=place))
                pieces, broken = await drained(await running.open(request()))
                assert (b"".join(pieces), broken) == (whole, None), place

    asyncio.run(run())


def test_connections_are_used_again(upstream: Scripted) -> None:
    async def run() -> None:
        async with chats(upstream.base_url) as running:
            for stream in (True, False, True, True, False):
                answer = await running.open(request(stream))
                if stream:
                    await drained(answer)
                await asyncio.sleep(0.02)

    asyncio.run(run())
    assert (len(upstream.chats), upstream.connections) == (5, 1)


# -- broken streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("death", DEATHS)
def test_a_server_that_dies_after_k_events_is_told_of_after_those_k(upstream: Scripted, death: Death) -> None:
    async def run(k: int) -> None:
        async with chats(upstream.base_url) as running:
            upstream.queue(Script(words=30, die_after=k, death=death))
            if k == 0 and death != "wrong_length":
                with pytest.raises(UpstreamFailed, match="broke") as failed:
                    await running.open(request())
                assert (failed.value.status, isinstance(failed.value, StreamBroken)) == (502, False)
                return
            answer = await running.open(request())
            pieces, broken = await drained(answer)
            got = b"".join(pieces)
            # In the last way the event whose chunk is too short is whole itself.
            k += death == "wrong_length"
            assert got.count(b"data: ") == k
            assert got.endswith(b"\n\n")
            assert isinstance(broken, StreamBroken)
            collector = Collector()
            collector.feed(got)
            said = collector.answer()
            assert not said.complete
            assert said.choices[0].content == "".join(f"word{i} " for i in range(k - 1))

    for k in range(21):
        asyncio.run(run(k))
    assert len(upstream.chats) == 21


@pytest.mark.parametrize("death", DEATHS)
def test_a_death_after_the_finish_leaves_a_whole_answer_with_its_end_mark(upstream: Scripted, death: Death) -> None:
    script = Script(text="one two")
    upstream.queue(Script(text="one two", die_after=len(stream_payloads(script, {}, "m")) - 1, death=death))
    got, broken = asyncio.run(asked(upstream.base_url))
    assert broken is None
    assert got.endswith(DONE)
    assert b'"finish_reason":"stop"' in got


def test_with_several_choices_every_one_must_finish(upstream: Scripted) -> None:
    async def run(k: int) -> UpstreamFailed | None:
        upstream.queue(Script(text="hi", die_after=k, death="close"))
        async with chats(upstream.base_url) as running:
            return (await drained(await running.open(request(n=2))))[1]

    assert isinstance(asyncio.run(run(5)), StreamBroken)
    assert asyncio.run(run(6)) is None


def test_events_that_came_before_a_break_in_the_same_segment_are_delivered() -> None:
    async def run() -> None:
        chunked = head(transfer_encoding="chunked")
        body = event("a") + event("b")
        broken_off = b"%x\r\n" % len(body) + body + b"\r\nnot a length\r\n"
        async with raw_server(chunked, broken_off, pause_s=0.05) as url:
            got, broken = await asked(url)
        assert got == body
        assert isinstance(broken, StreamBroken)

    asyncio.run(run())


def test_an_error_event_of_the_server_is_passed_on_and_marked_as_told() -> None:
    error = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'

    async def run() -> None:
        async with raw_server(head() + event(), error, pause_s=0.02) as url:
            got, broken = await asked(url)
        assert got == event() + error
        assert isinstance(broken, StreamBroken)
        assert broken.reported

    asyncio.run(run())


def test_silence_ends_a_stream_and_a_slow_reader_does_not() -> None:
    async def run() -> None:
        async with raw_server(head() + event(), keep=True) as url:
            got, broken = await asked(url, idle_timeout_s=0.2)
        assert got == event()
        assert broken is not None
        assert (broken.status, "sent nothing for 0.2 s" in broken.message) == (504, True)
        async with (
            raw_server(head() + event(), event(), event() + DONE, pause_s=0.05) as url,
            chats(url, idle_timeout_s=0.2) as running,
        ):
            answer = await running.open(request())
            got = b""
            async for piece in answer.events():
                got += piece
                await asyncio.sleep(0.5)
        assert got.endswith(DONE)

    asyncio.run(run())


def test_a_whole_answer_has_a_limit_in_time() -> None:
    async def run() -> None:
        async with raw_server(head(), *([event()] * 50), pause_s=0.03) as url:
            got, broken = await asked(url, answer_timeout_s=0.3)
            assert got.startswith(event())
            assert broken is not None
            assert (broken.status, "longer than" in broken.message) == (504, True)
        async with raw_server(head("application/json"), keep=True) as url:
            _, failed = await asked(url, stream=False, answer_timeout_s=0.2)
            assert failed is not None
            assert failed.status == 504

    asyncio.run(run())


# -- the caller leaves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [1, 5])
def test_closing_is_noticed_by_the_server_at_once(upstream: Scripted, events: int) -> None:
    async def run() -> float:
        upstream.queue(Script(words=100, stall_after=events))
        async with chats(upstream.base_url) as running:
            answer = await running.open(request())
            stream = answer.events()
            await anext(stream)
            left_s = time.monotonic()
            await answer.close()
            await answer.close()
            gone_s = await asyncio.to_thread(upstream.chats[-1].wait)
            with pytest.raises(StreamBroken):
                async for _ in stream:
                    pass
            assert gone_s is not None
            return gone_s - left_s

    # The promise, of the best of three: the machine may be busy with something else.
    assert min(asyncio.run(run()) for _ in range(3)) < 0.25


@pytest.mark.parametrize("script", [Script(delay_s=60), Script(stall_after=0)])
def test_a_caller_that_leaves_before_the_first_event_frees_the_server(upstream: Scripted, script: Script) -> None:
    async def run() -> float:
        before = len(upstream.chats)
        upstream.queue(script)
        async with chats(upstream.base_url) as running:
            opening = asyncio.create_task(running.open(request()))
            while len(upstream.chats) == before:
                await asyncio.sleep(0.01)
            left_s = time.monotonic()
            opening.cancel()
            gone_s = await asyncio.to_thread(upstream.chats[-1].wait)
            assert gone_s is not None
            return gone_s - left_s

    # The promise, of the best of three: the machine may be busy with something else.
    assert min(asyncio.run(run()) for _ in range(3)) < 0.25


def test_a_caller_that_leaves_before_an_unstreamed_answer_frees_the_server(upstream: Scripted) -> None:
    upstream.queue(Script(stall_after=2))

    async def run() -> None:
        async with chats(upstream.base_url) as running:
            opening = asyncio.create_task(running.open(request(stream=False)))
            while not upstream.chats:
                await asyncio.sleep(0.01)
            opening.cancel()
            assert await asyncio.to_thread(upstream.chats[0].wait) is not None

    asyncio.run(run())


def test_an_abandoned_iteration_closes_the_connection(upstream: Scripted) -> None:
    upstream.queue(Script(words=100, stall_after=3))

    async def run() -> None:
        async with chats(upstream.base_url) as running:
            stream = (await running.open(request())).events()
            async for _ in stream:
                break
            await stream.aclose()
            assert await asyncio.to_thread(upstream.chats[0].wait) is not None

    asyncio.run(run())


# -- answers of the wrong form ----------------------------------------------------------------------------------------

COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
BODY = json.dumps(COMPLETION).encode()
HTML = b"<html><head><style>x</style></head><body><h1>Bad gateway</h1></body></html>"


def sized(kind: str, body: bytes, status: int = 200, **headers: str) -> bytes:
    return head(kind, status, content_length=str(len(body)), **headers) + body


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (sized("text/html", HTML), 502, "not a completion: Bad gateway"),
        (sized("text/html", HTML, 503), 503, "Bad gateway"),
        (sized("application/json", b"[1]"), 502, "not a completion"),
        (sized("application/json", b'{"a":1}'), 502, "not a completion"),
        (sized("application/json", b"[" * 100_000), 502, "not a completion"),
        (sized("application/json", b'{"choices":[]'), 502, "not a completion"),
        (sized("application/json", b""), 502, "not a completion"),
        (sized("application/json", b'{"error":{"message":"slow","code":429}}'), 429, "answered with an error"),
        (head() + b'data: {"error":{"message":"no","code":503}}\n\n', 503, "answered with an error"),
        (head(), 502, "the connection broke"),
        (head() + b"data: half", 502, "the connection broke"),
        (b"", 502, "the connection broke"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 502, "could not be asked"),
        (head("application/json", content_length=str(MAX_ANSWER_BYTES + 1)) + b"{", 502, "more than"),
        (sized("application/json", b"", 301, location="http://127.0.0.1:1/"), 502, "redirection"),
    ],
)
def test_what_is_no_answer_is_a_clear_failure(answer: bytes, status: int, told: str) -> None:
    async def run() -> None:
        async with raw_server(answer) as url:
            _, failed = await asked(url)
        assert failed is not None
        assert (failed.status, told in failed.message) == (status, True), failed.message
        assert not failed.body or "error" in json.loads(failed.body)

    asyncio.run(run())


def test_json_in_place_of_a_stream_becomes_one() -> None:
    async def run() -> None:
        for kind in ("application/json", "text/plain"):
            async with raw_server(sized(kind, BODY)) as url:
                got, broken = await asked(url)
            collector = Collector()
            collector.feed(got)
            said = collector.answer()
            assert broken is None
            assert got.endswith(DONE)
            assert (said.choices[0].content, said.complete, said.usage) == ("Hi.", True, COMPLETION["usage"])

    asyncio.run(run())


def test_a_stream_is_known_by_what_it_says() -> None:
    async def run() -> None:
        for kind in ("text/plain", "application/octet-stream", "text/event-stream; charset=utf-8"):
            async with raw_server(head(kind), b"d", b"ata: {}\n\n", event() + DONE, pause_s=0.01) as url:
                assert await asked(url) == (b"data: {}\n\n" + event() + DONE, None)

    asyncio.run(run())


def test_an_end_mark_without_its_empty_line_is_given_one() -> None:
    async def run() -> None:
        for mark in (b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r\n"):
            async with raw_server(head() + event(), mark, pause_s=0.02) as url:
                assert await asked(url) == (event() + DONE, None)

    asyncio.run(run())


def test_an_answer_beyond_the_limit_is_cut_off() -> None:
    async def run() -> None:
        piece = event("x" * 1_000_000)
        async with raw_server(head(), *([piece] * 60)) as url:
            got, broken = await asked(url)
            assert isinstance(broken, StreamBroken)
            assert "more than" in broken.message
            assert MAX_ANSWER_BYTES < len(got) < MAX_ANSWER_BYTES + 3_000_000
        async with raw_server(head("application/json"), b'{"a":"', *([b"x" * 1_000_000] * 60)) as url:
            _, failed = await asked(url, stream=False)
            assert failed is not None
            assert "more than" in failed.message

    asyncio.run(run())


def test_a_compressed_answer_is_read() -> None:
    packed = gzip.compress(BODY)

    async def run() -> None:
        async with raw_server(sized("application/json", packed, content_encoding="gzip")) as url:
            assert await asked(url, stream=False) == (BODY, None)

    asyncio.run(run())


# -- what is passed on ------------------------------------------------------------------------------------------------


def test_headers_and_errors_are_passed_on_and_keys_are_not(upstream: Scripted) -> None:
    limits = {"x-ratelimit-remaining-requests": "9", "x-request-id": "req_1", "openai-processing-ms": "5"}
    error = b'{"error":{"message":"bad key sk-secret","type":"invalid_request_error","x":[1.50]}}'
    upstream.queue(
        Script(headers={**limits, "set-cookie": "a=b", "server": "x"}),
        Script(status=401, body=error, headers=limits),
        Script(status=429, text="slow", headers={"retry-after": "77"}),
        Script(status=400, body=b"nope", content_type="text/plain"),
    )
    secret = (("x-extra", "1"),)

    async def run() -> list[UpstreamFailed]:
        failures = []
        async with chats(upstream.base_url, api_key="sk-secret", headers=secret) as running:
            theirs = (("Authorization", "Bearer theirs"), ("OpenAI-Beta", "b=1"), ("cookie", "c"), ("x-extra", "2"))
            answer = await running.open(msgspec.structs.replace(request(), headers=theirs))
            assert answer.headers == {**limits, "content-type": "text/event-stream"}
            assert (answer.status, answer.model, answer.upstream) == (200, "gpt-4", "openai")
            await drained(answer)
            for _ in range(3):
                with pytest.raises(UpstreamFailed) as failed:
                    await running.open(request())
                failures.append(failed.value)
        return failures

    refused, limited, plain = asyncio.run(run())
    sent = upstream.chats[0].headers
    assert (sent["authorization"], sent["openai-beta"], sent["x-extra"]) == ("Bearer sk-secret", "b=1", "1")
    assert "cookie" not in sent
    assert refused.status == 401
    assert refused.body == error.replace(b"sk-secret", b"***")
    assert refused.headers == limits
    assert (limited.status, limited.headers["retry-after"]) == (429, "77")
    assert plain.status == 400
    assert json.loads(plain.body)["error"]["message"].endswith("nope")


def test_a_body_goes_on_as_it_came(upstream: Scripted) -> None:
    body = b'{"model": "gpt-4",  "x_number": 1.10, "seed": 12345678901234567890, "messages": [], "x": {"b":1,"a":2}}'

    async def run() -> None:
        async with chats(upstream.base_url) as running:
            await running.open(ChatRequest(body=body, model="gpt-4", stream=False))
            large = msgspec.json.encode({"model": "gpt-4", "messages": [{"role": "user", "content": "é" * 1_000_000}]})
            await running.open(ChatRequest(body=large, model="gpt-4", stream=False))
            assert upstream.chats[1].body == large

    asyncio.run(run())
    assert upstream.chats[0].body == body
