"""The schema comes to be once, whoever starts it, and however often it is interrupted."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aforesaid.errors import Unavailable
from aforesaid.store.database import Database, Tx
from aforesaid.store.migrate import migrate, pending, statements, versions
from tests.support.server import clean_environment
from tests.support.stores import database, in_store

MIGRATE = """
import asyncio, sys
from tests.support.stores import database
from aforesaid.store.migrate import migrate

async def main():
    db = database(sys.argv[1])
    await db.open()
    print(",".join(await migrate(db)), flush=True)
    await db.close()

asyncio.run(main())
"""

# Stops for good before its statement number N, in the middle of the transaction, and waits to be killed.
STALLED = """
import asyncio, sys, time
import aforesaid.store.migrate as m
from tests.support.stores import database

left = int(sys.argv[2])
real = m.statements

def watched(text, engine):
    global left
    for statement in real(text, engine):
        if left == 0:
            print("stalled", flush=True)
            time.sleep(600)
        left -= 1
        yield statement

m.statements = watched

async def main():
    db = database(sys.argv[1])
    await db.open()
    await m.migrate(db)
    print("done", flush=True)

asyncio.run(main())
"""


def tables(tx: Tx, engine: str) -> set[str]:
    if engine == "sqlite":
        return {
            row[0] for row in tx.rows("select name from sqlite_master where type = 'table' and name not like 'sq%'")
        }
    return {row[0] for row in tx.rows("select table_name from information_schema.tables where table_schema = 'public'")}


def started(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=Path(__file__).parents[1],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_schema_is_made_once(database_url: str) -> None:
    async def run() -> None:
        db = database(database_url)
        await db.open()
        names = [f"{number:04d}_{name}" for number, name, _ in versions()]
        assert await pending(db) == names
        assert await migrate(db) == names
        assert await migrate(db) == []
        assert await pending(db) == []
        await db.close()

    asyncio.run(run())


def test_both_engines_have_the_same_tables_and_columns(postgres_url: str, tmp_path: Path) -> None:
    async def columns(db: Database) -> dict[str, list[str]]:
        names = await db.read(tables, db.name)

        def of(tx: Tx, table: str) -> list[str]:
            if db.name == "sqlite":
                return sorted(row[1] for row in tx.rows(f"pragma table_info({table})"))
            sql = "select column_name from information_schema.columns where table_name = ? order by 1"
            return sorted(row[0] for row in tx.rows(sql, table))

        return {name: await db.read(of, name) for name in names}

    assert in_store(postgres_url, columns) == in_store(str(tmp_path / "a.db"), columns)


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _, _ in versions()] == list(range(1, len(versions()) + 1))


def test_every_table_leads_with_the_workspace() -> None:
    """So no index can serve a query that forgot it. What belongs to the whole deployment is named here."""
    whole = {"meta", "workspace", "job", "api_key_digest", "job_due", "idempotency_created"}
    for _, _, text in versions():
        for statement in statements(text, "sqlite"):
            words = statement.replace("(", " ( ").split()
            if words[1] == "table":
                assert words[2] in whole or words[4] == "workspace", statement
            else:
                name = words[words.index("index") + 1]
                assert name in whole or words[words.index("(") + 1].strip(",") == "workspace", statement


def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    newest = versions()[-1][0]

    async def run(db: Database) -> None:
        sql = "insert into migration (number, name, done_us) values (?, ?, ?)"
        await db.write(lambda tx: tx.run(sql, newest + 1, "from_the_future", 1))
        with pytest.raises(Unavailable, match="newer"):
            await migrate(db)
        rows = await db.read(lambda tx: tx.rows("select number from migration order by number"))
        assert [row[0] for row in rows] == [*range(1, newest + 1), newest + 1]

    in_store(database_url, run)


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    processes = [started(MIGRATE, database_url) for _ in range(3)]
    printed = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    names = [f"{number:04d}_{name}" for number, name, _ in versions()]
    assert sorted(",".join(printed).strip(",").split(",")) == sorted(names), printed


@pytest.mark.chaos
@pytest.mark.parametrize("at", [0, 1, 7, 20])
def test_a_migration_that_was_killed_midway_runs_again_whole(database_url: str, at: int) -> None:
    process = started(STALLED, database_url, str(at))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "stalled"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    async def run() -> None:
        db = database(database_url)
        await db.open()
        deadline = time.monotonic() + 30
        while await db.read(tables, db.name) - {"migration"} and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert await db.read(tables, db.name) <= {"migration"}  # nothing half done stands there
        assert len(await migrate(db)) == len(versions())
        assert await db.read(lambda tx: tx.rows("select * from message")) == []
        await db.close()

    asyncio.run(run())
