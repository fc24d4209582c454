"""The neutral JSONL of conversation research sets: one conversation a line, in dated sessions of two speakers.

Each session becomes a conversation named ``<conversation_id>/<session_id>``. The set gives one time a session, so its
messages are dated one second apart from there, in order.
"""

from collections.abc import Iterator
from typing import Any

from aforesaid.errors import Invalid
from aforesaid.importers import rows
from aforesaid.importers.rows import Broken, Entry, Ignored, Read
from aforesaid.limits import ID_CHARACTERS
from aforesaid.model import Draft, DraftConversation, Json

_ROW = frozenset({"dataset", "conversation_id", "participants", "sessions", "questions"})
_SESSION = frozenset({"session_id", "started_at", "messages"})
_MESSAGE = frozenset({"message_id", "sender", "role", "text", "image_caption", "created_at"})


def fits(row: Json) -> bool:
    """Whether the object is a line of this format."""
    return isinstance(row.get("sessions"), list)


def read(entries: Iterator[Entry | Broken], ignored: Ignored) -> Iterator[Read]:
    """The sessions of each line as conversations. Questions beside them are not read."""
    for entry in entries:
        if isinstance(entry, Broken):
            yield entry
            continue
        line, row = entry
        try:
            key = rows.name(row.get("conversation_id"), "conversation_id")
            dataset = rows.name(row.get("dataset"), "dataset")
            sessions = row.get("sessions")
            if key is None:
                raise Invalid("a conversation needs an id", "conversation_id")
            if not isinstance(sessions, list):
                raise Invalid("expected a list", "sessions")
        except Invalid as error:
            yield rows.broken(line, error)
            continue
        _note(row, _ROW, "conversation", ignored)
        for place, session in enumerate(sessions):
            try:
                yield from _session(session, line, place, key, dataset, ignored)
            except Invalid as error:
                yield rows.broken(line, error, "sessions", place)


def _session(session: Any, line: int, place: int, key: str, dataset: str | None, ignored: Ignored) -> Iterator[Read]:
    if not isinstance(session, dict) or not isinstance(session.get("messages"), list):
        raise Invalid("expected an object with messages")
    _note(session, _SESSION, "session", ignored)
    name = rows.name(session.get("session_id"), "session_id") or f"S{place + 1}"
    started_us = rows.time(session.get("started_at"), "started_at")
    external_id = rows.text(f"{key}/{name}", "session_id", maximum=8 * ID_CHARACTERS)
    drafts: list[Draft] = []
    for number, item in enumerate(session["messages"]):
        at_us = None if started_us is None else started_us + number * 1_000_000
        try:
            drafts.append(_message(item, at_us, external_id, number, ignored))
        except Invalid as error:
            yield rows.broken(line, error, "sessions", place, "messages", number)
    yield DraftConversation(
        external_id=external_id,
        messages=tuple(drafts),
        created_us=started_us,
        meta_data={"dataset": dataset} if dataset else None,
        line=line,
    )


def _message(item: Any, at_us: int | None, conversation: str, place: int, ignored: Ignored) -> Draft:
    if not isinstance(item, dict):
        raise Invalid("expected an object")
    _note(item, _MESSAGE, "message", ignored)
    content = rows.text(item.get("text"), "text")
    caption = rows.optional_text(item.get("image_caption"), "image_caption")
    if caption:
        content = rows.text(f"{content} [shared a photo: {caption}]".lstrip(), "image_caption")
    created_us = rows.time(item.get("created_at"), "created_at")
    draft = Draft(
        content=content,
        role=rows.role(item.get("role"), "role"),
        sender_id=rows.name(item.get("sender"), "sender"),
        external_id=rows.name(item.get("message_id"), "message_id"),
        created_us=at_us if created_us is None else created_us,
    )
    if rows.has_identity(draft):
        return draft
    return rows.identified(draft, conversation, place)


def _note(row: Json, known: frozenset[str], what: str, ignored: Ignored) -> None:
    for key in row.keys() - known:
        ignored.note(f"{what}.{key}")
