"""The engine for when a machine is outgrown: PostgreSQL 15 or later through psycopg 3.

Transactions are synchronous functions, so they run in threads, each with a connection of the pool. A transaction that
loses against another one (serialisation, deadlock) runs again.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Concatenate

import psycopg
from psycopg import IsolationLevel
from psycopg_pool import ConnectionPool, PoolTimeout

from aforesaid.errors import Refused, StorageFull, Unavailable
from aforesaid.store.database import Clash, P, R, Row

POOL_MIN = 1
POOL_MAX = 8
OPEN_TIMEOUT_S = 5.0
"""How long a server may take to answer at the start."""
POOL_TIMEOUT_S = 2.0
"""How long a transaction waits for a connection. There is one for each thread, so it waits for a new one only."""
DOWN_S = 0.5
"""After nobody got a connection: how long everybody is refused at once, until one tries for all."""
RETRIES = 3
"""How often a transaction that lost against another runs again."""


@lru_cache(maxsize=1024)
def _dialect(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresTx:
    """A transaction on one connection."""

    skip_locked = " for update skip locked"
    like = "ilike"
    holds = "{}::jsonb @> to_jsonb(?::text)"

    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self._connection = connection
        self.woke = False

    def rows(self, sql: str, *parameters: object) -> list[Row]:
        return self._connection.execute(_dialect(sql), parameters, binary=True).fetchall()

    def row(self, sql: str, *parameters: object) -> Row | None:
        return self._connection.execute(_dialect(sql), parameters, binary=True).fetchone()

    def run(self, sql: str, *parameters: object) -> int:
        return self._connection.execute(_dialect(sql), parameters).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        statement = f"copy {table} ({','.join(columns)}) from stdin"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def alone(self, name: str) -> None:
        self._connection.execute("select pg_advisory_xact_lock(hashtext(%s))", (f"aforesaid {name}",))

    def wake(self) -> None:
        self.woke = True


class PostgresDatabase:
    """A PostgreSQL database. ``url`` is a ``postgresql://`` address and never shown whole."""

    name = "postgresql"

    def __init__(self, url: str, *, pool_max: int = POOL_MAX) -> None:
        self.shown = re.sub(r"//([^:/@]*)(:[^@]*)?@", r"//\1:***@", url)
        self.on_wake: Callable[[], None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._pool_max = pool_max
        self._lock = threading.Lock()
        self._down_until: float | None = None
        self._url = url
        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            url,
            min_size=POOL_MIN,
            max_size=pool_max,
            timeout=POOL_TIMEOUT_S,
            reconnect_timeout=1.0,
            check=ConnectionPool.check_connection,
            open=False,
            kwargs={"options": "-c synchronous_commit=on -c timezone=UTC"},
        )

    async def open(self) -> None:
        self._threads = ThreadPoolExecutor(self._pool_max, thread_name_prefix="postgres")
        try:
            await asyncio.to_thread(self._try)
            await asyncio.to_thread(self._pool.open, wait=True, timeout=OPEN_TIMEOUT_S)
        except (PoolTimeout, psycopg.Error) as error:
            reason = str(error).strip().partition("\n")[0]
            raise Unavailable(f"PostgreSQL at {self.shown} does not answer: {reason}") from error

    def _try(self) -> None:
        """One connection was made: its failure says why at once, the pool's only that it took too long."""
        psycopg.connect(self._url, connect_timeout=int(POOL_TIMEOUT_S)).close()

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        await asyncio.to_thread(self._pool.close)

    async def write(self, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        outcome, woke = await asyncio.shield(self._run(lambda tx: fn(tx, *args, **kwargs), reading=False))
        if woke and self.on_wake is not None:
            self.on_wake()
        return outcome

    async def read(self, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return (await self._run(lambda tx: fn(tx, *args, **kwargs), reading=True))[0]

    async def backup(self, target: str) -> None:
        raise Refused("PostgreSQL is backed up with pg_dump or its own base backups")

    def _run(self, fn: Callable[[PostgresTx], R], *, reading: bool) -> "asyncio.Future[tuple[R, bool]]":
        if self._threads is None:
            raise Unavailable("the store is closed")
        return asyncio.get_running_loop().run_in_executor(self._threads, self._transact, fn, reading)

    def _transact(self, fn: Callable[[PostgresTx], R], reading: bool) -> tuple[R, bool]:
        if not self._may_try():
            raise Unavailable("the database does not answer")
        for attempt in range(RETRIES + 1):
            try:
                with self._pool.connection() as connection:
                    self._tried(answered=True)
                    # A read sees one state from its first statement to its last. A write locks first and looks
                    # second, and must see what those before it committed.
                    connection.isolation_level = IsolationLevel.REPEATABLE_READ if reading else None
                    connection.read_only = reading or None
                    tx = PostgresTx(connection)
                    outcome = fn(tx)
                return outcome, tx.woke
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
                if attempt == RETRIES:
                    raise Unavailable("the store is too busy") from error
            except psycopg.errors.UniqueViolation as error:
                raise Clash(str(error)) from error
            except psycopg.errors.DiskFull as error:
                raise StorageFull("the disk of the database is full: nothing was stored") from error
            except PoolTimeout as error:
                self._tried(answered=False)
                raise Unavailable("the database does not answer") from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                raise Unavailable("the database does not answer") from error
        raise AssertionError("unreachable")

    def _may_try(self) -> bool:
        """Whether to ask for a connection: always, but while the database is down only now and then."""
        with self._lock:
            if self._down_until is None:
                return True
            now = time.monotonic()
            if now < self._down_until:
                return False
            self._down_until = now + POOL_TIMEOUT_S  # this one tries, the others hear from it
            return True

    def _tried(self, *, answered: bool) -> None:
        if answered and self._down_until is None:
            return
        with self._lock:
            self._down_until = None if answered else time.monotonic() + DOWN_S
