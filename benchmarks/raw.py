"""The physical limit of an import: the same rows, ready made, put into SQLite without a server around it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import apsw

from aforesaid.core.textindex import Entry, pack

Kind = Literal["fts5", "blocks", "none"]
"""How the text is indexed: SQLite's own index with the scope as a token, this server's blocks, or not at all."""

COLUMNS = (
    "workspace conversation seq number id sender_id role message_type content created_us updated_us sent_us owner_id "
    "external_id checksum parent_message_id tags extra rating incomplete fingerprint"
).split()
PRAGMAS = ("journal_mode=wal", "synchronous=full", "cache_size=-8192", "wal_autocheckpoint=4000", "temp_store=memory")

_OWNER, _CONTENT = COLUMNS.index("owner_id"), COLUMNS.index("content")
_ENTRY = tuple(COLUMNS.index(name) for name in Entry._fields)

Row = tuple[Any, ...]


def rows_of(database: Path, after: int) -> list[Row]:
    """The messages that a server stored, in the order in which it did, from the ``after``-th on."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        names = ", ".join(COLUMNS)
        found = connection.execute(f"select {names} from message order by rowid limit -1 offset ?", (after,))
        return [tuple(row) for row in found]
    finally:
        connection.close()


class RawStore:
    """A SQLite file with the server's message table and its indexes, and one index of the text."""

    def __init__(self, path: Path, like: Path, kind: Kind) -> None:
        """*Takes* ``like``, a database of the server, whose schema of ``message`` is made anew."""
        self._kind = kind
        self._connection = apsw.Connection(str(path))
        for pragma in PRAGMAS:
            self._connection.execute(f"pragma {pragma}").fetchall()
        source = apsw.Connection(str(like), flags=apsw.SQLITE_OPEN_READONLY)
        wanted = "select sql from sqlite_master where tbl_name in ('message', 'text_block') and sql is not null"
        for (sql,) in source.execute(wanted).fetchall():
            self._connection.execute(str(sql))
        source.close()
        self._connection.execute("create virtual table t using fts5(content, scope, content='', tokenize='porter')")
        self._blocks = 0
        self._rows = 0

    def add(self, rows: Sequence[Row], batch: int) -> float:
        """The rows are durable and indexed, a commit each ``batch`` rows. *Gives* the CPU seconds that it took."""
        put = f"insert into message ({','.join(COLUMNS)}) values ({','.join('?' * len(COLUMNS))})"
        cursor = self._connection.cursor()
        begun = time.process_time()
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            cursor.execute("begin immediate")
            cursor.executemany(put, part)
            if self._kind == "fts5":
                texts = [
                    (self._rows + i, row[_CONTENT], f"s{row[0]}x{row[_OWNER]}") for i, row in enumerate(part, start=1)
                ]
                cursor.executemany("insert into t (rowid, content, scope) values (?, ?, ?)", texts)
            elif self._kind == "blocks":
                data = pack([Entry(*[row[place] for place in _ENTRY]) for row in part])
                self._blocks += 1
                cursor.execute(
                    "insert into text_block (workspace, owner_id, block, messages, data) values (?, ?, ?, ?, ?)",
                    (part[0][0], part[0][_OWNER], self._blocks, len(part), data),
                )
            cursor.execute("commit")
            self._rows += len(part)
        return time.process_time() - begun

    def close(self) -> None:
        self._connection.close()
