"""Checks of single values that every dialect shares: each names the field it refuses."""

import msgspec

from aforesaid import limits
from aforesaid.errors import Invalid, TooLarge
from aforesaid.model import Json

_encode = msgspec.json.Encoder().encode
Where = tuple[str | int, ...]


def text(value: str, *where: str | int, maximum: int | None = None) -> str:
    """The value, without NUL and not too long."""
    if "\x00" in value:
        raise Invalid("must not contain the NUL character", *where)
    if maximum is not None and len(value) > maximum:
        raise Invalid(f"must have at most {maximum} characters", *where, kind="string_too_long")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise Invalid("must not contain lone surrogates", *where)
    return value


def identifier(value: str, *where: str | int) -> str:
    """The value as the caller's own id: kept exactly, never blank."""
    if not value.strip():
        raise Invalid("must not be empty or blank", *where, kind="string_too_short")
    return text(value, *where, maximum=limits.ID_CHARACTERS)


def content(value: str, *where: str | int) -> str:
    """The text of a message: any length up to the limit, empty included."""
    if "\x00" in value:
        raise Invalid("must not contain the NUL character", *where)
    if len(value) * 4 > limits.MESSAGE_BYTES and len(value.encode("utf-8", "surrogatepass")) > limits.MESSAGE_BYTES:
        raise TooLarge(
            f"must have at most {limits.MESSAGE_BYTES} bytes",
            limit="message",
            maximum=limits.MESSAGE_BYTES,
            field=where,
        )
    return value


def json_value(value: Json | list[Json] | None, *where: str | int) -> None:
    """A free JSON value is small enough to keep, and holds nothing that a store can't."""
    if not value:
        return
    raw = _encode(value)
    if len(raw) > limits.METADATA_BYTES:
        raise TooLarge(
            f"must have at most {limits.METADATA_BYTES} bytes of JSON",
            limit="metadata",
            maximum=limits.METADATA_BYTES,
            field=where,
        )
    if raw.count(b"{") + raw.count(b"[") > limits.JSON_DEPTH and _deeper(value, limits.JSON_DEPTH):
        raise Invalid(f"must be nested at most {limits.JSON_DEPTH} deep", *where)
    if b"\\u0000" in raw and _has_nul(value):
        raise Invalid("must not contain the NUL character", *where)


def _deeper(value: object, allowed: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return allowed == 0 or any(_deeper(item, allowed - 1) for item in items)


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def within(value: int, low: int, high: int, *where: str | int) -> int:
    """The number, which lies between the two, both included."""
    if not low <= value <= high:
        raise Invalid(f"must be between {low} and {high}", *where, kind="out_of_range")
    return value
