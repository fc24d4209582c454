"""Streams through the running server: what the client sees, what is stored of it, and who is let go when."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chats import Answered, Client, Connection, blocks, eventually, sent, upstream_environment
from tests.support.server import RunningServer, server_factory
from tests.support.upstream import Script, Upstream
from tests.support.upstream_script import TEXT, Death, framed, stream_payloads

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chat_streams")]

DEATHS: tuple[Death, ...] = ("reset", "close", "half_event", "half_character", "cut", "wrong_length")
SOON_S = 2.0
"""The promise is 250 ms; a loaded test machine gets more."""


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("streams")) as start:
        yield start(env=upstream_environment(model))


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    """A user of this test's own."""
    return Client(running, user=f"user of {request.node.name}"[:200])


def contents(events: list[str]) -> str:
    """The text of the first choice in a stream's events."""
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == 0)


def streamed(client: Client, *turns: Any, **fields: Any) -> Answered:
    """A streamed answer; what came before a cut counts as the body."""
    with client.open(*turns, stream=True, **fields) as connection:
        status, headers = connection.head()
        return Answered(status, headers, connection.body(headers))


# -- an upstream that dies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("death", DEATHS)
def test_what_was_seen_of_a_stream_that_broke_is_what_is_stored(
    client: Client, model: Upstream, death: Death, running: RunningServer
) -> None:
    """No event: an HTTP error and nothing stored. Then the events so far, an error event, and no end mark."""
    for k in range(21):
        client.user = f"{death} {k}"
        model.queue(Script(words=30, die_after=k, death=death))
        answer = streamed(client, f"Question {k}?")
        came = k + (death == "wrong_length")  # the event that is too short for what was announced is whole
        if not came:
            assert answer.status == 502
            assert "message" in answer.json["error"]
            assert client.conversations() == []
        else:
            *events, last = answer.events
            assert answer.status == 200
            assert len(events) == came
            assert json.loads(last)["error"]["message"]
            assert "[DONE]" not in answer.events
            question, stored = client.messages(answer.conversation)
            assert question["content"] == f"Question {k}?"
            assert stored["content"] == contents(events) == "".join(f"word{i} " for i in range(came - 1))
            assert stored["incomplete"] is True
        model.queue(Script())  # the circuit stays closed
        assert streamed(client, "Still there?").events[-1] == "[DONE]"


@pytest.mark.parametrize("k", range(8))
def test_a_whole_answer_that_breaks_off_is_an_error_and_leaves_nothing(client: Client, model: Upstream, k: int) -> None:
    model.queue(Script(words=200, die_after=k, death="cut"), Script())
    answer = client.chat("Hello?")
    assert answer.status == 502
    assert answer.json["error"]["type"] == "upstream_error"
    assert client.conversations() == []
    assert client.chat("Hello again?").status == 200


def test_an_error_event_of_the_model_server_ends_the_stream_once(client: Client, model: Upstream) -> None:
    events = stream_payloads(Script(), {"messages": []}, "m")[:3]
    model.queue(Script(events=(*events, b'{"error":{"message":"overloaded","type":"server_error"}}')))
    answer = streamed(client, "Hello?")
    errors = [event for event in answer.events if '"error"' in event]
    assert len(errors) == 1
    assert "overloaded" in errors[0]
    assert answer.events[-1] == errors[0]
    assert client.messages(answer.conversation)[-1]["incomplete"] is True


def test_an_answer_without_end_mark_but_with_a_finish_is_whole(client: Client, model: Upstream) -> None:
    model.queue(Script(done=False))
    answer = streamed(client, "Hello?")
    assert answer.events[-1] == "[DONE]"
    stored = client.messages(answer.conversation)[-1]
    assert (stored["content"], stored["incomplete"]) == (TEXT, False)


# -- bytes ------------------------------------------------------------------------------------------------------------


SMALL = "Grüße 🙂"


def test_a_stream_cut_at_every_byte_arrives_the_same(client: Client, model: Upstream) -> None:
    script = Script(text=SMALL, split_every=1)
    model.queue(script)
    assert contents(streamed(client, "One?").events) == SMALL
    parts = ((b'{"content":"Gr\xc3\xbc\xc3\x9fe "}', b"null"), (b'{"content":"\xf0\x9f\x99\x82"}', b'"stop"'))
    events = [b'{"id":"c","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}' % part for part in parts]
    events.append(b"[DONE]")
    whole = b"".join(framed(script, event) for event in events)
    for at in range(1, len(whole)):
        model.queue(Script(events=tuple(events), split_at=at))
        with client.open("Many?", stream=True, headers={"x-aforesaid-store": "false"}) as connection:
            _, headers = connection.head()
            assert connection.body(headers) == whole, f"cut at {at}"


@pytest.mark.parametrize(
    "script",
    [
        Script(crlf=True),
        Script(comments=True),
        Script(crlf=True, comments=True),
        Script(fields={"x_unknown": {"a": [1, 2.5, None]}, "service_tier": None, "x_big": 12345678901234567890}),
        Script(text="It says data: [DONE]\n\ndata: [DONE]\n\n and goes on."),
        Script(tools=(("weather", '{"city":"Oslo"}'), ("time", "{}"))),
        Script(words=2000),
    ],
)
def test_events_arrive_as_they_were_sent(client: Client, model: Upstream, script: Script) -> None:
    model.queue(script)
    answer = streamed(client, "Hello?", stream_options={"include_usage": True}, n=2)
    asked = sent(model).json
    expected = b"".join(framed(script, payload) for payload in stream_payloads(script, asked, "gpt-4"))
    seen = json.loads(answer.events[0])["created"]
    created = json.loads(stream_payloads(script, asked, "gpt-4")[0])["created"]
    assert answer.body == expected.replace(b'"created":%d' % created, b'"created":%d' % seen)
    stored = client.messages(answer.conversation)
    assert [message["role"] for message in stored] == ["user", "assistant", "assistant"]
    assert [message["meta_data"]["choice"] for message in stored[1:]] == [0, 1]
    if not script.tools:
        assert {message["content"] for message in stored[1:]} == {"".join(script.pieces())}
        assert not any(message["incomplete"] for message in stored)


@pytest.mark.parametrize(
    "ending",
    [
        b"data: [DONE]\n\n",
        b"data:[DONE]\n\n",
        b"data: [DONE]\r\n\r\n",
        b"data: [DONE]\n\n: bye\n\n",
        b"id: 7\ndata: [DONE]\n\n",
        b"data: [DONE]",
    ],
)
def test_the_end_mark_comes_after_the_turn_is_stored(client: Client, model: Upstream, ending: bytes) -> None:
    """However the end mark is spelt, and glued to what comes before: who has seen it reads what it wrote."""
    chunk = b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Paris."},"finish_reason":"stop"}]}'
    body = b"data: " + chunk + b"\n\n" + ending
    for _ in range(5):
        model.queue(Script(body=body, content_type="text/event-stream"))
        with client.open("Where?", stream=True) as connection:
            _, headers = connection.head()
            seen = b""
            while b"[DONE]" not in seen:
                seen += connection.chunk()
            stored = client.messages(headers["x-aforesaid-conversation-id"])
        assert [message["content"] for message in stored] == ["Where?", "Paris."]
        assert stored[1]["incomplete"] is False


def test_the_first_event_is_there_before_the_second_is_sent(client: Client, model: Upstream) -> None:
    """The model server holds the second event back for good: a buffer would never let the first one through."""
    model.queue(Script(stall_after=1))
    with client.open("Hello?", stream=True) as connection:
        status, _ = connection.head()
        assert status == 200
        assert connection.chunk().startswith(b"data: {")


def test_a_very_large_answer_arrives_whole_and_is_stored_as_far_as_a_message_goes(
    client: Client, model: Upstream
) -> None:
    model.queue(Script(text="x" * 2_500_000))
    whole = client.chat("Long?")
    assert len(whole.said) == 2_500_000
    assert len(client.messages(whole.conversation)[-1]["content"]) == 1 << 20
    again = client.chat("Long?", whole.said, "Longer?")
    assert again.conversation == whole.conversation
    assert len(client.messages(whole.conversation)) == 4


# -- clients that leave -----------------------------------------------------------------------------------------------


def leave(connection: Connection, reset: bool) -> None:
    """The client is gone, politely or not."""
    if reset:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("events", [0, 1, 2, 7])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_lets_the_model_server_go(
    client: Client, model: Upstream, events: int, stream: bool, reset: bool
) -> None:
    """After some events, before the first (the server waits for the model) and while a whole answer is made."""
    before = len(model.chats)
    model.queue(Script(words=50, stall_after=events))
    connection = client.open("Are you there?", stream=stream)
    seen = b""
    if stream and events:
        connection.head()
        while seen.count(b"\n\n") < events:
            seen += connection.chunk()
    eventually(lambda: len(model.chats) > before and model.chats[before].events_sent >= events)
    left_s = time.monotonic()
    leave(connection, reset)
    noticed_s = model.chats[before].wait()
    assert noticed_s is not None
    assert noticed_s - left_s < SOON_S
    if not (stream and events):
        assert client.conversations() == []  # nothing was answered: nothing is stored
        return
    eventually(lambda: client.conversations() and len(client.messages(client.conversations()[0]["id"])) == 2)
    question, stored = client.messages(client.conversations()[0]["id"])
    assert question["content"] == "Are you there?"
    assert stored["content"] == "".join(f"word{i} " for i in range(events - 1))
    assert stored["incomplete"] is True


def test_the_server_is_sound_after_many_clients_have_left(client: Client, model: Upstream) -> None:
    for _ in range(60):
        model.queue(Script(words=1000, pause_s=0.005))
    before = len(model.chats)
    connections = [client.open(f"Number {i}?", stream=True) for i in range(60)]
    eventually(lambda: len(model.chats) == before + 60)
    for i, connection in enumerate(connections):
        leave(connection, reset=i % 2 == 0)
    for chat in model.chats[before:]:
        assert chat.wait() is not None
    assert streamed(client, "And now?").events[-1] == "[DONE]"


def test_slow_clients_disturb_nobody(client: Client, model: Upstream, running: RunningServer) -> None:
    """Two take nothing of a long answer. Others get theirs, and the slow ones all of theirs once they read."""
    slow = []
    for i in range(2):
        model.queue(Script(words=60_000))
        connection = Connection(running, receive_buffer=4096)
        body = {"model": "gpt-4", "stream": True, "messages": [{"role": "user", "content": f"Slow {i}?"}]}
        connection.send("POST", "/api/v1/chat/completions", json.dumps(body).encode(), {"x-user-id": f"slow {i}"})
        assert connection.head()[0] == 200
        slow.append(connection)
    for i in range(20):
        model.queue(Script())
        assert streamed(client, f"Quick {i}?").events[-1] == "[DONE]"
    for connection in slow:
        with connection:
            whole = b"".join(connection.chunks())
        assert whole.endswith(b"data: [DONE]\n\n")
        assert whole.count(b"\n\n") == 60_003


def test_many_streams_at_once_keep_apart(client: Client, model: Upstream) -> None:
    found: dict[int, Answered] = {}

    def one(i: int) -> None:
        mine = Client(client.server, user=f"{client.user} {i}")
        found[i] = streamed(mine, f"Number {i}?", model=f"gpt-4?text=Answer+{i}&pause_s=0.01")

    threads = [threading.Thread(target=one, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, answer in found.items():
        assert client.spoken(answer.conversation) == [("user", f"Number {i}?"), ("assistant", f"Answer {i}")]


def test_a_server_that_stops_ends_its_streams_with_an_error_event(
    model: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with server_factory(tmp_path_factory.mktemp("stopping")) as start:
        stopping = start(env=upstream_environment(model, AFORESAID_SHUTDOWN_S="1"))
        model.queue(Script(stall_after=3))
        mine = Client(stopping, user="u")
        with mine.open("Hello?", stream=True) as connection:
            connection.head()
            seen = connection.chunk()
            stopping.process.terminate()
            seen += b"".join(connection.chunks())
        assert stopping.process.wait(30) == 0
        events = [line[6:] for line in seen.decode().splitlines() if line.startswith("data: ")]
        assert "stopping" in json.loads(events[-1])["error"]["message"]
        again = start(env=upstream_environment(model), data=stopping.data, api_key=stopping.api_key)
        mine = Client(again, user="u")
        stored = mine.messages(mine.conversations()[0]["id"])
        assert [message["incomplete"] for message in stored] == [False, True]
        assert stored[1]["content"] == contents(events[:-1])


def test_the_block_is_sent_in_streams_too(client: Client, model: Upstream) -> None:
    client.bring("My boat is called Perelandra.")
    model.queue(Script())
    answer = streamed(client, "What is my boat called?")
    assert answer.headers["x-aforesaid-recall"] == "done"
    assert len(blocks(sent(model))) == 1
