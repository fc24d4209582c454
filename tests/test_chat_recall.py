"""What was said in earlier conversations reaches the model: once, as data, within its budget, and nobody else's."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from aforesaid.app import App, asgi
from aforesaid.providers.exchange import Upstream as Configured
from aforesaid.providers.tokens import estimate
from aforesaid.settings import Settings
from tests.support.chats import (
    CHAT,
    Answered,
    Client,
    asgi_request,
    blocks,
    body_of,
    other_workspace_key,
    records,
    sent,
    upstream_environment,
)
from tests.support.server import RunningServer, ServerFactory, server_factory
from tests.support.upstream import Upstream

pytestmark = pytest.mark.xdist_group("chat_recall")


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    # A generous budget: these tests are about what is recalled, on machines that may be busy.
    environment = upstream_environment(model, AFORESAID_RECALL_BUDGET_MS="5000")
    with server_factory(tmp_path_factory.mktemp("recall")) as start:
        yield start(env=environment)


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    """A user of this test's own."""
    return Client(running, user=f"user of {request.node.name}"[:200])


# -- what the model sees ----------------------------------------------------------------------------------------------


def test_what_was_said_earlier_is_in_the_request_of_a_later_conversation(client: Client, model: Upstream) -> None:
    client.bring(
        {"role": "user", "content": "My sailing boat is called Perelandra.", "created_at": "2024-03-05T10:00:00Z"},
        {"role": "assistant", "content": "A fine name for a boat."},
    )
    answer = client.chat("What is my boat called?")
    received = sent(model)
    (block,) = blocks(received)
    found = records(block)
    assert {"My sailing boat is called Perelandra."} <= {record["text"] for record in found}
    record = next(record for record in found if "Perelandra" in record["text"])
    assert record["date"] == "2024-03-05 10:00"
    assert record["sender"] == client.user
    assert record["role"] == "user"
    assert client.get(f"/api/v1/messages/{record['id']}")["content"] == record["text"]
    assert answer.headers["x-aforesaid-recall"] == "done"
    assert answer.headers["x-aforesaid-memories"] == str(len(found))
    assert int(answer.headers["x-aforesaid-tokens"]) > 0
    assert float(answer.headers["x-aforesaid-recall-ms"]) > 0


def test_a_chat_is_remembered_by_the_next_one(client: Client, model: Upstream) -> None:
    client.chat("My daughter Ida plays the bassoon.")
    client.indexed()
    client.chat("Which instrument does Ida play?")
    assert "My daughter Ida plays the bassoon." in {record["text"] for record in records(blocks(sent(model))[0])}


@pytest.mark.parametrize("leading", [0, 1, 2])
def test_the_block_stands_behind_the_leading_system_messages_in_a_users_place(
    client: Client, model: Upstream, leading: int
) -> None:
    client.bring("The key of the shed is under the blue pot.")
    first = [
        b'{"role": "system","content":"You are  kind."}',
        b'{ "content" : "Be brief \\u00e9 \\ud83d\\ude42", "role":"developer" }',
    ][:leading]
    rest = [
        b'{"role":"user","content":[{"type":"text","text":"Hello"}], "x-extra": 1.10}',
        b'{"role":"assistant","content":"Hello!\\n"}',
        b'{"role":"system","content":"Now answer."}',
        b'{"role":"user","name":"ann","content":"Where is the key of the shed?"}',
    ]
    body = b'{"x_unknown":{"a": [1.0, 1e3]},"temperature":0.10,"messages":[%s],"model":"gpt-4"}'
    answer = client.request("POST", CHAT, body % b", ".join([*first, *rest]))
    assert answer.status == 200
    received = sent(model)
    roles = [message["role"] for message in received.json["messages"]]
    assert roles == [*["system", "developer"][:leading], "user", "user", "assistant", "system", "user"]
    block = received.json["messages"][leading]
    assert set(block) == {"role", "content"}
    assert block["content"].startswith("<remembered>\n")
    assert block["content"].endswith("\n</remembered>")
    assert received.body.count(b"<remembered>") == received.body.count(b"</remembered>") == 1
    for message in (*first, *rest):
        assert message in received.body  # the caller's own, byte for byte
    assert b'"x_unknown":{"a": [1.0, 1e3]}' in received.body
    assert b'"temperature":0.10' in received.body


def test_without_anything_to_remember_the_body_goes_on_byte_for_byte(client: Client, model: Upstream) -> None:
    body = b'{ "messages" : [ {"role":"user", "content":"Hello"} ],\n "model":"gpt-4", "seed": 12345678901234567890 }'
    assert client.request("POST", CHAT, body).status == 200
    assert sent(model).body == body


def test_what_the_request_says_itself_is_not_put_before_it_again(client: Client, model: Upstream) -> None:
    client.bring("The parrot Coco speaks Danish.", "The parrot Coco is green.")
    client.chat("The parrot Coco speaks Danish.", "I see.", "What do I have to know about the parrot Coco?")
    texts = [record["text"] for record in records(blocks(sent(model))[0])]
    assert "The parrot Coco is green." in texts
    assert "The parrot Coco speaks Danish." not in texts


def test_the_block_keeps_its_budget_and_its_order(client: Client, model: Upstream, running: RunningServer) -> None:
    rows = [
        {"role": "user", "content": f"Lighthouse number {i}: " + f"the lighthouse keeper says {i} words. " * 30,
         "created_at": f"2024-01-{i + 1:02}T00:00:00Z"}
        for i in range(28)
    ]  # fmt: skip
    client.bring(*rows)
    answer = client.chat("What does the lighthouse keeper say?")
    (block,) = blocks(sent(model))
    found = records(block)
    assert 2 <= len(found) <= 20
    assert estimate(block) <= 1500
    assert int(answer.headers["x-aforesaid-tokens"]) <= 1500
    dates = [record["date"] for record in found]
    assert dates == sorted(dates)
    assert len({record["id"] for record in found}) == len(found)
    client.bring("A lighthouse story. " + "Much goes on here. " * 3000)
    client.chat("What is the lighthouse story?")
    longest = max(len(record["text"]) for record in records(blocks(sent(model))[0]))
    assert longest <= 1700


@pytest.mark.parametrize(
    ("headers", "fields", "told"),
    [
        ({"x-memories-enabled": "false"}, {}, "skipped; off"),
        ({}, {"memories_enabled": False}, "skipped; off"),
        ({"x-memories-enabled": "true"}, {"memories_enabled": False}, "skipped; off"),
        ({"x-user-id": None}, {}, "skipped; no_user"),
        ({"x-memories-enabled": "true"}, {}, "done"),
    ],
)
def test_memory_can_be_left_out(
    client: Client, model: Upstream, headers: dict[str, Any], fields: dict[str, Any], told: str
) -> None:
    client.bring("The alarm code of the cellar is kept by Bo.")
    answer = client.chat("Who keeps the alarm code of the cellar?", headers=headers, **fields)
    assert answer.headers["x-aforesaid-recall"] == told
    assert len(blocks(sent(model))) == (told == "done")
    assert "memories_enabled" not in sent(model).json


def test_an_overview_is_of_the_latest_messages(client: Client, model: Upstream) -> None:
    client.bring(*(f"Fact {i} about something." for i in range(30)))
    client.chat("Summarize this conversation.")
    texts = [record["text"] for record in records(blocks(sent(model))[0])]
    assert texts == [f"Fact {i} about something." for i in range(18, 30)]


def test_nothing_of_another_user_or_workspace_is_ever_put_before_a_question(
    client: Client, model: Upstream, running: RunningServer
) -> None:
    """Thirty users in two workspaces, a secret each, the same question from all, in every way that a user is named."""
    key = other_workspace_key(running)
    people = []
    for i in range(30):
        headers = {"Authorization": f"Bearer {key}"} if i % 2 else {}
        # The same names in both workspaces.
        people.append((Client(running, user=f"canary {i // 2}", headers=headers), f"canary{i:02}"))
    for person, secret in people:
        person.request(
            "POST", "/api/v1/conversations",
            {"title": secret, "user_id": person.user, "messages": [{"content": f"My password is {secret}."}]},
        )  # fmt: skip
    for person, _ in people[:2]:
        person.indexed()
    for person, secret in people:
        ways: list[tuple[dict[str, str | None], dict[str, Any]]] = [
            ({}, {}),
            ({"x-user-id": None}, {"user_id": person.user}),
            ({"x-user-id": None}, {"user": person.user}),
            ({}, {"stream": True}),
        ]
        for named, fields in ways:
            person.chat("What is my password?", headers=named, **fields)
            body = sent(model).body.decode()
            assert secret in body
            assert not [other for _, other in people if other != secret and other in body]
    for name in ("canary", "canary 1 ", " canary 1", "Canary 1", "canary 1%", "*", "%"):
        Client(running).chat("What is my password?", user_id=name)
        assert [record["sender"] for block in blocks(sent(model)) for record in records(block)] == []


# -- a store that is late, broken or gone -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def inside(model: Upstream, folder: Path, **settings: Any) -> AsyncIterator[tuple[App, Callable[..., Any]]]:
    """The application in this process, and a way to ask it for completions."""
    configured = Configured(name="openai", base_url=model.base_url, retries=0)
    app = App(Settings(data=str(folder), api_key="sk-inside", upstreams=(configured,), **settings))
    await app.open()
    await app.start()
    served = asgi(app)

    async def request(method: str, path: str, body: Any = None, **headers: str) -> Answered:
        given = {"authorization": "Bearer sk-inside", "content-type": "application/json", **headers}
        named = {name.replace("_", "-"): value for name, value in given.items()}
        return await asgi_request(served, method, path, json.dumps(body).encode() if body else b"", named)

    try:
        yield app, request
    finally:
        await app.stop()


def test_a_completion_does_not_wait_for_memory_beyond_its_budget(model: Upstream, tmp_path: Path) -> None:
    """All readers of the store are held. The answer comes without memory and says so; later the store is itself."""

    async def run() -> None:
        async with inside(model, tmp_path) as (app, request):
            first = await request("POST", CHAT, body_of("The boat is called Perelandra."), x_user_id="u")
            known = first.conversation
            held, release = threading.Semaphore(0), threading.Event()

            def hold(_: object) -> None:
                held.release()
                release.wait(30)

            holding = [asyncio.ensure_future(app.db.read(hold)) for _ in range(4)]
            await asyncio.to_thread(lambda: [held.acquire() for _ in range(4)])
            late = await request("POST", CHAT, body_of("What is the boat called?"), x_user_id="u")
            assert late.status == 200
            assert late.headers["x-aforesaid-recall"] == "skipped; timeout"
            assert late.headers["x-aforesaid-memories"] == "0"
            assert blocks(sent(model)) == []
            assert "x-aforesaid-conversation-id" not in late.headers  # nobody could look yet
            before = len(model.chats)
            named = await request("POST", CHAT, body_of("And?", conversation_id=known), x_user_id="u")
            assert named.status == 503  # whether the conversation is there can't be said
            assert len(model.chats) == before
            release.set()
            await asyncio.gather(*holding)
            shown = (await request("GET", f"/api/v1/receipts/{late.headers['x-aforesaid-receipt-id']}")).json
            assert shown["skipped"] == "timeout"
            stored = await request("GET", f"/api/v1/conversations/{shown['conversation_id']}/messages")
            assert [message["role"] for message in stored.json["data"]] == ["user", "assistant"]
            for _ in range(10):  # the machine may be busy with others
                late = await request("POST", CHAT, body_of("What is the boat called?"), x_user_id="u")
                if late.headers["x-aforesaid-recall"] == "done":
                    break
            assert late.headers["x-aforesaid-recall"] == "done"

    asyncio.run(run())


def test_what_was_just_brought_is_waited_for(model: Upstream, tmp_path: Path) -> None:
    """Too many messages to be indexed at once: a question that comes right behind them finds them all the same."""

    async def run() -> None:
        async with inside(model, tmp_path) as (_, request):
            made = (await request("POST", "/api/v1/conversations", {"user_id": "u"})).json
            rows = [{"content": f"Locker {i} holds the {i}th drum."} for i in range(200)]
            upload = await request("POST", "/api/v1/messages", {"conversation_id": made["id"], "content": rows})
            assert upload.status == 201
            answer = await request("POST", CHAT, body_of("What does locker 199 hold?"), x_user_id="u")
            assert answer.headers["x-aforesaid-recall"] == "done"
            assert "the 199th drum" in blocks(sent(model))[0]

    asyncio.run(run())


def test_an_index_that_stays_behind_is_not_waited_for(model: Upstream, tmp_path: Path) -> None:
    """Nobody runs the jobs: the answer comes within the budget, with what is indexed."""

    async def run() -> None:
        async with inside(model, tmp_path) as (app, request):
            await request("POST", CHAT, body_of("Locker 7 holds a cello."), x_user_id="u")
            await app.runner.stop()
            made = (await request("POST", "/api/v1/conversations", {"user_id": "u"})).json
            rows = [{"content": f"Locker {i} holds the {i}th drum."} for i in range(200)]
            await request("POST", "/api/v1/messages", {"conversation_id": made["id"], "content": rows})
            answer = await request("POST", CHAT, body_of("Which locker holds the cello?"), x_user_id="u")
            assert answer.status == 200
            if answer.headers["x-aforesaid-recall"] == "done":  # else the machine was too busy for the budget
                assert "a cello" in blocks(sent(model))[0]
                assert "drum" not in blocks(sent(model))[0]

    asyncio.run(run())


def test_a_store_that_is_broken_does_not_break_the_chat(model: Upstream, tmp_path: Path) -> None:
    """The tables of memory are gone, those of the keys are there: the answer comes, streamed or not, and says so."""

    async def run() -> None:
        async with inside(model, tmp_path) as (_, request):
            await request("POST", CHAT, body_of("The boat is called Perelandra."), x_user_id="u")
            with contextlib.closing(apsw.Connection(str(tmp_path / "aforesaid.db"))) as connection:
                for table in ("turn_chain", "text_scope", "text_block", "receipt"):
                    connection.execute(f"drop table {table}")
            for stream in (False, True):
                answer = await request("POST", CHAT, body_of("What is it called?", stream=stream), x_user_id="u")
                assert answer.status == 200
                assert answer.headers["x-aforesaid-recall"] == "skipped; failed"
                assert answer.events[-1] == "[DONE]" if stream else answer.said

    asyncio.run(run())


class Proxy:
    """A port that leads to another one, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.listen(0)
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def listen(self, port: int) -> None:
        self._server = self._loop.run_until_complete(asyncio.start_server(self._joined, "127.0.0.1", port))
        self.port = self._server.sockets[0].getsockname()[1]

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, outer}

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    def cut(self) -> None:
        """Every connection is broken and none is taken."""
        done = threading.Event()

        def cut() -> None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(cut)
        done.wait()


@pytest.mark.postgresql
@pytest.mark.chaos
def test_with_the_database_unreachable_nobody_is_let_in_or_turned_away(
    model: Upstream, server: ServerFactory, postgres_url: str
) -> None:
    """A key can't be checked: 503, never 401. One checked a moment ago still gets its answer, without memory."""
    head, _, rest = postgres_url.rpartition("@")
    place, _, name = rest.partition("/")
    with Proxy(int(place.partition(":")[2] or 5432)) as proxy:
        url = f"{head}@127.0.0.1:{proxy.port}/{name}"
        mine = Client(server(env=upstream_environment(model), database_url=url), user="u")
        assert mine.chat("Hello").status == 200
        proxy.cut()
        begun_s = time.monotonic()
        known = mine.chat("Hello again", headers={"x-aforesaid-store": "false"})
        if known.status == 200:  # within the second for which a checked key is known
            assert known.headers["x-aforesaid-recall"] in ("skipped; timeout", "skipped; failed")
        else:
            assert time.monotonic() - begun_s > 0.5
        refused = known
        while refused.status == 200:
            refused = mine.chat("Hello?", headers={"x-aforesaid-store": "false"})
        assert refused.status == 503
        assert refused.json["error"]["type"] == "server_error"
        assert int(refused.headers["retry-after"]) >= 1
