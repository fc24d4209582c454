"""Request bodies: read within limits of size and time, parsed strictly, refused with the place of the fault."""

import asyncio
import json
import re
from typing import Any

import msgspec
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope

from aforesaid import limits
from aforesaid.errors import Invalid, Refused, TooLarge

BODY_S = 20.0
"""How long a body may take whatever its size."""
SLOWEST_BYTES_S = 16 << 10
"""After that, how fast it must come, on average, in bytes a second."""
OBJECT_KEYS = 10_000
"""Keys of one JSON object."""
LENGTH_DIGITS = 15
"""A Content-Length with more digits is beyond every limit, and not worth counting."""

_PATH = re.compile(r"^(.*?)(?: - at `(?:key in )?\$([^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
# Possessive: an unclosed string is passed over in one go, not once for each quotation mark in it.
_TRAILING_COMMA = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|,(?=\s*+[}\]])', re.DOTALL)


class Disconnected(Exception):
    """The client left before its request was whole."""


class TooSlow(Refused):
    """The client sent its request too slowly."""

    code = "request_timeout"


async def read_body(scope: Scope, receive: Receive, maximum: int) -> bytes:
    """The whole body. *Raises* ``TooLarge`` before reading when its length says so; ``TooSlow``; ``Disconnected``."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or len(declared) > LENGTH_DIGITS or int(declared) > maximum:
        raise _too_large(maximum)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    chunks: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout_at(begun + BODY_S + size / SLOWEST_BYTES_S):
                message: AsgiMessage = await receive()
        except TimeoutError:
            raise TooSlow("the request body came too slowly") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > maximum:
            raise _too_large(maximum)
        if not message.get("more_body"):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)


def _too_large(maximum: int) -> TooLarge:
    return TooLarge(f"the request body may have at most {maximum} bytes", limit="body", maximum=maximum)


class MalformedJson(Invalid):
    """The body is not JSON as this server takes it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "body", kind="json_invalid")


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise MalformedJson(f"the key {name[:100]!r} stands twice in one object")
            seen.add(name)
    if len(pairs) > OBJECT_KEYS:
        raise MalformedJson(f"an object may have at most {OBJECT_KEYS} keys")


_checker = json.JSONDecoder(object_pairs_hook=_pairs, strict=False)


def check_json(raw: bytes) -> None:
    """No object of a valid JSON text has a key twice or too many keys: readers disagree on which one counts."""
    try:
        _checker.decode(raw.decode())
    except RecursionError:
        raise MalformedJson("the body is nested too deeply") from None
    except ValueError as error:
        raise MalformedJson(f"malformed JSON: {error}") from None


def without_trailing_commas(raw: bytes) -> bytes:
    """The JSON text without commas before a closing bracket: printed examples have them."""
    return _TRAILING_COMMA.sub(lambda found: b"" if found[0] == b"," else found[0], raw)


def without_shell_quotes(raw: bytes) -> bytes:
    """The JSON text with each ``\\'`` as a mere ``'``: a printed command has them, and JSON knows no such escape."""
    if b"\\'" not in raw:
        return raw
    return _ESCAPE.sub(lambda found: b"'" if found[0] == b"\\'" else found[0], raw)


def decode(raw: bytes, decoder: "msgspec.json.Decoder[Any]", *, lenient: bool = False) -> Any:
    """The body as the decoder's type. *Raises* ``Invalid`` naming the field, ``MalformedJson``."""
    if not raw or raw.isspace():
        raise MalformedJson("the body is empty: send JSON")
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise refusal(str(error), "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        mended = without_shell_quotes(raw)
        mended = without_trailing_commas(mended) if lenient else mended
        if len(mended) == len(raw):
            raise MalformedJson(f"malformed JSON: {error}") from None
        return decode(mended, decoder)
    except RecursionError:
        raise MalformedJson("the body is nested too deeply") from None
    check_json(raw)
    return value


def refusal(told: str, *root: str | int) -> Invalid:
    """The error behind a type checker's message, with its path as a list of steps."""
    found = _PATH.match(told)
    reason, path = (found[1], found[2]) if found else (told, None)
    where: list[str | int] = list(root)
    for name, index in _STEP.findall(path or ""):
        where.append(name or (int(index) if index.isdigit() else "*"))
    missing = _MISSING.search(reason)
    if missing:
        where.append(missing[1])
        return Invalid("Field required", *where, kind="missing")
    if reason.startswith("Expected"):
        return Invalid(reason.replace("`", "'"), *where, kind="type_error")
    return Invalid(reason.replace("`", "'"), *where)


def check_content_type(scope: Scope, wanted: str = "json") -> None:
    """The body claims to be plain JSON, or claims nothing. *Raises* ``WrongContentType``; nothing was read."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value.split(b";")[0].strip().lower().decode("latin-1")
            if kind and wanted not in kind:
                raise WrongContentType(
                    f"the body must be JSON, with Content-Type: application/json, not {_shown(kind)}"
                )
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            kind = value.strip().lower().decode("latin-1")
            raise WrongContentType(f"the body must not be compressed; its Content-Encoding is {_shown(kind)}")


def _shown(value: str) -> str:
    return value[:100] if value.isprintable() else "unreadable"


class WrongContentType(Refused):
    """The body is not of a kind that this route takes."""

    code = "unsupported_media_type"


BODY_LIMITS = {"import": limits.IMPORT_BODY_BYTES, "plain": limits.BODY_BYTES}
