"""One OpenAI-compatible model server: asked, asked again where that is right, and its stream relayed byte for byte.

What may be tried again, what counts against the server and what the caller is told is decided in ``Server``; the
life of a stream in ``relay``. Imported only where a server is configured: the client costs 28 MB.
"""

import asyncio
import email.utils
import io
import random
import re
import time
from typing import Any

import aiohttp
import msgspec

from aforesaid.errors import UpstreamFailed
from aforesaid.providers.breaker import Breaker
from aforesaid.providers.completions import WholeAnswer, as_events
from aforesaid.providers.exchange import (
    MAX_ANSWER_BYTES,
    MAX_ERROR_BYTES,
    PASSED_REQUEST_HEADERS,
    ChatRequest,
    Upstream,
    error_body,
    passed_on,
)
from aforesaid.providers.relay import RelayedAnswer, end_with_connection, error_in_answer, whole_body

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Refusals that may pass by themselves. 529 and other 5xx are not asked again, but do go to a fallback."""
BACKOFF_S = 0.25
MAX_BACKOFF_S = 2.0
MAX_RETRY_AFTER_S = 5.0
"""A server that wants a longer pause than this is not waited for: the caller is told."""
MODELS_TIMEOUT_S = 5.0
MAX_MODELS_BYTES = 8_000_000
LARGE_BODY_BYTES = 524_288

_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class _Failure(Exception):
    """An attempt failed: what to tell, whether to try again and after how long, whether it is the server's fault."""

    def __init__(
        self, error: UpstreamFailed, *, again: bool = False, blame: bool = True, after_s: float | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again
        self.blame = blame
        self.after_s = after_s


def retry_after_s(headers: dict[str, str], now_s: float) -> float | None:
    """The pause a server asks for: milliseconds, seconds or a date; None when it names none that can be read."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - now_s
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds == seconds and seconds != float("inf"):
            return max(0.0, seconds)
    return None


class Server:
    """One upstream as it is used: one circuit breaker, a share of the session's connections."""

    def __init__(self, upstream: Upstream, session: aiohttp.ClientSession, breaker: Breaker | None = None) -> None:
        self.upstream = upstream
        self.breaker = breaker or Breaker()
        self._session = session
        base, _, query = upstream.base_url.partition("?")
        self._base, self._query = base.rstrip("/"), f"?{query}" if query else ""
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "aforesaid",
            **({"authorization": f"Bearer {upstream.api_key}"} if upstream.api_key else {}),
            **{name.lower(): value for name, value in upstream.headers},
        }

    async def open(self, request: ChatRequest, body: bytes, model: str) -> "WholeAnswer | RelayedAnswer":
        """The server's answer to ``body``, begun. *Raises*: UpstreamFailed when every attempt failed."""
        attempt = 0
        while True:
            wait_s = self.breaker.wait_s()
            if wait_s > 0:
                raise UpstreamFailed(
                    f"{self.upstream.name} keeps failing and is left alone for {wait_s:.0f} s",
                    status=503,
                    headers={"retry-after": str(max(1, round(wait_s)))},
                )
            try:
                return await self._judged(request, body, model)
            except _Failure as failure:
                pause_s = self._pause_s(failure, attempt)
                if pause_s is None:
                    raise failure.error from failure.__cause__
            await asyncio.sleep(pause_s)
            attempt += 1

    def _pause_s(self, failure: _Failure, attempt: int) -> float | None:
        """How long to wait before the next attempt; None when there is to be none."""
        if not failure.again or attempt >= self.upstream.retries or self.breaker.is_open:
            return None
        if failure.after_s is not None:
            return failure.after_s if failure.after_s <= MAX_RETRY_AFTER_S else None
        return float(min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt)) * random.uniform(0.5, 1.0)

    async def _judged(self, request: ChatRequest, body: bytes, model: str) -> "WholeAnswer | RelayedAnswer":
        """One attempt, and what it says about the server told to the breaker."""
        self.breaker.enter()
        try:
            answer = await self._attempt(request, body, model)
        except _Failure as failure:
            if failure.blame:
                self.breaker.failed()
            elif failure.error.status == 429:
                self.breaker.left()
            else:
                self.breaker.succeeded()
            raise
        except BaseException:
            self.breaker.left()
            raise
        self.breaker.succeeded()
        return answer

    async def _attempt(self, request: ChatRequest, body: bytes, model: str) -> "WholeAnswer | RelayedAnswer":
        upstream = self.upstream
        started = time.monotonic()
        # Not streamed, the first byte comes when the answer is done: only the whole has a limit.
        limit_s = upstream.first_byte_timeout_s if request.stream else upstream.answer_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._exchange(request, body, model, started + upstream.answer_timeout_s)
        except aiohttp.ConnectionTimeoutError as error:
            told = f"{upstream.name} could not be reached within {upstream.connect_timeout_s:g} s"
            raise _Failure(UpstreamFailed(told, status=504), again=True) from error
        except TimeoutError as error:
            told = f"{upstream.name} did not begin to answer within {limit_s:g} s"
            raise _Failure(UpstreamFailed(told, status=504)) from error
        except (aiohttp.ClientError, OSError, EOFError) as error:
            certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
            told = f"{upstream.name} could not be asked: {_reason(error)}"
            raise _Failure(UpstreamFailed(told), again=not certificate) from error
        except UpstreamFailed as error:
            again, blame = error.status in RETRIED and bool(error.body), error.status >= 500
            raise _Failure(error, again=again, blame=blame) from error.__cause__

    async def _exchange(
        self, request: ChatRequest, body: bytes, model: str, deadline: float
    ) -> "WholeAnswer | RelayedAnswer":
        """The request sent and its answer begun; the connection is closed when that fails in any way."""
        response = await self._post(request, body)
        end_with_connection(response)
        try:
            if response.status >= 300:
                raise await self._refusal(response)
            return await self._begun(response, request, model, deadline)
        except BaseException:
            response.close()
            raise

    async def _post(self, request: ChatRequest, body: bytes) -> aiohttp.ClientResponse:
        headers = dict(self._headers)
        headers["accept"] = "text/event-stream" if request.stream else "application/json"
        for name, value in request.headers:
            lower = name.lower()
            if lower in PASSED_REQUEST_HEADERS and lower not in self._headers and value.isprintable():
                headers[lower] = value
        return await self._session.post(
            f"{self._base}/chat/completions{self._query}",
            data=body if len(body) < LARGE_BODY_BYTES else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self.upstream.connect_timeout_s, sock_connect=self.upstream.connect_timeout_s
            ),
        )

    async def _begun(
        self, response: aiohttp.ClientResponse, request: ChatRequest, model: str, deadline: float
    ) -> "WholeAnswer | RelayedAnswer":
        """The answer of a 2xx: relayed when it is a stream, whole when not, in the form that was asked for."""
        name = self.upstream.name
        headers = passed_on(response.headers)
        if (response.content_length or 0) > MAX_ANSWER_BYTES:
            raise UpstreamFailed(f"{name} answered with more than {MAX_ANSWER_BYTES} bytes")
        if request.stream:
            relayed = RelayedAnswer(self.upstream, self.breaker, response, headers, model, request.body, deadline)
            if await relayed.begin():
                return relayed
            body = relayed.first
        else:
            body = await whole_body(response, MAX_ANSWER_BYTES, name)
        kind = response.content_type
        try:
            found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError):
            raise UpstreamFailed(f"{name} answered with {kind}, not a completion: {_excerpt(body)}") from None
        if "error" in found and "choices" not in found:
            raise error_in_answer(name, body)
        if request.stream:
            return WholeAnswer(headers, model, name, body, as_events(body, name))
        return WholeAnswer(headers, model, name, body)

    async def _refusal(self, response: aiohttp.ClientResponse) -> _Failure:
        """What a status other than 2xx means."""
        name, status = self.upstream.name, response.status
        headers = passed_on(response.headers)
        if status < 400:
            told = f"{name} answered {status}, a redirection: its base_url is not the final address"
            return _Failure(UpstreamFailed(told), blame=False)
        try:
            raw = await whole_body(response, MAX_ERROR_BYTES, name)
        except (aiohttp.ClientError, OSError, UpstreamFailed):
            raw = b""
        headers.pop("content-type", None)
        body, told = self._error_of(raw, status)
        return _Failure(
            UpstreamFailed(told, status=status, body=body, headers=headers),
            again=status in RETRIED,
            blame=status >= 500,
            after_s=retry_after_s(headers, time.time()),
        )

    def _error_of(self, raw: bytes, status: int) -> tuple[bytes, str]:
        """The error to pass on: the server's own where it is JSON with one, else its text in OpenAI's form."""
        if self.upstream.api_key:
            raw = raw.replace(self.upstream.api_key.encode(), b"***")
        told = f"{self.upstream.name} answered {status}"
        try:
            found = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            found = None
        if isinstance(found, dict) and found.get("error"):
            return raw, told
        told += f": {_excerpt(raw)}" if raw else ""
        return error_body(told, kind="upstream_error", code=str(status)), told

    async def models(self) -> list[dict[str, Any]]:
        """What the server lists. *Raises*: UpstreamFailed when it doesn't."""
        try:
            async with (
                asyncio.timeout(MODELS_TIMEOUT_S),
                self._session.get(
                    f"{self._base}/models{self._query}", headers=self._headers, allow_redirects=False
                ) as response,
            ):
                raw = await whole_body(response, MAX_MODELS_BYTES, self.upstream.name)
                found = msgspec.json.decode(raw) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError, RecursionError) as error:
            raise UpstreamFailed(f"{self.upstream.name} does not list its models") from error
        rows = found.get("data") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise UpstreamFailed(f"{self.upstream.name} does not list its models")
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _reason(error: BaseException) -> str:
    """The cause in words, without the address that the client library puts into its own."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name has no address"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the TLS connection failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or "no connection"
    if isinstance(error, aiohttp.InvalidURL):
        return "its base_url is not an address"
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionError)):
        return "the connection broke"
    return type(error).__name__


def _excerpt(raw: bytes) -> str:
    """The beginning of a foreign text, one line, without markup."""
    text = " ".join(_TAGS.sub(" ", raw[:4000].decode("utf-8", "replace")).split())
    return (text[:200] + "…") if len(text) > 200 else text or "nothing"
