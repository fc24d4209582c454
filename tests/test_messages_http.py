"""Messages over HTTP, two worker processes, both engines: what a client sends, and what becomes of it."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aforesaid import limits
from tests.support.served import ENGINES, served
from tests.support.server import RunningServer
from tests.support.web import Answer, Web, wait_indexed

MESSAGES = "/api/v1/messages"
pytestmark = pytest.mark.xdist_group("messages")  # one worker starts the servers, once
CREATED, DUPLICATES, NOTES = "x-aforesaid-created", "x-aforesaid-duplicates", "x-aforesaid-notes"

QUICKSTART = [
    {"role": "user", "created_at": "2025-06-10T10:28:06.658Z", "sender_id": "326166736", "content": "message"},
    {"role": "assistant", "created_at": "2025-06-10T10:28:11.64Z", "sender_id": "326166736", "content": "message body"},
]


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers on one store."""
    if request.param == "postgresql":
        request.node.add_marker(pytest.mark.postgresql)
    with served(request, request.param, tmp_path_factory.mktemp("messages"), "--workers", "2") as running:
        yield running


@pytest.fixture
def web(server: RunningServer) -> Iterator[Web]:
    client = Web(server.base_url, server.api_key)
    yield client
    client.close()


@pytest.fixture
def home(web: Web) -> str:
    made: str = web.ok("POST", "/api/v1/conversations", {"user_id": "your-user-id", "title": "Onboarding"})["id"]
    return made


def stored(web: Web, home: str) -> list[dict[str, Any]]:
    page = web.ok("GET", f"/api/v1/conversations/{home}/messages", query={"limit": 1000})
    assert page["data"] == page["messages"]
    found: list[dict[str, Any]] = page["data"]
    return found


def counts(answer: Answer) -> tuple[int, int]:
    return int(answer.headers[CREATED]), int(answer.headers[DUPLICATES])


def test_the_quickstart_posted_twice_stores_two_messages(web: Web, home: str) -> None:
    body = {"conversation_id": home, "content": QUICKSTART, "enable_memories": True}
    first = web("POST", MESSAGES, body)
    assert (first.status, counts(first)) == (201, (2, 0))
    second = web("POST", MESSAGES, body)
    assert (second.status, counts(second)) == (201, (0, 2))
    assert second.json == first.json
    found = stored(web, home)
    assert found == first.json
    assert [m["created_at"] for m in found] == ["2025-06-10T10:28:06.658000Z", "2025-06-10T10:28:11.640000Z"]
    # The example's one sender has two roles: accepted and told.
    assert json.loads(first.headers[NOTES]) == [
        {"row": 1, "sender_id": "326166736", "role": "assistant", "known_role": "user"}
    ]
    assert NOTES not in second.headers
    shown = web.ok("GET", f"/api/v1/conversations/{home}")
    assert shown["message_count"] == 2
    assert shown["participants"] == [{"sender_id": "326166736", "roles": ["user", "assistant"]}]
    state = wait_indexed(web, "your-user-id")
    assert state["parked"] == 1
    assert state["kinds"]["extract_memories"] == {"parked": 1}


def test_every_form_of_the_body_is_taken(web: Web, home: str) -> None:
    one = {"content": "Hello, how are you?", "role": "user", "message_type": "text"}
    forms: list[Any] = [
        {"conversation_id": home, "content": one, "enable_memories": False},
        {"conversation_id": home, "content": [one, {**one, "role": "assistant"}]},
        {"conversation_id": home, **one},
        {**one, "conversation_id": home, "sender_id": "s", "created_at": 1749551286, "tags": ["a"]},
        [{**one, "conversation_id": home}],
        {"content": [{**one, "conversation_id": home}]},
        {"content": {**one, "conversation_id": home}},
        {"content": "", "conversation_id": home},
    ]
    total = 0
    for form in forms:
        answer = web("POST", MESSAGES, form)
        assert answer.status == 201, (form, answer.body)
        assert isinstance(answer.json, list)
        total += len(answer.json)
        assert counts(answer) == (len(answer.json), 0)
    assert len(stored(web, home)) == total == 9
    one_more = web.ok("POST", f"/api/v1/conversations/{home}/messages", one)
    assert one_more["content"] == "Hello, how are you?"


def test_the_answer_keeps_length_and_order(web: Web, home: str) -> None:
    rows = [{"content": f"m{i % 4}", "created_at": 1749551286 + i % 4} for i in range(11)]
    answer = web("POST", MESSAGES, {"conversation_id": home, "content": rows})
    assert counts(answer) == (4, 7)
    assert [m["content"] for m in answer.json] == [row["content"] for row in rows]
    assert len({m["id"] for m in answer.json}) == 4


def test_a_batch_over_conversations_is_all_or_nothing(web: Web, home: str) -> None:
    other = web.ok("POST", "/api/v1/conversations", {"user_id": "u"})["id"]
    rows = [{"content": "a", "conversation_id": home}, {"content": "b", "conversation_id": other}]
    missing = web("POST", MESSAGES, [*rows, {"content": "c", "conversation_id": "conv_01HZZZZZZZZZZZZZZZZZZZZZZZ"}])
    assert missing.status == 404
    bad = web("POST", MESSAGES, [*rows, {"content": "a\u0000", "conversation_id": home}])
    assert bad.status == 422
    assert bad.json["detail"][0]["loc"] == ["body", 2, "content"]
    assert web("POST", MESSAGES, [*rows, {"content": "no home"}]).status == 422
    assert stored(web, home) == stored(web, other) == []
    answer = web("POST", MESSAGES, [*rows, *rows])
    assert (answer.status, counts(answer)) == (201, (4, 0))
    assert [m["conversation_id"] for m in answer.json] == [home, other, home, other]


@pytest.mark.parametrize(
    "body",
    [
        {"content": "x"},
        {"conversation_id": "", "content": "x"},
        {"conversation_id": None, "content": "x"},
        {"conversation_id": "HOME", "content": []},
        [],
        {"conversation_id": "HOME"},
        {"conversation_id": "HOME", "content": None},
        {"conversation_id": "HOME", "content": 5},
        {"conversation_id": "HOME", "content": [{"role": "user"}]},
        {"conversation_id": "HOME", "content": [None]},
        {"conversation_id": "HOME", "content": ["x"]},
        {"conversation_id": "HOME", "content": {"content": "x", "created_at": "yesterday"}},
        {"conversation_id": "HOME", "content": {"content": "x", "created_at": -1}},
        {"conversation_id": "HOME", "content": {"content": "x", "created_at": 1e300}},
        {"conversation_id": "HOME", "content": {"content": "x", "sender_id": " "}},
        {"conversation_id": "HOME", "content": {"content": "x", "tags": "a"}},
        {"conversation_id": "HOME", "content": "x", "sender_policy": "lenient"},
        {"conversation_id": "HOME", "content": {"content": "x", "meta_data": ["no object"]}},
    ],
)
def test_what_is_not_understood_is_refused_and_stores_nothing(web: Web, home: str, body: Any) -> None:
    sent = json.loads(json.dumps(body).replace("HOME", home))
    answer = web("POST", MESSAGES, sent)
    assert answer.status in (404, 422), answer.body
    if answer.status == 422:
        assert answer.json["detail"][0]["loc"][0] == "body"
    assert stored(web, home) == []


def test_limits_are_met_and_not_crossed(web: Web, home: str) -> None:
    full = "é" * (limits.MESSAGE_BYTES // 2)
    good = web("POST", MESSAGES, {"conversation_id": home, "content": {"content": full, "created_at": 1}})
    assert good.status == 201
    assert good.json[0]["content"] == full
    over = web("POST", MESSAGES, {"conversation_id": home, "content": {"content": full + "x"}})
    assert over.status == 422
    assert over.json["detail"][0]["loc"] == ["body", "content", "content"]
    room = limits.METADATA_BYTES - len('{"a":""}')
    for extra, status in ((0, 201), (1, 422)):
        meta = {"a": "x" * (room + extra)}
        row = {"content": "m", "created_at": 2, "meta_data": meta}
        assert web("POST", MESSAGES, {"conversation_id": home, "content": row}).status == status
    rows = [{"content": f"m{i}", "created_at": 1749551286 + i} for i in range(limits.REQUEST_MESSAGES + 1)]
    assert web("POST", MESSAGES, {"conversation_id": home, "content": rows}).status == 422
    most = web("POST", MESSAGES, {"conversation_id": home, "content": rows[:-1]})
    assert (most.status, counts(most)) == (201, (limits.REQUEST_MESSAGES, 0))
    again = web("POST", MESSAGES, {"conversation_id": home, "content": rows[:-1]})
    assert counts(again) == (0, limits.REQUEST_MESSAGES)
    shown = web.ok("GET", f"/api/v1/conversations/{home}")
    assert shown["message_count"] == limits.REQUEST_MESSAGES + 2


def test_eight_clients_of_two_workers_store_one_batch_once(server: RunningServer, web: Web, home: str) -> None:
    rows = [
        {"content": f"m{i % 3}", "id": f"x{i}"} if i % 2 else {"content": f"m{i % 3}", "created_at": 1749551286 + i}
        for i in range(60)
    ]
    created: list[int] = []
    errors: list[object] = []

    def client(k: int) -> None:
        mine = Web(server.base_url, server.api_key)
        try:
            for start in range(0, len(rows), 6 + k):
                part = rows[start : start + 6 + k]
                answer = mine("POST", MESSAGES, {"conversation_id": home, "content": part})
                assert answer.status == 201, answer.body
                assert [m["content"] for m in answer.json] == [row["content"] for row in part]
                created.append(int(answer.headers[CREATED]))
        except BaseException as error:  # noqa: BLE001 - a thread's failure is shown by the test
            errors.append(error)
        finally:
            mine.close()

    threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(created) == len(rows)
    found = stored(web, home)
    assert len(found) == len(rows) == len({m["id"] for m in found})
    assert web.ok("GET", f"/api/v1/conversations/{home}")["message_count"] == len(rows)


def test_the_notes_stay_short_enough_for_every_client(web: Web, home: str) -> None:
    rows = []
    for i in range(40):
        sender = f"{i}" + "😀" * 250
        rows += [{"content": "q", "sender_id": sender}, {"content": "a", "role": "assistant", "sender_id": sender}]
    answer = web("POST", MESSAGES, {"conversation_id": home, "content": rows})
    assert answer.status == 201
    assert len(answer.headers[NOTES]) <= 4096
    assert json.loads(answer.headers[NOTES])[0]["sender_id"] == "0" + "😀" * 250


def test_strict_senders_are_refused_with_their_rows(web: Web, home: str) -> None:
    body = {"conversation_id": home, "content": QUICKSTART, "sender_policy": "strict"}
    refused = web("POST", MESSAGES, body)
    assert refused.status == 422
    assert refused.json["detail"][0]["loc"] == ["body", "content", 1, "sender_id"]
    assert "row 1" in refused.json["detail"][0]["msg"]
    assert stored(web, home) == []
    web.ok("PATCH", f"/api/v1/conversations/{home}", {"settings": {"sender_policy": "strict"}})
    assert web("POST", MESSAGES, {"conversation_id": home, "content": QUICKSTART}).status == 422
    assert web("POST", MESSAGES, {**body, "sender_policy": "report"}).status == 201


def test_the_life_of_one_message(web: Web, home: str) -> None:
    (made,) = web.ok("POST", MESSAGES, {"conversation_id": home, "content": {"content": "zebra", "id": "mine"}})
    assert made["external_id"] == "mine"
    path = f"{MESSAGES}/{made['id']}"
    assert web.ok("GET", path) == made
    wait_indexed(web)
    status = web.ok("GET", f"{path}/status")
    assert (status["stored"], status["searchable"], status["jobs"]) == (True, True, {})
    changed = web.ok("PUT", path, {"content": "lion", "tags": ["t"], "sent_at": "2025-01-01"})
    assert (changed["content"], changed["tags"], changed["external_id"]) == ("lion", ["t"], "mine")
    assert changed["created_at"] == made["created_at"]
    assert web.ok("PUT", path, {"tags": None})["tags"] is None
    wrong: list[Any] = [{"content": None}, {"content": "\u0000"}, {"sender_id": ""}, {"tags": 5}, [], "x"]
    for bad in wrong:
        assert web("PUT", path, bad).status == 422
    wait_indexed(web)
    for query, hits in (("lion", 1), ("zebra", 0)):
        found = web.ok("POST", "/api/v1/search", {"query": query, "conversation_id": home})
        assert found["total_results"] == hits, query
    gone = web.ok("DELETE", path)
    assert gone["id"] == made["id"]
    for method in ("GET", "DELETE"):
        assert web(method, path).status == 404
    assert web("PUT", path, {"content": "x"}).status == 404
    assert web("GET", f"{path}/status").status == 404
    wait_indexed(web)
    assert web.ok("POST", "/api/v1/search", {"query": "lion", "conversation_id": home})["data"] == []


def test_lists_and_their_filters(web: Web, home: str) -> None:
    rows = [
        {"content": f"text {i}", "sender_id": f"s{i % 2}", "role": "user" if i % 2 else "assistant",
         "created_at": 1749551286 + i, "sent_at": 1749551286 - i, "tags": ["a", "b"] if i % 3 == 0 else ["ab"],
         "message_type": "image" if i == 5 else "text"}
        for i in range(10)
    ]  # fmt: skip
    web.ok("POST", MESSAGES, {"conversation_id": home, "content": rows})

    def listed(**query: object) -> list[int]:
        page = web.ok("GET", MESSAGES, query={"conversation_id": home, **query})
        assert page["data"] == page["messages"]
        return [int(m["content"].split()[1]) for m in page["data"]]

    assert listed() == list(range(10))
    assert listed(sort_order="desc") == list(range(9, -1, -1))
    assert listed(skip=3, limit=2) == [3, 4]
    assert listed(sender_id="s1") == [1, 3, 5, 7, 9]
    assert listed(role="assistant", limit=2) == [0, 2]
    assert listed(message_type="image") == [5]
    assert listed(tags="a") == [0, 3, 6, 9]
    assert listed(tags="b,a") == [0, 3, 6, 9]
    assert listed(tags="ab", search="TEXT 1") == [1]
    assert listed(search="%") == []
    assert listed(sort_by="sent_at") == list(range(9, -1, -1))
    assert listed(sort_by="created_at", order="desc", limit=3) == [9, 8, 7]
    assert listed(since=1749551290, until=1749551292) == [4, 5]
    assert listed(user_id="your-user-id") == list(range(10))
    assert listed(owner_id="somebody else") == []
    page = web.ok("GET", MESSAGES, query={"conversation_id": home, "limit": 4, "skip": 4})
    assert (page["total_count"], page["page"], page["next_page"], page["has_more"]) == (10, 2, 3, True)
    for bad in (
        {"user_id": ""}, {"user_id": " "}, {"owner_id": ""}, {"limit": 0}, {"limit": 1001}, {"skip": -1},
        {"sort_by": "colour"}, {"since": "x"}, {"limit": "ten"}, {"conversation_id": ""},
    ):  # fmt: skip
        assert web("GET", MESSAGES, query=bad).status == 422, bad
    missing = web("GET", MESSAGES, query={"conversation_id": "conv_01HZZZZZZZZZZZZZZZZZZZZZZZ"})
    assert missing.status == 404


def test_an_ended_conversation_refuses_what_is_new(web: Web, home: str) -> None:
    body = {"conversation_id": home, "content": QUICKSTART}
    web.ok("POST", MESSAGES, body)
    web.ok("PATCH", f"/api/v1/conversations/{home}", {"status": "ended"})
    assert counts(web("POST", MESSAGES, body)) == (0, 2)
    refused = web("POST", MESSAGES, {"conversation_id": home, "content": "new"})
    assert refused.status == 422
    assert refused.json["detail"][0]["loc"][-1] == "conversation_id"
    assert len(stored(web, home)) == 2
