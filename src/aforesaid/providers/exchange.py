"""What passes between a chat completion and whatever answers it: the request, the open answer, and their limits.

An answerer is anything that meets ``Chat``: a set of model servers, or one of the two that are built in.
"""

import re
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import msgspec

from aforesaid.errors import UpstreamFailed
from aforesaid.model import Frozen

MAX_ANSWER_BYTES = 50_000_000
"""The largest whole answer, and the largest streamed one, taken from a model server."""
MAX_ERROR_BYTES = 1_000_000
MAX_EVENT_BYTES = 16_000_000
"""The largest single event of a stream."""
MAX_CHOICES = 128

PASSED_REQUEST_HEADERS = frozenset({"openai-beta", "anthropic-beta", "http-referer", "x-title"})
"""The caller's headers that reach a model server. Never its credentials, nor the organisation of its own account."""
_PASSED_ANSWER_HEADERS = frozenset(
    {"content-type", "retry-after", "retry-after-ms", "x-request-id", "request-id", "x-should-retry"}
)
_PASSED_ANSWER_PREFIXES = ("x-ratelimit-", "openai-", "anthropic-ratelimit-")
_SECRETS_IN_URL = re.compile(r"//[^/@]*@|\?.*")


class Upstream(Frozen, frozen=True, kw_only=True):
    """A configured OpenAI-compatible model server. ``name`` is also the prefix that routes to it (``anthropic/…``).

    ``base_url`` is what ``/chat/completions`` and ``/models`` are appended to; a query of its own stays at the end.
    ``models`` are the names and globs routed here. ``keep_prefix`` is for servers whose own names are
    ``vendor/model``: a prefix is taken off only where such a name remains. ``fallbacks`` are names of other
    upstreams, or ``name:model``, tried in order when this one is down or refuses with 429 or 5xx; ``aforesaid`` names
    the embedded answerer.

    ``first_byte_timeout_s`` bounds the wait for a stream's first event, ``idle_timeout_s`` every later wait,
    ``answer_timeout_s`` a whole answer, streamed or not. ``retries`` happen only before the caller got a byte.
    """

    name: str
    base_url: str
    api_key: str | None = None
    models: tuple[str, ...] = ()
    keep_prefix: bool = False
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 60.0
    idle_timeout_s: float = 60.0
    answer_timeout_s: float = 900.0
    retries: int = 2
    fallbacks: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        key = "None" if self.api_key is None else "'***'"
        names = ", ".join(name for name, _ in self.headers)
        return (
            f"Upstream(name={self.name!r}, base_url={shown_url(self.base_url)!r}, api_key={key}, "
            f"models={self.models!r}, fallbacks={self.fallbacks!r}, headers=[{names}])"
        )

    __str__ = __repr__


class RecalledItem(Frozen, frozen=True, kw_only=True):
    """Something remembered that was put before the model. ``score`` only orders items of one request."""

    id: str
    text: str
    sender: str | None = None
    role: str = "user"
    created_us: int | None = None
    score: float = 0.0


class AnswerContext(Frozen, frozen=True, kw_only=True):
    """What an embedded answerer may use. ``turns`` are (role, text), oldest first, without the injected block."""

    question: str = ""
    user_id: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    items: tuple[RecalledItem, ...] = ()


class ChatRequest(Frozen, frozen=True, kw_only=True):
    """A completion to be answered. ``body`` is the JSON object to send, complete but for the routing of ``model``.

    ``headers`` may hold all of the caller's: only ``PASSED_REQUEST_HEADERS`` go on.
    """

    body: bytes
    model: str
    stream: bool
    headers: tuple[tuple[str, str], ...] = ()
    context: AnswerContext = AnswerContext()


class ChatAnswer(Protocol):
    """An answer under way: its status is known and its first event, or all of it, is there.

    ``headers`` are the ones worth passing on, lower-case. ``model`` is the one that was asked of the answerer
    ``upstream``; the answer itself may name it more exactly.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def model(self) -> str: ...
    @property
    def upstream(self) -> str: ...
    @property
    def streaming(self) -> bool: ...

    async def body(self) -> bytes:
        """The whole answer, where it is not streamed."""
        ...

    def events(self) -> AsyncGenerator[bytes, None]:
        """Whole server-sent events as they came, several in one piece where they came together, never half of one.

        *Raises*: StreamBroken after the last whole event, when the stream stopped before its end.
        """
        ...

    async def close(self) -> None:
        """The answerer is let go at once: its connection is closed. Nothing happens the second time."""
        ...


class Chat(Protocol):
    """Whatever answers completions."""

    async def open(self, request: ChatRequest) -> ChatAnswer:
        """The answer, begun. *Raises*: UpstreamFailed when there is none; no byte of one was seen then."""
        ...

    async def models(self) -> list[dict[str, Any]]:
        """The models that can be asked for, as ``GET /models`` lists them."""
        ...

    def describe(self) -> str:
        """One line for people: what answers."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class StreamBroken(UpstreamFailed):
    """A stream stopped before its end. ``reported``: its last event was the server's own error event."""

    code = "stream_broken"

    def __init__(self, message: str, *, status: int = 502, reported: bool = False) -> None:
        super().__init__(message, status=status)
        self.reported = reported


def error_body(message: str, *, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """An error as OpenAI's clients read it."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def refused(message: str, param: str | None) -> UpstreamFailed:
    """A 400 in OpenAI's form: what an embedded answerer says to what it can't do."""
    body = error_body(message, kind="invalid_request_error", param=param, code="unsupported_value")
    return UpstreamFailed(message, status=400, body=body)


def passed_on(headers: "dict[str, str] | Any") -> dict[str, str]:
    """The headers of an answer that are worth the caller's while: rate limits, retry hints, the request's id."""
    kept = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in _PASSED_ANSWER_HEADERS or lower.startswith(_PASSED_ANSWER_PREFIXES):
            kept[lower] = value
    return kept


def shown_url(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    return _SECRETS_IN_URL.sub(lambda found: "//" if found[0].startswith("//") else "", url)
