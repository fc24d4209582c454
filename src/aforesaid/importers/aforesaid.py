"""The program's own JSONL, and the lines that people write by hand. *Source*: docs/reference/jsonl.md."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from aforesaid import ids
from aforesaid.errors import Invalid
from aforesaid.importers import limits, rows
from aforesaid.importers.content import text_and_attachments
from aforesaid.importers.rows import Broken, Entry, Ignored, ImportedConversation, ImportedMessage, Read
from aforesaid.model import Json

VERSION = 1
"""The format written and the newest one read."""

_ALIASES = {
    "metadata": "meta_data", "sender": "sender_id", "timestamp": "created_at", "user_id": "owner_id",
    "conversation": "conversation_id", "message_id": "id", "text": "content", "name": "sender_id",
}  # fmt: skip
_SPELLINGS = {meant: [alias for alias in _ALIASES if _ALIASES[alias] == meant] for meant in _ALIASES.values()}


def fits(row: Json) -> bool:
    """Whether the object is one of this format's lines."""
    kind = row.get("type")
    if isinstance(row.get("messages"), list) or kind in ("aforesaid", "conversation"):
        return True
    return ("content" in row or "text" in row) and (kind == "message" or "role" in row or "conversation_id" in row)


def read(entries: Iterator[Entry | Broken], ignored: Ignored) -> Iterator[Read]:
    """The conversations of the lines, in stretches of one conversation's neighbouring messages."""
    reader = _Reader(ignored)
    for entry in entries:
        if isinstance(entry, Broken):
            yield from reader.flush()  # what stands before a broken row comes before it
            yield entry
            continue
        line, row = entry
        try:
            yield from reader.take(line, row)
        except Invalid as error:
            yield from reader.flush()
            yield rows.broken(line, error)
    yield from reader.flush()


class _Reader:
    """The stretch being gathered."""

    def __init__(self, ignored: Ignored) -> None:
        self._ignored = ignored
        self._head: ImportedConversation | None = None
        self._untold = False
        self._messages: list[ImportedMessage] = []
        self._size = 0
        self._places: dict[str, int] = {}

    def take(self, line: int, row: Json) -> Iterator[Read]:
        """The line is part of the stretch; what it ends is given. *Raises*: Invalid when the line can't be read."""
        kind = row.get("type")
        if kind == "aforesaid":
            self._check_version(row)
        elif kind == "conversation" or isinstance(row.get("messages"), list):
            yield from self.flush()
            self._head = None  # so that nothing falls to the conversation above when this line is broken
            messages = row.get("messages")
            self._head = conversation(row, line, self._ignored)
            self._untold = True
            if messages is not None:
                yield from self._inline(line, messages)
        elif fits(row):
            yield from self._message(line, row)
        else:
            raise Invalid("neither a conversation nor a message", *(("type",) if "type" in row else ()))

    def flush(self) -> Iterator[Read]:
        """The stretch gathered so far is given. Its conversation stays the current one."""
        if self._head is not None and (self._untold or self._messages):
            yield msgspec.structs.replace(self._head, messages=tuple(self._messages))
        self._untold = False
        self._messages = []
        self._size = 0

    def _check_version(self, row: Json) -> None:
        version = row.get("version")
        if not isinstance(version, int) or version > VERSION:
            raise Invalid(f"version {str(version)[:20]} of the format; this program reads up to {VERSION}", "version")

    def _inline(self, line: int, messages: Any) -> Iterator[Read]:
        if not isinstance(messages, list):
            raise Invalid("expected a list", "messages")
        assert self._head is not None
        external_id = self._head.external_id
        self._places.pop(external_id, None)  # a conversation told as a whole is counted from its start each time
        for place, item in enumerate(messages):
            try:
                if not isinstance(item, dict):
                    raise Invalid("expected an object")
                draft = message(item, self._ignored)
            except Invalid as error:
                yield rows.broken(line, error, "messages", place)
            else:
                yield from self._add(draft)
        yield from self.flush()
        self._places.pop(external_id, None)
        self._head = None

    def _message(self, line: int, row: Json) -> Iterator[Read]:
        key = rows.name(_get(row, "conversation_id"), "conversation_id")
        head = self._head
        if key is None and head is None:
            raise Invalid("the message names no conversation, and none stands above it", "conversation_id")
        draft = message(row, self._ignored)
        if key is not None and (head is None or key not in (head.external_id, head.id)):
            yield from self.flush()
            self._head = ImportedConversation(external_id=key, messages=(), line=line, described=False)
        yield from self._add(draft)

    def _add(self, draft: ImportedMessage) -> Iterator[Read]:
        head = self._head
        assert head is not None
        if not rows.has_identity(draft):
            place = self._places[head.external_id] = self._places.get(head.external_id, 0) + 1
            draft = rows.identified(draft, head.external_id, place)
        self._messages.append(draft)
        self._size += len(draft.content)
        if len(self._messages) >= limits.MAX_STRETCH_MESSAGES or self._size >= limits.MAX_STRETCH_BYTES:
            yield from self.flush()


def conversation(row: Json, line: int, ignored: Ignored) -> ImportedConversation:
    """The conversation that a line describes, without its messages. One without an id is named by its content."""
    fields = _checked(row, _CONVERSATION, "conversation", ignored)
    own: str | None = fields.get("id") or rows.name(_get(row, "conversation_id"), "conversation_id")
    external = fields.pop("external_id", None) or own
    if external is None:
        if not isinstance(row.get("messages"), list):
            raise Invalid("a conversation needs an id", "id")
        external = "content:" + _digest(row["messages"])
    return ImportedConversation(**{**fields, "id": own}, external_id=external, messages=(), line=line)


def message(row: Json, ignored: Ignored) -> ImportedMessage:
    """The message that an object describes. *Raises*: Invalid, with the field under the object."""
    content = _get(row, "content")
    words, parts = text_and_attachments(content, "content")
    fields = _checked(row, _MESSAGE, "message", ignored)
    if parts:
        fields["attachments"] = rows.objects([*fields.get("attachments", []), *parts], "content")
    if content is None and not fields.get("tool_calls") and not fields.get("attachments"):
        raise Invalid("a message needs content", "content")
    if (call := rows.name(row.get("tool_call_id"), "tool_call_id")) is not None:
        fields["meta_data"] = {**fields.get("meta_data", {}), "tool_call_id": call}
    fields["external_id"] = fields.get("external_id") or fields.get("id")
    return ImportedMessage(**fields, content=rows.text(words, "content"))


def _digest(messages: list[Any]) -> str:
    """The fingerprint of a list of messages as they stand."""
    try:
        return ids.fingerprint(msgspec.json.encode(messages, order="deterministic").decode()).hex()
    except (UnicodeError, RecursionError):
        raise Invalid("a conversation without an id must hold clean text, to be named by it", "messages") from None


def _get(row: Json, key: str) -> Any:
    """The value under the key or under one of its aliases."""
    value = row.get(key)
    if value is None:
        return next((row[alias] for alias in _SPELLINGS[key] if row.get(alias) is not None), None)
    return value


def _checked(row: Json, known: dict[str, tuple[str, Callable[..., Any]] | None], what: str, ignored: Ignored) -> Json:
    """The known fields that are there, checked, by their names in the Struct; unknown names are noted."""
    fields: Json = {}
    for key, value in row.items():
        meant = _ALIASES.get(key, key)
        meant = meant if meant in known else key
        if meant not in known:
            ignored.note(f"{what}.{key}")
        elif (field := known[meant]) is not None and value is not None and (key == meant or row.get(meant) is None):
            checked = field[1](value, key)
            if checked is not None:
                fields[field[0]] = checked
    return fields


def _rating(value: Any, *field: str | int) -> int:
    if isinstance(value, bool) or value not in (-1, 0, 1):
        raise Invalid("expected -1, 0 or 1", *field)
    return int(value)


def _tags(value: Any, *field: str | int) -> tuple[str, ...] | None:
    return rows.names(value, *field) or None


_CONVERSATION: dict[str, tuple[str, Callable[..., Any]] | None] = {
    "type": None,
    "messages": None,
    "conversation_id": None,
    "message_count": None,
    "id": ("id", rows.name),
    "external_id": ("external_id", rows.name),
    "owner_id": ("owner_id", rows.name),
    "session_id": ("session_id", rows.name),
    "title": ("title", rows.optional_text),
    "summary": ("summary", rows.optional_text),
    "status": ("status", rows.name),
    "is_public": ("is_public", rows.flag),
    "collections": ("collections", rows.names),
    "meta_data": ("meta_data", rows.metadata),
    "settings": ("settings", rows.metadata),
    "created_by": ("created_by", rows.name),
    "created_at": ("created_us", rows.time),
    "updated_at": ("updated_us", rows.time),
    "ended_at": ("ended_us", rows.time),
}
_MESSAGE: dict[str, tuple[str, Callable[..., Any]] | None] = {
    "type": None,
    "conversation_id": None,
    "content": None,
    "tool_call_id": None,
    "seq": None,
    "id": ("id", rows.name),
    "external_id": ("external_id", rows.name),
    "checksum": ("checksum", rows.name),
    "role": ("role", rows.role),
    "sender_id": ("sender_id", rows.name),
    "owner_id": ("owner_id", rows.name),
    "message_type": ("message_type", rows.name),
    "parent_message_id": ("parent_message_id", rows.name),
    "created_at": ("created_us", rows.time),
    "updated_at": ("updated_us", rows.time),
    "sent_at": ("sent_us", rows.time),
    "tags": ("tags", _tags),
    "tool_calls": ("tool_calls", rows.objects),
    "attachments": ("attachments", rows.objects),
    "meta_data": ("meta_data", rows.metadata),
    "rating": ("rating", _rating),
    "incomplete": ("incomplete", rows.flag),
}
