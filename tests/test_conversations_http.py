"""Conversations over HTTP: shapes, filters, both kinds of pages, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.served import served
from tests.support.server import RunningServer
from tests.support.web import Web, wait_indexed

CONVERSATIONS = "/api/v1/conversations"
pytestmark = pytest.mark.xdist_group("conversations")  # one worker starts the server, once


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with an empty store."""
    with served(request, "sqlite", tmp_path_factory.mktemp("conversations")) as running:
        yield running


@pytest.fixture
def web(server: RunningServer) -> Iterator[Web]:
    client = Web(server.base_url, server.api_key)
    yield client
    client.close()


def make(web: Web, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = web.ok("POST", CONVERSATIONS, fields)
    return made


def test_made_read_changed_and_deleted(web: Web) -> None:
    made = make(
        web, user_id="u", title="t", summary="s", status="active", is_public=True, collections=["c"],
        meta_data={"a": [1, None, "ü"]}, settings={"x": {}}, session_id="one",
        messages=[{"content": "zebra"}, {"content": "hm", "role": "assistant"}],
    )  # fmt: skip
    assert made["user_id"] == made["owner_id"] == "u"
    assert (made["message_count"], made["ended_at"], made["session_id"]) == (2, None, "one")
    path = f"{CONVERSATIONS}/{made['id']}"
    shown = web.ok("GET", path)
    assert shown["participants"] == [
        {"sender_id": "u", "roles": ["user"]},
        {"sender_id": "assistant", "roles": ["assistant"]},
    ]
    assert {**shown, "participants": None} == made
    for method in ("PUT", "PATCH"):
        changed = web.ok(method, path, {"title": method})
        assert changed["title"] == method
        assert {**changed, "title": "t", "updated_at": ""} == {**made, "updated_at": ""}
        assert web.ok(method, path, {})["title"] == method
    cleared = web.ok("PATCH", path, {"title": None, "summary": None, "meta_data": None, "settings": None,
                                     "collections": None, "is_public": None})  # fmt: skip
    assert (cleared["title"], cleared["summary"], cleared["meta_data"], cleared["settings"]) == (None,) * 4
    assert (cleared["collections"], cleared["is_public"], cleared["user_id"]) == ([], False, "u")
    ended = web.ok("PATCH", path, {"status": "ended"})
    assert ended["ended_at"] is not None
    assert web.ok("PATCH", path, {"status": "ended"})["ended_at"] == ended["ended_at"]
    assert web.ok("PATCH", path, {"ended_at": None})["status"] == "active"
    assert web.ok("PATCH", path, {"ended_at": "2025-01-02T03:04:05Z"})["status"] == "ended"
    gone = web.ok("DELETE", path)
    assert (gone["id"], gone["deleted"]) == (made["id"], True)
    for method, body in (("GET", None), ("PATCH", {}), ("PUT", {"title": "x"}), ("DELETE", None)):
        assert web(method, path, body).status == 404
    assert web("GET", f"{path}/messages").status == 404
    assert web("POST", f"{path}/messages", {"content": "x"}).status == 404
    wait_indexed(web)
    assert web.ok("POST", "/api/v1/search", {"query": "zebra", "user_id": "u"})["data"] == []


def test_both_names_of_the_user(web: Web) -> None:
    assert make(web, user_id="a")["owner_id"] == "a"
    assert make(web, owner_id="b")["user_id"] == "b"
    assert make(web, user_id="c", owner_id="c")["user_id"] == "c"
    made = make(web)
    assert (made["user_id"], made["owner_id"]) == (None, None)
    path = f"{CONVERSATIONS}/{made['id']}"
    assert web.ok("PATCH", path, {"owner_id": "d"})["user_id"] == "d"
    assert web.ok("PATCH", path, {"title": "x"})["user_id"] == "d"
    for name in ("user_id", "owner_id"):
        page = web.ok("GET", CONVERSATIONS, query={name: "d"})
        assert [item["id"] for item in page["data"]] == [made["id"]]
        assert page["data"] == page["conversations"]
        assert web("GET", CONVERSATIONS, query={name: ""}).status == 422
    assert web("GET", CONVERSATIONS, query={"user_id": "a", "owner_id": "b"}).status == 422


@pytest.mark.parametrize(
    "body",
    [
        [], "x", 5, {"user_id": ""}, {"user_id": " "}, {"owner_id": 5}, {"user_id": "x" * 257}, {"title": "x" * 256},
        {"title": "\u0000"}, {"status": "gone"}, {"status": "active", "ended_at": "2025-01-01"}, {"ended_at": "soon"},
        {"collections": "c"}, {"collections": [""]}, {"meta_data": []}, {"settings": 1}, {"is_public": "yes"},
        {"messages": [{"role": "user"}]}, {"messages": [{"content": "a\u0000"}]}, {"messages": {}},
        {"meta_data": {"a": "x" * 65536}}, {"session_id": ""},
    ],
)  # fmt: skip
def test_what_can_not_be_kept_is_refused(web: Web, body: Any) -> None:
    before = web.ok("GET", CONVERSATIONS, query={"skip": 0})["total_count"]
    answer = web("POST", CONVERSATIONS, body)
    assert answer.status == 422, answer.body
    assert answer.json["detail"][0]["loc"][0] == "body"
    assert web.ok("GET", CONVERSATIONS, query={"skip": 0})["total_count"] == before


def test_pages_by_cursor_and_by_offset(web: Web) -> None:
    made = [make(web, user_id="pages", title=f"page {i:02}")["id"] for i in range(11)]
    seen: list[str] = []
    cursor = None
    pages = 0
    while True:
        query: dict[str, Any] = {"user_id": "pages", "limit": 4, "sort_by": "title", "sort_order": "asc"}
        page = web.ok("GET", CONVERSATIONS, query=query | ({"cursor": cursor} if cursor else {}))
        assert page["total_count"] == len(page["data"])
        assert (page["prev_cursor"] is None) == (pages == 0)
        seen += [item["id"] for item in page["data"]]
        cursor, pages = page["next_cursor"], pages + 1
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert (seen, pages) == (made, 3)
    back = web.ok("GET", CONVERSATIONS, query=query | {"cursor": page["prev_cursor"], "direction": "prev"})
    assert [item["id"] for item in back["data"]] == made[4:8]
    after = web.ok("GET", CONVERSATIONS, query=query | {"cursor": made[8]})  # an id serves as a cursor too
    assert [item["id"] for item in after["data"]] == made[9:]
    by_offset = web.ok("GET", CONVERSATIONS, query=query | {"skip": 8})
    assert [item["id"] for item in by_offset["data"]] == made[8:]
    assert (by_offset["total_count"], by_offset["page"], by_offset["next_page"]) == (11, 3, None)
    by_page = web.ok("GET", CONVERSATIONS, query=query | {"page": 2})
    assert [item["id"] for item in by_page["data"]] == made[4:8]
    assert (by_page["page"], by_page["next_page"], by_page["next_cursor"]) == (2, 3, None)
    for bad in ({"limit": 0}, {"limit": 1001}, {"skip": -1}, {"page": 0}, {"cursor": "nonsense"}, {"sort_by": "x"},
                {"sort_order": "up"}, {"direction": "sideways"}, {"is_public": "maybe"}, {"cursor": ""}):  # fmt: skip
        assert web("GET", CONVERSATIONS, query=bad).status == 422, bad


def test_filters(web: Web) -> None:
    one = make(web, user_id="filters", title="Ünder 100%", status="archived", collections=["red", "a,b"])["id"]
    two = make(web, user_id="filters", title="under_way", is_public=True, collections=["Red"])["id"]

    def found(**query: object) -> set[str]:
        page = web.ok("GET", CONVERSATIONS, query={"user_id": "filters", **query})
        return {item["id"] for item in page["data"]}

    assert found() == {one, two}
    assert found(status="archived") == {one}
    assert found(is_public="true") == {two}
    assert found(is_public="false") == {one}
    assert found(search="UNDER") == {two}
    assert found(search="nder") == {one, two}
    assert found(search="%") == {one}
    assert found(search="_") == {two}
    assert found(collection_id="red") == {one}
    assert found(collection_id="Red") == {two}
    assert found(collection_id="a,b") == {one}
    assert found(collection_id="b") == set()
    assert found(status="ended") == set()
    assert web("GET", CONVERSATIONS, query={"workspace_id": "wsp_other"}).status == 403
    own = web.ok("GET", CONVERSATIONS)["data"][0]["workspace_id"]
    assert found(workspace_id=own) == {one, two}
