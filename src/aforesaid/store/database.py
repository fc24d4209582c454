"""What a database and a transaction are. The two engines, ``sqlite.py`` and ``postgres.py``, are alike from here up.

A transaction is a plain function ``fn(tx, ...)`` that touches nothing but ``tx`` and may run twice. The SQL of the
house is one text for both engines, with ``?`` for parameters; where they differ, the difference is a method or a
constant of the engine.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Row = tuple[Any, ...]

LIST_MAX = 500
"""Parameters of one ``in (...)`` list; longer lists go in slices of this many."""


class Tx(Protocol):
    """An open transaction. Its statements see each other; nobody else sees them before the commit."""

    skip_locked: str
    """Ends a select that claims rows: rows that another transaction holds are passed over."""
    like: str
    """The operator of a match that ignores the case of ASCII letters; patterns escape with a backslash."""
    holds: str
    """The condition that the JSON list in column ``{}`` has an item equal to the parameter."""

    def rows(self, sql: str, *parameters: object) -> list[Row]:
        """All rows of a query."""

    def row(self, sql: str, *parameters: object) -> Row | None:
        """The first row of a query, or None."""

    def run(self, sql: str, *parameters: object) -> int:
        """The number of rows that a statement changed."""

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Every row is in the table, by the engine's quickest way. *Raises* the engine's error on a clash."""

    def alone(self, name: str) -> None:
        """Until the end of this transaction no other one that asks for the same name runs."""

    def wake(self) -> None:
        """After the commit, whoever waits for new jobs is told."""


class Database(Protocol):
    """A place that keeps what was committed. ``write`` answers after commit and fsync."""

    name: str
    """``sqlite`` or ``postgresql``, for people."""
    on_wake: Callable[[], None] | None
    """Called in the event loop after a commit that asked for it."""

    async def open(self) -> None:
        """Connections are there; the schema is not touched."""

    async def close(self) -> None:
        """What was accepted is committed, and every connection is closed."""

    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """``fn`` ran in a transaction that is committed and durable.

        *Raises* what ``fn`` raised, with nothing changed; ``Unavailable`` when the store can't answer;
        ``StorageFull`` when the disk is full.
        """

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """``fn`` ran on one consistent state, which holds everything committed before the call."""

    async def backup(self, target: str) -> None:
        """A copy of the committed state stands at ``target``. *Raises* ``Refused`` where the engine has its own way."""


class Clash(Exception):
    """A unique value was there already; the transaction is taken back. Seen by store code only."""


def marks(count: int) -> str:
    """``count`` parameter marks for an ``in (...)`` list."""
    return ",".join("?" * count)


def slices(values: Sequence[R], size: int = LIST_MAX) -> Iterable[Sequence[R]]:
    """The values in slices that fit one list of parameters."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def escaped(text: str) -> str:
    """The text as a literal part of a ``like`` pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def settle(future: "asyncio.Future[R]", outcome: R | None, error: BaseException | None) -> None:
    """The future has its outcome, unless who waited has gone."""
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)  # type: ignore[arg-type]
