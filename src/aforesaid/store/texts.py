"""The text index of a scope (workspace and owner): packed blocks, appended by jobs, read whole by a search.

``generation`` counts the times that messages were taken out or changed; between two of them blocks are only added, so
a reader that holds blocks up to number N needs no more than those after N. Folding small blocks into larger ones
changes nothing for such a reader: it is counted apart, in steps of ``FOLD``, for writers to notice.
"""

from aforesaid.store.database import Tx, marks, slices

FOLD = 1 << 32
_COLUMNS = ("workspace", "owner_id", "block", "messages", "data")


def content_of(generation: int) -> int:
    """The part of a generation that readers go by."""
    return generation % FOLD


def get_scope(tx: Tx, workspace: int, owner_id: str) -> tuple[int, int]:
    """(generation, next block) of the scope; (0, 1) when nothing was indexed."""
    sql = "select generation, next_block from text_scope where workspace = ? and owner_id = ?"
    row = tx.row(sql, workspace, owner_id)
    return (row[0], row[1]) if row else (0, 1)


def list_blocks(tx: Tx, workspace: int, owner_id: str, after: int = 0) -> list[tuple[int, bytes]]:
    """(number, data) of the blocks after ``after``, in order."""
    sql = "select block, data from text_block where workspace = ? and owner_id = ? and block > ? order by block"
    return [(row[0], bytes(row[1])) for row in tx.rows(sql, workspace, owner_id, after)]


def get_blocks(tx: Tx, workspace: int, owner_id: str, numbers: list[int]) -> list[tuple[int, bytes]]:
    """(number, data) of those of the numbered blocks that are there, in order."""
    out: list[tuple[int, bytes]] = []
    for part in slices(numbers):
        sql = (
            "select block, data from text_block where workspace = ? and owner_id = ? "
            f"and block in ({marks(len(part))}) order by block"
        )
        out += [(row[0], bytes(row[1])) for row in tx.rows(sql, workspace, owner_id, *part)]
    return out


def list_block_sizes(tx: Tx, workspace: int, owner_id: str) -> list[tuple[int, int]]:
    """(number, messages) of the scope's blocks, in order."""
    sql = "select block, messages from text_block where workspace = ? and owner_id = ? order by block"
    return [(row[0], row[1]) for row in tx.rows(sql, workspace, owner_id)]


def add_blocks(tx: Tx, workspace: int, owner_id: str, blocks: list[tuple[int, bytes]]) -> int:
    """The (messages, data) blocks stand at the end of the scope. *Gives* the number of the last."""
    row = tx.row(
        "insert into text_scope (workspace, owner_id, generation, next_block) values (?, ?, 0, ?) "
        "on conflict (workspace, owner_id) do update set next_block = text_scope.next_block + ? returning next_block",
        workspace,
        owner_id,
        1 + len(blocks),
        len(blocks),
    )
    assert row is not None
    first = row[0] - len(blocks)
    rows = [(workspace, owner_id, first + i, count, data) for i, (count, data) in enumerate(blocks)]
    tx.insert("text_block", _COLUMNS, rows)
    return int(row[0]) - 1


def lock_scope(tx: Tx, workspace: int, owner_id: str) -> tuple[int, int]:
    """(generation, next block) of the scope, held by this transaction."""
    row = tx.row(
        "update text_scope set generation = generation where workspace = ? and owner_id = ? "
        "returning generation, next_block",
        workspace,
        owner_id,
    )
    return (row[0], row[1]) if row else (0, 1)


def replace_blocks(tx: Tx, workspace: int, owner_id: str, old: list[int], new: list[tuple[int, bytes]]) -> None:
    """The old blocks are gone and the new ones stand at the end; readers start over."""
    _remove_blocks(tx, workspace, owner_id, old)
    add_blocks(tx, workspace, owner_id, new)
    tx.run(
        "update text_scope set generation = generation + 1 where workspace = ? and owner_id = ?", workspace, owner_id
    )


def fold_blocks(tx: Tx, workspace: int, owner_id: str, old: list[int], new: list[tuple[int, bytes]]) -> None:
    """The old blocks are gone, and the new ones, which hold the same messages, have the last of their numbers.

    A reader who knows some of the old ones is given a few messages again; whoever knows all needs nothing.
    """
    _remove_blocks(tx, workspace, owner_id, old)
    places = sorted(old)[len(old) - len(new) :]
    rows = [(workspace, owner_id, place, count, data) for place, (count, data) in zip(places, new, strict=True)]
    tx.insert("text_block", _COLUMNS, rows)
    tx.run(
        "update text_scope set generation = generation + ? where workspace = ? and owner_id = ?",
        FOLD,
        workspace,
        owner_id,
    )


def _remove_blocks(tx: Tx, workspace: int, owner_id: str, numbers: list[int]) -> None:
    for part in slices(numbers):
        sql = f"delete from text_block where workspace = ? and owner_id = ? and block in ({marks(len(part))})"
        tx.run(sql, workspace, owner_id, *part)


def remove_all(tx: Tx) -> None:
    """No scope has any block; readers start over."""
    tx.run("delete from text_block where workspace >= 0")
    tx.run("update text_scope set generation = generation + 1 where workspace >= 0")
