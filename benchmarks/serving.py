"""A server to measure, in a process of its own, and the requests that every benchmark makes of it."""

import contextlib
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import CpuClock, descendants, memory_mb
from benchmarks.texts import Writer
from tests.support.postgres import empty_database, shared_server, stop_shared_server
from tests.support.server import RunningServer, start_server

BATCH = 100
SETTLE_S = 900.0
QUIET_S = 0.3
REQUEST_S = 120.0


class Api:
    """One connection to a server."""

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=REQUEST_S)
        self._headers = server.headers | {"Content-Type": "application/json"}

    def send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of the answer. *Raises* RuntimeError for any status but 2xx."""
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):  # it was idle for longer than it is kept
            self._connection.close()
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
        raw = answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"{method} {path}: {answer.status} {raw[:500]!r}")
        return raw

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The same with JSON on both sides."""
        return json.loads(self.send(method, path, None if body is None else json.dumps(body).encode()))

    def conversation(self, user: str) -> str:
        """The id of a new conversation of the user."""
        made = self.call("POST", "/api/v1/conversations", {"title": "benchmark", "user_id": user})
        return str(made["id"])

    def settle(self) -> None:
        """All that was acknowledged is searchable, and the server has gone quiet."""
        until = time.monotonic() + SETTLE_S
        while self.call("GET", "/api/v1/indexing")["pending"]:
            if time.monotonic() > until:
                raise RuntimeError(f"not searchable after {SETTLE_S:.0f} s")
            time.sleep(0.05)
        time.sleep(QUIET_S)

    def close(self) -> None:
        self._connection.close()


class Measured:
    """A running server with the clocks to measure it. ``database`` is that of PostgreSQL, where it is used."""

    def __init__(self, server: RunningServer, engine: str, postmaster: int | None) -> None:
        self.server = server
        self.engine = engine
        self.api = Api(server)
        self.clock = CpuClock(server.process.pid)
        self.database = CpuClock(postmaster) if postmaster is not None else None

    def memory_mb(self) -> dict[str, float]:
        return memory_mb(self.server.process.pid)


@contextlib.contextmanager
def measured_server(engine: str = "sqlite", env: Mapping[str, str] | None = None) -> Iterator[Measured]:
    """A server with an empty store; both are gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="aforesaid-bench-"))
    try:
        with contextlib.ExitStack() as stack:
            url, postmaster = None, None
            if engine == "postgresql":
                admin = shared_server(folder, os.getpid())
                stack.callback(stop_shared_server, folder)
                url = stack.enter_context(empty_database(admin))
                postmaster = _postmaster(folder)
            server = start_server(folder / "data", database_url=url, env=env)
            stack.callback(server.stop)
            measured = Measured(server, engine, postmaster)
            stack.callback(measured.api.close)
            yield measured
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postmaster(folder: Path) -> int:
    """The process under which all of that PostgreSQL server runs."""
    return descendants(int((folder / "postgres.pid").read_text()))[0]


def batches(api: Api, writer: Writer, user: str, count: int, size: int = BATCH, spread: int = 10) -> Iterator[bytes]:
    """Bodies for ``POST /messages``: ``count`` messages of a user, ``spread`` batches to a conversation."""
    conversation = ""
    for place in range(0, count, size):
        if place // size % spread == 0:
            conversation = api.conversation(user)
        messages = writer.messages(user, min(size, count - place))
        yield json.dumps({"conversation_id": conversation, "content": messages}).encode()


def filled(api: Api, user: str, count: int, seed: int = 1) -> None:
    """The user has ``count`` searchable messages."""
    for body in batches(api, Writer(seed), user, count, size=1000, spread=1):
        api.send("POST", "/api/v1/messages", body)
    api.settle()
