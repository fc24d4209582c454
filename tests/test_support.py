"""The tools of the tests do what the tests rely on."""

import asyncio
import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import aiohttp
import psycopg
import pytest

from tests.support import loopback
from tests.support.postgres import NoPostgres, shared_server
from tests.support.upstream import Script, Upstream
from tests.support.upstream_script import TEXT, Death, script_of_model

QUESTION = [{"role": "user", "content": "Where is the kettle?"}]


def ask(upstream: Upstream, **fields: Any) -> tuple[int, bytes]:
    """Status and body of a chat completion; what arrived before a broken end counts as the body."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=10)
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps({"model": "gpt-4", "messages": QUESTION, **fields}),
            {"content-type": "application/json"},
        )
        response = connection.getresponse()
        body = b""
        try:
            while part := response.read1(65536):
                body += part
        except (http.client.IncompleteRead, ConnectionResetError) as broken:
            body += getattr(broken, "partial", b"") + b"<broken>"
        return response.status, body
    finally:
        connection.close()


def contents(body: bytes) -> str:
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    return "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events)


def test_answers_whole_and_streamed_alike(upstream: Upstream) -> None:
    status, body = ask(upstream)
    answer = json.loads(body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert answer["usage"]["total_tokens"] > 0
    status, body = ask(upstream, stream=True)
    assert status == 200
    assert contents(body) == TEXT
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in body
    _, body = ask(upstream, stream=True, stream_options={"include_usage": True})
    last = json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))
    assert (last["choices"], last["usage"]["prompt_tokens"]) == ([], 4)


def test_queue_goes_before_the_model_name_and_both_before_the_default(upstream: Upstream) -> None:
    upstream.queue(Script(text="first"), Script(status=429, headers={"retry-after": "2"}))
    assert b"first" in ask(upstream, model="m?text=spelt")[1]
    assert ask(upstream, model="m?text=spelt")[0] == 429
    assert b"spelt" in ask(upstream, model="m?text=spelt")[1]
    assert b"kettle" in ask(upstream)[1]
    assert [request.json["model"] for request in upstream.chats] == ["m?text=spelt"] * 3 + ["gpt-4"]


def test_model_name_spells_a_script() -> None:
    name = 'm?status=503&header=retry-after:7&pause_s=0.5&done=0&usage=1&die_after=3&death=cut&tool=f:{"a":1}'
    assert script_of_model(name) == Script(
        status=503,
        headers={"retry-after": "7"},
        pause_s=0.5,
        done=False,
        usage=True,
        die_after=3,
        death="cut",
        tools=(("f", '{"a":1}'),),
    )
    assert script_of_model("gpt-4") is None
    with pytest.raises(AssertionError):
        script_of_model("m?dye_after=3")
    with pytest.raises(AssertionError):
        script_of_model("m?death=old_age")


def test_tools_and_choices(upstream: Upstream) -> None:
    _, body = ask(upstream, model='m?tool=weather:{"city":"Oslo"}', stream=True, n=2)
    events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    for i in range(2):
        mine = [event["choices"][0] for event in events if event["choices"][0]["index"] == i]
        calls = [choice["delta"]["tool_calls"][0] for choice in mine if "tool_calls" in choice["delta"]]
        assert calls[0]["function"]["name"] == "weather"
        assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"Oslo"}'
        assert mine[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("death", get_args(Death))
def test_dies_after_k_events_in_its_own_way(upstream: Upstream, death: Death) -> None:
    upstream.queue(Script(die_after=3, death=death), Script(die_after=3, death=death))
    status, body = ask(upstream, stream=True)
    assert status == 200
    assert body.count(b"data: ") == {"half_event": 4, "half_character": 4, "wrong_length": 4}.get(death, 3)
    assert b"[DONE]" not in body
    assert body.endswith(b"<broken>") == (death in ("reset", "cut", "wrong_length"))
    if death == "half_character":
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    assert upstream.chats[0].events_sent == 3
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask(upstream)[1])


@pytest.mark.parametrize("query", ["split_every=1", "split_at=1000", "crlf=1", "comments=1"])
def test_unusual_framing_says_the_same(upstream: Upstream, query: str) -> None:
    _, body = ask(upstream, model=f"m?{query}", stream=True)
    assert contents(body.replace(b"\r\n", b"\n")) == TEXT


def test_html_with_200(upstream: Upstream) -> None:
    upstream.queue(Script(body=b"<html>busy</html>", content_type="text/html"))
    assert ask(upstream, stream=True) == (200, b"<html>busy</html>")


def test_notices_a_client_that_leaves(upstream: Upstream) -> None:
    upstream.queue(Script(stall_after=2))

    async def leave() -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{upstream.base_url}/chat/completions",
                json={"model": "gpt-4", "messages": QUESTION, "stream": True},
            ) as response,
        ):
            await response.content.readuntil(b"\n\n")
            response.close()
            return time.monotonic()

    left_s = asyncio.run(leave())
    noticed_s = upstream.chats[0].wait()
    assert noticed_s is not None
    assert noticed_s >= left_s - 1
    ask(upstream)
    assert upstream.chats[1].wait() is None


def test_other_machines_are_refused() -> None:
    with pytest.raises(loopback.OutsideCall), socket.socket() as outside:
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(loopback.OutsideCall):
        socket.getaddrinfo("example.org", 80)
    with pytest.raises(loopback.OutsideCall), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.sendto(b"?", ("198.51.100.7", 53))
    assert len(loopback.taken_attempts()) == 3


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost", "a.localhost", None]
)
def test_this_machine_is_local(host: str | None) -> None:
    assert loopback.is_local(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "2001:db8::1", "localhost.example"])
def test_others_are_not_local(host: str) -> None:
    assert not loopback.is_local(host)


def test_database_is_empty_each_time(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert found == (0,)
        connection.execute("CREATE TABLE seen (n int)")


test_database_is_empty_the_second_time = test_database_is_empty_each_time


def test_database_url_names_both_engines(database_url: str, request: pytest.FixtureRequest) -> None:
    engine = request.node.callspec.params["database_url"]
    assert database_url.startswith("postgresql://") == (engine == "postgresql")
    assert engine == "postgresql" or not Path(database_url).exists()


@pytest.mark.chaos
def test_postgres_ends_when_the_leader_of_its_run_is_killed() -> None:
    shared = Path(tempfile.mkdtemp(prefix="aforesaid-tests-"))
    leader = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        url = shared_server(shared, leader.pid)
        assert shared_server(shared, leader.pid) == url
        psycopg.connect(url).close()
    except NoPostgres as reason:
        shutil.rmtree(shared)
        pytest.skip(str(reason))
    finally:
        leader.kill()
        leader.communicate()
    while shared.exists():
        time.sleep(0.05)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url).close()
