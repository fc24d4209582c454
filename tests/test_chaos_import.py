"""kill -9 of the server at random moments of an import: nothing acknowledged is lost, nothing is there twice.

Three clients import at once: one with ids of its own, one with times, one without any identity but under
Idempotency-Keys. Each repeats a batch until it is acknowledged. After every kill, before the server is started again,
the store itself is looked at.
"""

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aforesaid import ids
from aforesaid.core.textindex import unpack
from aforesaid.store.database import Database, Tx
from tests.support.postgres import empty_database
from tests.support.server import RunningServer, start_server
from tests.support.stores import in_store
from tests.support.web import Web, wait_indexed, wait_until

pytestmark = pytest.mark.chaos

KINDS = ("ids", "times", "keys")
MESSAGES = "/api/v1/messages"


@dataclass
class Client:
    """An importer: what it sent, what was acknowledged."""

    kind: str
    home: str
    number: int
    size: int
    sent: int = 0
    acknowledged: int = 0
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)

    def rows(self, batch: int) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for i in range(self.size):
            row: dict[str, Any] = {"content": f"{batch} {i}"}
            if self.kind == "ids":
                row["id"] = f"{batch}/{i}"
            elif self.kind == "times":
                row |= {"content": f"{batch} {i}", "created_at": 1749551286 + batch * self.size + i}
            out.append(row)
        return out

    def run(self, server: RunningServer, stop: threading.Event) -> None:
        web = Web(server.base_url, server.api_key, timeout_s=20)
        while not stop.is_set():
            batch = self.sent
            self.sent += 1
            rows = self.rows(batch)
            body = {"conversation_id": self.home, "content": rows}
            headers = {"Idempotency-Key": f"{self.home} {batch}"} if self.kind == "keys" else {}
            while True:
                try:
                    answer = web("POST", MESSAGES, body, headers=headers)
                except (OSError, http.client.HTTPException):
                    web.close()
                    time.sleep(0.02)
                    continue
                if answer.status == 201:
                    break
                if answer.status != 503:
                    self.wrong.append(f"{answer.status} {answer.body[:300]!r}")
                time.sleep(0.02)
            told = [m["content"] for m in answer.json]
            if told != [row["content"] for row in rows]:
                self.wrong.append(f"batch {batch} was answered with {told[:3]}")
            duplicates = int(answer.headers["x-aforesaid-duplicates"])
            self.repeated += bool(duplicates) or "idempotency-replayed" in answer.headers
            if duplicates not in (0, self.size):
                self.wrong.append(f"batch {batch} was half there: {duplicates}")
            self.acknowledged = batch + 1
        web.close()


def contents(tx: Tx, number: int) -> list[tuple[int, str]]:
    sql = "select seq, content from message where conversation = ? order by seq"
    return [(row[0], row[1]) for row in tx.rows(sql, number)]


def check_store(url: str, clients: list[Client]) -> None:
    """What was acknowledged is there, once, in order, whole; of the rest, a batch is there or it isn't."""
    before = [client.acknowledged for client in clients]

    async def look(db: Database) -> None:
        if db.name == "sqlite":
            assert await db.read(lambda tx: tx.rows("pragma integrity_check")) == [("ok",)]
        for client, acknowledged in zip(clients, before, strict=True):
            found = await db.read(contents, client.number)
            assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
            expected = [f"{batch} {i}" for batch in range(len(found) // client.size) for i in range(client.size)]
            assert [text for _, text in found] == expected, client.kind
            assert len(found) // client.size >= acknowledged, client.kind
            kept = await db.read(
                lambda tx, n=client.number: tx.row(  # type: ignore[misc]
                    "select message_count, next_seq from conversation where number = ?", n
                )
            )
            assert kept == (len(found), len(found) + 1)
        # As if the killed runner's leases had had the time to run out.
        await db.write(lambda tx: tx.run("update job set lease_until_us = 1 where state = 'running'"))

    in_store(url, look)


@contextlib.contextmanager
def store_url(request: pytest.FixtureRequest, engine: str, data: Path) -> Iterator[tuple[str, str | None]]:
    """(what the test opens, what the server is told) of an empty store."""
    if engine == "sqlite":
        yield str(data / "aforesaid.db"), None
        return
    with empty_database(request.getfixturevalue("postgres_server")) as url:
        yield url, url


@pytest.mark.parametrize(
    ("engine", "size", "kills"),
    [
        ("sqlite", 1, 4), ("sqlite", 50, 4), ("sqlite", 500, 4),
        ("postgresql", 1, 2), ("postgresql", 50, 3), ("postgresql", 500, 3),
    ],
)  # fmt: skip
def test_killed_at_random_moments(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, size: int, kills: int
) -> None:
    rng = random.Random(f"{engine} {size}")
    data = tmp_path / "data"
    with store_url(request, engine, data) as (opened, told):
        server = start_server(data, database_url=told)
        stop = threading.Event()
        threads: list[threading.Thread] = []
        try:
            web = Web(server.base_url, server.api_key)
            clients = []
            for kind in KINDS:
                made = web.ok("POST", "/api/v1/conversations", {"user_id": kind})
                home = made["id"]
                number = ids.number_of(home, ids.CONVERSATION)
                assert number is not None
                clients.append(Client(kind, home, number, size))
            web.close()
            threads = [threading.Thread(target=client.run, args=(server, stop), daemon=True) for client in clients]
            for thread in threads:
                thread.start()
            for _ in range(kills):
                seen = [client.acknowledged for client in clients]
                wait_until(
                    lambda seen=seen: all(c.acknowledged > s for c, s in zip(clients, seen, strict=True)),  # type: ignore[misc]
                    "every client gets on",
                )
                time.sleep(rng.uniform(0.0, 0.3))  # a random moment of what follows
                server.kill()
                check_store(opened, clients)
                server = start_server(
                    data, database_url=told, api_key=server.api_key, anon_key=server.anon_key, port=server.port
                )
            seen = [client.acknowledged for client in clients]
            wait_until(
                lambda: all(c.acknowledged > s for c, s in zip(clients, seen, strict=True)), "the import goes on"
            )
            stop.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
            assert [client.wrong for client in clients] == [[], [], []]
            web = Web(server.base_url, server.api_key)
            for client in clients:
                page = web.ok("GET", f"/api/v1/conversations/{client.home}/messages", query={"limit": 1})
                assert page["total_count"] == client.sent * size
            state = wait_indexed(web)
            assert state["failed"] == 0
            for client in clients:
                batch = client.sent - 1
                found = web.ok("POST", "/api/v1/search", {"query": f"{batch} {size - 1}", "user_id": client.kind})
                assert f"{batch} {size - 1}" in [hit["message"]["content"] for hit in found["data"]]
            web.close()
            assert server.stop() == 0
            check_store(opened, clients)
            assert sum(check_index(opened, client.kind)[0] for client in clients) == sum(c.sent * size for c in clients)
        finally:
            stop.set()
            server.kill()


def check_index(url: str, user: str) -> tuple[int, int]:
    """(messages, blocks) of a user's index; nothing is in it twice."""

    async def look(db: Database) -> tuple[int, int]:
        blocks = await db.read(lambda tx: tx.rows("select data from text_block where owner_id = ?", user))
        places: Counter[tuple[int, int]] = Counter()
        for (raw,) in blocks:
            columns = unpack(bytes(raw))
            places.update(zip(columns.conversation.tolist(), columns.seq.tolist(), strict=True))
        assert not places or max(places.values()) == 1
        return len(places), len(blocks)

    return in_store(url, look)
