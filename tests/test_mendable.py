"""The Mendable API through the running server: its documents' requests, its leniency, its refusals."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.chats import Client, upstream_environment
from tests.support.mendable import MILLISECONDS, Mendable
from tests.support.server import RunningServer, ServerFactory, clean_environment, command, server_factory
from tests.support.upstream import Script, Upstream

PREFIXES = ("/v1", "/v0", "")
POSTS = (
    "newConversation", "endConversation", "messages/byConversationId", "rateMessage", "mendableChat", "getMessagesData",
)  # fmt: skip
OPEN_TO_ANON = ("newConversation", "mendableChat", "rateMessage")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without a model server: the embedded answerer answers."""
    with server_factory(tmp_path_factory.mktemp("mendable")) as start:
        yield start()


@pytest.fixture(scope="module")
def other(running: RunningServer) -> Mendable:
    """A caller of another workspace on the same server."""
    return Mendable(running, new_key(running, "other"))


@pytest.fixture
def api(running: RunningServer) -> Mendable:
    return Mendable(running, running.api_key)


@pytest.fixture
def anon(running: RunningServer) -> Mendable:
    return Mendable(running, running.anon_key, field="anon_key")


@pytest.fixture
def mielto(running: RunningServer) -> Client:
    return Client(running)


def run(server: RunningServer, *arguments: str) -> Any:
    """What a command of the command line says as JSON, on the server's own data."""
    environment = clean_environment({name: v for name, v in server.environment.items() if "DATABASE_URL" in name})
    line = [*command(), *arguments, "--data", str(server.data), "--json"]
    return json.loads(subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout)


def new_key(server: RunningServer, workspace: str | None = None, *options: str) -> str:
    """A new key of the server; with ``workspace``, of a new workspace of that name."""
    if workspace is not None:
        run(server, "workspaces", "create", workspace)
        options = (*options, "--workspace", workspace)
    secret: str = run(server, "keys", "create", *options)["secret"]
    return secret


def is_line(raw: bytes) -> bool:
    """Whether it is one line of text that says something."""
    text = raw.decode()
    return bool(text.strip()) and "\n" not in text and not text.startswith(("{", "<"))


# -- the documents' own requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_documented_requests_work_as_printed(running: RunningServer, prefix: str) -> None:
    api = Mendable(running, running.api_key, prefix)
    key = running.api_key
    made = api.post("newConversation", f'{{\n        "api_key": "{key}",\n      }}')
    assert (made.status, made.headers["content-type"]) == (200, "application/json")
    assert list(made.json) == ["conversation_id"]
    number = made.json["conversation_id"]
    assert isinstance(number, int)
    assert 0 < number < 2**53

    assert (
        api.post("messages/byConversationId", f'{{\n    "api_key": "{key}",\n    "conversation_id": {number}\n}}').json
        == []
    )
    answer = api.ask("How do I create a new project?", number)
    said = api.messages(number)
    assert [set(row) for row in said] == [
        {"message_id", "conversation_id", "sender", "timestamp", "message", "rating_value"}
    ] * 2
    assert [row["sender"] for row in said] == ["Human", "AI"]
    assert [row["message"] for row in said] == ["How do I create a new project?", answer["answer"]["text"]]
    assert [row["rating_value"] for row in said] == [0, 0]
    assert {row["conversation_id"] for row in said} == {number}
    assert said[1]["message_id"] == answer["message_id"] != said[0]["message_id"]
    assert all(MILLISECONDS.fullmatch(row["timestamp"]) for row in said)
    assert said[0]["timestamp"] <= said[1]["timestamp"]

    printed = f'{{\n        "api_key": "{key}",\n        "conversation_id": {number},\n      }}'
    for _ in range(2):
        ended = api.post("endConversation", printed)
        assert (ended.status, ended.body) == (200, b"Conversation has ended.")
        assert ended.headers["content-type"].startswith("text/plain")


def test_a_whole_answer_has_the_documented_shape(api: Mendable) -> None:
    answer = api.ask("What is this?", api.begin())
    assert set(answer) == {"answer", "message_id", "sources", "tools_used"}
    assert answer["answer"]["text"]
    assert answer["sources"] == []
    assert isinstance(answer["message_id"], int)


def test_a_rating_is_confirmed_in_the_documented_words(api: Mendable) -> None:
    answer = api.ask("What is this?", number := api.begin())
    for value in (1, -1, 0, 1):
        rated = api.post("rateMessage", {"message_id": answer["message_id"], "rating_value": value})
        assert (rated.status, rated.body) == (200, b"Message rating updated")
        assert rated.headers["content-type"].startswith("text/plain")
        assert [row["rating_value"] for row in api.messages(number)] == [0, value]


# -- one store --------------------------------------------------------------------------------------------------------


def test_a_conversation_made_here_is_the_same_there(api: Mendable, mielto: Client) -> None:
    number = api.begin()
    answer = api.ask("Where is the kettle?", number, tracking={"roleInfo": "cook"}, url="https://x.example/a")
    api.post("rateMessage", {"message_id": answer["message_id"], "rating_value": -1})
    there = mielto.get(f"/api/v1/conversations/{number}")
    assert (there["status"], there["message_count"], there["ended_at"]) == ("active", 2, None)
    question, said = mielto.messages(there["id"])
    assert (question["role"], question["content"]) == ("user", "Where is the kettle?")
    assert question["meta_data"] == {"tracking": {"roleInfo": "cook"}, "url": "https://x.example/a"}
    assert (said["role"], said["content"], said["rating"]) == ("assistant", answer["answer"]["text"], -1)
    here = api.messages(number)
    assert [m["created_at"][:23] for m in (question, said)] == [row["timestamp"] for row in here]
    assert there["id"] in [row["id"] for row in mielto.get("/api/v1/conversations?limit=1000")["data"]]
    api.post("endConversation", {"conversation_id": number})
    ended = mielto.get(f"/api/v1/conversations/{there['id']}")
    assert ended["status"] == "ended"
    assert ended["ended_at"]
    api.post("endConversation", {"conversation_id": number})
    assert mielto.get(f"/api/v1/conversations/{number}")["ended_at"] == ended["ended_at"]


def test_a_conversation_made_there_is_the_same_here(api: Mendable, mielto: Client) -> None:
    rows = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello", "created_at": "2024-01-19T23:22:58.223999Z"},
        {"role": "assistant", "content": "Hi", "created_at": "2024-01-19T23:23:02.092Z"},
        {"role": "tool", "content": "{}"},
    ]
    made = mielto.request("POST", "/api/v1/conversations", {"user_id": "ada", "messages": rows}).json
    said = api.messages(made["id"])
    assert [(row["sender"], row["message"], row["timestamp"]) for row in said] == [
        ("Human", "Hello", "2024-01-19T23:22:58.223"),
        ("AI", "Hi", "2024-01-19T23:23:02.092"),
    ]
    number = said[0]["conversation_id"]
    assert api.messages(number) == api.messages(str(number)) == said
    rated = api.post("rateMessage", {"message_id": str(said[1]["message_id"]), "rating_value": 1})
    assert rated.status == 200
    assert [m["rating"] for m in mielto.messages(made["id"])] == [0, 0, 1, 0]
    ended = mielto.request("PATCH", f"/api/v1/conversations/{made['id']}", {"status": "ended"})
    assert ended.status == 200
    assert api.post("endConversation", {"conversation_id": number}).body == b"Conversation has ended."


def test_an_ended_conversation_still_takes_questions(api: Mendable) -> None:
    number = api.begin()
    api.post("endConversation", {"conversation_id": number})
    api.ask("Still there?", number)
    assert api.messages(number)[0]["message"] == "Still there?"


def test_a_long_conversation_comes_whole_and_in_order(api: Mendable, mielto: Client) -> None:
    rows = [{"role": "assistant" if i % 2 else "user", "content": f"line {i}"} for i in range(2_345)]
    made = mielto.request("POST", "/api/v1/conversations", {"messages": rows}).json
    assert [row["message"] for row in api.messages(made["id"])] == [row["content"] for row in rows]


def test_a_user_is_remembered_in_conversations_of_theirs_only(api: Mendable, anon: Mendable, mielto: Client) -> None:
    mielto.bring("My parrot is called Captain Flint.", owner="long john")
    asked = "What is my parrot called?"
    assert "Flint" in api.ask(asked, api.begin(user_id="long john"))["answer"]["text"]
    assert "Flint" in anon.ask(asked, api.begin(user_id="long john"))["answer"]["text"]
    assert "Flint" not in api.ask(asked, api.begin(user_id="somebody else"))["answer"]["text"]
    assert "Flint" not in api.ask(asked, api.begin())["answer"]["text"]
    assert "Flint" not in api.ask(asked)["answer"]["text"]


def test_the_caller_keeps_the_history(api: Mendable) -> None:
    number = api.begin()
    api.ask("The gate code is 4711.", number)
    assert "4711" not in api.ask("What is the gate code?", number)["answer"]["text"]
    history = [{"prompt": "The gate code is 4711.", "response": "Noted.", "sources": [], "conversation_id": number}]
    assert "4711" in api.ask("What is the gate code?", number, history=history)["answer"]["text"]
    human = [row["message"] for row in api.messages(number) if row["sender"] == "Human"]
    assert human == ["The gate code is 4711.", "What is the gate code?", "What is the gate code?"]


def test_what_the_caller_adds_can_be_answered_from(api: Mendable) -> None:
    told = "Context: The pro plan costs 20 euros a month."
    assert "20 euros" in api.ask("What does the pro plan cost?", additional_context=told)["answer"]["text"]


# -- leniency ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", [str, int, lambda number: f" {number} "])
def test_ids_come_as_numbers_and_as_text(api: Mendable, spelled: Callable[[int], int | str]) -> None:
    number = api.begin()
    api.ask("Hello there", spelled(number))
    assert len(api.messages(spelled(number))) == 2
    assert api.post("endConversation", {"conversation_id": spelled(number)}).status == 200


@pytest.mark.parametrize(
    "conversation", [None, "", "abc", "54321", 12345, 0, -1, 10**30, "1e3", "conv_01J9ZK3V5QW8XN2M4R6T7Y0ABC", "٣"]
)
def test_a_question_without_a_known_conversation_begins_one(
    api: Mendable, mielto: Client, conversation: int | str | None
) -> None:
    question = f"Did {str(conversation).encode().hex()} begin one?"
    answer = api.ask(question, conversation)
    found = mielto.get(f"/api/v1/messages?role=user&search={quote(question)}")["data"]
    assert len(found) == 1
    said = mielto.messages(found[0]["conversation_id"])
    assert [m["role"] for m in said] == ["user", "assistant"]
    assert said[1]["content"] == answer["answer"]["text"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"history": None},
        {"history": [{}]},
        {"history": [{"prompt": "", "response": "Hello! How can I help?"}]},
        {"history": [{"prompt": None, "response": None, "sources": None}]},
        {"history": [{"prompt": "only asked", "response": ""}]},
        {"company": "x", "messages": [], "retriever_options": {"num_chunks": 4}, "where": {}, "unknown": {"a": [1]}},
        {"retriever_option": {"num_chunks": 4}, "relevance_threshold": 0.5, "temperature": 0},
        {"timezone": "Europe/Berlin", "component_version": "0.0.206", "metadata": {}, "url": ""},
        {"additional_context": None, "temperature": None, "tracking": None, "conversation_id": None},
    ],
)
def test_fields_may_be_missing_null_or_more(api: Mendable, fields: dict[str, Any]) -> None:
    answer = api.post("mendableChat", {"question": "Anything?", "shouldStream": False, **fields})
    assert answer.status == 200, answer.body
    assert answer.json["message_id"]


@pytest.mark.parametrize("stream", [None, True])
def test_answers_are_streamed_unless_told_otherwise(api: Mendable, stream: bool | None) -> None:
    for headers in ({"Accept": "application/json"}, {"Accept": "text/event-stream"}, {}):
        answer = api.post("mendableChat", {"question": "Streamed?", "shouldStream": stream}, headers)
        assert answer.headers["content-type"] == "text/event-stream"
        whole = api.post("mendableChat", {"question": "Streamed?", "shouldStream": False}, headers)
        assert whole.headers["content-type"] == "application/json"


def test_any_content_type_will_do(api: Mendable) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert api.post("newConversation", {}, {"Content-Type": kind}).status == 200


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["api_key", "anon_key", "bearer", "x-api-key"])
def test_a_key_counts_wherever_it_stands(running: RunningServer, place: str) -> None:
    key = running.api_key
    bare = Mendable(running, None)
    body, headers = ({place: key}, {}) if place.endswith("_key") else ({}, {"Authorization": f"Bearer {key}"})
    if place == "x-api-key":
        headers = {"x-api-key": key}
    assert bare.post("getMessagesData", {**body, "rating_value": -1}, headers).status == 200


def test_the_key_of_the_body_goes_before_those_of_headers(running: RunningServer) -> None:
    bare = Mendable(running, None)
    good, bad = running.api_key, "no key at all"
    headers = {"Authorization": f"Bearer {bad}", "x-api-key": bad}
    assert bare.post("newConversation", {"api_key": good, "anon_key": bad}, headers).status == 200
    assert bare.post("newConversation", {"api_key": bad}, {"Authorization": f"Bearer {good}"}).status == 400
    assert bare.post("newConversation", {"api_key": ""}, {"Authorization": f"Bearer {good}"}).status == 200


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("key", [None, "", "wrong", "00000000-0000-4000-8000-000000000000"])
def test_no_key_and_a_wrong_key_are_a_400_in_plain_text(running: RunningServer, path: str, key: str | None) -> None:
    body = {"question": "x", "conversation_id": 1, "message_id": 1, "rating_value": 1}
    for prefix in PREFIXES:
        answer = Mendable(running, key, prefix).post(path, body)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (400, "text/plain"), answer.body
        assert is_line(answer.body)
        assert "key" in answer.body.decode()


@pytest.mark.parametrize("path", POSTS)
def test_anon_keys_open_what_browsers_need(anon: Mendable, api: Mendable, path: str) -> None:
    message = api.ask("Hello?")["message_id"]
    body = {"question": "x", "conversation_id": api.begin(), "message_id": message, "rating_value": 1}
    answer = anon.post(path, body)
    assert answer.status == (200 if path in OPEN_TO_ANON else 403), answer.body
    if answer.status == 403:
        assert answer.headers["content-type"].startswith("text/plain")
        assert is_line(answer.body)


def test_an_anon_key_can_not_choose_whose_memory_is_used(anon: Mendable) -> None:
    assert anon.post("newConversation", {"user_id": "long john"}).status == 403


def test_a_key_that_only_reads_writes_nothing_here(running: RunningServer, api: Mendable) -> None:
    reader = Mendable(running, new_key(running, None, "--read-only"))
    number = api.begin()
    message = api.ask("Hello?", number)["message_id"]
    body = {"question": "x", "conversation_id": number, "message_id": message, "rating_value": 1}
    statuses = {path: reader.post(path, body).status for path in POSTS}
    reading = ("messages/byConversationId", "getMessagesData")
    assert statuses == {path: 200 if path in reading else 403 for path in POSTS}
    assert [row["rating_value"] for row in api.messages(number)] == [0, 0]


def test_an_anon_key_works_on_its_own_pages_only(running: RunningServer) -> None:
    page = "https://docs.example.com"
    key = new_key(running, None, "--anon", "--origin", page)
    anon = Mendable(running, key, field="anon_key")
    assert anon.post("newConversation", {}, {"Origin": page}).status == 200
    assert anon.post("newConversation", {}, {"Referer": f"{page}/guide/start?x=1"}).status == 200
    for headers in ({"Origin": "https://evil.example.com"}, {}, {"Referer": "https://evil.example.com/" + page}):
        refused = anon.post("newConversation", {}, headers)
        assert (refused.status, is_line(refused.body)) == (403, True)
    assert anon.post("newConversation", {}, {"Origin": "https://evil.example.com", "Referer": page}).status == 403


# -- other workspaces -------------------------------------------------------------------------------------------------


def test_another_workspace_sees_and_changes_nothing(api: Mendable, other: Mendable, mielto: Client) -> None:
    number = api.begin()
    answer = api.ask("The secret word is xyzzy.", number)
    before = api.messages(number)
    foreign = other.post("messages/byConversationId", {"conversation_id": number})
    unknown = other.post("messages/byConversationId", {"conversation_id": 987654321})
    assert (foreign.status, foreign.body) == (unknown.status, unknown.body) == (404, b"Conversation not found")
    ended = other.post("endConversation", {"conversation_id": number})
    assert (ended.status, ended.body) == (404, b"Conversation not found")
    rated = other.post("rateMessage", {"message_id": answer["message_id"], "rating_value": -1})
    missing = other.post("rateMessage", {"message_id": 987654321, "rating_value": -1})
    assert (rated.status, rated.body) == (missing.status, missing.body) == (404, b"Message not found")
    asked = other.ask("What is the secret word?", number)
    assert "xyzzy" not in asked["answer"]["text"]
    assert api.messages(number) == before
    assert mielto.get(f"/api/v1/conversations/{number}")["status"] == "active"
    exported = other.post("getMessagesData").json
    assert [row["human_query"] for row in exported] == ["What is the secret word?"]
    assert exported[0]["conversation_id"] != number
    ours = api.post("getMessagesData").json
    assert not {row["message_id"] for row in ours} & {row["message_id"] for row in exported}
    assert {row["project_id"] for row in ours} != {row["project_id"] for row in exported}


# -- export -----------------------------------------------------------------------------------------------------------


def test_the_export_has_a_row_for_each_turn(server: ServerFactory, database_url: str) -> None:
    running = server(database_url=database_url if database_url.startswith("postgres") else None)
    api, mielto = Mendable(running, running.api_key), Client(running)
    rows: list[dict[str, Any]] = []
    for day in (20, 21, 22):
        rows += [
            {"role": "user", "content": f"Question {day}", "created_at": f"2023-09-{day}T23:59:59.998Z"},
            {"role": "assistant", "content": f"Answer {day}", "created_at": f"2023-09-{day}T23:59:59.999999Z"},
        ]
    rows += [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}], "created_at": "2023-09-21T00:00:00Z"}]
    made = mielto.request("POST", "/api/v1/conversations", {"messages": rows}).json
    greeted = [{"role": "assistant", "content": "Welcome", "created_at": "2023-09-01T00:00:00Z"}]
    mielto.request("POST", "/api/v1/conversations", {"messages": greeted})
    for row, value in zip(api.messages(made["id"])[1::2], (1, -1, 0), strict=False):
        api.post("rateMessage", {"message_id": row["message_id"], "rating_value": value})

    def export(**fields: Any) -> list[Any]:
        answer = api.post("getMessagesData", fields)
        assert answer.status == 200, answer.body
        found: list[Any] = answer.json
        return found

    def said(**fields: Any) -> list[str]:
        return [row["ai_response"] for row in export(**fields)]

    everything = export()
    assert [(row["human_query"], row["ai_response"]) for row in everything] == [
        ("", "Welcome"),
        ("Question 20", "Answer 20"),
        ("Question 21", "Answer 21"),
        ("Question 22", "Answer 22"),
    ]
    keys = ["project_id", "message_id", "conversation_id", "timestamp", "human_query", "ai_response"]
    assert list(everything[1]) == keys
    assert everything[1]["timestamp"] == "2023-09-20T23:59:59.999"
    assert all(isinstance(everything[1][name], int) for name in keys[:3])
    assert everything[1]["message_id"] == api.messages(made["id"])[1]["message_id"]
    assert said(rating_value=1) == ["Answer 20"]
    assert said(rating_value=-1) == ["Answer 21"]
    assert said(rating_value=0) == ["Welcome", "Answer 22"]
    assert said(start_date="2023-09-21") == ["Answer 21", "Answer 22"]
    assert said(end_date="2023-09-21") == ["Welcome", "Answer 20", "Answer 21"]
    assert said(start_date="2023-09-21", end_date="2023-09-21") == ["Answer 21"]
    assert said(start_date="2023-09-22", end_date="2023-09-21") == []
    assert said(start_date="2023-09-20", end_date="2023-09-22", rating_value=-1) == ["Answer 21"]
    many = [{"role": "user" if i % 2 == 0 else "assistant", "content": f"{i}"} for i in range(1_300)]
    mielto.request("POST", "/api/v1/conversations", {"messages": many})
    everything = export(start_date="2024-01-01")
    assert [(row["human_query"], row["ai_response"]) for row in everything] == [
        (str(i), str(i + 1)) for i in range(0, 1_300, 2)
    ]


# -- the widget's call without a key ----------------------------------------------------------------------------------


def test_ending_without_a_key_is_off_until_it_is_set(running: RunningServer, api: Mendable, mielto: Client) -> None:
    number = api.begin()
    refused = Mendable(running, None, "").post(f"endConversation/{number}", "", method="PATCH")
    assert (refused.status, is_line(refused.body)) == (403, True)
    assert mielto.get(f"/api/v1/conversations/{number}")["status"] == "active"


def test_ending_without_a_key_tells_nothing(server: ServerFactory) -> None:
    running = server(env={"AFORESAID_LEGACY_UNAUTHENTICATED": "true"})
    api, mielto = Mendable(running, running.api_key), Client(running)
    number = api.begin()
    for path in (f"{number}", "12345", "nonsense", "0", f"{number}"):
        ended = Mendable(running, None, "").post(f"endConversation/{path}", "", method="PATCH")
        assert (ended.status, ended.body) == (200, b"Conversation has ended.")
    assert mielto.get(f"/api/v1/conversations/{number}")["status"] == "ended"


# -- bad input --------------------------------------------------------------------------------------------------------

DEEP = 100_000
BAD_RATINGS: tuple[Any, ...] = (2, -2, "1", 0.5, None, True, 10**30)
BAD_QUESTIONS: tuple[Any, ...] = ("", "  \n", None, 5, [], "nul \x00")
BAD_DAYS: tuple[Any, ...] = ("", "yesterday", "2025-13-01", 20250101, "20250101")
BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "blank": b"  \n ",
    "no JSON": b"hello",
    "cut": b'{"api_key": "',
    "two commas": b'{"api_key": "x",,}',
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "NaN": b'{"api_key": NaN}',
    "not UTF-8": b'{"api_key": "\xff"}',
    "a lone surrogate": rb'{"api_key": "\ud800"}',
    "deep": b'{"x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep and cut": b'{"x": ' + b"[" * DEEP,
    "many keys": b"{" + b",".join(b'"k%d": 1' % i for i in range(200_000)) + b"}",
    "a key twice": b'{"api_key": "x", "api_key": "y"}',
    "a key that is no text": b'{"api_key": 12}',
    "quotation marks that never end": b'{"api_key": "' + b'\\"' * 200_000,
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_is_none_is_a_400_in_plain_text(running: RunningServer, path: str, name: str) -> None:
    answer = Mendable(running, None).post(path, BAD_BODIES[name])
    assert answer.status == 400, answer.body[:300]
    assert answer.headers["content-type"].startswith("text/plain")
    assert is_line(answer.body)


BAD_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("endConversation", {}),
    ("endConversation", {"conversation_id": None}),
    ("endConversation", {"conversation_id": [1]}),
    ("endConversation", {"conversation_id": True}),
    ("endConversation", {"conversation_id": 1.5}),
    ("messages/byConversationId", {}),
    ("messages/byConversationId", {"conversation_id": {"id": 1}}),
    ("rateMessage", {}),
    ("rateMessage", {"message_id": 1}),
    ("rateMessage", {"rating_value": 1}),
    *(("rateMessage", {"message_id": 1, "rating_value": value}) for value in BAD_RATINGS),
    ("mendableChat", {}),
    *(("mendableChat", {"question": value}) for value in BAD_QUESTIONS),
    ("mendableChat", {"question": "x", "history": "x"}),
    ("mendableChat", {"question": "x", "history": ["x"]}),
    ("mendableChat", {"question": "x", "history": [{"prompt": 1}]}),
    ("mendableChat", {"question": "x", "history": [{}] * 5_000}),
    ("mendableChat", {"question": "x", "conversation_id": [1]}),
    ("mendableChat", {"question": "x", "temperature": "hot"}),
    ("mendableChat", {"question": "x", "temperature": 3}),
    ("mendableChat", {"question": "x", "shouldStream": "no"}),
    ("mendableChat", {"question": "x", "additional_context": {}}),
    ("mendableChat", {"question": "x", "metadata": "m" * 70_000}),
    ("mendableChat", {"question": "x", "tracking": {"nul": "\x00"}}),
    ("mendableChat", {"question": "x" * 1_100_000}),
    *(("getMessagesData", {"start_date": value}) for value in BAD_DAYS),
    ("getMessagesData", {"end_date": "2025-02-30"}),
    ("getMessagesData", {"rating_value": 5}),
    ("newConversation", {"user_id": " "}),
    ("newConversation", {"user_id": "u" * 300}),
]


@pytest.mark.parametrize(("path", "fields"), BAD_FIELDS)
def test_a_wrong_field_is_a_400_in_plain_text(api: Mendable, path: str, fields: dict[str, Any]) -> None:
    answer = api.post(path, fields)
    assert answer.status == 400, answer.body[:300]
    assert answer.headers["content-type"].startswith("text/plain")
    assert is_line(answer.body)


@pytest.mark.parametrize("reference", [0, -1, 10**30, 123, "123", "abc", "", "conv_", "٣", "1 2"])
@pytest.mark.parametrize("path", ["endConversation", "messages/byConversationId", "rateMessage"])
def test_what_is_not_there_is_a_404_in_plain_text(api: Mendable, path: str, reference: int | str) -> None:
    body = {"conversation_id": reference, "message_id": reference, "rating_value": 1}
    answer = api.post(path, body)
    assert (answer.status, is_line(answer.body)) == (404, True)


def test_a_refused_question_stores_nothing(api: Mendable, mielto: Client) -> None:
    number = api.begin()
    for path, fields in BAD_FIELDS:
        if path == "mendableChat" and "conversation_id" not in fields:
            assert api.post(path, {**fields, "conversation_id": number}).status == 400
    assert mielto.get(f"/api/v1/conversations/{number}")["message_count"] == 0


def test_a_body_beyond_the_limit_is_a_413(api: Mendable) -> None:
    answer = api.post("newConversation", b'{"api_key": "' + b"x" * (10 << 20) + b'"}')
    assert (answer.status, is_line(answer.body)) == (413, True)


def test_unknown_addresses_and_methods_answer_in_plain_text(running: RunningServer) -> None:
    for prefix, path in (("/v1", "nothing"), ("/v0", "mendable"), ("/v1", "newConversation/x"), ("", "messages/x")):
        answer = Mendable(running, running.api_key, prefix).post(path)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (404, "text/plain")
    for prefix in PREFIXES:
        answer = Mendable(running, running.api_key, prefix).post("newConversation", method="GET")
        assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
        assert is_line(answer.body)


def test_browsers_may_call_from_other_pages(api: Mendable) -> None:
    asked = {
        "Origin": "https://docs.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,last-event-id,cache-control",
    }
    for path, method in (("newConversation", "POST"), ("endConversation/1", "PATCH"), ("mendableChat", "POST")):
        preflight = api.post(path, b"", {**asked, "Access-Control-Request-Method": method}, "OPTIONS")
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert method in preflight.headers["access-control-allow-methods"]
        assert "last-event-id" in preflight.headers["access-control-allow-headers"]
    for body in ({"question": "x"}, {"question": "x", "shouldStream": False}, {}):
        answer = api.post("mendableChat", body, {"Origin": asked["Origin"]})
        assert answer.headers["access-control-allow-origin"] == "*"


# -- what the model server gets ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def modelled(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mendable]:
    """A caller of a server that a scripted model server answers for."""
    with server_factory(tmp_path_factory.mktemp("modelled")) as start:
        running = start(env=upstream_environment(model))
        yield Mendable(running, running.api_key)


def test_the_model_server_gets_the_history_as_turns(modelled: Mendable, model: Upstream) -> None:
    history = [
        {"prompt": "", "response": "Welcome."},
        {"prompt": "First?", "response": "One."},
        {"prompt": "Second?", "response": "Two."},
    ]
    answer = modelled.ask("Third?", history=history, additional_context="Be brief.", temperature=0.25)
    sent = model.chats[-1].json
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Welcome."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Third?"},
    ]
    assert (sent["temperature"], sent["model"], sent["stream"]) == (0.25, model.models[0], False)
    assert answer["answer"]["text"] == Script().text
    modelled.ask("Plain?")
    assert set(model.chats[-1].json) == {"model", "messages", "stream"}
    assert model.chats[-1].json["messages"] == [{"role": "user", "content": "Plain?"}]


@pytest.mark.parametrize(
    ("status", "expected"), [(400, 500), (401, 500), (403, 500), (404, 500), (429, 429), (500, 500), (503, 500)]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_of_the_model_server_comes_before_the_stream(
    modelled: Mendable, model: Upstream, status: int, expected: int, stream: bool
) -> None:
    model.queue(Script(status=status, text="no\nway", headers={"retry-after": "7"}))
    answer = modelled.post("mendableChat", {"question": "x", "shouldStream": stream})
    assert answer.status == expected, answer.body
    assert answer.headers["content-type"].startswith("text/plain")
    assert is_line(answer.body)
    if status == 429:
        assert answer.headers["retry-after"] == "7"
    wait_for_the_breaker(modelled)


def wait_for_the_breaker(modelled: Mendable) -> None:
    """The model server is asked again after it failed."""
    deadline = time.monotonic() + 60
    while modelled.post("mendableChat", {"question": "again?", "shouldStream": False}).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_empty_answer_is_an_error(modelled: Mendable, model: Upstream) -> None:
    model.queue(Script(text=""))
    answer = modelled.post("mendableChat", {"question": "x", "shouldStream": False})
    assert (answer.status, is_line(answer.body)) == (500, True)


def test_the_model_can_be_chosen_by_a_setting(server: ServerFactory, model: Upstream) -> None:
    for settings, expected in (
        ({"AFORESAID_DEFAULT_MODEL": "chosen"}, "chosen"),
        ({"AFORESAID_UPSTREAM_OPENAI_MODELS": "glob-*,named"}, "named"),
        ({"AFORESAID_UPSTREAM_OPENAI_MODELS": "named", "AFORESAID_DEFAULT_MODEL": "chosen"}, "chosen"),
    ):
        running = server(env=upstream_environment(model, **settings))
        Mendable(running, running.api_key).ask("Who are you?")
        assert model.chats[-1].json["model"] == expected


def test_a_model_server_without_models_is_told_of(server: ServerFactory) -> None:
    with Upstream() as bare:
        bare.models = []
        running = server(env=upstream_environment(bare))
        answer = Mendable(running, running.api_key).post("mendableChat", {"question": "x"})
        assert answer.status == 500
        assert b"default_model" in answer.body


def test_turns_survive_a_restart(server: ServerFactory, tmp_path: Path) -> None:
    first = server(data=tmp_path / "kept")
    number = (api := Mendable(first, first.api_key)).begin()
    api.ask("Is this kept?", number)
    before = api.messages(number)
    first.kill()
    second = server(data=tmp_path / "kept", api_key=first.api_key)
    assert Mendable(second, first.api_key).messages(number) == before
