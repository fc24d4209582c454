"""A server inside the test's own process, on a loopback port: its deadlines can be set, its store can be read."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
import uvloop

from aforesaid.app import App, asgi
from aforesaid.http.server import Protocol
from aforesaid.settings import Settings
from aforesaid.store.database import Tx

API_KEY = "test-secret-inside"
ANON_KEY = "test-anon-inside"
START_TIMEOUT_S = 60.0
T = TypeVar("T")


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:500]!r}"


class Inside:
    """A running server and its parts. ``protocol`` is the connection class: its deadlines may be set."""

    def __init__(self, app: App, port: int, loop: asyncio.AbstractEventLoop, protocol: type[Protocol]) -> None:
        self.app = app
        self.port = port
        self.protocol = protocol
        self.base_url = f"http://127.0.0.1:{port}"
        self._loop = loop

    def run(self, awaited: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives, run where the server runs."""
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result(60)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        key: str | None = API_KEY,
    ) -> Answer:
        """The answer to one request on a connection of its own. Values are sent as JSON, text and bytes as they are."""
        sent: dict[str, str | bytes] = {} if key is None else {"authorization": f"Bearer {key}"}
        if body is not None:
            sent["content-type"] = "application/json"
        raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {**sent, **(headers or {})}.items():
                connection.putheader(name, value)
            if raw is not None:
                raw = raw.encode() if isinstance(raw, str) else raw
                connection.putheader("content-length", str(len(raw)))
            connection.endheaders(raw)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def talk(self, raw: bytes, *, timeout_s: float = 30.0) -> bytes:
        """All that the server says to these bytes until it closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as client:
            client.sendall(raw)
            return read_all(client)

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""

        def read(tx: Tx) -> dict[str, int]:
            return {table: int(tx.rows(f"select count(*) from {table}")[0][0]) for table in TABLES}

        return self.run(self.app.db.read(read))


TABLES = (
    "conversation",
    "message",
    "participant",
    "job",
    "api_key",
    "workspace",
    "receipt",
    "idempotency",
    "turn_chain",
)


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side closes."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def inside(data: Path, *, database_url: str | None = None, jobs: bool = False, **settings: Any) -> Iterator[Inside]:
    """A server that answers. By default it runs no jobs, so that rows stay as requests leave them."""
    started: list[Inside] = []
    ready = threading.Event()
    finished = threading.Event()
    servers: list[uvicorn.Server] = []
    failures: list[BaseException] = []

    class Shortened(Protocol):
        """This server's own deadlines."""

    async def main() -> None:
        given = Settings(
            data=str(data), database_url=database_url, api_key=API_KEY, anon_key=ANON_KEY, jobs=jobs, **settings
        )
        app = App(given)
        await app.open()
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            asgi(app),
            http=Shortened,
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        servers.append(server)
        port = int(listening.getsockname()[1])
        started.append(Inside(app, port, asyncio.get_running_loop(), Shortened))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready.set()
        await serving

    def thread() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - told to the test that waits
            failures.append(error)
        finally:
            ready.set()
            finished.set()

    data.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=thread, name="server", daemon=True).start()
    assert ready.wait(START_TIMEOUT_S), "the server did not start"
    if failures:
        raise failures[0]
    try:
        yield started[0]
    finally:
        servers[0].should_exit = True
        assert finished.wait(START_TIMEOUT_S), "the server did not stop"
