"""The Mielto API's manners: where the key is, how errors look. The completions speak OpenAI's."""

from typing import Any

import msgspec

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
from aforesaid.model import Frozen


class Fault(Frozen, frozen=True, kw_only=True):
    """One refused field, as FastAPI tells it."""

    loc: list[str | int]
    msg: str
    type: str


class ValidationFault(Frozen, frozen=True, kw_only=True):
    """The body of a 422."""

    detail: list[Fault]


class Detail(Frozen, frozen=True, kw_only=True):
    """The body of any other error."""

    detail: str


class OpenAIFault(Frozen, frozen=True, kw_only=True):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(Frozen, frozen=True, kw_only=True):
    """The body of every error of a completion."""

    error: OpenAIFault


STATUSES: dict[type[AforesaidError], int] = {
    Refused: 400,
    Invalid: 422,
    WrongContentType: 415,
    TooSlow: 408,
    WrongMethod: 405,
    NotFound: 404,
    Conflict: 409,
    Unauthenticated: 401,
    Forbidden: 403,
    TooMany: 429,
    StorageFull: 507,
    Unavailable: 503,
    UpstreamFailed: 502,
}
"""Error to status. A subclass has its parent's, unless it is named itself."""


def status_of(error: AforesaidError) -> int:
    """The HTTP status of an error in this API."""
    if isinstance(error, TooLarge):
        return 413 if error.limit == "body" else 422
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def bearer(call: Call) -> str | None:
    """The key of the request: ``Authorization: Bearer`` or ``x-api-key``. Both are fine when they agree."""
    given = call.headers.get("authorization", "")
    scheme, _, token = given.partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else ""
    other = call.headers.get("x-api-key", "").strip()
    if key and other and key != other:
        raise Unauthenticated("the Authorization and x-api-key headers hold different keys")
    return key or other or None


def extra_headers(error: AforesaidError) -> dict[str, str]:
    """What tells a client when to come again, and how to say who it is."""
    if isinstance(error, (TooMany, Unavailable)):
        return {"retry-after": str(max(1, round(error.retry_after_s)))}
    if isinstance(error, Unauthenticated):
        return {"www-authenticate": "Bearer"}
    return {}


class Mielto:
    """Errors in FastAPI's form: a list for 422, a text for the others."""

    name = "mielto"
    lenient_json = False

    def secret(self, call: Call) -> str | None:
        return bearer(call)

    def refuse(self, error: AforesaidError, call: Call | None) -> Reply:
        status = status_of(error)
        body: Any = Detail(detail=error.message)
        if status == 422:
            body = ValidationFault(detail=[_fault(error)])
        return Reply.json(body, status, extra_headers(error))

    def shape(self, status: int) -> Any:
        return ValidationFault if status == 422 else Detail


def _fault(error: AforesaidError) -> Fault:
    if isinstance(error, Invalid):
        where = list(error.field)
        root = where[:1] in (["body"], ["query"], ["header"], ["path"])
        return Fault(loc=where if root else ["body", *where], msg=error.message, type=error.kind)
    if isinstance(error, TooLarge):
        where = list(error.field)
        return Fault(loc=where if where[:1] == ["body"] else ["body", *where], msg=error.message, type="too_large")
    return Fault(loc=["body"], msg=error.message, type=error.code)


class OpenAI:
    """Errors as OpenAI's SDKs raise them; a model server's own are passed on as they are."""

    name = "openai"
    lenient_json = False

    def secret(self, call: Call) -> str | None:
        return bearer(call)

    def refuse(self, error: AforesaidError, call: Call | None) -> Reply:
        if isinstance(error, UpstreamFailed):
            headers = {name: value for name, value in error.headers.items() if name != "content-type"}
            if error.body and _is_object(error.body):
                return Reply(error.status, error.body, headers=headers)
            return Reply.json(_openai(error.message, "upstream_error", error.code), error.status, headers)
        status = status_of(error)
        kind = "invalid_request_error"
        param = None
        if isinstance(error, (Invalid, TooLarge)):
            param = _param(error.field)
            status = 400 if status == 422 else status
        elif status in (401, 403):
            kind = "authentication_error" if status == 401 else "permission_error"
        elif status == 429:
            kind = "rate_limit_error"
        elif status >= 500:
            kind = "server_error"
        code = "invalid_api_key" if isinstance(error, Unauthenticated) else error.code
        return Reply.json(_openai(error.message, kind, code, param), status, extra_headers(error))

    def shape(self, status: int) -> Any:
        return OpenAIError


def _openai(message: str, kind: str, code: str | None, param: str | None = None) -> OpenAIError:
    return OpenAIError(error=OpenAIFault(message=message, type=kind, code=code, param=param))


def _param(field: tuple[str | int, ...]) -> str | None:
    steps = [step for step in field if step != "body"]
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or None


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(raw), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
