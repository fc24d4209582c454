"""JSON columns: values in, text out, and back."""

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def to_text(value: Any) -> str | None:
    """The value as JSON text, None as NULL."""
    return None if value is None else _encode(value).decode()


def from_text(text: str | None) -> Any:
    """The value of a JSON column, NULL as None."""
    return None if text is None else _decode(text)


def text_tuple(text: str | None) -> tuple[str, ...]:
    """A JSON list of strings, NULL as empty."""
    return tuple(_decode(text)) if text else ()
