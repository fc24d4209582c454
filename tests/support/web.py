"""A small HTTP client for tests: one connection kept alive, answers as they are."""

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

WAIT_S = 30.0


class Answer(NamedTuple):
    """An answer: status, headers with lower-case names, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Web:
    """A client of one server with one key, or with none."""

    def __init__(self, base_url: str, key: str | None, *, timeout_s: float = 60.0) -> None:
        parts = urllib.parse.urlsplit(base_url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        self._key = key

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Answer:
        """The answer to a request. ``body`` is sent as JSON, or as it is when it is bytes."""
        sent = dict(headers or {})
        if self._key is not None:
            sent.setdefault("Authorization", f"Bearer {self._key}")
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        target = path if not query else f"{path}?{urllib.parse.urlencode({k: str(v) for k, v in query.items()})}"
        self._connection.request(method, target, raw, sent)
        answer = self._connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The decoded body of an answer that is a success."""
        answer = self(method, path, body, **more)
        assert 200 <= answer.status < 300, (method, path, answer.status, answer.body[:2000])
        return answer.json if answer.body else None

    def close(self) -> None:
        """The connection is closed; the next request opens a new one."""
        with contextlib.suppress(OSError):
            self._connection.close()


def wait_until(fits: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """It fits, now or within the time; the asking never ends a test early."""
    deadline = time.monotonic() + timeout_s
    while not fits():
        assert time.monotonic() < deadline, f"still not so after {timeout_s:.0f} s: {what}"
        time.sleep(0.02)


def wait_indexed(web: Web, user_id: str | None = None) -> dict[str, Any]:
    """Everything acknowledged is searchable. *Gives* the last state of the later work."""
    state: dict[str, Any] = {}

    def fits() -> bool:
        state.update(web.ok("GET", "/api/v1/indexing", query={"user_id": user_id} if user_id else None))
        return bool(state["pending"] == 0)

    wait_until(fits, "nothing waits to be indexed")
    return state
