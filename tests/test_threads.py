"""Which conversation a completion goes on with, and that each of its turns is stored once."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chats import Answered, Client, other_workspace_key, sent, upstream_environment
from tests.support.server import RunningServer, server_factory
from tests.support.upstream import Script, Upstream

pytestmark = pytest.mark.xdist_group("threads")


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("threads")) as start:
        yield start(env=upstream_environment(model))


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    """A user of this test's own."""
    return Client(running, user=f"user of {request.node.name}"[:200])


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, model: Upstream, running: RunningServer, tmp_path: Path) -> Iterator[Client]:
    """A user on each engine in turn."""
    if request.param == "sqlite":
        yield Client(running, user=f"user of {request.node.name}"[:200])
        return
    url = request.getfixturevalue("postgres_url")
    with server_factory(tmp_path) as start:
        yield Client(start(env=upstream_environment(model), database_url=url), user="u")


def say(client: Client, model: Upstream, answer: str, *turns: Any, **fields: Any) -> Answered:
    """A turn that the model answers so."""
    model.queue(Script(text=answer))
    answered = client.chat(*turns, **fields)
    assert answered.status == 200, answered.body
    assert answered.said == answer
    return answered


def texts(client: Client, conversation: str) -> list[str]:
    return [message["content"] for message in client.messages(conversation)]


# -- without an id ----------------------------------------------------------------------------------------------------


def test_a_chat_without_an_id_begins_a_conversation_of_the_user(client: Client, model: Upstream) -> None:
    answer = say(client, model, "Hello!", "Hi there,\nhow   are you?")
    (made,) = client.conversations()
    assert made["id"] == answer.conversation
    assert made["owner_id"] == client.user
    assert made["title"] == "Hi there, how are you?"
    first, second = client.messages(made["id"])
    assert (first["sender_id"], first["role"]) == (client.user, "user")
    assert (second["sender_id"], second["role"], second["incomplete"]) == ("assistant", "assistant", False)
    assert second["meta_data"]["model"] == "gpt-4"
    assert second["meta_data"]["finish_reason"] == "stop"


def test_a_resent_history_is_one_conversation_with_every_turn_once(client: Client, model: Upstream) -> None:
    history: list[str] = []
    for i in range(6):
        history.append(f"Question {i}")
        answer = say(client, model, f"Answer {i}", *history)
        history.append(answer.said)
    (made,) = client.conversations()
    assert texts(client, made["id"]) == history
    assert all(message["parent_message_id"] is None for message in client.messages(made["id"]))


def test_system_prompts_are_neither_stored_nor_compared(client: Client, model: Upstream) -> None:
    def with_system(prompt: str, *turns: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [
            {"role": "system", "content": prompt},
            {"role": "developer", "content": "Be brief."},
            *({"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)),
        ]

    first = say(client, model, "One.", *with_system("It is Monday.", "Begin"))
    second = say(client, model, "Two.", *with_system("It is Tuesday.", "Begin", "One.", "Go on"))
    assert first.conversation == second.conversation
    assert client.spoken(first.conversation) == [
        ("user", "Begin"), ("assistant", "One."), ("user", "Go on"), ("assistant", "Two."),
    ]  # fmt: skip


def test_an_answer_made_anew_is_a_branch(client: Client, model: Upstream) -> None:
    say(client, model, "A1", "Q1")
    second = say(client, model, "A2", "Q1", "A1", "Q2")
    anew = say(client, model, "A2 anew", "Q1", "A1", "Q2")
    assert anew.conversation == second.conversation
    q1, a1, q2, a2, other = client.messages(second.conversation)
    assert [m["content"] for m in (q1, a1, q2, a2, other)] == ["Q1", "A1", "Q2", "A2", "A2 anew"]
    assert other["parent_message_id"] == q2["id"]
    # Both branches go on.
    for answer, question in (("A2 anew", "Q3 anew"), ("A2", "Q3")):
        third = say(client, model, f"to {question}", "Q1", "A1", "Q2", answer, question)
        assert third.conversation == second.conversation
    assert texts(client, second.conversation)[5:] == ["Q3 anew", "to Q3 anew", "Q3", "to Q3"]
    assert client.messages(second.conversation)[7]["parent_message_id"] == a2["id"]


def test_an_edited_question_is_a_branch(client: Client, model: Upstream) -> None:
    say(client, model, "A1", "Q1")
    second = say(client, model, "A2", "Q1", "A1", "Q2")
    edited = say(client, model, "A2 edited", "Q1", "A1", "Q2 edited")
    assert edited.conversation == second.conversation
    stored = client.messages(second.conversation)
    assert [m["content"] for m in stored] == ["Q1", "A1", "Q2", "A2", "Q2 edited", "A2 edited"]
    assert stored[4]["parent_message_id"] == stored[1]["id"]
    assert stored[5]["parent_message_id"] is None


@pytest.mark.parametrize("count", [2, 4])
def test_conversations_with_the_same_beginning_are_told_apart_by_what_follows(
    client: Client, model: Upstream, count: int
) -> None:
    """Same first question, same answer, at the same time: each goes on in its own."""
    ids = [say(client, model, "Hello!", "Hi").conversation for _ in range(count)]
    assert len(set(ids)) == count
    taken = [say(client, model, f"Answer {i}", "Hi", "Hello!", f"Question {i}").conversation for i in range(count)]
    assert sorted(taken) == sorted(ids)
    for i in reversed(range(count)):
        more = say(client, model, f"Last {i}", "Hi", "Hello!", f"Question {i}", f"Answer {i}", f"More {i}")
        assert more.conversation == taken[i]
        assert texts(client, taken[i]) == ["Hi", "Hello!", f"Question {i}", f"Answer {i}", f"More {i}", f"Last {i}"]
    assert len(client.conversations()) == count


def test_the_same_words_of_another_user_are_another_conversation(client: Client, model: Upstream) -> None:
    mine = say(client, model, "Hello!", "Hi")
    other = Client(client.server, user=f"{client.user} 2")
    theirs = say(other, model, "Fine.", "Hi", "Hello!", "How are you?")
    assert theirs.conversation != mine.conversation
    assert texts(client, mine.conversation) == ["Hi", "Hello!"]
    assert texts(other, theirs.conversation) == ["Hi", "Hello!", "How are you?", "Fine."]


def test_tool_calls_are_recognised_however_their_arguments_are_spelt(client: Client, model: Upstream) -> None:
    model.queue(Script(tools=(("weather", '{"city":"Oslo","unit":"C"}'),)))
    first = client.chat("What is the weather in Oslo?")
    call = first.json["choices"][0]["message"]["tool_calls"][0]
    call["function"]["arguments"] = '{"unit": "C", "city": "Oslo"}'
    answer = say(
        client, model, "It rains.",
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": '{"rain": true}'},
    )  # fmt: skip
    assert answer.conversation == first.conversation
    stored = client.messages(first.conversation)
    assert [m["role"] for m in stored] == ["user", "assistant", "tool", "assistant"]
    assert stored[1]["tool_calls"][0]["function"]["name"] == "weather"
    assert stored[2]["meta_data"] == {"tool_call_id": call["id"]}


def test_a_refusal_is_stored_and_recognised(client: Client, model: Upstream) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I won't."}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    model.queue(Script(body=json.dumps({**whole, "choices": [choice]}).encode()))
    first = client.chat("Do it")
    again = say(client, model, "Sorry.", {"role": "user", "content": "Do it"}, message, "Why not?")
    assert again.conversation == first.conversation
    assert texts(client, first.conversation) == ["Do it", "I won't.", "Why not?", "Sorry."]


def test_a_history_that_others_began_is_stored_whole(client: Client, model: Upstream) -> None:
    answer = say(client, model, "A3", "Q1", "A1", "Q2", "A2", "Q3")
    assert texts(client, answer.conversation) == ["Q1", "A1", "Q2", "A2", "Q3", "A3"]


def test_after_an_ended_conversation_comes_a_new_one(client: Client, model: Upstream) -> None:
    first = say(client, model, "A1", "Q1")
    client.request("PUT", f"/api/v1/conversations/{first.conversation}", {"status": "ended"})
    second = say(client, model, "A2", "Q1", "A1", "Q2")
    assert second.conversation != first.conversation
    assert texts(client, first.conversation) == ["Q1", "A1"]


def test_after_a_removed_conversation_comes_a_new_one(client: Client, model: Upstream) -> None:
    first = say(client, model, "A1", "Q1")
    assert client.request("DELETE", f"/api/v1/conversations/{first.conversation}").status in (200, 204)
    second = say(client, model, "A2", "Q1", "A1", "Q2")
    assert second.conversation != first.conversation
    assert texts(client, second.conversation) == ["Q1", "A1", "Q2", "A2"]


def test_an_answer_that_failed_and_is_asked_again_stands_once(client: Client, model: Upstream) -> None:
    first = say(client, model, "A1", "Q1")
    model.queue(Script(status=500))
    assert client.chat("Q1", "A1", "Q2").status == 500
    second = say(client, model, "A2", "Q1", "A1", "Q2")
    assert second.conversation == first.conversation
    assert texts(client, first.conversation) == ["Q1", "A1", "Q2", "A2"]


def test_nothing_of_a_turn_is_stored_where_that_is_not_wanted(client: Client, model: Upstream) -> None:
    model.queue(Script(), Script())
    for stream in (False, True):
        answer = client.chat("Off the record", stream=stream, headers={"x-aforesaid-store": "false"})
        assert answer.status == 200
        assert "x-aforesaid-conversation-id" not in answer.headers
        assert "x-aforesaid-receipt-id" not in answer.headers
    assert client.conversations() == []
    first = say(client, model, "A1", "Q1")
    model.queue(Script())
    kept = client.chat("Q1", "A1", "Q2", headers={"x-aforesaid-store": "false", "x-session-id": "s"})
    assert kept.status == 200
    assert texts(client, first.conversation) == ["Q1", "A1"]
    assert len(client.conversations()) == 1


def test_nobody_has_conversations_too(client: Client, model: Upstream) -> None:
    nobody = Client(client.server)
    first = say(nobody, model, "A1", "A question of nobody")
    second = say(nobody, model, "A2", "A question of nobody", "A1", "And another")
    assert second.conversation == first.conversation
    assert first.headers["x-aforesaid-recall"] == "skipped; no_user"
    assert nobody.get(f"/api/v1/conversations/{first.conversation}")["owner_id"] is None


# -- with an id -------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(client: Client, model: Upstream) -> str:
    """A conversation of four messages."""
    say(client, model, "A1", "Q1")
    return say(client, model, "A2", "Q1", "A1", "Q2").conversation


def number_of(conversation: str) -> str:
    """The integer spelling of an id."""
    value = 0
    for character in conversation.partition("_")[2]:
        value = value << 5 | "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    return str(value & ((1 << 52) - 1))


@pytest.mark.parametrize("spelling", ["text", "integer"])
@pytest.mark.parametrize("where", ["header", "body"])
def test_a_conversation_is_gone_on_with_by_its_id(
    client: Client, model: Upstream, begun: str, spelling: str, where: str
) -> None:
    name = begun if spelling == "text" else number_of(begun)
    fields: dict[str, Any] = (
        {"headers": {"x-conversation-id": name}} if where == "header" else {"conversation_id": name}
    )
    answer = say(client, model, "A3", "Q3", **fields)
    assert answer.conversation == begun
    assert texts(client, begun) == ["Q1", "A1", "Q2", "A2", "Q3", "A3"]
    assert "conversation_id" not in sent(model).json


@pytest.mark.parametrize(
    ("turns", "stored"),
    [
        (["Q3"], ["Q3"]),
        (["Q1", "A1", "Q2", "A2", "Q3"], ["Q3"]),
        (["Q2", "A2", "Q3"], ["Q3"]),
        (["Q1", "A1", "Q2"], []),
        (["Q1", "A1", "Q2 edited"], ["Q2 edited"]),
        (["Other", "things", "Q3"], ["Q3"]),
        (["Q1"], ["Q1"]),  # alone it may be the same question again
        (["Q3", "A3 that nobody stored", "Q4"], ["Q4"]),
    ],
)
def test_of_a_conversation_with_an_id_only_what_is_new_is_stored(
    client: Client, model: Upstream, begun: str, turns: list[str], stored: list[str]
) -> None:
    before = client.messages(begun)
    answer = say(client, model, "A new", *turns, conversation_id=begun)
    assert answer.conversation == begun
    after = client.messages(begun)
    assert [m["content"] for m in after] == ["Q1", "A1", "Q2", "A2", *stored, "A new"]
    branch = {"Q2": before[2]["id"], "Q2 edited": before[1]["id"]}.get(turns[-1])
    assert after[4]["parent_message_id"] == branch


def test_an_empty_conversation_takes_the_whole_history(client: Client, model: Upstream) -> None:
    made = client.request("POST", "/api/v1/conversations", {"title": "Empty", "user_id": client.user}).json["id"]
    say(client, model, "A2", "Q1", "A1", "Q2", conversation_id=made)
    assert texts(client, made) == ["Q1", "A1", "Q2", "A2"]


def test_a_question_that_was_posted_before_it_was_asked_stands_once(client: Client, model: Upstream) -> None:
    made = client.bring({"role": "user", "content": "Q1"})
    say(client, model, "A1", "Q1", conversation_id=made)
    assert texts(client, made) == ["Q1", "A1"]


@pytest.mark.parametrize(
    "name", ["conv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "4711", "nothing", "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV", "9" * 30, "*"]
)
def test_a_conversation_that_is_not_there_is_refused_before_anything_is_sent(
    client: Client, model: Upstream, name: str
) -> None:
    before = len(model.chats)
    for fields in ({"conversation_id": name}, {"headers": {"x-conversation-id": name}}, {
        "conversation_id": name, "headers": {"x-memories-enabled": "false"}
    }):  # fmt: skip
        answer = client.chat("Hello?", **fields)
        assert answer.status == 404
        assert answer.json == {
            "error": {
                "message": "Conversation not found", "type": "invalid_request_error", "param": None, "code": "not_found"
            }
        }  # fmt: skip
    assert len(model.chats) == before
    assert client.conversations() == []


def test_another_users_conversation_looks_like_none(client: Client, model: Upstream, begun: str) -> None:
    before = len(model.chats)
    other = Client(client.server, user=f"{client.user} 2")
    missing = other.chat("Hello?", conversation_id="conv_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    theirs = other.chat("Hello?", conversation_id=begun)
    assert (theirs.status, theirs.body) == (404, missing.body)
    assert len(model.chats) == before
    assert len(client.messages(begun)) == 4


def test_another_workspaces_conversation_looks_like_none(
    model: Upstream, begun: str, client: Client, running: RunningServer
) -> None:
    key = other_workspace_key(running)
    other = Client(running, user=client.user, headers={"Authorization": f"Bearer {key}"})
    before = len(model.chats)
    answer = other.chat("Hello?", conversation_id=begun)
    assert answer.status == 404
    assert len(model.chats) == before
    mine = client.get(f"/api/v1/conversations/{begun}")["workspace_id"]
    for fields in ({"headers": {"x-workspace-id": mine}}, {"workspace_id": mine}):
        assert other.chat("Hello?", **fields).status == 403
        assert say(client, model, "Yes", "Mine?", **fields).status == 200
    assert len(model.chats) == before + 2
    assert say(other, model, "New", "Q1", "A1", "Q2", "A2", "Q3").conversation != begun
    assert other.conversations()[0]["workspace_id"] != mine


def test_an_ended_conversation_is_refused_before_anything_is_sent(client: Client, model: Upstream, begun: str) -> None:
    client.request("PUT", f"/api/v1/conversations/{begun}", {"status": "ended"})
    before = len(model.chats)
    answer = client.chat("Hello?", conversation_id=begun)
    assert answer.status == 400
    assert answer.json["error"]["param"] == "conversation_id"
    assert "ended" in answer.json["error"]["message"]
    assert len(model.chats) == before
    assert len(client.messages(begun)) == 4


def test_what_is_under_way_when_its_conversation_ends_is_stored(client: Client, model: Upstream, begun: str) -> None:
    model.queue(Script(words=20, pause_s=0.02))
    with client.open("Q3", conversation_id=begun, stream=True) as connection:
        connection.head()
        connection.chunk()
        client.request("PUT", f"/api/v1/conversations/{begun}", {"status": "ended"})
        list(connection.chunks())
    assert texts(client, begun)[4:] == ["Q3", "".join(f"word{i} " for i in range(20))]


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["header", "body"])
def test_a_session_is_one_conversation(client: Client, model: Upstream, where: str) -> None:
    def fields(name: str) -> dict[str, Any]:
        return {"headers": {"x-session-id": name}} if where == "header" else {"session_id": name}

    first = say(client, model, "A1", "Q1", **fields("s1"))
    second = say(client, model, "A2", "Q2", **fields("s1"))  # only what is new is sent
    third = say(client, model, "A3", "Q1", "A1", "Q2", "A2", "Q3", **fields("s1"))  # all is sent
    other = say(client, model, "A1", "Q1", **fields("s2"))
    assert first.conversation == second.conversation == third.conversation != other.conversation
    assert texts(client, first.conversation) == ["Q1", "A1", "Q2", "A2", "Q3", "A3"]
    assert client.get(f"/api/v1/conversations/{first.conversation}")["session_id"] == "s1"
    someone = Client(client.server, user=f"{client.user} 2")
    assert say(someone, model, "A1", "Q1", **fields("s1")).conversation != first.conversation
    client.request("PUT", f"/api/v1/conversations/{first.conversation}", {"status": "ended"})
    fresh = say(client, model, "A4", "Q4", **fields("s1"))
    assert texts(client, fresh.conversation) == ["Q4", "A4"]
    assert say(client, model, "A5", "Q5", **fields("s1")).conversation == fresh.conversation


# -- several at once --------------------------------------------------------------------------------------------------


def at_once(*calls: Any) -> list[Answered]:
    found: dict[int, Answered] = {}
    barrier = threading.Barrier(len(calls))

    def run(i: int) -> None:
        barrier.wait()
        found[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[i] for i in range(len(calls))]


@pytest.mark.parametrize("with_id", [False, True])
def test_two_turns_of_one_conversation_at_once_are_both_stored(either: Client, model: Upstream, with_id: bool) -> None:
    say(either, model, "A1", "Q1")
    begun = say(either, model, "A2", "Q1", "A1", "Q2").conversation
    fields: dict[str, Any] = {"conversation_id": begun} if with_id else {}
    spell = "gpt-4?delay_s=0.1&text="
    answers = at_once(
        *(
            lambda i=i: either.chat("Q1", "A1", "Q2", "A2", f"Q3 {i}", model=f"{spell}A3+{i}", **fields)
            for i in range(6)
        )
    )
    assert {answer.conversation for answer in answers} == {begun}
    stored = either.messages(begun)
    assert [m["content"] for m in stored[:4]] == ["Q1", "A1", "Q2", "A2"]
    pairs = [(stored[i]["content"], stored[i + 1]["content"]) for i in range(4, len(stored), 2)]
    assert sorted(pairs) == [(f"Q3 {i}", f"A3 {i}") for i in range(6)]
    for i in range(6, len(stored), 2):  # all but the first left the conversation where its answer was
        assert stored[i]["parent_message_id"] == stored[3]["id"]


def test_the_first_requests_of_a_session_at_once_begin_one_conversation(either: Client, model: Upstream) -> None:
    answers = at_once(
        *(lambda i=i: either.chat(f"Q {i}", session_id="s", model=f"gpt-4?delay_s=0.1&text=A+{i}") for i in range(6))
    )
    assert all(answer.status == 200 for answer in answers)
    (made,) = either.conversations()
    stored = texts(either, made["id"])
    assert sorted(zip(stored[::2], stored[1::2], strict=True)) == [(f"Q {i}", f"A {i}") for i in range(6)]


def test_new_conversations_at_once_are_all_there(either: Client, model: Upstream) -> None:
    answers = at_once(*(lambda: either.chat("Hi", model="gpt-4?text=Hello!") for _ in range(8)))
    assert len({answer.conversation for answer in answers}) == 8
    assert len(either.conversations()) == 8


# -- who the user is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "fields", "owner"),
    [
        ({"x-user-id": "h"}, {}, "h"),
        ({"x-user-id": "h"}, {"user_id": "b"}, "b"),
        ({"x-user-id": "h"}, {"user": "u"}, "h"),
        ({"x-user-id": None}, {"user": "u"}, "u"),
        ({"x-user-id": None}, {"user": ""}, None),
        ({"x-user-id": None, "X-OpenWebUI-User-Id": "w"}, {}, "w"),
        ({"x-user-id": None, "X-OpenWebUI-User-Id": "w"}, {"user": "u"}, "w"),
        ({"x-user-id": "h", "X-OpenWebUI-User-Id": "w"}, {}, "h"),
        ({"x-user-id": "*"}, {}, "*"),
        ({"x-user-id": "José 🙂"}, {}, "José 🙂"),
    ],
)
def test_the_user_is_named_by_body_header_or_openais_field(
    client: Client, model: Upstream, headers: dict[str, Any], fields: dict[str, Any], owner: str | None
) -> None:
    answer = say(client, model, "A", "Q", headers=headers, **fields)
    assert client.get(f"/api/v1/conversations/{answer.conversation}")["owner_id"] == owner
    assert sent(model).json.get("user") == fields.get("user")
    assert "user_id" not in sent(model).json


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"x-user-id": ""}, {}),
        ({"x-user-id": ""}, {"user": "u"}),
        ({"x-user-id": "x" * 300}, {}),
        ({"x-user-id": None, "X-OpenWebUI-User-Id": ""}, {}),
        ({}, {"user_id": ""}),
        ({}, {"user_id": "  "}),
        ({}, {"user_id": 7}),
        ({}, {"user_id": "a\x00b"}),
        ({}, {"session_id": " "}),
        ({}, {"conversation_id": ["c"]}),
        ({}, {"memories_enabled": "yes"}),
        ({"x-memories-enabled": "perhaps"}, {}),
        ({"x-aforesaid-store": "perhaps"}, {}),
    ],
)
def test_a_user_who_is_nobody_in_particular_is_refused(
    client: Client, model: Upstream, headers: dict[str, Any], fields: dict[str, Any]
) -> None:
    before = len(model.chats)
    answer = client.chat("Q", headers=headers, **fields)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["error"]["param"]
    assert len(model.chats) == before
