"""Who is asked: routes, second attempts, fallbacks, the circuit breaker, the list of models."""

import asyncio
import email.utils
import json
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from aforesaid.errors import Misconfigured, UpstreamFailed
from aforesaid.providers.breaker import FAILURES_TO_OPEN, OPEN_S, Breaker
from aforesaid.providers.chat import ChatRequest, Chats, Upstream, with_model
from aforesaid.providers.offline import EXTRACTIVE_MODEL
from tests.support.upstream import Script
from tests.support.upstream import Upstream as Scripted

NOWHERE = "http://127.0.0.1:9/v1"
BAD = Script(status=500, text="broken")


def request(model: str = "gpt-4", stream: bool = False) -> ChatRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": stream}
    return ChatRequest(body=json.dumps(body).encode(), model=model, stream=stream)


def upstream_of(server: Scripted, **settings: Any) -> Upstream:
    return Upstream(**{"name": "openai", "base_url": server.base_url, "retries": 0, **settings})


async def outcomes(chats: Chats, *models: str) -> list[int]:
    """The status of a request for each model in turn."""
    await chats.start()
    statuses = []
    try:
        for model in models:
            try:
                answer = await chats.open(request(model))
                await answer.close()
                statuses.append(answer.status)
            except UpstreamFailed as failed:
                statuses.append(failed.status)
    finally:
        await chats.stop()
    return statuses


# -- routes -----------------------------------------------------------------------------------------------------------


def test_routes() -> None:
    chats = Chats(
        [
            Upstream(name="openai", base_url=NOWHERE),
            Upstream(name="anthropic", base_url=NOWHERE, models=("claude-*",)),
            Upstream(name="openrouter", base_url=NOWHERE, keep_prefix=True),
            Upstream(name="local", base_url=NOWHERE, models=("claude-mini", "a/b/c", "[x]")),
        ]
    )
    for asked, route in {
        "gpt-4": ("openai", "gpt-4"),
        "": ("openai", ""),
        "claude-opus": ("anthropic", "claude-opus"),
        "anthropic/claude-opus": ("anthropic", "claude-opus"),
        "anthropic/": ("openai", "anthropic/"),
        "claude-mini": ("local", "claude-mini"),
        "openrouter/meta/llama": ("openrouter", "meta/llama"),
        "openrouter/auto": ("openrouter", "openrouter/auto"),
        "a/b/c": ("local", "a/b/c"),
        "local/a/b": ("local", "a/b"),
        "unknown/model": ("openai", "unknown/model"),
        "[x]": ("local", "[x]"),
        "Claude-Opus": ("openai", "Claude-Opus"),
    }.items():
        assert chats.route(asked) == route, asked
    assert chats.route(EXTRACTIVE_MODEL) is None
    assert Chats().route("gpt-4") is None


def test_a_prefix_is_taken_off_and_nothing_else_is_touched(upstream: Scripted) -> None:
    body = b'{"x": 1.10, "seed":12345678901234567890,"model":"openai/gpt-4","messages":[], "y" : {"b":1,  "a":2}}'

    async def run() -> None:
        chats = Chats([upstream_of(upstream)])
        await chats.start()
        answer = await chats.open(ChatRequest(body=body, model="openai/gpt-4", stream=False))
        assert answer.model == "gpt-4"
        await chats.stop()

    asyncio.run(run())
    assert upstream.chats[0].body == (
        b'{"x":1.10,"seed":12345678901234567890,"model":"gpt-4","messages":[],"y":{"b":1,  "a":2}}'
    )


def test_a_body_that_is_no_object_is_left_alone() -> None:
    assert with_model(b"[1]", "m") == b"[1]"
    assert with_model(b'{"model": "a/b"}', 'm"é') == '{"model":"m\\"é"}'.encode()


@pytest.mark.parametrize(
    "upstreams",
    [
        [Upstream(name="a/b", base_url=NOWHERE)],
        [Upstream(name="aforesaid", base_url=NOWHERE)],
        [Upstream(name="", base_url=NOWHERE)],
        [Upstream(name="a", base_url="localhost:8000")],
        [Upstream(name="a", base_url=NOWHERE, fallbacks=("b:model",))],
        [Upstream(name="a", base_url=NOWHERE), Upstream(name="a", base_url=NOWHERE)],
    ],
)
def test_what_can_not_work_is_refused_at_once(upstreams: list[Upstream]) -> None:
    with pytest.raises(Misconfigured):
        Chats(upstreams)


def test_secrets_are_not_shown() -> None:
    upstream = Upstream(
        name="a", base_url="https://u:pw@h/v1?api-version=kk", api_key="sk-1", headers=(("api-key", "sk-2"),)
    )
    for shown in (repr(upstream), str(upstream), f"{[upstream]}", Chats([upstream]).describe()):
        assert not any(secret in shown for secret in ("sk-1", "sk-2", "pw", "kk"))


# -- second attempts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(upstream: Scripted, status: int) -> None:
    upstream.queue(Script(status=status), Script(status=status))
    assert asyncio.run(outcomes(Chats([upstream_of(upstream, retries=2)]), "gpt-4")) == [200]
    assert len(upstream.chats) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_what_will_not_pass_is_not(upstream: Scripted, status: int) -> None:
    upstream.queue(Script(status=status))
    assert asyncio.run(outcomes(Chats([upstream_of(upstream, retries=2)]), "gpt-4")) == [status]
    assert len(upstream.chats) == 1


def test_attempts_have_a_number(upstream: Scripted) -> None:
    upstream.queue(*[BAD] * 4)
    assert asyncio.run(outcomes(Chats([upstream_of(upstream, retries=2)]), "gpt-4")) == [500]
    assert len(upstream.chats) == 3


def test_a_connection_that_breaks_before_the_first_event_is_tried_again_and_after_it_never(upstream: Scripted) -> None:
    async def run() -> bytes:
        chats = Chats([upstream_of(upstream, retries=2)])
        await chats.start()
        got = b""
        try:
            answer = await chats.open(request(stream=True))
            async for piece in answer.events():
                got += piece
        except UpstreamFailed:
            pass
        finally:
            await chats.stop()
        return got

    upstream.queue(Script(die_after=0), Script(die_after=0, death="half_event"), Script(text="here"))
    assert b"here" in asyncio.run(run())
    assert len(upstream.chats) == 3
    upstream.queue(Script(die_after=2))
    asyncio.run(run())
    assert len(upstream.chats) == 4


def test_the_pause_a_server_asks_for_is_kept_when_short_and_passed_on_when_long(upstream: Scripted) -> None:
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    for headers in ({"retry-after": "60"}, {"retry-after": date}, {"retry-after-ms": "60000"}):
        upstream.queue(Script(status=429, headers=headers))
        assert asyncio.run(outcomes(Chats([upstream_of(upstream, retries=2)]), "gpt-4")) == [429]
    assert len(upstream.chats) == 3
    past = email.utils.formatdate(time.time() - 10, usegmt=True)
    for headers in ({"retry-after": "0"}, {"retry-after": past}, {"retry-after-ms": "1"}, {"retry-after": "soon"}):
        upstream.queue(Script(status=429, headers=headers))
        assert asyncio.run(outcomes(Chats([upstream_of(upstream, retries=1)]), "gpt-4")) == [200]
    upstream.queue(Script(status=503, headers={"retry-after": "0.3"}))
    started = len(upstream.chats)
    asyncio.run(outcomes(Chats([upstream_of(upstream, retries=1)]), "gpt-4"))
    first, second = upstream.chats[started:]
    assert second.arrived_s - first.arrived_s >= 0.3


def test_nobody_there_is_502_and_no_answer_504(upstream: Scripted) -> None:
    unreachable = Chats([Upstream(name="a", base_url=NOWHERE, retries=1)])
    assert asyncio.run(outcomes(unreachable, "m")) == [502]
    with socket.socket() as full:
        # A listener that never accepts, its queue full: connecting takes for ever.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        base_url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        slow = Chats([Upstream(name="a", base_url=base_url, retries=0, connect_timeout_s=0.2)])
        assert asyncio.run(outcomes(slow, "m")) == [504]
        for one in waiting:
            one.close()

    async def late() -> int:
        upstream.queue(Script(delay_s=60))
        chats = Chats([upstream_of(upstream, first_byte_timeout_s=0.2)])
        await chats.start()
        with pytest.raises(UpstreamFailed) as failed:
            await chats.open(request(stream=True))
        await chats.stop()
        return failed.value.status

    assert asyncio.run(late()) == 504


# -- fallbacks --------------------------------------------------------------------------------------------------------


def test_fallbacks_are_asked_in_order(upstream: Scripted) -> None:
    def chats(*fallbacks: str) -> Chats:
        down = Upstream(name="down", base_url=NOWHERE, retries=0)
        return Chats([upstream_of(upstream, fallbacks=fallbacks), down])

    upstream.queue(BAD)
    assert asyncio.run(outcomes(chats("down", "openai:small", "aforesaid"), "openai/gpt-4")) == [200]
    assert [one.json["model"] for one in upstream.chats] == ["gpt-4", "small"]
    upstream.queue(Script(status=429))
    assert asyncio.run(outcomes(chats("down"), "gpt-4")) == [429]
    upstream.queue(Script(status=400))
    assert asyncio.run(outcomes(chats("openai:small"), "gpt-4")) == [400]

    async def quoted() -> str:
        upstream.queue(BAD)
        running = chats("down", "aforesaid")
        await running.start()
        answer = await running.open(request())
        await running.stop()
        return answer.model

    assert asyncio.run(quoted()) == EXTRACTIVE_MODEL


# -- the breaker ------------------------------------------------------------------------------------------------------


def test_the_circuit_opens_and_one_probe_decides(upstream: Scripted) -> None:
    now = [1000.0]

    async def run() -> None:
        chats = Chats([upstream_of(upstream)], clock=lambda: now[0])
        await chats.start()

        async def status() -> tuple[int, str | None]:
            try:
                return (await chats.open(request())).status, None
            except UpstreamFailed as failed:
                return failed.status, failed.headers.get("retry-after")

        upstream.queue(*[BAD] * FAILURES_TO_OPEN)
        for _ in range(FAILURES_TO_OPEN):
            assert await status() == (500, None)
        assert await status() == (503, "10")
        now[0] += OPEN_S - 1
        assert await status() == (503, "1")
        assert len(upstream.chats) == FAILURES_TO_OPEN
        now[0] += 1
        upstream.queue(Script(status=500, delay_s=0.2))
        assert sorted(await asyncio.gather(status(), status(), status())) == [(500, None), (503, "1"), (503, "1")]
        assert len(upstream.chats) == FAILURES_TO_OPEN + 1
        assert (await status())[0] == 503
        now[0] += OPEN_S
        assert [(await status())[0] for _ in range(3)] == [200, 200, 200]
        await chats.stop()

    asyncio.run(run())


def test_an_open_circuit_goes_to_the_fallback_and_stops_attempts(upstream: Scripted) -> None:
    upstream.queue(BAD, BAD, BAD, Script(), BAD, BAD, Script())
    down = upstream_of(upstream, name="down", retries=2, fallbacks=("other:m2",))
    chats = Chats([down, upstream_of(upstream, name="other")])
    assert asyncio.run(outcomes(chats, "m", "m", "m")) == [200, 200, 200]
    # Three attempts, then two until the circuit opens, then none.
    assert [one.json["model"] for one in upstream.chats] == ["m", "m", "m", "m2", "m", "m", "m2", "m2"]


def test_refusals_are_no_failures_and_a_probe_left_alone_is_given_back() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.enter()
        breaker.failed()
    breaker.left()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() == OPEN_S
    now[0] += OPEN_S
    breaker.enter()
    assert breaker.wait_s() > 0
    breaker.left()
    assert breaker.wait_s() == 0
    breaker.enter()
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open


# -- models -----------------------------------------------------------------------------------------------------------


def test_models_are_merged_named_as_they_are_asked_for_and_kept(upstream: Scripted) -> None:
    now = [0.0]

    async def run() -> None:
        upstream.models = ["gpt-4", "claude-opus"]
        with Scripted() as second:
            second.models = ["claude-opus", "other"]
            chats = Chats(
                [
                    upstream_of(upstream),
                    upstream_of(second, name="anthropic", models=("claude-*", "claude-exact")),
                    Upstream(name="down", base_url=NOWHERE, models=("kept",)),
                ],
                clock=lambda: now[0],
            )
            await chats.start()
            first, again = await asyncio.gather(chats.models(), chats.models())
            assert first == again
            assert [row["id"] for row in first] == [
                "gpt-4",
                "openai/claude-opus",
                "claude-opus",
                "anthropic/other",
                "claude-exact",
                "kept",
            ]
            assert {tuple(row) for row in first} == {("id", "object", "created", "owned_by")}
            for row in first:
                route = chats.route(row["id"])
                assert route is not None
            assert len(second.requests) == 1
            second.models = ["new"]
            now[0] += 1000
            assert "anthropic/new" in [row["id"] for row in await chats.models()]
            await chats.stop()

    asyncio.run(run())


def test_with_nothing_configured_the_embedded_answerer_has_every_name() -> None:
    chats = Chats()
    assert asyncio.run(outcomes(chats, "gpt-4", "anything")) == [200, 200]
    assert [row["id"] for row in asyncio.run(chats.models())] == [EXTRACTIVE_MODEL]
    assert EXTRACTIVE_MODEL in chats.describe()


def test_what_is_heavy_is_loaded_only_where_it_is_needed() -> None:
    script = (
        "import asyncio, sys\n"
        "from aforesaid.providers.chat import ChatRequest, Chats\n"
        "async def run():\n"
        "    chats = Chats(); await chats.start()\n"
        "    await chats.open(ChatRequest(body=b'{}', model='gpt-4', stream=False)); await chats.stop()\n"
        "asyncio.run(run())\n"
        "print(*sorted({'aiohttp', 'toktok', 'xllamacpp', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
