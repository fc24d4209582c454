"""Messages: numbered densely in their conversation, found by (conversation, place) or by number."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from aforesaid.model import Message
from aforesaid.store.database import LIST_MAX, Row, Tx, escaped, marks, slices
from aforesaid.store.rows import from_text, text_tuple, to_text

E = TypeVar("E")

_NAMES = (
    "workspace conversation seq number id sender_id role message_type content created_us updated_us sent_us owner_id "
    "external_id checksum parent_message_id tags extra rating incomplete"
).split()
_COLUMNS = ", ".join(f"m.{name}" for name in _NAMES)
_FROM = "from message m join conversation c on c.workspace = m.workspace and c.number = m.conversation"
_INSERT = [*_NAMES, "fingerprint"]

SORTS = {
    "created_at": "m.created_us",
    "updated_at": "m.updated_us",
    "sent_at": "coalesce(m.sent_us, m.created_us)",
    "id": "m.number",
}
"""What a list may be sorted by, in the API's words. Inside one conversation the default is its own order."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages a list holds; None means any."""

    conversation: int | None = None
    sender_id: str | None = None
    role: str | None = None
    message_type: str | None = None
    search: str | None = None
    tags: tuple[str, ...] = ()
    owner_id: str | None = None
    rating: int | None = None
    since_us: int | None = None
    until_us: int | None = None


def _message(row: Row) -> Message:
    extra = from_text(row[17]) or {}
    return Message(
        workspace=row[0],
        conversation=row[1],
        seq=row[2],
        number=row[3],
        id=row[4],
        sender_id=row[5],
        role=row[6],
        message_type=row[7],
        content=row[8],
        created_us=row[9],
        updated_us=row[10],
        sent_us=row[11],
        owner_id=row[12],
        external_id=row[13],
        checksum=row[14],
        parent_message_id=row[15],
        tags=None if row[16] is None else text_tuple(row[16]),
        tool_calls=extra.get("tool_calls"),
        attachments=extra.get("attachments"),
        meta_data=extra.get("meta_data"),
        rating=row[18],
        incomplete=bool(row[19]),
        conversation_id=row[20],
    )


def _extra(message: Message) -> str | None:
    if message.tool_calls is None and message.attachments is None and message.meta_data is None:
        return None
    extra = {"tool_calls": message.tool_calls, "attachments": message.attachments, "meta_data": message.meta_data}
    return to_text({name: value for name, value in extra.items() if value is not None})


def add_messages(tx: Tx, messages: Iterable[tuple[Message, bytes | None]]) -> None:
    """The messages are there with their fingerprints. *Raises* ``Clash`` when a place or number is taken."""
    tx.insert(
        "message",
        _INSERT,
        [
            (
                m.workspace,
                m.conversation,
                m.seq,
                m.number,
                m.id,
                m.sender_id,
                m.role,
                m.message_type,
                m.content,
                m.created_us,
                m.updated_us,
                m.sent_us,
                m.owner_id,
                m.external_id,
                m.checksum,
                m.parent_message_id,
                to_text(m.tags),
                _extra(m),
                m.rating,
                int(m.incomplete),
                fingerprint,
            )
            for m, fingerprint in messages
        ],
    )


def get_message(tx: Tx, workspace: int, number: int) -> Message | None:
    """A message of the workspace by its number."""
    row = tx.row(f"select {_COLUMNS}, c.id {_FROM} where m.workspace = ? and m.number = ?", workspace, number)
    return _message(row) if row else None


def get_messages_at(
    tx: Tx, workspace: int, places: Iterable[tuple[int, int]], *, owner_id: str | None = None
) -> dict[tuple[int, int], Message]:
    """Those of the (conversation, seq) places that hold a message, of this owner's conversations where one is given."""
    out = {}
    for part in slices(list(places), LIST_MAX // 2):
        # The last place stands there again until the list has one of few lengths: so few statements are prepared.
        size = 1 << (len(part) - 1).bit_length()
        padded = [*part, *[part[-1]] * (size - len(part))]
        sql = (
            f"select {_COLUMNS}, c.id, c.owner_id {_FROM} where m.workspace = ? "
            f"and (m.conversation, m.seq) in (values {','.join(['(?,?)'] * size)})"
        )
        # The owner is compared here: told to the database, it would walk through all conversations of the owner.
        for row in tx.rows(sql, workspace, *[value for place in padded for value in place]):
            if owner_id is None or row[21] == owner_id:
                out[(row[1], row[2])] = _message(row)
    return out


def get_messages_by_number(tx: Tx, workspace: int, numbers: list[int]) -> dict[int, Message]:
    """Those of the numbered messages that are there."""
    out = {}
    for part in slices(numbers):
        sql = f"select {_COLUMNS}, c.id {_FROM} where m.workspace = ? and m.number in ({marks(len(part))})"
        out.update({row[3]: _message(row) for row in tx.rows(sql, workspace, *part)})
    return out


def get_homes(tx: Tx, workspace: int, numbers: list[int]) -> dict[int, int]:
    """The conversations of those numbered messages that are there."""
    out = {}
    for part in slices(numbers):
        sql = f"select number, conversation from message where workspace = ? and number in ({marks(len(part))})"
        out.update({row[0]: row[1] for row in tx.rows(sql, workspace, *part)})
    return out


def get_places(tx: Tx, workspace: int, conversation: int, fingerprints: list[bytes]) -> dict[bytes, int]:
    """Where the fingerprinted messages stand that are there already."""
    out = {}
    for part in slices(fingerprints):
        sql = (
            "select fingerprint, seq from message where workspace = ? and conversation = ? "
            f"and fingerprint in ({marks(len(part))})"
        )
        out.update({bytes(row[0]): row[1] for row in tx.rows(sql, workspace, conversation, *part)})
    return out


def list_range(tx: Tx, workspace: int, conversation: int, first: int, last: int) -> list[Message]:
    """The messages at places ``first`` to ``last``, both included, in order."""
    sql = (
        f"select {_COLUMNS}, c.id {_FROM} where m.workspace = ? and m.conversation = ? and m.seq between ? and ? "
        "order by m.seq"
    )
    return [_message(row) for row in tx.rows(sql, workspace, conversation, first, last)]


def list_entries(tx: Tx, workspace: int, conversation: int, first: int, last: int, make: Callable[..., E]) -> list[E]:
    """What ``make`` makes of (conversation, seq, created_us, sender_id, role, content) of a range, in order."""
    sql = (
        "select conversation, seq, created_us, sender_id, role, content from message "
        "where workspace = ? and conversation = ? and seq between ? and ? order by seq"
    )
    return [make(*row) for row in tx.rows(sql, workspace, conversation, first, last)]


def list_tail(tx: Tx, workspace: int, conversation: int, count: int) -> list[Message]:
    """The last ``count`` messages, in order."""
    sql = f"select {_COLUMNS}, c.id {_FROM} where m.workspace = ? and m.conversation = ? order by m.seq desc limit ?"
    return [_message(row) for row in tx.rows(sql, workspace, conversation, count)][::-1]


def list_recent(tx: Tx, workspace: int, owner_id: str, count: int) -> list[Message]:
    """The newest messages of an owner's latest conversations, oldest first: at most ``count``."""
    numbers = [
        row[0]
        for row in tx.rows(
            "select number from conversation where workspace = ? and owner_id = ? and message_count > 0 "
            "order by updated_us desc, number desc limit 8",
            workspace,
            owner_id,
        )
    ]
    out: list[Message] = []
    for number in numbers:
        if len(out) >= count:
            break
        out = list_tail(tx, workspace, number, count - len(out)) + out
    return out


def _where(tx: Tx, workspace: int, wanted: Filter) -> tuple[str, list[Any]]:
    sql = "m.workspace = ?"
    parameters: list[Any] = [workspace]
    exact: tuple[tuple[str, Any], ...] = (
        ("m.conversation", wanted.conversation),
        ("m.sender_id", wanted.sender_id),
        ("m.role", wanted.role),
        ("m.message_type", wanted.message_type),
        ("c.owner_id", wanted.owner_id),
        ("m.rating", wanted.rating),
    )
    for column, value in exact:
        if value is not None:
            sql += f" and {column} = ?"
            parameters.append(value)
    if wanted.since_us is not None:
        sql += " and m.created_us >= ?"
        parameters.append(wanted.since_us)
    if wanted.until_us is not None:
        sql += " and m.created_us < ?"
        parameters.append(wanted.until_us)
    if wanted.search:
        sql += f" and m.content {tx.like} ? escape '\\'"
        parameters.append(f"%{escaped(wanted.search)}%")
    for tag in wanted.tags:
        sql += f" and {tx.holds.format('m.tags')}"
        parameters.append(tag)
    return sql, parameters


def list_messages(
    tx: Tx,
    workspace: int,
    wanted: Filter,
    *,
    sort: str | None = None,
    descending: bool = False,
    skip: int = 0,
    limit: int,
) -> list[Message]:
    """Messages in order. Without ``sort``: by place in one conversation, else by time; ties by conversation, place."""
    where, parameters = _where(tx, workspace, wanted)
    way = "desc" if descending else "asc"
    place = f"m.conversation {way}, m.seq {way}"
    if sort is not None:
        order = f"{SORTS[sort]} {way}, {place}"
    else:
        order = place if wanted.conversation is not None else f"m.created_us {way}, {place}"
    sql = f"select {_COLUMNS}, c.id {_FROM} where {where} order by {order} limit ? offset ?"
    return [_message(row) for row in tx.rows(sql, *parameters, limit, skip)]


def count_messages(tx: Tx, workspace: int, wanted: Filter) -> int:
    """How many messages match."""
    where, parameters = _where(tx, workspace, wanted)
    row = tx.row(f"select count(*) {_FROM} where {where}", *parameters)
    return int(row[0]) if row else 0


def set_message(tx: Tx, changed: Message) -> None:
    """Everything that a caller may change is as given; the fingerprint stays that of the first import."""
    tx.run(
        "update message set sender_id = ?, role = ?, message_type = ?, content = ?, updated_us = ?, sent_us = ?, "
        "parent_message_id = ?, tags = ?, extra = ? where workspace = ? and conversation = ? and seq = ?",
        changed.sender_id,
        changed.role,
        changed.message_type,
        changed.content,
        changed.updated_us,
        changed.sent_us,
        changed.parent_message_id,
        to_text(changed.tags),
        _extra(changed),
        changed.workspace,
        changed.conversation,
        changed.seq,
    )


def set_rating(tx: Tx, workspace: int, conversation: int, seq: int, rating: int) -> None:
    """The message's rating: 1 good, 0 none, -1 bad."""
    tx.run(
        "update message set rating = ? where workspace = ? and conversation = ? and seq = ?",
        rating,
        workspace,
        conversation,
        seq,
    )


def remove_message(tx: Tx, workspace: int, conversation: int, seq: int) -> None:
    """The message, which is there, is gone; its place stays empty."""
    tx.run("delete from message where workspace = ? and conversation = ? and seq = ?", workspace, conversation, seq)
    tx.run(
        "update conversation set message_count = message_count - 1, last_message_us = (select max(created_us) "
        "from message where workspace = ? and conversation = ?) where workspace = ? and number = ?",
        workspace,
        conversation,
        workspace,
        conversation,
    )


def set_owner(tx: Tx, workspace: int, conversation: int, before: str | None, after: str | None) -> None:
    """The conversation's messages that were the owner's before are the new owner's."""
    where = "owner_id = ?" if before is not None else "owner_id is null"
    parameters = (workspace, conversation) if before is None else (workspace, conversation, before)
    sql = f"update message set owner_id = ? where workspace = ? and conversation = ? and {where}"
    tx.run(sql, after, *parameters)
