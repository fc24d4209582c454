"""The store under the server goes away for a while: a database that restarts, a locked file, a full disk.

Only 503 or 507 may be answered meanwhile; what was acknowledged stays; and it all comes back by itself.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from aforesaid.core import messages
from aforesaid.errors import StorageFull, Unavailable
from aforesaid.store import sqlite
from aforesaid.store.database import Tx
from tests.support import postgres
from tests.support.server import RunningServer, ServerFactory
from tests.support.stores import add_caller, add_conversation, all_messages, draft, opened
from tests.support.web import Web, wait_until

pytestmark = pytest.mark.chaos

CONVERSATIONS, MESSAGES = "/api/v1/conversations", "/api/v1/messages"


class OwnPostgres:
    """A PostgreSQL server of this test's own, which can be stopped and started again at the same address."""

    def __init__(self, home: Path) -> None:
        self._process, self.url = postgres._start(home, postgres._usable_binaries(home))
        postgres._wait_until_ready(self._process, self.url, home)

    def stop(self, how: signal.Signals) -> None:
        """It does not answer any more: SIGINT ends its sessions, SIGQUIT crashes it."""
        self._process.send_signal(how)
        self._process.wait(30)

    def start(self) -> None:
        """It is being started; that takes it a moment."""
        self._process = subprocess.Popen(
            self._process.args, user=postgres._account(), cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        """It is gone."""
        if self._process.poll() is None:
            postgres._stop(self._process)


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    home = Path(tempfile.mkdtemp(prefix="aforesaid-postgres-"))
    home.chmod(0o711)
    try:
        running = OwnPostgres(home)
    except postgres.NoPostgres as reason:
        shutil.rmtree(home, ignore_errors=True)
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
    try:
        yield running
    finally:
        running.end()
        shutil.rmtree(home, ignore_errors=True)


class Load:
    """Clients that write and read all the time, and note every answer."""

    def __init__(self, server: RunningServer, home: str) -> None:
        self.acknowledged: list[str] = []
        self.answers: list[tuple[float, str, int, dict[str, str]]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(server, home, f"w{i}"), daemon=True) for i in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, server: RunningServer, home: str, name: str) -> None:
        web = Web(server.base_url, server.api_key, timeout_s=60)
        i = 0
        while not self._stop.is_set():
            text = f"{name} {i}"
            i += 1
            answer = web("POST", MESSAGES, {"conversation_id": home, "content": {"content": text, "id": text}})
            if answer.status == 201:
                self.acknowledged.append(text)
            self.answers.append((time.monotonic(), "write", answer.status, answer.headers))
            answer = web("GET", CONVERSATIONS, query={"limit": 1})
            self.answers.append((time.monotonic(), "read", answer.status, answer.headers))
        web.close()

    def count(self, what: str, status: int, since: float = 0.0) -> int:
        """How many answers of that status there were."""
        return sum(1 for when, kind, got, _ in list(self.answers) if when >= since and (kind, got) == (what, status))

    def stop(self) -> None:
        """Every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.postgresql
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_a_database_that_restarts_is_a_503_and_comes_back(
    own_postgres: OwnPostgres, server: ServerFactory, how: signal.Signals
) -> None:
    running = server(database_url=own_postgres.url)
    web = Web(running.base_url, running.api_key)
    home = web.ok("POST", CONVERSATIONS, {"user_id": "u"})["id"]
    load = Load(running, home)
    for _ in range(2):
        mark = time.monotonic()
        wait_until(lambda mark=mark: load.count("write", 201, mark) > 5, "writes go through")  # type: ignore[misc]
        own_postgres.stop(how)
        mark = time.monotonic()
        wait_until(lambda mark=mark: load.count("write", 503, mark) and load.count("read", 503, mark), "503")  # type: ignore[misc]
        assert web("GET", "/health").status == 503
        stranger = Web(running.base_url, "sk_" + "y" * 43)
        assert stranger("GET", CONVERSATIONS).status == 503  # nobody can say that the key is bad
        stranger.close()
        own_postgres.start()
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(own_postgres.url).close()
                break
            time.sleep(0.02)
        mark = time.monotonic()
        wait_until(
            lambda mark=mark: load.count("write", 201, mark) > 3 and load.count("read", 200, mark) > 3,  # type: ignore[misc]
            "it answers again, by itself",
        )
        first = min(when for when, kind, status, _ in load.answers if when >= mark and (kind, status) == ("write", 201))
        print(f"\nfirst write {first - mark:.2f} s after the database was back")
    load.stop()
    assert {status for _, _, status, _ in load.answers} == {200, 201, 503}
    assert all("retry-after" in headers for _, _, status, headers in load.answers if status == 503)
    found: list[dict[str, Any]] = []
    while not found or len(found) % 1000 == 0:
        found += web.ok("GET", f"{CONVERSATIONS}/{home}/messages", query={"limit": 1000, "skip": len(found)})["data"]
    texts = [m["content"] for m in found]
    assert len(texts) == len(set(texts))
    assert set(load.acknowledged) <= set(texts)
    wait_until(lambda: web.ok("GET", "/api/v1/indexing")["pending"] == 0, "later work goes on", 60)
    assert web.ok("GET", "/api/v1/indexing")["failed"] == 0
    web.close()


def test_a_file_held_by_another_process_is_waited_for(server: ServerFactory) -> None:
    running = server()
    web = Web(running.base_url, running.api_key)
    home = web.ok("POST", CONVERSATIONS, {"user_id": "u"})["id"]
    other = apsw.Connection(str(running.data / "aforesaid.db"))
    other.set_busy_timeout(10_000)
    other.execute("begin immediate")
    load = Load(running, home)
    wait_until(lambda: load.count("read", 200) >= 0 and web("GET", f"{CONVERSATIONS}/{home}").status == 200, "reads")
    assert load.count("write", 201) == 0
    other.execute("rollback")
    other.close()
    wait_until(lambda: load.count("write", 201) > 20, "the writes that waited")
    load.stop()
    assert {status for _, _, status, _ in load.answers} == {200, 201}
    web.close()


def test_a_file_held_too_long_is_unavailable_for_writes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)

    async def run() -> None:
        async with opened(str(tmp_path / "a.db")) as db:
            caller = await add_caller(db, "one")
            home = await add_conversation(db, caller)
            other = apsw.Connection(str(tmp_path / "a.db"))
            for _ in range(3):
                other.execute("begin immediate")
                tries = [db.write(messages.add, caller, home.number, [draft("x")]) for _ in range(5)]
                for outcome in await asyncio.gather(*tries, return_exceptions=True):
                    assert isinstance(outcome, Unavailable)
                    assert not isinstance(outcome, StorageFull)
                assert await all_messages(db, caller, home.number) == []
                other.execute("rollback")
            other.close()
            await db.write(messages.add, caller, home.number, [draft("x")])
            assert len(await all_messages(db, caller, home.number)) == 1

    asyncio.run(run())


def test_a_full_store_refuses_what_does_not_fit_and_keeps_the_rest(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk: it fails at the same place, in the middle of a transaction."""

    async def run() -> None:
        async with opened(str(tmp_path / "a.db")) as db:
            caller = await add_caller(db, "one")
            home = await add_conversation(db, caller)

            def limit(tx: Tx, pages: int) -> None:
                tx.rows(f"pragma max_page_count = {pages}")

            await db.write(limit, 300)
            stored: list[str] = []
            full = 0
            for i in range(200):
                texts = [f"{i} {j} " + "x" * 20_000 for j in range(3)]
                tries = [db.write(messages.add, caller, home.number, [draft(text)]) for text in texts]
                for text, outcome in zip(texts, await asyncio.gather(*tries, return_exceptions=True), strict=True):
                    if isinstance(outcome, StorageFull):
                        full += 1
                    else:
                        assert not isinstance(outcome, BaseException), outcome
                        stored.append(text)
                if full > 10:
                    break
            assert full > 10
            assert stored
            assert [m.content for m in await all_messages(db, caller, home.number)] == stored
            assert await db.read(lambda tx: tx.rows("pragma integrity_check")) == [("ok",)]
            await db.write(limit, 100_000)
            await db.write(messages.add, caller, home.number, [draft("room again")])
            found = await all_messages(db, caller, home.number)
            assert [m.content for m in found] == [*stored, "room again"]
            assert [m.seq for m in found] == list(range(1, len(stored) + 2))

    asyncio.run(run())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB. Only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def test_a_full_disk_is_a_507_while_reads_go_on_and_writes_resume(small_disk: Path, server: ServerFactory) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (6 << 20))
    running = server(data=small_disk / "data")
    web = Web(running.base_url, running.api_key)
    home = web.ok("POST", CONVERSATIONS, {"user_id": "u"})["id"]
    stored: list[str] = []
    refused = 0
    for i in range(2000):
        text = f"{i} " + "y" * 30_000
        answer = web("POST", MESSAGES, {"conversation_id": home, "content": {"content": text, "id": str(i)}})
        if answer.status == 201:
            stored.append(text)
            continue
        assert answer.status == 507, answer.body
        assert "retry-after" in answer.headers
        refused += 1
        assert web.ok("GET", f"{CONVERSATIONS}/{home}")["message_count"] == len(stored)
        if refused >= 15:
            break
    assert refused >= 15
    assert stored
    page = web.ok("GET", f"{CONVERSATIONS}/{home}/messages", query={"limit": 1000})
    assert [m["content"] for m in page["data"]] == stored
    filler.unlink()
    answer = web("POST", MESSAGES, {"conversation_id": home, "content": {"content": "room again", "id": "again"}})
    assert answer.status == 201, answer.body
    stored.append("room again")
    web.close()
    assert running.stop() == 0
    page_after = server(data=small_disk / "data", api_key=running.api_key)
    web = Web(page_after.base_url, page_after.api_key)
    page = web.ok("GET", f"{CONVERSATIONS}/{home}/messages", query={"limit": 1000})
    assert [m["content"] for m in page["data"]] == stored
    web.close()
