"""What a transaction is, on both engines: all or nothing, on its own, and done even when nobody waits any more."""

import asyncio
import random
import threading
from pathlib import Path

import pytest

from aforesaid.errors import Invalid, NotFound, Refused, Unavailable
from aforesaid.store import workspaces
from aforesaid.store.database import Clash, Database, Tx, escaped, marks, slices
from aforesaid.store.sqlite import SqliteDatabase
from tests.support.stores import database, in_store, opened


def put(tx: Tx, name: str, value: str) -> None:
    tx.insert("meta", ("name", "value"), [(name, value)])


def values(tx: Tx) -> dict[str, str]:
    return {row[0]: row[1] for row in tx.rows("select name, value from meta")}


def test_a_write_is_seen_by_the_next_read(database_url: str) -> None:
    async def run(db: Database) -> None:
        for i in range(20):
            await db.write(put, f"n{i}", "x")
            assert len(await db.read(values)) == i + 1

    in_store(database_url, run)


def test_what_raises_changes_nothing_and_the_others_of_its_group_are_committed(database_url: str) -> None:
    class Odd(Exception):
        pass

    def fails(tx: Tx, i: int) -> None:
        put(tx, f"bad{i}", "x")
        if i % 4 == 0:
            raise Odd(i)
        if i % 4 == 1:
            raise Invalid("no", "field")
        if i % 4 == 2:
            tx.run("insert into meta (name, value) values ('taken', 'y')")  # a clash
        else:
            tx.run("insert into nowhere values (1)")

    async def run(db: Database) -> None:
        await db.write(put, "taken", "x")
        tasks = []
        for i in range(120):
            tasks.append(db.write(put, f"good{i}", str(i)))
            tasks.append(db.write(fails, i))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for i in range(120):
            assert outcomes[2 * i] is None
            error = outcomes[2 * i + 1]
            assert isinstance(error, (Odd, Invalid, Clash, Exception)[i % 4]), error
        found = await db.read(values)
        assert found == {"taken": "x"} | {f"good{i}": str(i) for i in range(120)}

    in_store(database_url, run)


def test_a_clash_is_told_by_name_however_the_row_came(database_url: str) -> None:
    async def run(db: Database) -> None:
        await db.write(put, "a", "1")
        with pytest.raises(Clash):
            await db.write(put, "a", "2")
        with pytest.raises(Clash):
            await db.write(lambda tx: tx.run("insert into meta (name, value) values (?, ?)", "a", "3"))
        with pytest.raises(Clash):
            await db.write(
                lambda tx: tx.insert("meta", ("name", "value"), [("b", "1"), ("c", "1"), ("b", "2")]),
            )
        assert await db.read(values) == {"a": "1"}

    in_store(database_url, run)


def test_many_writers_lose_no_update(database_url: str) -> None:
    def count_up(tx: Tx) -> int:
        row = tx.row("update meta set value = value where name = 'n' returning value")  # lock first, look second
        assert row is not None
        tx.run("update meta set value = ? where name = 'n'", str(int(row[0]) + 1))
        return int(row[0]) + 1

    async def run(db: Database) -> None:
        await db.write(put, "n", "0")
        got = await asyncio.gather(*(db.write(count_up) for _ in range(200)))
        assert sorted(got) == list(range(1, 201))
        assert (await db.read(values))["n"] == "200"

    in_store(database_url, run)


def test_alone_serialises_what_locks_no_row(database_url: str) -> None:
    def add_next(tx: Tx) -> int:
        tx.alone("numbers")
        row = tx.row("select count(*) from meta")
        assert row is not None
        put(tx, f"{row[0]:05}", "x")
        return int(row[0])

    async def run(db: Database) -> None:
        got = await asyncio.gather(*(db.write(add_next) for _ in range(60)))
        assert sorted(got) == list(range(60))

    in_store(database_url, run)


def test_a_write_goes_on_when_its_caller_has_left(database_url: str) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(tx: Tx, name: str) -> None:
        entered.set()
        assert go_on.wait(30)
        put(tx, name, "x")

    async def run() -> None:
        async with opened(database_url) as db:
            task = asyncio.create_task(db.write(slow, "left"))
            await asyncio.to_thread(entered.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
        # Closing waits for what was accepted.
        async with opened(database_url) as db:
            assert await db.read(values) == {"left": "x"}

    asyncio.run(run())


def test_a_cancelled_write_that_fails_disturbs_nobody(database_url: str) -> None:
    async def run(db: Database) -> None:
        task = asyncio.create_task(db.write(lambda tx: tx.run("insert into nowhere values (1)")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await db.write(put, "a", "1")
        assert await db.read(values) == {"a": "1"}

    in_store(database_url, run)


def test_a_read_sees_one_state_from_beginning_to_end(database_url: str) -> None:
    between, go_on = threading.Event(), threading.Event()

    def twice(tx: Tx) -> tuple[int, int]:
        first = len(tx.rows("select 1 from meta"))
        between.set()
        assert go_on.wait(30)
        return first, len(tx.rows("select 1 from meta"))

    async def run(db: Database) -> None:
        await db.write(put, "a", "1")
        reading = asyncio.create_task(db.read(twice))
        await asyncio.to_thread(between.wait, 30)
        await db.write(put, "b", "1")  # readers and writers do not wait for each other
        go_on.set()
        assert await reading == (1, 1)
        assert len(await db.read(values)) == 2

    in_store(database_url, run)


def test_reads_go_on_while_a_write_takes_its_time(database_url: str) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        put(tx, "slow", "x")
        entered.set()
        assert go_on.wait(30)

    async def run(db: Database) -> None:
        writing = asyncio.create_task(db.write(slow))
        await asyncio.to_thread(entered.wait, 30)
        assert await db.read(values) == {}
        go_on.set()
        await writing
        assert await db.read(values) == {"slow": "x"}

    in_store(database_url, run)


def test_a_read_that_raises_leaves_a_usable_connection(database_url: str) -> None:
    def missing(tx: Tx) -> None:
        tx.rows("select 1 from meta")
        raise NotFound("Thing")

    async def run(db: Database) -> None:
        for _ in range(20):
            with pytest.raises(NotFound):
                await db.read(missing)
            with pytest.raises(Exception, match="nowhere"):
                await db.read(lambda tx: tx.rows("select * from nowhere"))
        assert await db.read(values) == {}

    in_store(database_url, run)


def test_whoever_waits_is_told_after_the_commit_and_only_then(database_url: str) -> None:
    def wakes(tx: Tx, name: str, *, fail: bool = False) -> None:
        put(tx, name, "x")
        tx.wake()
        if fail:
            raise Invalid("no")

    async def run(db: Database) -> None:
        woken: list[str] = []
        db.on_wake = lambda: woken.append("!")
        await db.write(put, "quiet", "x")
        with pytest.raises(Invalid):
            await db.write(wakes, "failed", fail=True)
        assert woken == []
        await db.write(wakes, "told")
        await asyncio.sleep(0)
        assert woken == ["!"]

    in_store(database_url, run)


def test_a_closed_store_says_so(database_url: str) -> None:
    async def run() -> None:
        db = database(database_url)
        await db.open()
        await db.close()
        for call in (db.write, db.read):
            with pytest.raises(Unavailable):
                await call(values)
        await db.close()  # twice is the same as once

    asyncio.run(run())


def test_closing_commits_what_was_accepted(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as db:
            writes = [asyncio.create_task(db.write(put, f"n{i}", "x")) for i in range(150)]
            await asyncio.sleep(0)  # accepted, not yet done
        await asyncio.gather(*writes)
        async with opened(database_url) as db:
            assert len(await db.read(values)) == 150

    asyncio.run(run())


def test_random_transactions_end_like_a_dictionary(database_url: str) -> None:
    """Whatever mixture of successes and failures runs at once, each key holds what its last success stored."""
    rng = random.Random(7)

    def store(tx: Tx, name: str, value: str, fail: bool) -> None:
        tx.run(
            "insert into meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
            name,
            value,
        )
        if fail:
            raise Invalid("no")

    async def run(db: Database) -> None:
        expected: dict[str, str] = {}

        async def worker(name: str) -> None:
            for i in range(40):
                fail = rng.random() < 0.4
                try:
                    await db.write(store, name, str(i), fail)
                except Invalid:
                    assert fail
                else:
                    expected[name] = str(i)

        await asyncio.gather(*(worker(f"k{i}") for i in range(12)))
        assert await db.read(values) == expected

    in_store(database_url, run)


def test_a_backup_is_a_usable_copy_or_is_refused(database_url: str, tmp_path: Path) -> None:
    async def run(db: Database) -> None:
        await db.write(put, "a", "1")
        target = str(tmp_path / "copy.db")
        if db.name == "postgresql":
            with pytest.raises(Refused, match="pg_dump"):
                await db.backup(target)
            return
        await db.backup(target)
        copy = SqliteDatabase(Path(target))
        await copy.open()
        assert await copy.read(values) == {"a": "1"}
        await copy.close()

    in_store(database_url, run)


def test_a_place_that_can_not_be_opened_is_unavailable(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        db = database(url)
        with pytest.raises(Unavailable):
            await db.open()
        await db.close()

    (tmp_path / "a folder").mkdir()
    asyncio.run(run(str(tmp_path / "a folder")))
    (tmp_path / "no database").write_bytes(b"something else " * 1000)
    asyncio.run(run(str(tmp_path / "no database")))
    asyncio.run(run("postgresql://nobody@127.0.0.1:1/none"))


def test_the_url_is_shown_without_its_password() -> None:
    shown = getattr(database("postgresql://me:p:w@host/db"), "shown", "")
    assert "p:w" not in shown
    assert "host/db" in shown


def test_pieces_of_sql() -> None:
    assert marks(3) == "?,?,?"
    assert escaped(r"50%_\x") == r"50\%\_\\x"
    assert [list(part) for part in slices(list(range(5)), 2)] == [[0, 1], [2, 3], [4]]
    assert list(slices([])) == []


def test_workspaces_are_made_once_at_a_time(database_url: str) -> None:
    from aforesaid.core import access

    async def run(db: Database) -> None:
        made = await asyncio.gather(*(access.default_workspace(db) for _ in range(16)))
        assert [fresh for _, fresh in made].count(True) == 1
        assert len({workspace.id for workspace, _ in made}) == 1
        peppers = await asyncio.gather(*(access.load_pepper(db, None) for _ in range(16)))
        assert len(set(peppers)) == 1
        names = await asyncio.gather(*(access.add_workspace(db, "twice") for _ in range(8)), return_exceptions=True)
        assert sum(1 for outcome in names if isinstance(outcome, Invalid)) >= 1
        found = await db.read(workspaces.list_workspaces)
        assert [workspace.workspace for workspace in found] == list(range(1, len(found) + 1))
        assert len([workspace for workspace in found if workspace.name == "twice"]) == 1

    in_store(database_url, run)
