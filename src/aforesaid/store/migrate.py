"""Numbered SQL files become the schema, one transaction each, in order, once.

The files are one text for both engines: ``$text``, ``$blob``, ``$key`` and ``$table`` stand for what differs.
A file that has been released is never edited.
"""

from importlib import resources

from aforesaid.errors import Unavailable
from aforesaid.ids import now_us
from aforesaid.store.database import Database, Tx

_WORDS = {
    "sqlite": {"$text": "text", "$blob": "blob", "$key": "integer primary key autoincrement", "$table": ""},
    "postgresql": {
        # Byte order, so that both engines sort alike.
        "$text": 'text collate "C"',
        "$blob": "bytea",
        "$key": "bigint generated always as identity primary key",
        "$table": "",
    },
}
_HAS_MIGRATIONS = {
    "sqlite": "select 1 from sqlite_master where type = 'table' and name = 'migration'",
    "postgresql": "select 1 where to_regclass('migration') is not null",
}
_LOCK = 0x61666F7265
"""Of PostgreSQL's advisory locks: two servers that start at once migrate one after the other."""


def versions() -> list[tuple[int, str, str]]:
    """Every migration as (number, name, text), in order."""
    out = []
    for entry in resources.files("aforesaid.store").joinpath("migrations").iterdir():
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            out.append((int(number), name, entry.read_text("utf-8")))
    return sorted(out)


def statements(text: str, engine: str) -> list[str]:
    """The statements of a migration in the engine's words."""
    for word, meaning in _WORDS[engine].items():
        text = text.replace(word, meaning)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def _done(tx: Tx, engine: str) -> int:
    if engine == "postgresql":
        tx.row("select pg_advisory_xact_lock(?)", _LOCK)
    for statement in statements(
        "create table if not exists migration "
        "(number bigint primary key, name $text not null, done_us bigint not null)",
        engine,
    ):
        tx.run(statement)
    row = tx.row("select max(number) from migration")
    return int(row[0]) if row and row[0] is not None else 0


def _apply(tx: Tx, engine: str, number: int, name: str, text: str) -> bool:
    if _done(tx, engine) >= number:
        return False
    for statement in statements(text, engine):
        tx.run(statement)
    tx.run("insert into migration (number, name, done_us) values (?, ?, ?)", number, name, now_us())
    return True


async def migrate(database: Database) -> list[str]:
    """The schema is the newest. *Gives* the names of the migrations that ran now.

    *Raises* ``Unavailable`` when the database is newer than this program: nothing was changed.
    """
    known = versions()
    done = await database.write(_done, database.name)
    if done > known[-1][0]:
        raise Unavailable(
            f"the database has schema {done}, this program knows {known[-1][0]}: it was used by a newer Aforesaid"
        )
    ran = []
    for number, name, text in known:
        if number > done and await database.write(_apply, database.name, number, name, text):
            ran.append(f"{number:04d}_{name}")
    return ran


async def pending(database: Database) -> list[str]:
    """The names of the migrations that have not run. Nothing is changed."""

    def done(tx: Tx) -> int:
        row = tx.row("select max(number) from migration") if tx.row(_HAS_MIGRATIONS[database.name]) else None
        return int(row[0]) if row and row[0] is not None else 0

    number_done = await database.read(done)
    return [f"{number:04d}_{name}" for number, name, _ in versions() if number > number_done]
