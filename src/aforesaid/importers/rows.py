"""What a reader gives, and the checks that every value of a foreign file passes on its way to a Draft."""

import re
from collections import Counter
from typing import Any, TypeAlias, TypeVar

import msgspec

from aforesaid import ids
from aforesaid.errors import Invalid
from aforesaid.importers import limits
from aforesaid.limits import ID_CHARACTERS, MESSAGE_BYTES, METADATA_BYTES, TAGS
from aforesaid.model import Draft, DraftConversation, Frozen, Json
from aforesaid.times import parse_time

AnyDraft = TypeVar("AnyDraft", bound=Draft)

ROLES = {
    "user": "user", "human": "user",
    "assistant": "assistant", "ai": "assistant", "bot": "assistant", "model": "assistant",
    "system": "system", "developer": "developer", "tool": "tool", "function": "function",
}  # fmt: skip
"""Roles as files spell them, and ours."""

_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Broken(Frozen, frozen=True):
    """A row, or one message of it, that can't be read. The rest goes on.

    ``line`` is the 1-based line, or the place in the array; ``field`` the path of what is wrong in the row.
    """

    line: int
    reason: str
    field: str | None = None


class ImportedMessage(Draft, frozen=True):
    """A Draft with what only an export of this program knows: the message's own id there and its rating."""

    id: str | None = None
    rating: int = 0
    updated_us: int | None = None


class ImportedConversation(DraftConversation, frozen=True):
    """A DraftConversation with what only an export of this program knows.

    ``described`` is False for a stretch whose conversation line was not seen: it says nothing but ``external_id``.
    """

    id: str | None = None
    session_id: str | None = None
    is_public: bool = False
    collections: tuple[str, ...] = ()
    settings: Json | None = None
    created_by: str | None = None
    described: bool = True


Read: TypeAlias = DraftConversation | Broken
Entry: TypeAlias = tuple[int, Json]
"""A decoded row: its line and its object."""


class Ignored(Counter[str]):
    """How often each name was met that the format does not keep. The first few hundred names are counted."""

    def note(self, name: str) -> None:
        """The name is counted once more."""
        if name in self or len(self) < limits.MAX_IGNORED_NAMES:
            self[name[:80]] += 1


def broken(line: int, error: Invalid, *under: str | int) -> Broken:
    """The refusal as a row of the report; ``under`` is the path that leads to the checked value."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*under, *error.field))
    return Broken(line=line, reason=error.message, field=path.lstrip(".") or None)


def text(value: Any, *field: str | int, maximum: int = MESSAGE_BYTES) -> str:
    """The text, proved storable: UTF-8, no NUL, no longer than ``maximum`` bytes."""
    if not isinstance(value, str):
        raise Invalid(f"expected text, not {_kind(value)}", *field)
    if "\0" in value:
        raise Invalid("holds a NUL character", *field)
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise Invalid("holds half of a surrogate pair, which is no character", *field) from None
    if size > maximum:
        raise Invalid(f"is {size:,} bytes; the limit is {maximum:,}", *field)
    return value


def optional_text(value: Any, *field: str | int) -> str | None:
    """The text, or None for null."""
    return None if value is None else text(value, *field)


def name(value: Any, *field: str | int) -> str | None:
    """An id or a name as text; a whole number becomes its digits; None for null and blank."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return identifier(value, *field)


def identifier(value: Any, *field: str | int) -> str:
    """The text that names something: no longer than names may be."""
    if len(checked := text(value, *field)) > ID_CHARACTERS:
        raise Invalid(f"is {len(checked):,} characters; the limit is {ID_CHARACTERS:,}", *field)
    return checked


def time(value: Any, *field: str | int) -> int | None:
    """The microseconds of a time, or None for null."""
    return None if value is None else parse_time(value, *field)


def flag(value: Any, *field: str | int) -> bool:
    """The truth value; null is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Invalid(f"expected true or false, not {_kind(value)}", *field)


def role(value: Any, *field: str | int) -> str:
    """The role in our spelling; a missing one is ``user``."""
    if value is None:
        return "user"
    known = ROLES.get(value.lower()) if isinstance(value, str) else None
    if known is None:
        raise Invalid("not a known role: expected one of " + ", ".join(ROLES), *field)
    return known


def metadata(value: Any, *field: str | int) -> Json | None:
    """The object, proved small and shallow enough; None for null and for the empty object."""
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise Invalid(f"expected an object, not {_kind(value)}", *field)
    _check_json(value, METADATA_BYTES, field)
    return value


def objects(value: Any, *field: str | int) -> list[Json] | None:
    """The list of objects, proved small and shallow enough; None for null and for the empty list."""
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Invalid("expected a list of objects", *field)
    _check_json(value, METADATA_BYTES, field)
    return value


def names(value: Any, *field: str | int) -> tuple[str, ...]:
    """The list of names (tags, collections); empty for null."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > TAGS:
        raise Invalid(f"expected a list of at most {TAGS} texts", *field)
    return tuple(identifier(item, *field, place) for place, item in enumerate(value))


def identified(draft: AnyDraft, conversation: str, place: int) -> AnyDraft:
    """The Draft, which brings no identity, known by its conversation, its place in it and its words."""
    mark = ids.fingerprint("import", conversation, place, draft.sender_id, draft.role, draft.content).hex()
    return msgspec.structs.replace(draft, checksum=mark)


def has_identity(draft: Draft) -> bool:
    """Whether storing the Draft twice finds the first one again."""
    return draft.external_id is not None or draft.checksum is not None or draft.created_us is not None


def _check_json(value: Any, maximum: int, field: tuple[str | int, ...]) -> None:
    if _deeper(value, limits.MAX_DEPTH):
        raise Invalid(f"is nested deeper than {limits.MAX_DEPTH}", *field)
    try:
        raw = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise Invalid("holds half of a surrogate pair, which is no character", *field) from None
    if len(raw) > maximum:
        raise Invalid(f"is {len(raw):,} bytes; the limit is {maximum:,}", *field)
    if b"\\u0000" in raw and _NUL_ESCAPE.search(raw):
        raise Invalid("holds a NUL character", *field)


def _deeper(value: Any, levels: int) -> bool:
    """Whether the value is nested deeper than so many levels. It never goes deeper than that itself."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)


def _kind(value: Any) -> str:
    """What JSON calls the value."""
    if value is None:
        return "null"
    kinds = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
