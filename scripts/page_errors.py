"""Writes docs/reference/errors.md from the error tree and the dialects' own refusals. ``page`` gives its text."""

from collections.abc import Iterator
from pathlib import Path

from aforesaid import errors
from aforesaid.errors import AforesaidError
from aforesaid.http.api import MENDABLE, MIELTO, OPENAI
from aforesaid.http.body import MalformedJson
from aforesaid.http.endpoint import Dialect
from aforesaid.http.openapi_texts import ERRORS

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference" / "errors.md"

HEAD = """# Errors

Every refusal has a code that stays the same. A request that is refused has changed nothing.

| code | `/api/v1` | completions | Mendable | what it means |
|---|---|---|---|---|
"""

TAIL = """
“Completions” are `/api/v1/chat/completions` and `/api/v1/models`. A model server's own error is passed on there with
its own status and body.

## Forms

`/api/v1` answers as FastAPI does: `detail` is a text, and for 422 a list that names each field. A body that is no JSON
is a 422 of the type `json_invalid`.

```json
MIELTO
```

Completions answer as OpenAI does. A wrong field is a 400.

```json
OPENAI
```

The Mendable API answers with one line of `text/plain`:

```text
MENDABLE
```

## Last resort

A fault of ours is a 500 in the form of the dialect, and the log has it under the answer's `x-request-id`. Some requests
are refused by the connection itself, in plain text, and the connection is closed: 400 for what is not HTTP, 408 for a
head that comes too slowly, 431 for one that is too large, 501 for a transfer encoding other than chunked.

Waiting helps for 429, 503 and 507; `retry-after` says how long. 401 has `www-authenticate`, 405 has `allow`. After a
refusal that came before a long body, the connection is closed (`connection: close`).
"""


def samples() -> Iterator[AforesaidError]:
    """One error of every kind."""
    waiting: list[type[AforesaidError]] = [AforesaidError]
    seen: set[str] = set()
    while waiting:
        kind = waiting.pop(0)
        waiting.extend(kind.__subclasses__())
        if kind.code not in seen:
            seen.add(kind.code)
            yield sample(kind)


def sample(kind: type[AforesaidError]) -> AforesaidError:
    """An error of this kind."""
    match kind:
        case errors.TooLarge:
            return errors.TooLarge("too large", limit="body", maximum=1)
        case errors.NotFound:
            return errors.NotFound("Conversation")
        case errors.Forbidden:
            return errors.Forbidden("forbidden", permission="write")
        case errors.Misconfigured:
            return errors.Misconfigured("misconfigured", setting="port")
        case _:
            return kind("refused")


def page() -> str:
    """The whole page."""
    rows = []
    for error in samples():
        shown = [_status(dialect, error) for dialect in (MIELTO, OPENAI, MENDABLE)]
        if error.code == "misconfigured":
            shown = ["", "", ""]
        rows.append(f"| `{error.code}` | {' | '.join(shown)} | {ERRORS[error.code]} |\n")
    wrong = errors.Invalid("Field required", "body", "content", 3, "role", kind="missing")
    tail = TAIL
    for name, dialect in (("MIELTO", MIELTO), ("OPENAI", OPENAI), ("MENDABLE", MENDABLE)):
        tail = tail.replace(f"\n{name}\n", f"\n{dialect.refuse(wrong, None).body.decode()}\n")
    assert MalformedJson("x").kind in tail
    return HEAD + "".join(rows) + tail


def _status(dialect: Dialect, error: AforesaidError) -> str:
    status = dialect.refuse(error, None).status
    if isinstance(error, errors.TooLarge):
        other = errors.TooLarge("too large", limit="message", maximum=1)
        return f"{status} for a body, else {dialect.refuse(other, None).status}"
    return str(status)


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
