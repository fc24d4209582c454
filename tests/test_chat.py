"""Completions over plain HTTP: what goes through unchanged, what is refused, and how errors look."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chats import CHAT, Client, blocks, body_of, sent, upstream_environment
from tests.support.server import RunningServer, ServerFactory, server_factory
from tests.support.upstream import Script, Upstream

pytestmark = pytest.mark.xdist_group("chat")

PIXEL = "data:image/png;base64," + "iVBORw0KGgo" * 4000


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("chat")) as start:
        yield start(env=upstream_environment(model))


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    return Client(running, user=f"user of {request.node.name}"[:200])


# -- unchanged, both ways ---------------------------------------------------------------------------------------------


def test_every_field_goes_through(client: Client, model: Upstream) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.1,
        "top_p": 1.0,
        "n": 2,
        "stop": ["\n\n"],
        "max_completion_tokens": 7,
        "presence_penalty": -0.5,
        "logit_bias": {"50256": -100},
        "user": "someone",
        "seed": 12345678901234567,
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "service_tier": "auto",
        "store": True,
        "metadata": {"a": "b"},
        "reasoning_effort": "low",
        "x_unknown": [None, {"y": 1e300}],
    }
    model.queue(Script(tools=(("f", "{}"),), fields={"system_fingerprint": "fp", "x_answer": {"deep": [1, None]}}))
    answer = client.chat("Hello", **fields)
    assert sent(model).json == body_of("Hello", **fields)
    assert sent(model).headers["authorization"] == "Bearer upstream-key"
    assert sent(model).headers["content-type"] == "application/json"
    assert answer.json["x_answer"] == {"deep": [1, None]}
    assert answer.json["system_fingerprint"] == "fp"
    assert len(answer.json["choices"]) == 2


def test_our_own_fields_and_the_callers_key_stay_here(client: Client, model: Upstream) -> None:
    ours = {"user_id": "u", "session_id": "s", "collection_ids": ["c"], "memories_enabled": True}
    client.chat("Hello", **ours, headers={"x-collection-ids": '["c"]', "OpenAI-Organization": "org", "Cookie": "a=b"})
    received = sent(model)
    assert received.json == body_of("Hello")
    everything = received.body.decode() + str(received.headers)
    assert client.server.api_key not in everything
    for name in ("cookie", "openai-organization", "x-user-id", "x-session-id", "x-api-key", "x-collection-ids"):
        assert name not in received.headers


def test_parts_go_through_and_are_stored_short(client: Client, model: Upstream) -> None:
    content = [
        {"type": "text", "text": "What is in"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "text", "text": "this picture?"},
        {"type": "input_audio", "input_audio": {"data": "UklGR" * 2000, "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    answer = client.chat({"role": "user", "content": content})
    assert sent(model).json["messages"][-1]["content"] == content
    question = client.messages(answer.conversation)[0]
    assert question["content"] == "What is in\nthis picture?"
    picture, sound, link = question["attachments"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert len(picture["image_url"]["url"]) < 200
    assert len(sound["input_audio"]["data"]) < 200
    assert link == content[4]
    again = client.chat({"role": "user", "content": content}, answer.said, "And now?")
    assert again.conversation == answer.conversation
    assert len(client.messages(answer.conversation)) == 4


def test_nulls_of_clients_that_send_them_all_are_left_out(client: Client, model: Upstream) -> None:
    client.chat({"role": "user", "content": "null is no value", "name": None, "tool_calls": None, "x": [None]})
    assert sent(model).json["messages"] == [{"role": "user", "content": "null is no value", "x": [None]}]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    client.chat("Go", said, {"role": "tool", "tool_call_id": "c", "content": "done"})
    assert sent(model).json["messages"][1] == said


def test_headers_of_the_answer_go_through(client: Client, model: Upstream) -> None:
    hints = {
        "x-request-id": "req-of-the-model",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-tokens": "6m0s",
        "openai-processing-ms": "12",
        "retry-after": "1",
    }
    private = {"set-cookie": "a=b", "server": "model", "x-internal": "secret"}
    for stream in (False, True):
        model.queue(Script(headers=hints | private))
        answer = client.chat("Hello", stream=stream)
        assert {name: answer.headers.get(name) for name in hints} == hints
        assert not set(private) & set(answer.headers)
        kind = "text/event-stream" if stream else "application/json"
        assert answer.headers["content-type"].startswith(kind)
    own = client.chat("Hello", headers={"x-request-id": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"
    assert client.chat("Hello").headers["x-request-id"].startswith("req_")


def test_an_answer_of_unknown_shape_goes_through_and_is_stored_as_far_as_it_is_one(
    client: Client, model: Upstream
) -> None:
    for choices, content in (
        ("[]", ""),
        ('[{"index":0,"message":{"role":"assistant","content":[{"type":"text","text":"Parts."}]}}]', "Parts."),
        ('[{"index":"x","message":{"content":"Odd."},"finish_reason":7}]', "Odd."),
        ('[{"index":0,"message":null,"finish_reason":"content_filter"}]', ""),
    ):
        body = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":%s}' % choices.encode()
        model.queue(Script(body=body))
        answer = client.chat("Hello")
        assert answer.body == body
        assert client.messages(answer.conversation)[-1]["content"] == content


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"messages":[{"role":"user","content":"Hi"}]}', "model"),
        (b'{"model":null,"messages":[{"role":"user","content":"Hi"}]}', "model"),
        (b'{"model":"","messages":[{"role":"user","content":"Hi"}]}', "model"),
        (b'{"model":7,"messages":[{"role":"user","content":"Hi"}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":null}', "messages"),
        (b'{"model":"m","messages":{}}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":["Hi"]}', "messages[0]"),
        (b'{"model":"m","messages":[{"content":"Hi"}]}', "messages[0]"),
        (b'{"model":"m","messages":[{"role":"user","content":7}]}', "messages[0]"),
        (b'{"model":"m","messages":[{"role":"","content":"Hi"}]}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"%s","content":"Hi"}]}' % (b"r" * 65), "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":"yes"}', "stream"),
        (b'{"model":"m","model":"n","messages":[{"role":"user","content":"Hi"}]}', None),
        (b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"x":' + b"[" * 100_000, None),
        (b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"x":' + b"[" * 5000 + b"]" * 5000 + b"}", None),
        (b'{"model":"m","messages":[' + b",".join([b'{"role":"user","content":""}'] * 5001) + b"]}", "messages"),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused_in_openais_form(
    client: Client, model: Upstream, body: bytes, param: str | None
) -> None:
    before = len(model.chats)
    answer = client.request("POST", CHAT, body)
    assert answer.status == 400
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    if param is not None:
        assert error["param"] == param
    assert len(model.chats) == before
    assert client.conversations() == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": ""}, 401, "invalid_api_key"),
        ({"Authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ({"Authorization": "Basic wrong"}, 401, "invalid_api_key"),
        ({"x-api-key": "another"}, 401, "invalid_api_key"),
        ({"x-workspace-id": "wsp_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 403, "forbidden"),
        ({"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ],
)
def test_who_may_not_ask_is_told_so_in_openais_form(
    client: Client, headers: dict[str, str], status: int, code: str
) -> None:
    answer = client.chat("Hello", headers=headers)
    assert answer.status == status
    assert answer.json["error"]["code"] == code


def test_an_anon_key_may_not_ask(client: Client, running: RunningServer) -> None:
    answer = client.chat("Hello", headers={"Authorization": f"Bearer {running.anon_key}"})
    assert answer.status == 403


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
def test_the_model_servers_errors_go_through(client: Client, model: Upstream, status: int, stream: bool) -> None:
    body = b'{"error":{"message":"no","type":"t","param":null,"code":"c","x":{"deep":1}}}'
    hints = {"retry-after": "7", "x-ratelimit-remaining-tokens": "0", "x-request-id": "r"}
    model.queue(Script(status=status, body=body, headers=hints), Script())
    answer = client.chat("Hello", stream=stream)
    assert (answer.status, answer.body) == (status, body)
    assert {name: answer.headers.get(name) for name in hints} == hints
    assert client.conversations() == []
    assert client.chat("Hello again").status == 200


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script(status=500, body=b"<html><h1>Oops</h1></html>", content_type="text/html"), 500),
        (Script(status=404, body=b'{"detail":"Not Found"}'), 404),
        (Script(status=429, body=b""), 429),
        (Script(body=b"<html>Welcome</html>", content_type="text/html"), 502),
        (Script(body=b'{"id":"c","choices":'), 502),
        (Script(body=b""), 502),
        (Script(body=b"[1,2,3]"), 502),
        (Script(body=b'{"error":{"message":"quota","code":429}}'), 429),
        (Script(status=302, headers={"location": "http://127.0.0.1/"}, body=b""), 502),
    ],
)
def test_whatever_the_model_server_says_an_error_has_openais_form(
    client: Client, model: Upstream, script: Script, status: int
) -> None:
    model.queue(script, Script())
    answer = client.chat("Hello")
    assert answer.status == status
    assert isinstance(answer.json["error"], dict)
    assert answer.json["error"]["message"]
    assert client.conversations() == []
    assert client.chat("Hello again").status == 200


def test_an_unknown_address_under_chat_answers_in_openais_form(client: Client) -> None:
    for method, path in (("POST", "/api/v1/chat/nothing"), ("GET", CHAT), ("DELETE", CHAT)):
        answer = client.request(method, path)
        assert answer.status in (404, 405)
        assert "message" in answer.json["error"]


def test_models_are_listed_and_read(client: Client) -> None:
    listed = client.get("/api/v1/models")
    assert [row["id"] for row in listed["data"]] == ["gpt-4", "small"]
    assert client.get("/api/v1/models/small") == listed["data"][1]
    missing = client.request("GET", "/api/v1/models/nothing")
    assert missing.status == 404
    assert "nothing" in missing.json["error"]["message"]


# -- without a model server -------------------------------------------------------------------------------------------


def test_without_a_model_server_the_answer_quotes_what_was_said_and_says_who_answers(server: ServerFactory) -> None:
    mine = Client(server(env={"AFORESAID_RECALL_BUDGET_MS": "5000"}), user="u")
    mine.bring({"role": "user", "content": "My boat is called Perelandra.", "created_at": "2024-03-05T10:00:00Z"})
    whole = mine.chat("What is my boat called?")
    assert whole.json["model"] == "aforesaid-extractive"
    assert "Perelandra" in whole.said
    assert "5 March 2024" in whole.said
    assert whole.json["usage"]["total_tokens"] > 0
    stream = mine.chat("What is my boat called?", stream=True, stream_options={"include_usage": True})
    *chunks, done = stream.events
    assert done == "[DONE]"
    decoded: list[Any] = [json.loads(chunk) for chunk in chunks]
    assert {chunk["model"] for chunk in decoded} == {"aforesaid-extractive"}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in decoded if c["choices"]) == whole.said
    assert decoded[-1]["usage"]["total_tokens"] > 0
    stored = mine.messages(stream.conversation)
    assert stored[-1]["content"] == whole.said
    assert stored[-1]["meta_data"]["model"] == "aforesaid-extractive"
    assert mine.receipt(stream)["model"] == "aforesaid-extractive"
    assert [row["id"] for row in mine.get("/api/v1/models")["data"]] == ["aforesaid-extractive"]
    refused = mine.chat("Hello", tool_choice="required")
    assert refused.status == 400
    assert refused.json["error"]["param"] == "tool_choice"


def test_the_block_is_the_only_thing_that_is_added(client: Client, model: Upstream) -> None:
    client.bring("The hedgehog is called Karl.")
    client.chat("What is the hedgehog called?", temperature=0.5, x={"a": 1})
    received = sent(model).json
    (block,) = blocks(sent(model))
    messages = [message for message in received["messages"] if message["content"] != block]
    assert {**received, "messages": messages} == body_of("What is the hedgehog called?", temperature=0.5, x={"a": 1})
