"""Server-sent events: whole events out of any pieces, and what a stream of completion chunks amounts to.

*Source*: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. A line ends with
LF, CRLF or CR; an event with an empty line. The relay passes bytes on as they came: it needs to know only where
events end. What they say is read later, in blocks, off the path of the bytes.
"""

import re
from typing import Any

import msgspec

from aforesaid.errors import UpstreamFailed
from aforesaid.model import Frozen, Json
from aforesaid.providers.exchange import MAX_EVENT_BYTES

BLOCK_BYTES = 65_536
"""How much a collector keeps unread: about 250 events, half a millisecond to read."""
MAX_TEXT = 8_000_000
"""Characters a collector keeps of one answer; the rest is left out and ``truncated`` says so."""
MAX_PARTS = 1_024
"""Choices of an answer, and tool calls of a choice, that a collector keeps."""

_DONE = re.compile(rb"(?:\A|[\r\n])data: ?\[DONE\][ \t]*(?=[\r\n]|\Z)")
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


def boundary(data: bytes | bytearray, start: int = 0) -> int:
    """The end of the last whole event in ``data``, or 0. The search begins at ``start``."""
    end = 0
    for mark in (b"\n\n", b"\n\r\n", b"\r\r"):
        found = data.rfind(mark, start)
        if found >= 0:
            end = max(end, found + len(mark))
    return end


def is_done(events: bytes) -> bool:
    """Whether the stream's own end mark is a line of ``events``."""
    return b"[DONE]" in events and _DONE.search(events) is not None


def done_at(events: bytes) -> int:
    """Where the line with the stream's own end mark begins in ``events``; -1 without one. *Cost*: 0.1 µs an event."""
    if b"[DONE]" not in events:
        return -1
    found = _DONE.search(events)
    return -1 if found is None else events.index(b"data:", found.start())


def finishes(events: bytes) -> int:
    """How many choices say in ``events`` why they ended. *Cost*: under 1 µs an event."""
    return len(_FINISH.findall(events)) if _FINISH.search(events) else 0


class Splitter:
    """Whole events out of pieces cut anywhere. What is given and what is left over together are what was fed."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def rest(self) -> bytes:
        """The event not yet whole."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> bytes:
        """The events that are whole now, in one piece; empty when none is.

        *Raises*: UpstreamFailed when one event exceeds ``MAX_EVENT_BYTES``. *Cost*: 0.1 µs where a piece is whole.
        """
        rest = self._rest
        if not rest and data.endswith(b"\n\n"):
            return data
        start = max(0, len(rest) - 3)
        rest += data
        end = boundary(rest, start)
        if not end:
            if len(rest) > MAX_EVENT_BYTES:
                raise UpstreamFailed(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")
            return b""
        whole = bytes(rest[:end])
        del rest[:end]
        return whole

    def finish(self) -> bytes:
        """The end mark, given its missing empty line, when the stream ended right behind it; otherwise nothing."""
        last = bytes(self._rest).strip(b"\r\n")
        if last in (b"data: [DONE]", b"data:[DONE]"):
            self._rest.clear()
            return last + b"\n\n"
        return b""


def payloads(events: bytes) -> list[bytes]:
    """The data of each event that has any, in order; several data lines are one text with line feeds between."""
    if b"\r" in events:
        events = events.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found = []
    for event in events.split(b"\n\n"):
        if event.startswith(b"data: ") and b"\n" not in event:
            found.append(event[6:])
            continue
        lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(line.removeprefix(b" ") for line in lines))
    return found


class Choice(Frozen, frozen=True, kw_only=True):
    """One of the answers of a completion, put together. ``tool_calls`` are as in a message that was not streamed."""

    index: int
    role: str = "assistant"
    content: str = ""
    refusal: str | None = None
    tool_calls: list[Json] | None = None
    finish_reason: str | None = None


class Answer(Frozen, frozen=True, kw_only=True):
    """What an answer was. ``complete``: every choice said why it ended, or the stream had its end mark.

    ``truncated``: it was longer than is kept. ``error`` is what an error event said.
    """

    id: str | None = None
    model: str | None = None
    choices: tuple[Choice, ...] = ()
    usage: Json | None = None
    complete: bool = False
    truncated: bool = False
    error: Any = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Said(msgspec.Struct):
    role: str | None = None
    content: str | list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Part(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Part] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


def _loosely(payload: bytes) -> _Chunk | None:
    """What can be understood of a chunk with a field of an unexpected type; None when it is no JSON object."""
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    parts: list[_Part] = []
    choices = found.get("choices")
    for raw in choices if isinstance(choices, list) else []:
        if not isinstance(raw, dict):
            continue
        index, reason = raw.get("index"), raw.get("finish_reason")
        part = _Part(
            index=index if isinstance(index, int) else 0,
            delta=_fitting(raw.get("delta"), _Said) or _fitting(raw.get("message"), _Said),
            finish_reason=reason if isinstance(reason, str) else None,
        )
        parts.append(part)
    usage, name, model = found.get("usage"), found.get("id"), found.get("model")
    return _Chunk(
        id=name if isinstance(name, str) else None,
        model=model if isinstance(model, str) else None,
        choices=parts,
        usage=usage if isinstance(usage, dict) else None,
        error=found.get("error"),
    )


def _fitting(value: Any, kind: type[Any]) -> Any:
    """The value as a struct with only its fields that fit; None when it is no object."""
    if not isinstance(value, dict):
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        pass
    kept = kind()
    for field in msgspec.structs.fields(kind):
        try:
            setattr(kept, field.name, msgspec.convert(value.get(field.name, field.default), field.type))
        except msgspec.ValidationError:
            continue
    return kept


class _Growing:
    """A choice while its pieces come in."""

    __slots__ = ("calls", "finish_reason", "refusal", "role", "text")

    def __init__(self) -> None:
        self.role = "assistant"
        self.text: list[str] = []
        self.refusal: list[str] = []
        self.calls: list[tuple[int | None, Json, list[str]]] = []
        self.finish_reason: str | None = None

    def call(self, delta: _ToolCall) -> int:
        """The call's piece is added where it belongs; gives how long it was."""
        place = self._place(delta)
        if place is None:
            if len(self.calls) >= MAX_PARTS:
                return 0
            self.calls.append((delta.index, {"id": None, "type": "function", "function": {"name": ""}}, []))
            place = len(self.calls) - 1
        _, call, arguments = self.calls[place]
        if delta.id:
            call["id"] = delta.id
        if delta.type:
            call["type"] = delta.type
        if delta.function is None:
            return 0
        call["function"]["name"] += delta.function.name or ""
        arguments.append(delta.function.arguments or "")
        return len(arguments[-1])

    def _place(self, delta: _ToolCall) -> int | None:
        if delta.index is not None:
            return next((at for at, (index, _, _) in enumerate(self.calls) if index == delta.index), None)
        # Some servers send whole calls and no index: a new id is a new call.
        if delta.id is not None:
            return next((at for at, (_, call, _) in enumerate(self.calls) if call["id"] == delta.id), None)
        return len(self.calls) - 1 if self.calls else None

    def tool_calls(self) -> list[Json] | None:
        done = []
        for _, call, arguments in self.calls:
            function = {**call["function"], "arguments": "".join(arguments)}
            done.append({**call, "function": function})
        return done or None


class Collector:
    """What an answer was, gathered while its events pass by. Feed it what was delivered, in order.

    Reading is put off: events are kept until ``BLOCK_BYTES`` have come, then read together, so an event costs its
    share (2 µs) and memory is bounded by ``BLOCK_BYTES`` and ``MAX_TEXT``.
    """

    def __init__(self) -> None:
        self._raw: list[bytes] = []
        self._size = 0
        self._choices: dict[int, _Growing] = {}
        self._id: str | None = None
        self._model: str | None = None
        self._usage: Json | None = None
        self._error: Any = None
        self._done = False
        self._length = 0
        self._truncated = False

    def feed(self, events: bytes) -> None:
        """The events are part of the answer."""
        self._raw.append(events)
        self._size += len(events)
        if self._size >= BLOCK_BYTES:
            self._read()

    def feed_body(self, body: bytes) -> None:
        """The body is the answer, not streamed. *Cost*: 1 ms a megabyte."""
        self._take(body)

    def answer(self) -> Answer:
        """What the answer amounts to so far."""
        self._read()
        choices = tuple(
            Choice(
                index=index,
                role=growing.role,
                content="".join(growing.text),
                refusal="".join(growing.refusal) or None,
                tool_calls=growing.tool_calls(),
                finish_reason=growing.finish_reason,
            )
            for index, growing in sorted(self._choices.items())
        )
        ended = bool(choices) and all(choice.finish_reason for choice in choices)
        return Answer(
            id=self._id,
            model=self._model,
            choices=choices,
            usage=self._usage,
            complete=self._error is None and (self._done or ended),
            truncated=self._truncated,
            error=self._error,
        )

    def _read(self) -> None:
        """What has come is read up to the last whole event."""
        blob = b"".join(self._raw)
        end = boundary(blob)
        self._raw = [blob[end:]] if end < len(blob) else []
        self._size = 0
        if len(blob) - end > MAX_EVENT_BYTES:
            self._raw, self._truncated = [], True
        for payload in payloads(blob[:end]):
            if payload.startswith(b"[DONE]"):
                self._done = True
            else:
                self._take(payload)

    def _take(self, payload: bytes) -> None:
        try:
            chunk: _Chunk | None = _decode(payload)
        except (msgspec.DecodeError, RecursionError):
            chunk = _loosely(payload)
        if chunk is None:
            return
        if chunk.id and self._id is None:
            self._id = chunk.id
        if chunk.model and self._model is None:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.error is not None:
            self._error = chunk.error
        for part in chunk.choices or ():
            self._add(part)

    def _add(self, part: _Part) -> None:
        growing = self._choices.get(part.index)
        if growing is None:
            if len(self._choices) >= MAX_PARTS:
                return
            growing = self._choices[part.index] = _Growing()
        if part.finish_reason:
            growing.finish_reason = part.finish_reason
        said = part.delta or part.message
        if said is None:
            return
        if said.role:
            growing.role = said.role
        if self._length > MAX_TEXT:
            self._truncated = True
            return
        if said.content:
            text = said.content if isinstance(said.content, str) else _text_of(said.content)
            growing.text.append(text)
            self._length += len(text)
        if said.refusal:
            growing.refusal.append(said.refusal)
            self._length += len(said.refusal)
        for call in said.tool_calls or ():
            self._length += growing.call(call)


def _text_of(parts: list[Any]) -> str:
    """The text of a content given in parts."""
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))
