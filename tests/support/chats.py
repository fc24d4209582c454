"""Speaking to a server under test as its clients do: whole answers, streams byte by byte, and what was stored."""

import asyncio
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message

from tests.support.server import RunningServer, command
from tests.support.upstream import Received, Upstream

CHAT = "/api/v1/chat/completions"
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Answered:
    """An answer that is whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, decoded."""
        return json.loads(self.body)

    @property
    def said(self) -> str:
        """The text of a completion's first choice."""
        text: str = self.json["choices"][0]["message"]["content"]
        return text

    @property
    def events(self) -> list[str]:
        """The data of a stream's events."""
        return [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]

    @property
    def conversation(self) -> str:
        """The conversation that the answer says it is stored in."""
        return self.headers["x-aforesaid-conversation-id"]


def upstream_environment(upstream: Upstream, **settings: str) -> dict[str, str]:
    """The environment of a server whose completions ``upstream`` answers, at the first attempt or not at all."""
    kept = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "upstream-key"}
    return kept | {"AFORESAID_UPSTREAM_OPENAI_RETRIES": "0"} | settings


class Connection:
    """One connection, spoken to in plain bytes: nothing is read ahead, nothing is sent that is not asked for."""

    def __init__(self, server: RunningServer, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((server.host, server.port))
        self._server = server
        self._rest = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str | None]) -> None:
        """The request is on its way. A header of None is left out."""
        given = {**self._server.headers, "Content-Type": "application/json", "Host": "localhost"}
        lines = [f"{name}: {value}" for name, value in {**given, **headers}.items() if value is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}"])
        self.socket.sendall(head.encode() + b"\r\n\r\n" + body)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        raw = self._until(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def chunk(self) -> bytes:
        """The next chunk of a streamed answer; empty for the last. *Raises*: EOFError where the answer is cut."""
        size = int(self._until(b"\r\n"), 16)
        data = self._exactly(size + 2)
        return data[:-2]

    def chunks(self) -> Iterator[bytes]:
        """All chunks that are left."""
        while piece := self.chunk():
            yield piece

    def body(self, headers: Mapping[str, str]) -> bytes:
        """The whole body."""
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        return self._exactly(int(headers.get("content-length", "0")))

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._more()
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the answer was cut after {self._rest!r}")
        self._rest += data


@dataclass
class Client:
    """A caller of one server, as one user."""

    server: RunningServer
    user: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None
    ) -> Answered:
        """The answer to one request. A header of None is left out."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        with Connection(self.server) as connection:
            connection.send(method, path, raw, self._headers(headers))
            status, given = connection.head()
            return Answered(status, given, connection.body(given))

    def _headers(self, headers: Mapping[str, str | None] | None) -> dict[str, str | None]:
        return {"x-user-id": self.user, **self.headers, **(headers or {})}

    def chat(self, *turns: Any, headers: Mapping[str, str | None] | None = None, **fields: Any) -> Answered:
        """The answer to a chat: user, assistant, user, … in turn; or whole messages."""
        return self.request("POST", CHAT, body_of(*turns, **fields), headers)

    def open(self, *turns: Any, headers: Mapping[str, str | None] | None = None, **fields: Any) -> Connection:
        """A connection on which a chat was asked for."""
        connection = Connection(self.server)
        connection.send("POST", CHAT, json.dumps(body_of(*turns, **fields)).encode(), self._headers(headers))
        return connection

    def get(self, path: str) -> Any:
        """What is there. *Raises*: AssertionError for anything but 200."""
        answer = self.request("GET", path)
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json

    def conversations(self, user: str | None = None) -> list[Any]:
        """The conversations of the user, oldest first."""
        query = f"&user_id={quote(user or self.user or '')}" if user or self.user else ""
        found: list[Any] = self.get(f"/api/v1/conversations?limit=100&sort_by=created_at&sort_order=asc{query}")["data"]
        return found

    def messages(self, conversation: str) -> list[Any]:
        """The messages of a conversation, in order."""
        found: list[Any] = self.get(f"/api/v1/conversations/{conversation}/messages?limit=1000")["data"]
        return found

    def spoken(self, conversation: str) -> list[tuple[str, str]]:
        """(role, text) of the messages of a conversation, in order."""
        return [(message["role"], message["content"]) for message in self.messages(conversation)]

    def bring(self, *messages: Any, title: str = "Earlier", owner: str | None = None) -> str:
        """A conversation with these messages, searchable. *Gives*: its id."""
        rows = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
        made = self.request(
            "POST", "/api/v1/conversations", {"title": title, "user_id": owner or self.user, "messages": rows}
        )
        assert made.status == 201, made.body
        self.indexed()
        name: str = made.json["id"]
        return name

    def indexed(self) -> None:
        """Everything that was acknowledged is searchable."""
        eventually(lambda: self.get("/api/v1/indexing")["pending"] == 0)

    def receipt(self, answer: Answered) -> Any:
        """The receipt of an answer."""
        return self.get(f"/api/v1/receipts/{answer.headers['x-aforesaid-receipt-id']}")


def body_of(*turns: Any, **fields: Any) -> dict[str, Any]:
    """A request: texts are user and assistant in turn, anything else is a message as it is."""
    messages = []
    for place, turn in enumerate(turns):
        role = "assistant" if place % 2 else "user"
        messages.append({"role": role, "content": turn} if isinstance(turn, str) else turn)
    return {"model": "gpt-4", "messages": messages, **fields}


def other_workspace_key(server: RunningServer) -> str:
    """A secret key of another workspace of the same server."""
    name = f"workspace {secrets.token_hex(4)}"
    environment = {**server.environment, "AFORESAID_DATA": str(server.data)}
    made: Any = None
    for arguments in (("workspaces", "create", name), ("keys", "create", "--workspace", name)):
        done = subprocess.run(
            [*command(), *arguments, "--json"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
    key: str = made["secret"]
    return key


def eventually(holds: Any, what: str = "it never came true") -> None:
    """The condition holds, now or soon."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def sent(upstream: Upstream) -> Received:
    """The last chat completion that the upstream received."""
    return upstream.chats[-1]


def blocks(received: Received) -> list[str]:
    """The blocks of remembered records in the messages that the upstream received."""
    return [
        message["content"]
        for message in received.json["messages"]
        if isinstance(message.get("content"), str) and "<remembered>" in message["content"]
    ]


def records(block: str) -> list[Any]:
    """The records of a block, each decoded on its own."""
    lines = block.split("\n")
    assert lines[0] == "<remembered>"
    assert lines[-1] == "</remembered>"
    return [json.loads(line) for line in lines[2:-1]]


async def asgi_request(
    app: ASGIApp, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answered:
    """The application's answer to one request, without a socket."""
    route, _, query = path.partition("?")
    given = {"host": "localhost", "content-length": str(len(body)), **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": route,
        "raw_path": route.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    got: list[Message] = []

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        got.append(message)

    await app(scope, receive, send)
    start = got[0]
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Answered(start["status"], named, b"".join(message.get("body", b"") for message in got[1:]))
