"""OpenAI's own client for Python, unchanged but for the address: whole, streamed, tools, errors, retries."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.support.chats import Client, sent, upstream_environment
from tests.support.server import RunningServer, ServerFactory, server_factory
from tests.support.upstream import Script, Upstream
from tests.support.upstream_script import TEXT

pytestmark = pytest.mark.sdk


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("sdk")) as start:
        yield start(env=upstream_environment(model))


@pytest.fixture
def sdk(running: RunningServer, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    with OpenAI(**settings(running, request)) as made:
        yield made


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    """The same user, over plain HTTP."""
    return Client(running, user=user_of(request))


def user_of(request: pytest.FixtureRequest) -> str:
    return f"user of {request.node.name}"[:200]


def settings(running: RunningServer, request: pytest.FixtureRequest) -> dict[str, Any]:
    return {
        "api_key": running.api_key,
        "base_url": f"{running.base_url}/api/v1",
        "default_headers": {"x-user-id": user_of(request)},
        "max_retries": 0,
        "timeout": 30,
    }


ASKED: Any = [{"role": "user", "content": "Where is the kettle?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def test_a_whole_answer(sdk: OpenAI, client: Client) -> None:
    answer = sdk.chat.completions.create(model="gpt-4", messages=ASKED)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert client.spoken(client.conversations()[0]["id"]) == [("user", "Where is the kettle?"), ("assistant", TEXT)]


def test_a_stream(sdk: OpenAI, client: Client) -> None:
    with sdk.chat.completions.create(
        model="gpt-4", messages=ASKED, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert client.spoken(client.conversations()[0]["id"])[-1] == ("assistant", TEXT)


def test_the_helper_for_streams(sdk: OpenAI) -> None:
    with sdk.chat.completions.stream(model="gpt-4", messages=ASKED) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_tools_go_round(sdk: OpenAI, client: Client, model: Upstream, stream: bool) -> None:
    """The model calls two tools, gets their results, and answers: one conversation, every turn once."""
    calls = (("weather", '{"city":"Oslo"}'), ("weather", '{"city":"Bergen"}'))
    model.queue(Script(tools=calls), Script(text="It rains in both."))
    messages: Any = [{"role": "user", "content": "How is the weather in Oslo and Bergen?"}]
    if stream:
        with sdk.chat.completions.stream(model="gpt-4", messages=messages, tools=TOOLS) as running:
            message: Any = running.get_final_completion().choices[0].message
    else:
        message = sdk.chat.completions.create(model="gpt-4", messages=messages, tools=TOOLS).choices[0].message
    assert [call.function.arguments for call in message.tool_calls] == [arguments for _, arguments in calls]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in message.tool_calls]
    messages += [message, *results]
    final = sdk.chat.completions.create(model="gpt-4", messages=messages, tools=TOOLS)
    assert final.choices[0].message.content == "It rains in both."
    assert [m["role"] for m in sent(model).json["messages"] if "<remembered>" not in (m["content"] or "")] == [
        "user", "assistant", "tool", "tool",
    ]  # fmt: skip
    (made,) = client.conversations()
    stored = client.messages(made["id"])
    assert [m["role"] for m in stored] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [call["function"]["arguments"] for call in stored[1]["tool_calls"]] == [given for _, given in calls]


def test_several_choices_and_what_they_are_made_of(sdk: OpenAI, model: Upstream) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}
    choices = [
        {"index": i, "message": {"role": "assistant", "content": "Hi"}, "logprobs": logprobs, "finish_reason": "length"}
        for i in range(2)
    ]
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    model.queue(Script(body=json.dumps({**whole, "service_tier": "flex", "x_unknown": {"a": 1}}).encode()))
    answer = sdk.chat.completions.create(
        model="gpt-4", messages=ASKED, n=2, logprobs=True, top_logprobs=1, extra_body={"x_asked": [1]}
    )
    assert len(answer.choices) == 2
    assert answer.choices[1].logprobs is not None
    assert answer.choices[1].logprobs.content is not None
    assert answer.choices[1].logprobs.content[0].bytes == [72, 105]
    assert answer.choices[1].finish_reason == "length"
    assert answer.service_tier == "flex"
    assert answer.model_extra == {"x_unknown": {"a": 1}}
    assert sent(model).json["x_asked"] == [1]
    assert sent(model).json["n"] == 2


class Place(BaseModel):
    """What a structured answer holds."""

    room: str


def test_a_structured_answer(sdk: OpenAI, model: Upstream) -> None:
    model.queue(Script(text='{"room":"kitchen"}'))
    answer = sdk.chat.completions.parse(model="gpt-4", messages=ASKED, response_format=Place)
    assert answer.choices[0].message.parsed == Place(room="kitchen")
    assert sent(model).json["response_format"]["type"] == "json_schema"


def test_a_refusal(sdk: OpenAI, model: Upstream, client: Client) -> None:
    head: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [
        {"index": 0, "delta": {"role": "assistant", "refusal": "I wo"}, "finish_reason": None},
        {"index": 0, "delta": {"refusal": "n't."}, "finish_reason": "stop"},
    ]
    events = (*(json.dumps({**head, "choices": [choice]}).encode() for choice in choices), b"[DONE]")
    model.queue(Script(events=events))
    chunks = list(sdk.chat.completions.create(model="gpt-4", messages=ASKED, stream=True))
    assert "".join(c.choices[0].delta.refusal or "" for c in chunks) == "I won't."
    assert client.spoken(client.conversations()[0]["id"])[-1] == ("assistant", "I won't.")


def test_pictures_go_through(sdk: OpenAI, model: Upstream) -> None:
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}},
    ]
    sdk.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": parts}])
    assert sent(model).json["messages"][-1]["content"] == parts


def test_headers_tell_where_the_turn_is_stored(sdk: OpenAI, client: Client, model: Upstream) -> None:
    model.queue(Script(headers={"x-request-id": "from-the-model", "x-ratelimit-remaining-requests": "9"}))
    raw = sdk.chat.completions.with_raw_response.create(model="gpt-4", messages=ASKED)
    assert raw.request_id == "from-the-model"
    assert raw.headers["x-ratelimit-remaining-requests"] == "9"
    conversation = raw.headers["x-aforesaid-conversation-id"]
    assert raw.parse().choices[0].message.content == TEXT
    more: Any = [{"role": "user", "content": "And the teapot?"}]
    sdk.chat.completions.create(model="gpt-4", messages=more, extra_headers={"x-conversation-id": conversation})
    assert len(client.messages(conversation)) == 4
    with sdk.chat.completions.with_streaming_response.create(model="gpt-4", messages=ASKED, stream=True) as streaming:
        assert streaming.headers["x-aforesaid-receipt-id"].startswith("rcp_")
        assert list(streaming.iter_lines())[-2:] == ["data: [DONE]", ""]


def test_models(sdk: OpenAI) -> None:
    assert [found.id for found in sdk.models.list()] == ["gpt-4", "small"]
    assert sdk.models.retrieve("small").id == "small"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nothing")


ERRORS: list[tuple[int, type[openai.APIStatusError]]] = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (409, openai.ConflictError),
    (422, openai.UnprocessableEntityError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (502, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "kind"), ERRORS)
def test_errors_are_raised_as_what_they_are(
    sdk: OpenAI, model: Upstream, status: int, kind: type[openai.APIStatusError], stream: bool
) -> None:
    body = {"error": {"message": "no such thing", "type": "t", "param": "p", "code": "c"}}
    model.queue(Script(status=status, body=json.dumps(body).encode(), headers={"retry-after": "3"}), Script())
    with pytest.raises(kind) as raised:
        sdk.chat.completions.create(model="gpt-4", messages=ASKED, stream=stream)
    assert raised.value.status_code == status
    assert "no such thing" in raised.value.message
    assert (raised.value.code, raised.value.param, raised.value.type) == ("c", "p", "t")
    assert raised.value.response.headers["retry-after"] == "3"
    assert raised.value.request_id
    sdk.chat.completions.create(model="gpt-4", messages=ASKED)


def test_our_own_errors_are_raised_as_what_they_are(sdk: OpenAI, running: RunningServer) -> None:
    with (
        pytest.raises(openai.AuthenticationError) as wrong,
        OpenAI(api_key="wrong", base_url=str(sdk.base_url), max_retries=0) as other,
    ):
        other.chat.completions.create(model="gpt-4", messages=ASKED)
    assert wrong.value.code == "invalid_api_key"
    assert wrong.value.request_id
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="gpt-4", messages=ASKED, extra_headers={"x-conversation-id": "nothing"})
    with pytest.raises(openai.BadRequestError) as empty:
        sdk.chat.completions.create(model="gpt-4", messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(openai.PermissionDeniedError):
        sdk.chat.completions.create(model="gpt-4", messages=ASKED, extra_headers={"x-workspace-id": "wsp_other"})


def test_a_stream_that_breaks_is_raised(sdk: OpenAI, model: Upstream) -> None:
    model.queue(Script(words=9, die_after=4))
    stream = sdk.chat.completions.create(model="gpt-4", messages=ASKED, stream=True)
    seen = [next(stream) for _ in range(4)]
    with pytest.raises(openai.APIError) as broken:
        next(stream)
    assert len(seen) == 4
    assert "broke" in broken.value.message


def test_the_client_tries_again(running: RunningServer, request: pytest.FixtureRequest, model: Upstream) -> None:
    """429 and 5xx are the client's to retry, at the pace that the model server asked for; the turn is stored once."""
    for script in (Script(status=429, headers={"retry-after-ms": "20"}), Script(status=500), Script(status=503)):
        model.queue(script, Script())
        before = len(model.chats)
        with OpenAI(**{**settings(running, request), "max_retries": 2}) as sdk:
            sdk.chat.completions.create(model="gpt-4", messages=ASKED)
        assert len(model.chats) - before == 2
    model.queue(Script(status=400))
    with OpenAI(**{**settings(running, request), "max_retries": 2}) as sdk, pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(model="gpt-4", messages=ASKED)
    assert len(Client(running, user=user_of(request)).conversations()) == 3


def test_the_client_gives_up(sdk: OpenAI, client: Client, model: Upstream) -> None:
    before = len(model.chats)
    model.queue(Script(delay_s=60))
    with pytest.raises(openai.APITimeoutError):
        sdk.with_options(timeout=0.3).chat.completions.create(model="gpt-4", messages=ASKED)
    assert model.chats[before].wait() is not None  # and so does the server
    assert client.conversations() == []


def test_without_waiting(running: RunningServer, request: pytest.FixtureRequest, model: Upstream) -> None:
    """The asynchronous client: whole, streamed, broken, twenty at once."""

    async def run() -> None:
        async with AsyncOpenAI(**settings(running, request)) as sdk:
            whole = await sdk.chat.completions.create(model="gpt-4", messages=ASKED)
            assert whole.choices[0].message.content == TEXT
            stream = await sdk.chat.completions.create(model="gpt-4", messages=ASKED, stream=True)
            assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == TEXT
            model.queue(Script(words=9, die_after=4))
            broken = await sdk.chat.completions.create(model="gpt-4", messages=ASKED, stream=True)
            with pytest.raises(openai.APIError):
                _ = [chunk async for chunk in broken]
            many = await asyncio.gather(
                *(
                    sdk.chat.completions.create(model=f"gpt-4?text=Answer+{i}&delay_s=0.05", messages=ASKED)
                    for i in range(20)
                )
            )
            assert [one.choices[0].message.content for one in many] == [f"Answer {i}" for i in range(20)]
            assert [found.id async for found in sdk.models.list()] == ["gpt-4", "small"]

    asyncio.run(run())


def test_the_embedded_answerer_speaks_to_it_too(server: ServerFactory, request: pytest.FixtureRequest) -> None:
    """No model server: whatever model is asked for, the answer says which one it is from."""
    running = server(env={"AFORESAID_RECALL_BUDGET_MS": "5000"})
    client = Client(running, user=user_of(request))
    client.bring("My boat is called Perelandra.")
    question: Any = [{"role": "user", "content": "What is my boat called?"}]
    with OpenAI(**settings(running, request)) as sdk:
        whole = sdk.chat.completions.create(model="gpt-4", messages=question, n=2)
        assert whole.model == "aforesaid-extractive"
        assert len(whole.choices) == 2
        assert "Perelandra" in (whole.choices[0].message.content or "")
        with sdk.chat.completions.stream(model="gpt-4", messages=question) as stream:
            final = stream.get_final_completion()
        assert final.model == "aforesaid-extractive"
        assert final.choices[0].message.content == whole.choices[0].message.content
        answer = (
            sdk.chat.completions.create(model="gpt-4", messages=question, response_format={"type": "json_object"})
            .choices[0]
            .message.content
        )
        assert "Perelandra" in json.loads(answer or "")["answer"]
        tools = sdk.chat.completions.create(model="gpt-4", messages=question, tools=TOOLS)
        assert tools.choices[0].message.tool_calls is None
        assert [found.id for found in sdk.models.list()] == ["aforesaid-extractive"]
