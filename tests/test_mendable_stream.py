"""Streamed answers of the Mendable API, byte by byte over a socket: what its clients' own parsers rest on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chats import Client, Connection, eventually, upstream_environment
from tests.support.mendable import Mendable
from tests.support.server import ServerFactory, server_factory
from tests.support.upstream import Script, Upstream
from tests.support.upstream_script import TEXT, Death

SOURCES = b'data: {"chunk":"<|source|>","metadata":[]}\n\n'
EMPTY = b'data: {"chunk":""}\n\n'
BROKEN = b'data: {"status":500,"chunk":""}\n\n'
SOON_S = 2.0
"""How soon a model server must be let go; the promise is less, a loaded test machine gets more."""


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def api(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mendable]:
    with server_factory(tmp_path_factory.mktemp("mendable")) as start:
        running = start(env=upstream_environment(model))
        yield Mendable(running, running.api_key)


def asked(api: Mendable, question: str = "Where is the kettle?", conversation: int | None = None) -> Connection:
    """A connection on which a streamed answer was asked for."""
    return api.open("mendableChat", {"question": question, "conversation_id": conversation})


def text_frame(text: str) -> bytes:
    """The frame of a piece of text."""
    return b"data: " + json.dumps({"chunk": text}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def frames(pieces: list[bytes]) -> list[Any]:
    """The frames' JSON. Each was sent on its own: one line, one empty line, LF."""
    found = []
    for piece in pieces:
        assert piece.startswith(b"data: {"), piece
        assert piece.endswith(b"}\n\n"), piece
        assert piece.count(b"\n") == 2
        assert b"\r" not in piece
        found.append(json.loads(piece[6:]))
    return found


def test_the_stream_is_exactly_these_bytes(api: Mendable, model: Upstream) -> None:
    number = api.begin()
    model.queue(Script(text="You can do it.\r\n“Sí”\u2028 <b>"))
    with asked(api, conversation=number) as connection:
        status, headers = connection.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert "content-length" not in headers
        pieces = list(connection.chunks())
    said = api.messages(number)
    assert said[1]["message"] == "You can do it.\r\n“Sí”\u2028 <b>"
    texts = [text_frame(piece) for piece in Script(text=said[1]["message"]).pieces()]
    last = b'data: {"chunk":"<|message_id|>","metadata":%d}\n\n' % said[1]["message_id"]
    assert pieces == [SOURCES, EMPTY, *texts, last]


def test_the_embedded_answerer_streams_the_same_way(server: ServerFactory) -> None:
    running = server()
    api = Mendable(running, running.api_key)
    number = api.begin()
    with asked(api, "My kettle is blue.", number) as connection:
        assert connection.head()[0] == 200
        pieces = list(connection.chunks())
    said = api.messages(number)
    assert pieces[:2] == [SOURCES, EMPTY]
    found = frames(pieces)
    assert found[-1] == {"chunk": "<|message_id|>", "metadata": said[1]["message_id"]}
    assert all(set(frame) == {"chunk"} and frame["chunk"] for frame in found[2:-1])
    assert len(found) > 4
    assert "".join(frame["chunk"] for frame in found[2:-1]) == said[1]["message"]


@pytest.mark.parametrize(
    "script",
    [
        Script(comments=True),
        Script(crlf=True),
        Script(usage=True),
        Script(split_every=1),
        Script(done=False),
        Script(fields={"obfuscation": "x", "service_tier": "default"}),
    ],
    ids=["comments", "crlf", "usage", "bytewise", "no end mark", "unknown fields"],
)
def test_nothing_of_the_model_servers_own_framing_comes_through(api: Mendable, model: Upstream, script: Script) -> None:
    model.queue(script)
    with asked(api) as connection:
        connection.head()
        found = frames(list(connection.chunks()))
    assert "".join(frame["chunk"] for frame in found[2:-1]) == TEXT
    assert found[-1]["metadata"]
    assert "[DONE]" not in [frame["chunk"] for frame in found]


@pytest.mark.parametrize("mark", ["<|source|>", "<|message_id|>", "<|tool_called|>"])
def test_a_model_that_says_a_mark_is_not_taken_for_us(api: Mendable, model: Upstream, mark: str) -> None:
    events = [
        json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}).encode()
        for text, reason in ((mark, None), (" is a mark.", "stop"))
    ]
    model.queue(Script(events=(*events, b"[DONE]")))
    with asked(api) as connection:
        connection.head()
        found = frames(list(connection.chunks()))
    assert "".join(frame["chunk"] for frame in found[2:-1]) == f"{mark} is a mark."
    assert mark not in [frame["chunk"] for frame in found[2:-1]]


def test_the_first_words_come_before_the_last_are_known(api: Mendable, model: Upstream) -> None:
    model.queue(Script(text="one two three", stall_after=3))
    with asked(api) as connection:
        connection.head()
        pieces = [connection.chunk() for _ in range(4)]
    assert pieces == [SOURCES, EMPTY, text_frame("one "), text_frame("two ")]
    model.chats[-1].wait()


def test_an_answer_is_silent_while_its_model_thinks(api: Mendable, model: Upstream) -> None:
    model.queue(Script(text="one two", pause_s=1.5))
    with asked(api) as connection:
        connection.head()
        pieces = list(connection.chunks())
    assert len(frames(pieces)) == 5


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("death", ["reset", "close", "half_event", "half_character", "cut"])
def test_a_model_server_that_dies_is_a_last_frame_and_a_partial_answer(
    api: Mendable, model: Upstream, death: Death, k: int
) -> None:
    number = api.begin()
    model.queue(Script(die_after=k, death=death))
    with asked(api, conversation=number) as connection:
        assert connection.head()[0] == 200
        pieces = list(connection.chunks())
    assert pieces[:2] == [SOURCES, EMPTY]
    assert pieces[-1] == BROKEN
    seen = "".join(frame["chunk"] for frame in frames(pieces[2:-1]))
    assert TEXT.startswith(seen)
    stored = Client(api.server).messages(str(number))
    assert [(m["role"], m["content"], m["incomplete"]) for m in stored] == [
        ("user", "Where is the kettle?", False),
        ("assistant", seen, True),
    ]


def test_an_error_event_of_the_model_server_is_the_last_frame(api: Mendable, model: Upstream) -> None:
    model.queue(Script(events=(b'{"choices":[{"index":0,"delta":{"content":"Well"}}]}', b'{"error":{"message":"no"}}')))
    with asked(api) as connection:
        connection.head()
        assert list(connection.chunks()) == [SOURCES, EMPTY, text_frame("Well"), BROKEN]


def test_a_client_that_leaves_lets_the_model_server_go(api: Mendable, model: Upstream) -> None:
    number = api.begin()
    model.queue(Script(text="one two three", stall_after=3))
    with asked(api, conversation=number) as connection:
        connection.head()
        for _ in range(4):
            connection.chunk()
    request = model.chats[-1]
    left_s = request.wait()
    assert left_s is not None
    assert left_s - request.arrived_s < 30
    client = Client(api.server)
    eventually(lambda: len(client.messages(str(number))) == 2)
    assert [(m["content"], m["incomplete"]) for m in client.messages(str(number))] == [
        ("Where is the kettle?", False),
        ("one two ", True),
    ]


def test_a_client_that_leaves_before_the_answer_lets_the_model_server_go(api: Mendable, model: Upstream) -> None:
    for stream in (True, False):
        count = len(model.chats)
        model.queue(Script(delay_s=20))
        body = {"question": "Are you there?", "shouldStream": stream}
        with api.open("mendableChat", body):
            eventually(lambda count=count: len(model.chats) > count)
        assert model.chats[-1].wait(timeout_s=15) is not None


def test_the_message_is_stored_before_its_id_is_told(api: Mendable, model: Upstream) -> None:
    for i in range(20):
        model.queue(Script(text=f"Answer {i}"))
        with asked(api, f"Question {i}") as connection:
            connection.head()
            for piece in connection.chunks():
                frame = json.loads(piece[6:])
                if frame["chunk"] == "<|message_id|>":
                    rated = api.post("rateMessage", {"message_id": frame["metadata"], "rating_value": 1})
                    assert rated.status == 200


def test_a_server_that_stops_ends_its_streams_with_an_error_frame(server: ServerFactory, model: Upstream) -> None:
    running = server(env=upstream_environment(model, AFORESAID_SHUTDOWN_S="1"))
    api = Mendable(running, running.api_key)
    model.queue(Script(text="one two three", stall_after=2))
    with asked(api) as connection:
        connection.head()
        assert [connection.chunk() for _ in range(3)] == [SOURCES, EMPTY, text_frame("one ")]
        running.process.terminate()
        assert list(connection.chunks()) == [BROKEN]
    assert running.process.wait(30) == 0
