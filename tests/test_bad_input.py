"""Whatever comes in: a clear error in the dialect's form, no 5xx, and nothing half-done."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from aforesaid import limits
from aforesaid.core import access
from aforesaid.http import body as bodies
from tests.support.inside import API_KEY, Answer, Inside, inside

DEEP = 100_000
MANY = 200_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with inside(tmp_path_factory.mktemp("bad-input")) as server:
        yield server


@pytest.fixture(scope="module")
def conversation(running: Inside) -> Any:
    """A conversation with one message and its number, as both APIs spell it."""
    made = running.ask("POST", "/api/v1/conversations", {"user_id": "u", "messages": [{"content": "hello"}]}).json()
    listed = running.ask("GET", f"/api/v1/conversations/{made['id']}/messages").json()
    return {"id": made["id"], "message": listed["data"][0]["id"]}


@pytest.fixture(scope="module")
def foreign(running: Inside) -> dict[str, str]:
    """A key of another workspace, and what stands in that workspace."""

    async def another() -> str:
        workspace = await access.add_workspace(running.app.db, "another")
        _, secret = await running.app.keyring.add(workspace, "secret")
        return secret

    key = running.run(another())
    made = running.ask("POST", "/api/v1/conversations", {"messages": [{"content": "theirs"}]}, key=key).json()
    message = running.ask("GET", f"/api/v1/conversations/{made['id']}/messages", key=key).json()["data"][0]["id"]
    return {"key": key, "conversation": made["id"], "message": message}


class Write(NamedTuple):
    """A route that changes something, a body that it takes, and the statuses of its refusals."""

    method: str
    path: str
    body: dict[str, Any]
    wrong: int


def writes(conversation: Any) -> list[Write]:
    """Every route that writes, of both dialects."""
    one, message = conversation["id"], conversation["message"]
    keyed = {"api_key": API_KEY}
    return [
        Write("POST", "/api/v1/conversations", {"user_id": "u", "title": "t"}, 422),
        Write("PUT", f"/api/v1/conversations/{one}", {"title": "t"}, 422),
        Write("PATCH", f"/api/v1/conversations/{one}", {"title": "t"}, 422),
        Write("POST", f"/api/v1/conversations/{one}/messages", {"content": "c"}, 422),
        Write("POST", "/api/v1/messages", {"conversation_id": one, "content": [{"content": "c"}]}, 422),
        Write("PUT", f"/api/v1/messages/{message}", {"content": "c"}, 422),
        Write("POST", "/api/v1/api-keys", {"label": "l"}, 422),
        Write("POST", "/api/v1/search", {"query": "q", "user_id": "u"}, 422),
        Write(
            "POST", "/api/v1/chat/completions",
            {"model": "m", "user_id": "u", "messages": [{"role": "user", "content": "c"}]}, 400,
        ),
        *(
            Write("POST", prefix + path, keyed | body, 400)
            for prefix in ("", "/v0", "/v1")
            for path, body in (
                ("/newConversation", {"user_id": "u"}),
                ("/endConversation", {"conversation_id": one}),
                ("/rateMessage", {"message_id": message, "rating_value": 1}),
                ("/mendableChat", {"question": "q", "history": [], "shouldStream": False}),
                ("/getMessagesData", {"rating_value": 1}),
                ("/messages/byConversationId", {"conversation_id": one}),
            )
        ),
    ]  # fmt: skip


def refused(answer: Answer, write: Write, *statuses: int) -> None:
    """The answer is one of these refusals, in the form of the route's dialect."""
    assert answer.status in (statuses or (write.wrong,)), f"{write.method} {write.path}: {answer}"
    if write.path.startswith("/api/v1/chat"):
        assert answer.json()["error"]["message"], answer
    elif write.path.startswith("/api/v1"):
        detail = answer.json()["detail"]
        assert isinstance(detail, list) == (answer.status == 422), answer
        assert detail
    else:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body
        assert b"\n" not in answer.body


def unjson() -> dict[str, bytes]:
    """Bodies that are no JSON as this server takes it."""
    return {
        "nothing": b"",
        "blank": b" \n\t",
        "no JSON": b"hello",
        "half": b'{"title": "x"',
        "single quotes": b"{'title': 'x'}",
        "two values": b"{} {}",
        "NaN": b'{"title": NaN}',
        "Infinity": b'{"a": Infinity}',
        "minus Infinity": b'{"a": -Infinity}',
        "number with a zero before": b'{"a": 01}',
        "hexadecimal": b'{"a": 0x10}',
        "comment": b'{"a": 1 /* x */}',
        "byte order mark": b"\xef\xbb\xbf{}",
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "invalid UTF-8": b'{"title": "\xff\xfe"}',
        "overlong UTF-8": b'{"title": "\xc0\xaf"}',
        "encoded surrogate": b'{"title": "\xed\xa0\x80"}',
        "control character": b'{"title": "a\x01b"}',
        "raw NUL": b'{"title": "a\x00b"}',
        "bad escape": b'{"title": "\\x41"}',
        "lone high surrogate": b'{"title": "\\ud800"}',
        "lone low surrogate": b'{"title": "\\udc00"}',
        "swapped surrogates": b'{"title": "\\udc00\\ud800"}',
        "deep arrays": b"[" * DEEP,
        "deep closed arrays": b"[" * DEEP + b"]" * DEEP,
        "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        "deep unknown field": b'{"unknown": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        "integer of a million digits": b'{"unknown": ' + b"9" * 1_000_000 + b"}",
        "array": b"[1]",
        "string": b'"x"',
        "number": b"1",
        "null": b"null",
    }


@pytest.mark.parametrize("name", unjson())
def test_what_is_no_json_is_refused_everywhere(running: Inside, conversation: Any, name: str) -> None:
    before = running.counts()
    for write in writes(conversation):
        body = unjson()[name]
        refused(running.ask(write.method, write.path, body), write)
    assert running.counts() == before


def test_many_keys_and_keys_that_stand_twice_are_refused(running: Inside, conversation: Any) -> None:
    before = running.counts()
    many = ",".join(f'"k{i}":{i}' for i in range(MANY))
    for write in writes(conversation):
        text = json.dumps(write.body)
        first = next(iter(write.body))
        escaped = f'"\\u{ord(first[0]):04x}{first[1:]}": 1'
        for more in (many, f'"{first}": 1', escaped, '"new": {"a": 1, "a": 1}', '"new": [{"a": {}, "a": {}}]'):
            refused(running.ask(write.method, write.path, f"{text[:-1]}, {more}}}"), write)
    assert running.counts() == before


WRONG: tuple[Any, ...] = (None, True, 1.5, -1, 10**28, -(10**28), "", " ", "x" * 300, [], [None], {}, {"a": {"b": []}})


def test_values_of_the_wrong_kind_never_break_anything(running: Inside, conversation: Any) -> None:
    """Every field of every body takes every wrong value; some are taken for what they say, none is an error of ours."""
    for write in writes(conversation):
        for field in write.body:
            if field == "api_key":
                continue
            for value in WRONG:
                answer = running.ask(write.method, write.path, write.body | {field: value})
                assert answer.status < 500, f"{write.method} {write.path} {field}={value!r}: {answer}"
                assert answer.status in (200, 201, write.wrong, 404), f"{write.path} {field}={value!r}: {answer}"


def string_places(conversation: Any) -> list[tuple[str, str, Any]]:
    """Every place of a request's body where a text goes that is stored or looked for: None is where it goes."""
    one, message = conversation["id"], conversation["message"]
    message_fields = (
        "content role sender_id message_type id checksum owner_id parent_message_id conversation_id".split()
    )
    conversation_fields = "title summary user_id owner_id session_id status".split()
    places: list[tuple[str, str, Any]] = [
        *(("POST", "/api/v1/conversations", {name: None}) for name in conversation_fields),
        *(("POST", "/api/v1/conversations", {name: value}) for name, value in nested().items()),
        *(("PATCH", f"/api/v1/conversations/{one}", {name: None}) for name in ("title", "summary", "user_id")),
        *(
            ("POST", "/api/v1/messages", {"conversation_id": one, "content": {"content": "c", name: None}})
            for name in message_fields
        ),
        ("POST", "/api/v1/messages", {"conversation_id": one, "content": {"content": "c", "tags": [None]}}),
        ("POST", "/api/v1/messages", {"conversation_id": one, "content": {"content": "c", "meta_data": {"a": None}}}),
        *(
            ("PUT", f"/api/v1/messages/{message}", {name: None})
            for name in ("content", "role", "sender_id", "message_type", "parent_message_id")
        ),
        ("POST", "/api/v1/api-keys", {"label": None}),
        *(("POST", "/api/v1/api-keys", {"label": "l", name: [None]}) for name in ("permissions", "ip_whitelist")),
        *(
            ("POST", "/api/v1/api-keys", {"label": "l", "kind": "anon", name: [None]})
            for name in ("origins", "collections")
        ),
        ("POST", "/api/v1/search", {"query": None, "user_id": "u"}),
        ("POST", "/api/v1/search", {"query": "q", "user_id": None}),
        ("POST", "/api/v1/search", {"query": "q", "conversation_id": None}),
        *(
            ("POST", "/api/v1/search", {"query": "q", "user_id": "u", "filters": {name: None}})
            for name in ("role", "sender_id", "since")
        ),
        *(
            ("POST", "/api/v1/chat/completions", chat({name: None}))
            for name in ("model", "user_id", "conversation_id", "session_id")
        ),
        ("POST", "/v1/newConversation", {"api_key": API_KEY, "user_id": None}),
        ("POST", "/v1/newConversation", {"api_key": None}),
        ("POST", "/v1/endConversation", {"api_key": API_KEY, "conversation_id": None}),
        ("POST", "/v1/rateMessage", {"api_key": API_KEY, "message_id": None, "rating_value": 1}),
        ("POST", "/v1/getMessagesData", {"api_key": API_KEY, "start_date": None}),
    ]
    return places


def nested() -> dict[str, Any]:
    """Free values of a conversation with a text deep inside."""
    return {"meta_data": {"a": [{"b": None}]}, "settings": {"a": None}, "collections": [None]}


def chat(more: dict[str, Any]) -> dict[str, Any]:
    """A completion request."""
    return {"model": "m", "messages": [{"role": "user", "content": "c"}]} | more


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "\ud800", "a\udfffb"], ids=["NUL", "only NUL", "high", "low"])
def test_texts_that_no_store_can_hold_are_refused_in_every_place(running: Inside, conversation: Any, text: str) -> None:
    before = running.counts()
    for method, path, body in string_places(conversation):
        answer = running.ask(method, path, json.dumps(body).replace("null", json.dumps(text)))
        assert 400 <= answer.status < 500, f"{method} {path} {body}: {answer}"
    assert running.counts() == before


@pytest.mark.parametrize("raw", ["%00", "a%00b", "%ff", "%c0%af", "%ed%a0%80"])
def test_queries_and_addresses_that_are_no_text_are_refused(running: Inside, raw: str) -> None:
    for path in ("conversations", "messages", "api-keys", "receipts"):
        answer = running.ask("GET", f"/api/v1/{path}/{raw}")
        assert answer.status == 422, answer
        assert answer.json()["detail"][0]["loc"] == ["path"]
    assert running.ask("GET", f"/api/v1/models/{raw}").status == 400
    assert running.ask("PATCH", f"/endConversation/{raw}").status == 400
    for path in (
        "conversations?user_id=", "conversations?cursor=", "conversations?search=", "conversations?status=",
        "messages?user_id=", "messages?conversation_id=", "messages?sender_id=", "messages?role=", "messages?tags=",
        "messages?search=", "messages?since=", "indexing?user_id=", "api-keys?skip=",
    ):  # fmt: skip
        answer = running.ask("GET", f"/api/v1/{path}{raw}")
        assert answer.status == 422, f"{path}{raw}: {answer}"
        assert answer.json()["detail"][0]["loc"][0] == "query"


@pytest.mark.parametrize("query", ["skip=-1", "skip=x", "skip=99999999999999999999", f"skip={10**28}",
                                   "limit=0", "limit=1001", "limit=null", "limit=1.5", "limit=１", "limit=1&limit=2",
                                   "sort_by=content", "sort_order=up", "since=yesterday", "since=-5",
                                   "until=" + "9" * 60, "search=" + "x" * 1001])  # fmt: skip
def test_queries_out_of_range_are_refused(running: Inside, query: str) -> None:
    answer = running.ask("GET", "/api/v1/messages?" + quote(query, safe="=&"))
    assert answer.status == 422, answer
    assert answer.json()["detail"][0]["loc"] == ["query", query.split("=")[0]]


@pytest.mark.parametrize("value", [b"\xff\xfe", b" ", b"a" * 300, b"\x80\x9f"])
def test_headers_that_are_odd_never_break_anything(running: Inside, value: bytes) -> None:
    for name in ("x-user-id", "x-session-id", "x-conversation-id", "x-workspace-id", "x-collection-ids",
                 "x-memories-enabled", "x-aforesaid-store", "idempotency-key", "x-request-id", "origin"):  # fmt: skip
        answer = running.ask("POST", "/api/v1/chat/completions", chat({}), {name: value})
        assert answer.status < 500, f"{name}: {value!r}: {answer}"
        assert running.ask("POST", "/api/v1/conversations", {}, {name: value}).status < 500


def test_a_user_is_the_same_in_a_header_and_in_a_body(running: Inside) -> None:
    """Most clients send headers in UTF-8, some in Latin-1: both mean the text."""
    for raw in ("José ☕".encode(), "José".encode("latin-1")):
        name = "José ☕" if b"\xc3" in raw else "José"
        answer = running.ask("POST", "/api/v1/chat/completions", chat({}), {"x-user-id": raw})
        stored = answer.headers["x-aforesaid-conversation-id"]
        assert running.ask("GET", f"/api/v1/conversations/{stored}").json()["user_id"] == name


def test_no_user_id_means_everybody(running: Inside, conversation: Any) -> None:
    before = running.counts()
    for blank in ("", " ", "\t", "\u3000", "\n"):
        for path in ("conversations", "messages", "indexing"):
            answer = running.ask("GET", f"/api/v1/{path}?user_id={quote(blank)}")
            assert answer.status == 422, f"{path} {blank!r}: {answer}"
        assert running.ask("POST", "/api/v1/search", {"query": "hello", "user_id": blank}).status == 422
        assert running.ask("POST", "/api/v1/conversations", {"user_id": blank}).status == 422
        assert running.ask("POST", "/api/v1/chat/completions", chat({"user_id": blank})).status == 400
        assert running.ask("POST", "/newConversation", {"api_key": API_KEY, "user_id": blank}).status == 400
    assert running.ask("POST", "/api/v1/chat/completions", chat({}), {"x-user-id": ""}).status == 400
    assert running.counts() == before
    for star in ("*", "%", "_", "null", "all"):
        for path in ("conversations", "messages"):
            assert running.ask("GET", f"/api/v1/{path}?user_id={quote(star)}").json()["data"] == []
        assert running.ask("POST", "/api/v1/search", {"query": "hello", "user_id": star}).json()["data"] == []


def test_what_is_not_there_and_what_is_not_ours_look_the_same(
    running: Inside, conversation: Any, foreign: dict[str, str]
) -> None:
    before = running.counts()
    absent = {"conversation": "conv_01JXCR3K0G7W4Q8Z2N5T6V9XYB", "message": "msg_01JXCR3K1H8X5R9A3P6V7W0YZC"}

    def asked(ids: dict[str, str]) -> list[tuple[int, bytes]]:
        one, message = ids["conversation"], ids["message"]
        answers = [
            running.ask("GET", f"/api/v1/conversations/{one}"),
            running.ask("GET", f"/api/v1/conversations/{one}/messages"),
            running.ask("PUT", f"/api/v1/conversations/{one}", {"title": "t"}),
            running.ask("DELETE", f"/api/v1/conversations/{one}"),
            running.ask("POST", f"/api/v1/conversations/{one}/messages", {"content": "c"}),
            running.ask("POST", "/api/v1/messages", {"conversation_id": one, "content": "c"}),
            running.ask(
                "POST",
                "/api/v1/messages",
                [
                    {"conversation_id": conversation["id"], "content": "kept back"},
                    {"conversation_id": one, "content": "c"},
                ],
            ),
            running.ask("GET", f"/api/v1/messages?conversation_id={one}"),
            running.ask("GET", f"/api/v1/messages/{message}"),
            running.ask("GET", f"/api/v1/messages/{message}/status"),
            running.ask("PUT", f"/api/v1/messages/{message}", {"content": "c"}),
            running.ask("DELETE", f"/api/v1/messages/{message}"),
            running.ask("POST", "/api/v1/search", {"query": "theirs", "conversation_id": one}),
            running.ask("POST", "/api/v1/chat/completions", chat({"conversation_id": one})),
            running.ask("POST", "/v1/endConversation", {"api_key": API_KEY, "conversation_id": one}),
            running.ask("POST", "/v1/messages/byConversationId", {"api_key": API_KEY, "conversation_id": one}),
            running.ask("POST", "/v1/rateMessage", {"api_key": API_KEY, "message_id": message, "rating_value": 1}),
        ]
        return [(answer.status, answer.body) for answer in answers]

    found = asked(absent)
    assert [status for status, _ in found] == [404] * len(found)
    assert asked({"conversation": foreign["conversation"], "message": foreign["message"]}) == found
    assert running.counts() == before


def test_an_ended_conversation_takes_no_message(running: Inside) -> None:
    made = running.ask("POST", "/api/v1/conversations", {"status": "ended"}).json()["id"]
    before = running.counts()
    for path, body in (
        (f"conversations/{made}/messages", {"content": "late"}),
        ("messages", {"conversation_id": made, "content": "late"}),
    ):
        answer = running.ask("POST", f"/api/v1/{path}", body)
        assert answer.status == 422
        assert "ended" in answer.json()["detail"][0]["msg"]
    assert running.counts() == before


def test_a_batch_with_one_bad_row_stores_nothing_and_names_it(running: Inside, conversation: Any) -> None:
    before = running.counts()
    good = {"role": "user", "content": "good"}
    for bad, field in (({"content": "x", "created_at": "never"}, "created_at"), ({"content": 1}, "content"),
                       ({"content": "x", "tags": ["t"] * (limits.TAGS + 1)}, "tags"), ({"role": "user"}, "content"),
                       ({"content": "x" * (limits.MESSAGE_BYTES + 1)}, "content"),
                       ({"content": "x", "meta_data": {"m": "x" * limits.METADATA_BYTES}}, "meta_data")):  # fmt: skip
        rows = [good] * 20 + [bad] + [good] * 20
        answer = running.ask("POST", "/api/v1/messages", {"conversation_id": conversation["id"], "content": rows})
        assert answer.status == 422, answer
        where = answer.json()["detail"][0]["loc"]
        assert where[:2] == ["body", "content"]
        assert where[2] in (20, "*"), where
        assert where[3] == field
    assert running.counts() == before


def test_every_limit_of_a_body_is_met_exactly(running: Inside, conversation: Any) -> None:
    def message(**more: Any) -> int:
        body = {"conversation_id": conversation["id"], "content": {"content": "x"} | more}
        return running.ask("POST", "/api/v1/messages", body).status

    def deep(levels: int) -> Any:
        return {"a": deep(levels - 1)} if levels else 1

    assert message(content="x" * limits.MESSAGE_BYTES) == 201
    assert message(content="x" * (limits.MESSAGE_BYTES + 1)) == 422
    assert message(content="\U0001f600" * (limits.MESSAGE_BYTES // 4)) == 201
    assert message(content="\U0001f600" * (limits.MESSAGE_BYTES // 4) + "x") == 422
    assert message(meta_data={"m": "x" * (limits.METADATA_BYTES - len('{"m":""}'))}) == 201
    assert message(meta_data={"m": "x" * (limits.METADATA_BYTES - len('{"m":""}') + 1)}) == 422
    assert message(meta_data=deep(limits.JSON_DEPTH)) == 201
    assert message(meta_data=deep(limits.JSON_DEPTH + 1)) == 422
    assert message(sender_id="x" * limits.ID_CHARACTERS) == 201
    assert message(sender_id="x" * (limits.ID_CHARACTERS + 1)) == 422
    assert message(tags=["t"] * limits.TAGS) == 201
    assert message(tags=["t"] * (limits.TAGS + 1)) == 422
    conversation_of = {"title": limits.TITLE_CHARACTERS, "summary": limits.SUMMARY_CHARACTERS}
    for name, maximum in conversation_of.items():
        assert running.ask("POST", "/api/v1/conversations", {name: "x" * maximum}).status == 201
        assert running.ask("POST", "/api/v1/conversations", {name: "x" * (maximum + 1)}).status == 422
    rows = [{"content": "x"}] * limits.REQUEST_MESSAGES
    for path, name in (("messages", "content"), ("conversations", "messages")):
        body: dict[str, Any] = {"conversation_id": conversation["id"]} if path == "messages" else {}
        before = running.counts()
        assert running.ask("POST", f"/api/v1/{path}", {**body, name: [*rows, rows[0]]}).status == 422
        assert running.counts() == before
        assert running.ask("POST", f"/api/v1/{path}", {**body, name: rows}).status == 201
    keys = {f"k{i}": i for i in range(bodies.OBJECT_KEYS)}
    wide = {"conversation_id": conversation["id"], "content": "x", "unknown": keys}
    assert running.ask("POST", "/api/v1/messages", wide).status == 201
    wide["unknown"] = keys | {"one": "more"}
    assert running.ask("POST", "/api/v1/messages", wide).status == 422


@pytest.mark.parametrize("body", ['{"title": 1e400}', '{"meta_data": {"a": 1e400}}', '{"meta_data": {"a": [-1e400]}}'])
def test_numbers_beyond_every_range_are_refused(running: Inside, body: str) -> None:
    assert running.ask("POST", "/api/v1/conversations", body).status == 422


@pytest.mark.parametrize("value", [10**28, -(10**28), 2**64, -(2**63) - 1, 1.7e308, 5e-324, -0.0])
def test_large_numbers_in_free_values_come_back_as_they_were(running: Inside, conversation: Any, value: float) -> None:
    body = {"conversation_id": conversation["id"], "content": {"content": "n", "meta_data": {"n": value}}}
    stored = running.ask("POST", "/api/v1/messages", body).json()[0]
    kept = running.ask("GET", f"/api/v1/messages/{stored['id']}").json()["meta_data"]["n"]
    assert kept == value
    assert math.copysign(1, kept) == math.copysign(1, value)


TEXTS = [
    "".join(chr(code) for code in range(1, 0x300)),
    "\u00e9 e\u0301 \u212b \u00c5 A\u030a \uac00 \u1100\u1161",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1f5\U0001f1f9",
    "\U0001f44d\U0001f3fd \u2764\ufe0f 1\ufe0f\u20e3",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c \u2067x\u2069 \u200f\u200e",
    "\ufeff\u200b\u00ad\u2028\u2029\u0085\u001f\x7f\ufffd\ufffe\uffff\ufdd0",
    "".join(chr((plane << 16) + offset) for plane in range(17) for offset in (0x41, 0x1234, 0xFFFD, 0xFFFE, 0xFFFF)),
    "\r\n\n\r\t  trailing and leading  \t",
    "</remembered>\\u0000 \\x00 %00 '; drop table message; -- \" $1 ? :a {}",
    "x" * (limits.MESSAGE_BYTES - 1) + "\n",
    "\u6771\u4eac" * 1000,
]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_every_text_comes_back_byte_for_byte(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, engine: str
) -> None:
    url = request.getfixturevalue("postgres_url") if engine == "postgresql" else None
    with inside(tmp_path_factory.mktemp("texts"), database_url=url, jobs=True) as server:
        rows = [{"content": text, "sender_id": "s" + text[:8].strip("\x00"), "tags": [text[:200]],
                 "meta_data": {text[:50]: text[:200]}} for text in TEXTS]  # fmt: skip
        made = server.ask("POST", "/api/v1/conversations", {"title": TEXTS[2], "summary": TEXTS[4], "messages": rows})
        assert made.status == 201, made
        assert (made.json()["title"], made.json()["summary"]) == (TEXTS[2], TEXTS[4])
        listed = server.ask("GET", f"/api/v1/conversations/{made.json()['id']}/messages").json()["data"]
        for row, kept in zip(rows, listed, strict=True):
            assert {name: kept[name] for name in row} == row
            one = server.ask("GET", f"/api/v1/messages/{kept['id']}").json()
            assert one["content"].encode() == str(row["content"]).encode()
