"""Chat completions as OpenAI's SDKs speak them, with the memory of the user whom a header or the body names."""

from typing import Any

import msgspec

from aforesaid.core import asking, completion
from aforesaid.errors import Forbidden, Invalid, NotFound
from aforesaid.http import body as bodies
from aforesaid.http.endpoint import Call, Endpoint, Parameter, Reply, Streamed
from aforesaid.http.stream import Stream, unless_left

TAG = "Chat"

USER_HEADERS = ("x-user-id", "x-openwebui-user-id")
"""Headers that name the user, the first that is there. The body's ``user_id`` goes before, its ``user`` after."""


class ChatMessage(msgspec.Struct, kw_only=True):
    """A message of the request, in OpenAI's form."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatIn(msgspec.Struct, kw_only=True):
    """OpenAI's request; every field of it is passed on. Those named here are looked at."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    user: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None
    session_id: str | None = None
    memories_enabled: bool | None = None


class ChatChoice(msgspec.Struct, kw_only=True):
    """One of the answers."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None = None


class ChatOut(msgspec.Struct, kw_only=True):
    """OpenAI's answer, as the model server gave it."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: dict[str, Any] | None = None


class ModelRead(msgspec.Struct, kw_only=True):
    """A model that can be asked for."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(msgspec.Struct, kw_only=True):
    """The models that can be asked for."""

    object: str
    data: list[ModelRead]


HEADERS = (
    Parameter(name="x-user-id", about="The user whose memory is used and grows.", example="your-user-id"),
    Parameter(name="x-conversation-id", about="The stored conversation that this one goes on with."),
    Parameter(name="x-session-id", about="Your own name for a conversation: found again, or begun."),
    Parameter(name="x-workspace-id", about="The key's own workspace; another one is refused."),
    Parameter(name="x-collection-ids", about="Collections to retrieve from, as a JSON array."),
    Parameter(name="x-memories-enabled", about="false: nothing is recalled.", example="true"),
    Parameter(name="x-aforesaid-store", about="false: nothing of this turn is stored.", example="true"),
)
GIVES_HEADERS = (
    Parameter(name="x-aforesaid-conversation-id", about="Where the turn is stored."),
    Parameter(name="x-aforesaid-receipt-id", about="What was put before the answer: `GET /receipts/{id}`."),
    Parameter(name="x-aforesaid-memories", about="How many records were put before the question.", example="3"),
    Parameter(name="x-aforesaid-tokens", about="About how many tokens they take.", example="210"),
    Parameter(name="x-aforesaid-recall-ms", about="How long recall took.", example="2.1"),
    Parameter(name="x-aforesaid-recall", about="`done`, or `skipped` and why.", example="done"),
)


EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def _given(call: Call) -> dict[str, str | None]:
    """What headers say of the request; the body goes before. *Raises* ``Invalid`` for a user who is named blank."""
    named = [(name, told) for name in USER_HEADERS if (told := call.told(name)) is not None]
    if named and not named[0][1].strip():
        raise Invalid("must not be empty or blank", named[0][0])
    return {
        "user_id": named[0][1] if named else None,
        "conversation_id": call.told("x-conversation-id"),
        "session_id": call.told("x-session-id"),
        "workspace_id": call.headers.get("x-workspace-id"),
        "memories": call.headers.get("x-memories-enabled") or None,
        "store": call.headers.get("x-aforesaid-store") or None,
    }


async def _complete(call: Call) -> Reply | Streamed:
    try:
        asked = asking.understood(call.raw, _given(call))
    except msgspec.ValidationError as error:
        raise bodies.refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bodies.MalformedJson(f"malformed JSON: {error}") from None
    if asked.workspace_id is not None and asked.workspace_id != call.caller.workspace_id:
        raise Forbidden("the API key does not belong to this workspace", permission="workspace")
    bodies.check_json(call.raw)
    return await unless_left(call.receive, _answered(call, asked))


async def _answered(call: Call, asked: asking.Asked) -> Reply | Streamed:
    running = await completion.complete(call.services, call.caller, asked, tuple(call.headers.items()))
    if running.streaming:
        return Stream(running.events(), status=running.status, headers={**running.headers, **EVENTS})
    return Reply(running.status, await running.body(), headers=running.headers)


async def _models(call: Call) -> Reply:
    return Reply.json({"object": "list", "data": await call.services.chat.models()})


async def _model(call: Call) -> Reply:
    wanted = call.path["model"]
    found = next((model for model in await call.services.chat.models() if model["id"] == wanted), None)
    if found is None:
        raise NotFound(f"Model '{wanted}'")
    return Reply.json(found)


ENDPOINTS = (
    Endpoint(
        method="POST", path="/chat/completions", run=_complete, name="create_chat_completion", tag=TAG, access="write",
        summary="A completion that remembers",
        about="OpenAI's endpoint, for OpenAI's SDKs. What the user said in earlier conversations and fits the question "
        "is put before it as one block of data; the turn is stored. Without a model server, an embedded one answers, "
        "and `model` says so.",
        body=ChatIn, parse=False, gives=ChatOut, streams=dict[str, Any], headers=HEADERS, gives_headers=GIVES_HEADERS,
        errors=(400, 403, 404, 429, 502, 503, 504),
        example={"model": "gpt-4", "messages": [{"role": "user", "content": "Summarize this conversation."}]},
    ),
    Endpoint(
        method="GET", path="/models", run=_models, name="list_models", tag=TAG, summary="Models that can be asked for",
        gives=ModelList, errors=(502,),
    ),
    Endpoint(
        method="GET", path="/models/{model:path}", run=_model, name="get_model", tag=TAG, summary="Read a model",
        gives=ModelRead, errors=(404, 502),
    ),
)  # fmt: skip
