"""The Mendable API's manners: the key is in the body, errors are one line of text."""

from typing import Any

from aforesaid.errors import (
    AforesaidError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from aforesaid.http.body import TooSlow, WrongContentType
from aforesaid.http.endpoint import Call, Reply, WrongMethod
from aforesaid.http.mendable.wire import Keyed

STATUSES: dict[type[AforesaidError], int] = {
    Refused: 400,
    Unauthenticated: 400,
    Invalid: 400,
    TooLarge: 400,
    Forbidden: 403,
    NotFound: 404,
    WrongMethod: 405,
    TooSlow: 408,
    Conflict: 409,
    WrongContentType: 415,
    TooMany: 429,
    UpstreamFailed: 500,
    Unavailable: 503,
    StorageFull: 507,
}
"""Error to status. A subclass has its parent's, unless it is named itself. A bad key is a 400 here."""

PASSED_STATUSES = (429,)
"""Statuses of a model server that reach the caller; its clients wait and come again."""
LINE_CHARACTERS = 500


def status_of(error: AforesaidError) -> int:
    """The HTTP status of an error in this API."""
    if isinstance(error, TooLarge) and error.limit == "body":
        return 413
    if isinstance(error, UpstreamFailed) and error.status in PASSED_STATUSES:
        return error.status
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def key_of(call: Call) -> str | None:
    """The key of a request: in the body, else ``Authorization: Bearer``, else ``x-api-key``. Asked once it is read."""
    if isinstance(call.body, Keyed) and (call.body.api_key or call.body.anon_key):
        return call.body.api_key or call.body.anon_key
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return bearer or call.headers.get("x-api-key", "").strip() or None


class Mendable:
    """Errors as one line of plain text; JSON as the documents print it, with a comma after the last field."""

    name = "mendable"
    lenient_json = True

    def secret(self, call: Call) -> str | None:
        return None if call.body is None else key_of(call)

    def refuse(self, error: AforesaidError, call: Call | None) -> Reply:
        headers = {}
        if isinstance(error, UpstreamFailed):
            headers = {name: value for name, value in error.headers.items() if name == "retry-after"}
        elif isinstance(error, (TooMany, Unavailable)):
            headers = {"retry-after": str(max(1, round(error.retry_after_s)))}
        return Reply.text(_line(error), status_of(error), headers)

    def shape(self, status: int) -> Any:
        return str


def _line(error: AforesaidError) -> str:
    """What went wrong and where, on one line."""
    told = error.message
    if isinstance(error, (Invalid, TooLarge)):
        steps = [str(step) for step in error.field if step != "body"]
        told = f"{'.'.join(steps)}: {told}" if steps else told
    return " ".join(told.encode("utf-8", "replace").decode().split())[:LINE_CHARACTERS]
