"""Conversations and their participants."""

from typing import Any

import msgspec

from aforesaid.model import Conversation
from aforesaid.store.database import Row, Tx, escaped, marks, slices
from aforesaid.store.rows import from_text, text_tuple, to_text
from aforesaid.store.turns import forget_answers

_NAMES = (
    "workspace number id owner_id session_id title summary status is_public collections meta_data settings ended_us "
    "created_by created_us updated_us message_count next_seq last_message_us"
).split()
_COLUMNS = ", ".join(_NAMES)

SORTS = {"id": "number", "updated_at": "updated_us", "created_at": "created_us", "title": "coalesce(title, '')"}
"""What a list may be sorted by, in the API's words."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which conversations a list holds; None means any."""

    status: str | None = None
    search: str | None = None
    owner_id: str | None = None
    collection_id: str | None = None
    is_public: bool | None = None
    with_messages: bool = False


def _conversation(row: Row) -> Conversation:
    return Conversation(
        workspace=row[0],
        number=row[1],
        id=row[2],
        owner_id=row[3] or None,
        session_id=row[4],
        title=row[5],
        summary=row[6],
        status=row[7],
        is_public=bool(row[8]),
        collections=text_tuple(row[9]),
        meta_data=from_text(row[10]),
        settings=from_text(row[11]),
        ended_us=row[12],
        created_by=row[13],
        created_us=row[14],
        updated_us=row[15],
        message_count=row[16],
        next_seq=row[17],
        last_message_us=row[18],
    )


def add_conversation(tx: Tx, made: Conversation, external_id: str | None = None) -> None:
    """The conversation is there. *Raises* ``Clash`` when its external id is taken in the owner's store."""
    values = (
        made.workspace,
        made.number,
        made.id,
        made.owner_id or "",
        made.session_id,
        made.title,
        made.summary,
        made.status,
        int(made.is_public),
        to_text(made.collections),
        to_text(made.meta_data),
        to_text(made.settings),
        made.ended_us,
        made.created_by,
        made.created_us,
        made.updated_us,
        made.message_count,
        made.next_seq,
        made.last_message_us,
        external_id,
    )
    tx.insert("conversation", [*_NAMES, "external_id"], [values])


def get_conversation(tx: Tx, workspace: int, number: int) -> Conversation | None:
    """A conversation of the workspace."""
    row = tx.row(f"select {_COLUMNS} from conversation where workspace = ? and number = ?", workspace, number)
    return _conversation(row) if row else None


def get_conversation_by_external_id(tx: Tx, workspace: int, owner_id: str, external_id: str) -> Conversation | None:
    """The conversation that an import made of this source."""
    sql = f"select {_COLUMNS} from conversation where workspace = ? and owner_id = ? and external_id = ?"
    row = tx.row(sql, workspace, owner_id, external_id)
    return _conversation(row) if row else None


def get_conversation_by_session(tx: Tx, workspace: int, owner_id: str, session_id: str) -> Conversation | None:
    """The newest conversation of the owner's session."""
    sql = (
        f"select {_COLUMNS} from conversation where workspace = ? and owner_id = ? and session_id = ? "
        "order by created_us desc, number desc limit 1"
    )
    row = tx.row(sql, workspace, owner_id, session_id)
    return _conversation(row) if row else None


def get_conversations(tx: Tx, workspace: int, numbers: list[int]) -> dict[int, Conversation]:
    """Those of the numbered conversations that are there."""
    out = {}
    for part in slices(numbers):
        sql = f"select {_COLUMNS} from conversation where workspace = ? and number in ({marks(len(part))})"
        out.update({row[1]: _conversation(row) for row in tx.rows(sql, workspace, *part)})
    return out


def lock_conversation(tx: Tx, workspace: int, number: int, now: int) -> Conversation | None:
    """The conversation, held by this transaction until its end: its sequence can't move under us.

    It was active until ``now`` at least; with 0 that stays as it is.
    """
    sql = (
        f"update conversation set updated_us = case when updated_us > ? then updated_us else ? end "
        f"where workspace = ? and number = ? returning {_COLUMNS}"
    )
    row = tx.row(sql, now, now, workspace, number)
    return _conversation(row) if row else None


def set_conversation(tx: Tx, changed: Conversation) -> None:
    """Everything that a caller may change is as given."""
    tx.run(
        "update conversation set owner_id = ?, title = ?, summary = ?, status = ?, is_public = ?, collections = ?, "
        "meta_data = ?, settings = ?, ended_us = ?, updated_us = ? where workspace = ? and number = ?",
        changed.owner_id or "",
        changed.title,
        changed.summary,
        changed.status,
        int(changed.is_public),
        to_text(changed.collections),
        to_text(changed.meta_data),
        to_text(changed.settings),
        changed.ended_us,
        changed.updated_us,
        changed.workspace,
        changed.number,
    )


def set_grown(
    tx: Tx, workspace: int, number: int, next_seq: int, added: int, last_us: int | None, touched_us: int
) -> None:
    """The conversation has ``added`` messages more, up to before ``next_seq``; ``last_us`` is its newest time.

    It was active until ``touched_us`` at least.
    """
    tx.run(
        "update conversation set next_seq = ?, message_count = message_count + ?, last_message_us = ?, "
        "updated_us = case when updated_us > ? then updated_us else ? end where workspace = ? and number = ?",
        next_seq,
        added,
        last_us,
        touched_us,
        touched_us,
        workspace,
        number,
    )


def remove_conversation(tx: Tx, workspace: int, number: int) -> None:
    """The conversation is gone with its messages, participants, turns, receipts, kept answers and waiting jobs."""
    forget_answers(tx, workspace, number)
    for table in ("message", "participant", "turn_chain", "receipt", "job"):
        tx.run(f"delete from {table} where workspace = ? and conversation = ?", workspace, number)
    tx.run("delete from conversation where workspace = ? and number = ?", workspace, number)


def _where(workspace: int, wanted: Filter) -> tuple[str, list[Any]]:
    sql = "workspace = ?"
    parameters: list[Any] = [workspace]
    exact: list[tuple[str, Any]] = [("status", wanted.status), ("owner_id", wanted.owner_id)]
    if wanted.is_public is not None:
        exact.append(("is_public", int(wanted.is_public)))
    for column, value in exact:
        if value is not None:
            sql += f" and {column} = ?"
            parameters.append(value)
    if wanted.with_messages:
        sql += " and message_count > 0"
    return sql, parameters


def _matching(tx: Tx, workspace: int, wanted: Filter) -> tuple[str, list[Any]]:
    sql, parameters = _where(workspace, wanted)
    if wanted.search:
        sql += f" and title {tx.like} ? escape '\\'"
        parameters.append(f"%{escaped(wanted.search)}%")
    if wanted.collection_id is not None:
        sql += f" and {tx.holds.format('collections')}"
        parameters.append(wanted.collection_id)
    return sql, parameters


def place(conversation: Conversation, sort: str) -> str | int:
    """What the conversation is sorted by."""
    if sort == "title":
        return conversation.title or ""
    return {"id": conversation.number, "updated_at": conversation.updated_us}.get(sort, conversation.created_us)


def list_conversations(
    tx: Tx,
    workspace: int,
    wanted: Filter,
    *,
    sort: str = "updated_at",
    descending: bool = True,
    after: tuple[str | int, int] | None = None,
    skip: int = 0,
    limit: int,
) -> list[Conversation]:
    """Conversations in order, ties by number; those behind ``after`` or after ``skip`` of them.

    *Takes* ``after``: the ``place`` of a conversation in that order, and its number. It need not be there any more.
    """
    where, parameters = _matching(tx, workspace, wanted)
    column, way, than = SORTS[sort], "desc" if descending else "asc", "<" if descending else ">"
    if after is not None:
        where += f" and ({column} {than} ? or ({column} = ? and number {than} ?))"
        parameters += [after[0], after[0], after[1]]
    sql = f"select {_COLUMNS} from conversation where {where} order by {column} {way}, number {way} limit ? offset ?"
    return [_conversation(row) for row in tx.rows(sql, *parameters, limit, skip)]


def count_conversations(tx: Tx, workspace: int, wanted: Filter) -> int:
    """How many conversations match."""
    where, parameters = _matching(tx, workspace, wanted)
    row = tx.row(f"select count(*) from conversation where {where}", *parameters)
    return int(row[0]) if row else 0


def list_participants(tx: Tx, workspace: int, conversation: int) -> list[tuple[str, str]]:
    """The (sender, role) pairs of the conversation, first speaker first."""
    sql = (
        "select sender_id, role from participant where workspace = ? and conversation = ? "
        "order by first_seq, sender_id, role"
    )
    return [(row[0], row[1]) for row in tx.rows(sql, workspace, conversation)]


def remove_unheard(tx: Tx, workspace: int, conversation: int, sender_id: str, role: str) -> None:
    """The (sender, role) pair is no participant any more if no message of the conversation is theirs."""
    tx.run(
        "delete from participant where workspace = ? and conversation = ? and sender_id = ? and role = ? "
        "and not exists (select 1 from message m where m.workspace = participant.workspace and m.conversation = "
        "participant.conversation and m.sender_id = participant.sender_id and m.role = participant.role)",
        workspace,
        conversation,
        sender_id,
        role,
    )


def add_participants(tx: Tx, workspace: int, conversation: int, pairs: list[tuple[str, str, int]]) -> None:
    """The (sender, role, first place) triples are known; pairs known before stay as they are."""
    for sender_id, role, seq in pairs:
        tx.run(
            "insert into participant (workspace, conversation, sender_id, role, first_seq) values (?, ?, ?, ?, ?) "
            "on conflict (workspace, conversation, sender_id, role) do nothing",
            workspace,
            conversation,
            sender_id,
            role,
            seq,
        )


def list_spans(tx: Tx) -> list[tuple[int, str, int, int]]:
    """(workspace, owner, number, last place) of every conversation that ever had a message, oldest first."""
    sql = "select workspace, owner_id, number, next_seq - 1 from conversation where next_seq > 1 order by created_us"
    return [(row[0], row[1], row[2], row[3]) for row in tx.rows(sql)]
