"""OpenAI's own client for JavaScript, unchanged but for the address."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chats import Client, eventually, sent, upstream_environment
from tests.support.server import RunningServer, ServerFactory, server_factory
from tests.support.tools import run_node
from tests.support.upstream import Script, Upstream
from tests.support.upstream_script import TEXT

pytestmark = pytest.mark.sdk


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("js")) as start:
        yield start(env=upstream_environment(model))


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    return Client(running, user=f"user of {request.node.name}"[:200])


def step(client: Client, name: str, **env: str) -> Any:
    """What a step of the script printed."""
    assert client.user is not None
    own = {
        "MIELTO_API_KEY": client.server.api_key,
        "BASE_URL": f"{client.server.base_url}/api/v1",
        "USER_ID": client.user,
    }
    return json.loads(run_node("openai.mjs", name, env=own | env))


def test_whole_and_streamed(client: Client, model: Upstream) -> None:
    whole = step(client, "whole")
    assert (whole["text"], whole["model"]) == (TEXT, "gpt-4")
    assert whole["request"].startswith("req_")
    assert client.spoken(whole["conversation"]) == [("user", "Where is the kettle?"), ("assistant", TEXT)]
    stream = step(client, "stream")
    assert stream["text"] == TEXT
    assert stream["usage"] > 0
    assert step(client, "helper") == {"text": TEXT, "seen": TEXT}


def test_tools_go_round(client: Client, model: Upstream) -> None:
    model.queue(Script(tools=(("weather", '{"city":"Oslo"}'),)), Script(text="It rains."))
    assert step(client, "tools") == {"calls": ['{"city":"Oslo"}'], "text": "It rains."}
    (made,) = client.conversations()
    assert [m["role"] for m in client.messages(made["id"])] == ["user", "assistant", "tool", "assistant"]


def test_fields_go_through(client: Client, model: Upstream) -> None:
    model.queue(Script(fields={"x_answer": {"b": None}}))
    assert step(client, "several") == {"count": 3, "unknown": {"b": None}}
    assert sent(model).json["x_unknown"] == {"a": [1]}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (404, "NotFoundError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (503, "InternalServerError"),
    ],
)
def test_errors_are_raised_as_what_they_are(client: Client, model: Upstream, status: int, kind: str) -> None:
    body = {"error": {"message": "no such thing", "type": "t", "param": "p", "code": "c"}}
    model.queue(Script(status=status, body=json.dumps(body).encode(), headers={"retry-after": "3"}), Script())
    raised = step(client, "error", STREAM=str(status % 2))
    assert (raised["kind"], raised["status"]) == (kind, status)
    assert (raised["code"], raised["param"], raised["type"]) == ("c", "p", "t")
    assert raised["after"] == "3"
    assert raised["request"]
    assert "no such thing" in raised["message"]
    client.chat("The circuit stays closed")


def test_a_bad_key_and_a_broken_stream(client: Client, model: Upstream) -> None:
    assert step(client, "error", MIELTO_API_KEY="wrong")["kind"] == "AuthenticationError"
    model.queue(Script(words=9, die_after=4))
    broken = step(client, "broken")
    assert (broken["count"], broken["kind"]) == (4, "APIError")
    assert "broke" in broken["message"]


def test_retries_time_outs_and_leaving(client: Client, model: Upstream) -> None:
    model.queue(Script(status=429, headers={"retry-after-ms": "20"}), Script())
    assert step(client, "whole", MAX_RETRIES="2")["text"] == TEXT
    before = len(model.chats)
    model.queue(Script(delay_s=60))
    assert step(client, "error", TIMEOUT_MS="300")["kind"] == "APIConnectionTimeoutError"
    assert model.chats[before].wait() is not None
    model.queue(Script(words=50, stall_after=3))
    step(client, "leave")
    assert model.chats[before + 1].wait() is not None
    eventually(lambda: [c for c in client.conversations() if client.messages(c["id"])[-1]["incomplete"]])


def test_models_and_the_embedded_answerer(client: Client, server: ServerFactory) -> None:
    assert step(client, "models") == {"ids": ["gpt-4", "small"], "one": "gpt-4"}
    alone = Client(server(env={"AFORESAID_RECALL_BUDGET_MS": "5000"}), user="u")
    alone.bring("The kettle is in the kitchen.")
    whole = step(alone, "whole")
    assert whole["model"] == "aforesaid-extractive"
    assert "kitchen" in whole["text"]
    assert step(alone, "helper")["text"] == whole["text"]
