"""Completions written here: what a request allows, the answer's shape, and whole answers given as streams.

*Source*: OpenAI's API reference, "Create chat completion" and "The chat completion chunk object".
"""

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any, Literal

import msgspec

from aforesaid.errors import UpstreamFailed
from aforesaid.model import Frozen, Json
from aforesaid.providers.exchange import MAX_CHOICES, refused
from aforesaid.providers.tokens import split

DONE = b"data: [DONE]\n\n"
WORDS_A_CHUNK = 3
MAX_STOPS = 16


def frame(value: Any) -> bytes:
    """A value as one server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


class WholeAnswer:
    """An answer that is all there; ``frames`` are its events when it is to be given as a stream."""

    status = 200

    def __init__(
        self,
        headers: dict[str, str],
        model: str,
        upstream: str,
        body: bytes,
        frames: list[bytes] | None = None,
    ) -> None:
        streaming = frames is not None
        self.headers = {**headers, "content-type": "text/event-stream" if streaming else "application/json"}
        self.model = model
        self.upstream = upstream
        self.streaming = streaming
        self._body = body
        self._frames = frames or []

    async def body(self) -> bytes:
        return self._body

    async def events(self) -> AsyncGenerator[bytes, None]:
        for event in self._frames:
            yield event

    async def close(self) -> None:
        """Nothing is held."""


def as_events(body: bytes, name: str) -> list[bytes]:
    """The events that amount to a whole completion. *Raises*: UpstreamFailed when ``body`` is none."""
    completion = msgspec.json.decode(body)
    choices = completion.get("choices")
    if not isinstance(choices, list) or not all(
        isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices
    ):
        raise UpstreamFailed(f"{name} answered with JSON that is not a completion")
    kept = {key: completion[key] for key in ("id", "created", "model", "system_fingerprint") if key in completion}
    head = {**kept, "object": "chat.completion.chunk"}
    frames = []
    for place, choice in enumerate(choices):
        delta = {key: value for key, value in choice["message"].items() if value is not None}
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls) if isinstance(call, dict)]
        rest = {key: value for key, value in choice.items() if key not in ("message", "finish_reason", "index")}
        index = choice.get("index", place)
        frames.append(frame({**head, "choices": [{"index": index, "delta": delta, "finish_reason": None, **rest}]}))
        end = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        frames.append(frame({**head, "choices": [end]}))
    if isinstance(completion.get("usage"), dict):
        frames.append(frame({**head, "choices": [], "usage": completion["usage"]}))
    return [*frames, DONE]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Json | None = None


class Asked(msgspec.Struct):
    """The fields of a request that an embedded answerer heeds. The rest concerns sampling, which it does not do."""

    messages: list[Json] = []
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    tool_choice: str | Json | None = None
    function_call: str | Json | None = None
    response_format: ResponseFormat | None = None
    stream_options: StreamOptions | None = None
    modalities: list[str] | None = None

    @property
    def limit(self) -> int | None:
        """How many tokens an answer may have."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in stops if stop]


def asked(body: bytes) -> Asked:
    """What a request asks of an embedded answerer. *Raises*: UpstreamFailed (400) for what it can't do."""
    try:
        found = msgspec.json.decode(body, type=Asked)
    except (msgspec.DecodeError, RecursionError) as error:
        path = str(error).partition("`$.")[2].partition("`")[0]
        raise refused(f"The request can't be understood: {error}", path or None) from None
    if found.n is not None and not 1 <= found.n <= MAX_CHOICES:
        raise refused(f"n must be between 1 and {MAX_CHOICES}.", "n")
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(found, name)
        if value is not None and value < 1:
            raise refused(f"{name} must be at least 1.", name)
    if isinstance(found.stop, list) and len(found.stop) > MAX_STOPS:
        raise refused(f"stop may hold at most {MAX_STOPS} texts.", "stop")
    if found.modalities is not None and found.modalities != ["text"]:
        raise refused("The embedded answerer gives text only.", "modalities")
    for name, choice in (("tool_choice", found.tool_choice), ("function_call", found.function_call)):
        if not (choice is None or choice in ("auto", "none")):
            raise refused("The embedded answerer never calls tools, so it can't be required to.", name)
    return found


class Written(Frozen, frozen=True, kw_only=True):
    """The text of an answer as it is given, cut to what was allowed."""

    text: str
    pieces: tuple[str, ...]
    finish_reason: Literal["stop", "length"]


def written(text: str, request: Asked) -> Written:
    """The text up to the first stop and within the token limit."""
    stopped = [at for stop in request.stops if (at := text.find(stop)) >= 0]
    if stopped:
        text = text[: min(stopped)]
    pieces = split(text)
    if request.limit is not None and len(pieces) > request.limit:
        pieces = pieces[: request.limit]
        return Written(text="".join(pieces), pieces=tuple(pieces), finish_reason="length")
    return Written(text=text, pieces=tuple(pieces), finish_reason="stop")


def prompt_tokens(request: Asked) -> int:
    """The words of the messages, as the embedded answerer counts."""
    total = 0
    for message in request.messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        total += sum(len(split(text)) for text in texts if isinstance(text, str))
    return total


def answer_of(text: str, request: Asked, *, model: str, stream: bool) -> WholeAnswer:
    """The text as a completion, or as the events of one. Each of ``n`` choices is the same: nothing is sampled."""
    done = written(text, request)
    count = request.n or 1
    said = count * len(done.pieces)
    spent = prompt_tokens(request)
    usage = {"prompt_tokens": spent, "completion_tokens": said, "total_tokens": spent + said}
    head: Json = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk" if stream else "chat.completion",
        "created": int(time.time()),
        "model": model,
    }
    if not stream:
        message = {"role": "assistant", "content": done.text, "refusal": None}
        choices = [
            {"index": at, "message": message, "logprobs": None, "finish_reason": done.finish_reason}
            for at in range(count)
        ]
        body = msgspec.json.encode({**head, "choices": choices, "usage": usage})
        return WholeAnswer({}, model, "aforesaid", body)
    with_usage = request.stream_options is not None and bool(request.stream_options.include_usage)
    tail: Json = {"usage": None} if with_usage else {}

    def chunk(at: int, delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": at, "delta": delta, "logprobs": None, "finish_reason": reason}
        return frame({**head, "choices": [choice], **tail})

    frames = [chunk(at, {"role": "assistant", "content": ""}) for at in range(count)]
    for start in range(0, len(done.pieces), WORDS_A_CHUNK):
        piece = "".join(done.pieces[start : start + WORDS_A_CHUNK])
        frames.extend(chunk(at, {"content": piece}) for at in range(count))
    frames.extend(chunk(at, {}, done.finish_reason) for at in range(count))
    if with_usage:
        frames.append(frame({**head, "choices": [], "usage": usage}))
    return WholeAnswer({}, model, "aforesaid", b"", [*frames, DONE])
