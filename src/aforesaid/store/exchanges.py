"""Exchanges: an answer with the question before it, for exports."""

import msgspec

from aforesaid.model import Frozen
from aforesaid.store.database import Tx, marks, slices


class Exchange(Frozen, frozen=True, kw_only=True):
    """An answer and what was asked. ``number`` and ``created_us`` are the answer's; ``question`` may be empty."""

    number: int
    conversation: int
    created_us: int
    question: str
    answer: str


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers are meant; None means any. ``until_us`` itself is not in."""

    rating: int | None = None
    since_us: int | None = None
    until_us: int | None = None


def list_answers(
    tx: Tx, workspace: int, wanted: Filter, after: tuple[int, int] | None, limit: int
) -> list[tuple[int, int]]:
    """(time, number) of the workspace's answers in that order, those behind ``after``. *Cost*: a scan."""
    sql = "select created_us, number from message where workspace = ? and role = 'assistant' and content <> ''"
    parameters: list[int] = [workspace]
    bounds = (("rating = ?", wanted.rating), ("created_us >= ?", wanted.since_us), ("created_us < ?", wanted.until_us))
    for bound, value in bounds:
        if value is not None:
            sql += f" and {bound}"
            parameters.append(value)
    if after is not None:
        sql += " and (created_us > ? or (created_us = ? and number > ?))"
        parameters += [after[0], *after]
    rows = tx.rows(f"{sql} order by created_us, number limit ?", *parameters, limit)
    return [(row[0], row[1]) for row in rows]


def list_exchanges(tx: Tx, workspace: int, numbers: list[int]) -> list[Exchange]:
    """The exchanges of the numbered answers that are there, in the order of the numbers."""
    question = (
        "select q.content from message q where q.workspace = m.workspace and q.conversation = m.conversation "
        "and q.seq < m.seq and q.role = 'user' order by q.seq desc limit 1"
    )
    found = {}
    for part in slices(numbers):
        sql = (
            f"select m.number, m.conversation, m.created_us, coalesce(({question}), ''), m.content from message m "
            f"where m.workspace = ? and m.number in ({marks(len(part))})"
        )
        for row in tx.rows(sql, workspace, *part):
            found[row[0]] = Exchange(
                number=row[0], conversation=row[1], created_us=row[2], question=row[3], answer=row[4]
            )
    return [found[number] for number in numbers if number in found]
