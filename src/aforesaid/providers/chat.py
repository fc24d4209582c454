"""Who answers a completion: the configured model server its model belongs to, its fallbacks, or the embedded answerer.

A model is looked for in this order: exact names of ``Upstream.models``, their globs, a prefix that is an upstream's
name (``anthropic/claude-…``; taken off), the first upstream. Without any, the embedded
answerer takes every name. The ``model`` in the body is changed only where a prefix is taken off or a fallback names
another; every other field goes on as it came.
"""

import asyncio
import fnmatch
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from aforesaid.errors import Misconfigured, UpstreamFailed
from aforesaid.providers.exchange import (
    AnswerContext,
    Chat,
    ChatAnswer,
    ChatRequest,
    RecalledItem,
    StreamBroken,
    Upstream,
    shown_url,
)
from aforesaid.providers.offline import EXTRACTIVE_MODEL, ExtractiveAnswerer

if TYPE_CHECKING:
    import aiohttp

    from aforesaid.providers.upstreams import Server

__all__ = [
    "AnswerContext",
    "Chat",
    "ChatAnswer",
    "ChatRequest",
    "Chats",
    "RecalledItem",
    "StreamBroken",
    "Upstream",
]

EMBEDDED = "aforesaid"
"""The embedded answerer's name among fallbacks."""
MAX_CONNECTIONS = 1_000
KEEPALIVE_S = 30.0
MODELS_FRESH_S = 300.0
MODELS_RETRY_S = 30.0
LARGE_BODY_BYTES = 262_144
"""Bodies above this are rewritten in a thread: a megabyte takes a millisecond."""


def with_model(body: bytes, model: str) -> bytes:
    """The same JSON object with another ``model``: order, numbers and unknown fields stay as they are written."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return body
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


class Chats:
    """All that can answer, behind one ``Chat``. ``start`` opens the connections' pool, ``stop`` closes it."""

    def __init__(
        self,
        upstreams: Sequence[Upstream] = (),
        embedded: Chat | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._embedded: Chat = embedded or ExtractiveAnswerer()
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._servers: dict[str, Server] = {}
        self._listed: dict[str, tuple[float, list[dict[str, Any]]]] = {}
        self._listing = asyncio.Lock()
        if len(self._upstreams) < len(upstreams):
            raise Misconfigured("two upstreams have the same name", setting="upstreams")
        for upstream in upstreams:
            _check(upstream, self._upstreams)

    async def start(self) -> None:
        await self._embedded.start()
        if not self._upstreams or self._session is not None:
            return
        import aiohttp

        from aforesaid.providers.breaker import Breaker
        from aforesaid.providers.upstreams import Server

        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S)
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        self._session = session
        self._servers = {
            name: Server(upstream, session, Breaker(clock=self._clock)) for name, upstream in self._upstreams.items()
        }

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        self._session = None
        self._servers = {}
        await self._embedded.stop()

    async def open(self, request: ChatRequest) -> ChatAnswer:
        route = self.route(request.model)
        if route is None:
            return await self._embedded.open(request)
        failed: UpstreamFailed | None = None
        for name, model in self._chain(*route):
            if name == EMBEDDED:
                return await self._embedded.open(request)
            server = self._servers.get(name)
            if server is None:
                raise UpstreamFailed("the model servers are not connected", status=503)
            try:
                return await server.open(request, await self._body(request, model), model)
            except UpstreamFailed as error:
                failed = failed or error
                if error.status != 429 and error.status < 500:
                    raise failed from error.__cause__
        assert failed is not None
        raise failed

    async def _body(self, request: ChatRequest, model: str) -> bytes:
        if model == request.model:
            return request.body
        if len(request.body) < LARGE_BODY_BYTES:
            return with_model(request.body, model)
        return await asyncio.to_thread(with_model, request.body, model)

    def route(self, model: str) -> tuple[str, str] | None:
        """The upstream that answers for ``model`` and the name it knows it by; None for the embedded answerer."""
        if not self._upstreams or model == EXTRACTIVE_MODEL:
            return None
        for upstream in self._upstreams.values():
            if model in upstream.models:
                return upstream.name, model
        for upstream in self._upstreams.values():
            if any(fnmatch.fnmatchcase(model, glob) for glob in upstream.models):
                return upstream.name, model
        prefix, slash, rest = model.partition("/")
        if slash and rest and prefix in self._upstreams:
            kept = self._upstreams[prefix].keep_prefix and "/" not in rest
            return prefix, model if kept else rest
        return next(iter(self._upstreams)), model

    def _chain(self, name: str, model: str) -> list[tuple[str, str]]:
        """The upstream and its fallbacks, each once."""
        chain = [(name, model)]
        for fallback in self._upstreams[name].fallbacks:
            other, _, its_model = fallback.partition(":")
            if (step := (other, its_model or model)) not in chain:
                chain.append(step)
        return chain

    async def models(self) -> list[dict[str, Any]]:
        if not self._upstreams:
            return await self._embedded.models()
        now = self._clock()
        async with self._listing:
            stale = [server for name, server in self._servers.items() if now >= self._listed.get(name, (now, []))[0]]
            if stale:
                await asyncio.gather(*(self._list(server, now) for server in stale))
        merged: dict[str, dict[str, Any]] = {}
        for name, upstream in self._upstreams.items():
            rows = {row["id"]: row for row in self._listed.get(name, (0.0, []))[1]}
            named = [model for model in upstream.models if not any(mark in model for mark in "*?[")]
            for model in [*rows, *(model for model in named if model not in rows)]:
                shown = model if self.route(model) == (name, model) else f"{name}/{model}"
                created, owner = rows.get(model, {}).get("created"), rows.get(model, {}).get("owned_by")
                merged.setdefault(
                    shown,
                    {
                        "id": shown,
                        "object": "model",
                        "created": created if isinstance(created, int) else 0,
                        "owned_by": owner if isinstance(owner, str) else name,
                    },
                )
        return list(merged.values())

    async def _list(self, server: "Server", now: float) -> None:
        """The server's list is fresh; where it can't be had, the old one serves a little longer."""
        name = server.upstream.name
        try:
            self._listed[name] = (now + MODELS_FRESH_S, await server.models())
        except UpstreamFailed:
            self._listed[name] = (now + MODELS_RETRY_S, self._listed.get(name, (0.0, []))[1])

    def describe(self) -> str:
        if not self._upstreams:
            return self._embedded.describe()
        shown = [f"{upstream.name} ({shown_url(upstream.base_url)})" for upstream in self._upstreams.values()]
        return "answers come from " + ", ".join(shown)


def _check(upstream: Upstream, known: dict[str, Upstream]) -> None:
    """The upstream can work as configured. *Raises*: Misconfigured naming what can't."""
    if not upstream.name or "/" in upstream.name or ":" in upstream.name or upstream.name == EMBEDDED:
        raise Misconfigured(f"{upstream.name!r} can't name an upstream", setting="upstreams.name")
    if not upstream.base_url.startswith(("http://", "https://")):
        raise Misconfigured(
            f"the base_url of {upstream.name} must begin with http:// or https://", setting="upstreams.base_url"
        )
    for fallback in upstream.fallbacks:
        name = fallback.partition(":")[0]
        if name != EMBEDDED and name not in known:
            raise Misconfigured(
                f"{upstream.name} falls back to {name!r}, which is not configured", setting="upstreams.fallbacks"
            )
