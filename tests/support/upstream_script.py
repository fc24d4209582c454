"""What a scripted upstream says: scripts, how a model name spells one, and the answers made from them. Pure."""

import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

Death = Literal["reset", "close", "cut", "half_event", "half_character", "wrong_length"]
Answer = dict[str, Any]

# Two, three and four bytes of UTF-8: a stream cut anywhere meets them.
TEXT = "The kettle is in the kitchen, beside the bread. Schöne Grüße, 你好 🙂"
EMBEDDING_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Script:
    """One answer to a chat completion.

    What it says:
    ``text``, in pieces of a word each; or ``words``, so many made-up words instead; ``tools``, calls as (name,
    arguments as JSON text); ``finish_reason`` (default: stop, or tool_calls); ``usage`` (default: in a stream when
    asked for); ``model`` (default: what was asked for); ``fields``, merged into the answer and every event, for
    fields nobody knows; ``events``, the payload after ``data: `` of each event, instead of all that.

    How it says it:
    ``status`` other than 200, or a ``body``, is sent whole, with ``content_type`` and ``headers``, streamed or not;
    ``delay_s`` before the first byte; ``pause_s`` after each event; ``split_every`` so many bytes, a write of its own
    (``pause_s`` after each); ``split_at``, the whole stream in two writes, cut at this byte; ``crlf`` for line ends;
    ``comments`` before every event; ``done=False`` leaves out ``[DONE]``.

    How it fails:
    ``stall_after`` events, silence until the client leaves; ``die_after`` events, ``death``:
    ``reset`` (TCP reset), ``close`` (the HTTP answer ends as if complete), ``cut`` (the connection ends inside the
    HTTP answer), ``half_event`` (then as close), ``half_character`` (half of a UTF-8 character, then as close),
    ``wrong_length`` (fewer bytes than announced). In an answer that is not streamed the count is of eighths of it,
    and any death but ``reset`` is ``cut``.
    """

    text: str = TEXT
    words: int = 0
    tools: tuple[tuple[str, str], ...] = ()
    finish_reason: str = ""
    usage: bool | None = None
    model: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[bytes, ...] | None = None

    status: int = 200
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    pause_s: float = 0.0
    split_every: int = 0
    split_at: int = 0
    crlf: bool = False
    comments: bool = False
    done: bool = True

    stall_after: int | None = None
    die_after: int | None = None
    death: Death = "reset"

    def pieces(self) -> list[str]:
        """The text, cut as a model's tokens cut it."""
        if self.words:
            return [f"word{i} " for i in range(self.words)]
        return re.findall(r"\S+\s*|\s+", self.text)


# How the value of a field of each type is read out of a model name.
READERS: dict[object, Callable[[str], object]] = {
    str: str,
    int: int,
    int | None: int,
    float: float,
    bool: lambda text: bool(int(text)),
    bool | None: lambda text: bool(int(text)),
}


def script_of_model(model: str) -> Script | None:
    """The script that a model name spells after its ``?``, or None when it spells none.

    *Raises*: ValueError or AssertionError for one that is misspelt: a test with a typing error must not pass.
    """
    _, mark, query = model.partition("?")
    if not mark:
        return None
    kinds = {one.name: one.type for one in dataclasses.fields(Script)}
    values: dict[str, Any] = {}
    headers: dict[str, str] = {}
    tools: list[tuple[str, str]] = []
    for name, text in parse_qsl(query, keep_blank_values=True, strict_parsing=True):
        if name == "header":
            key, _, value = text.partition(":")
            headers[key.strip()] = value.strip()
        elif name == "tool":
            key, _, value = text.partition(":")
            tools.append((key, value or "{}"))
        elif name == "death":
            assert text in get_args(Death), f"no death is called {text}"
            values[name] = text
        elif name == "body":
            values[name] = text.encode()
        else:
            assert kinds.get(name) in READERS, f"no script has {name}={text} in a model name"
            values[name] = READERS[kinds[name]](text)
    return Script(**values, headers=headers, tools=tuple(tools))


def _messages_text(asked: Answer) -> str:
    return " ".join(str(message.get("content", "")) for message in asked.get("messages", ()))


def _usage(script: Script, asked: Answer) -> Answer:
    given, made = len(_messages_text(asked).split()), len(script.pieces())
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _envelope(script: Script, asked: Answer, model: str, kind: str) -> Answer:
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return {
        "id": f"chatcmpl-{digest[:24]}",
        "object": kind,
        "created": int(time.time()),
        "model": script.model or model,
        **script.fields,
    }


def _finish(script: Script) -> str:
    return script.finish_reason or ("tool_calls" if script.tools else "stop")


def _call(place: int, name: str, arguments: str) -> Answer:
    return {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": arguments}}


def whole_answer(script: Script, asked: Answer, model: str) -> Answer:
    """The answer to a request that does not stream."""
    message: Answer = {"role": "assistant", "content": "".join(script.pieces()), "refusal": None}
    if script.tools:
        message["content"] = None
        message["tool_calls"] = [_call(i, *tool) for i, tool in enumerate(script.tools)]
    choices = [
        {"index": i, "message": message, "logprobs": None, "finish_reason": _finish(script)}
        for i in range(asked.get("n") or 1)
    ]
    answer = _envelope(script, asked, model, "chat.completion") | {"choices": choices}
    return answer | ({} if script.usage is False else {"usage": _usage(script, asked)})


def _deltas(script: Script) -> list[tuple[Answer, str | None]]:
    """What one choice of a stream says, event by event: its delta and its finish."""
    deltas: list[tuple[Answer, str | None]] = [({"role": "assistant", "content": ""}, None)]
    if script.tools:
        for i, (name, arguments) in enumerate(script.tools):
            half = len(arguments) // 2
            deltas.append(({"tool_calls": [{"index": i} | _call(i, name, "")]}, None))
            deltas += [
                ({"tool_calls": [{"index": i, "function": {"arguments": part}}]}, None)
                for part in (arguments[:half], arguments[half:])
                if part
            ]
    else:
        deltas += [({"content": piece}, None) for piece in script.pieces()]
    return [*deltas, ({}, _finish(script))]


def stream_payloads(script: Script, asked: Answer, model: str) -> list[bytes]:
    """What stands after ``data: `` in each event of a stream, in order."""
    if script.events is not None:
        return list(script.events)
    with_usage = script.usage
    if with_usage is None:
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
    envelope = _envelope(script, asked, model, "chat.completion.chunk")
    if with_usage:
        envelope["usage"] = None
    count = asked.get("n") or 1
    events = [
        envelope | {"choices": [{"index": i, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in _deltas(script)
        for i in range(count)
    ]
    if with_usage:
        events.append(envelope | {"choices": [], "usage": _usage(script, asked)})
    payloads = [json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() for event in events]
    return [*payloads, b"[DONE]"] if script.done else payloads


def framed(script: Script, payload: bytes) -> bytes:
    """An event as it goes over the wire."""
    end = b"\r\n" if script.crlf else b"\n"
    comment = b": still here" + end + end if script.comments else b""
    return comment + b"data: " + payload + end + end


def half_character(script: Script, payload: bytes) -> bytes:
    """An event cut inside a UTF-8 character: the given one where it has any, else one of its own."""
    event = framed(script, payload)
    place = next((i for i, byte in enumerate(event) if byte >= 0xC0), None)
    if place is None:
        event = framed(script, '{"choices":[{"index":0,"delta":{"content":"é"}}]}'.encode())
        place = event.index(0xC3)
    return event[: place + 1]


def embedding(text: str) -> list[float]:
    """A unit vector that depends on the text alone: texts that share words lie closer."""
    vector = [0.0] * EMBEDDING_SIZE
    for word in re.findall(r"\w+", text.lower()):
        digest = hashlib.sha256(word.encode()).digest()
        vector[digest[0] % EMBEDDING_SIZE] += 1.0 if digest[1] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]
