"""Recall over what is stored: hot text indexes of users, kept in step with the store, and searched.

An index in memory is a copy of a scope's blocks. Each search compares its generation with the store's in the same
transaction: new blocks are added, changed ones make it start over. So every process may keep its own, and none is
ever behind.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from aforesaid import limits
from aforesaid.core import checks, conversations
from aforesaid.core.recall import Query, Ranked, rank
from aforesaid.core.textindex import Index
from aforesaid.errors import Invalid
from aforesaid.model import Caller, Hit, Json, Message
from aforesaid.store import messages as message_store
from aforesaid.store import texts
from aforesaid.store.database import Database, Tx

CACHE_BYTES = 48 << 20
"""Indexes kept hot, in all."""
OVERHEAD_BYTES = 4096
"""What an index costs besides its arrays."""
FILTERED_FACTOR = 10
"""How many times the asked hits are ranked when a filter is applied to the messages themselves."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A search in one user's store, or in one conversation."""

    query: str
    user_id: str | None = None
    conversation_id: str | int | None = None
    limit: int = 10
    asked_us: int | None = None
    since_us: int | None = None
    until_us: int | None = None
    role: str | None = None
    sender_id: str | None = None
    tags: tuple[str, ...] = ()
    meta_data: Json | None = None


_EMPTY = Index.of([])


class _Held:
    """A scope's index in memory. ``lock`` is held while it is brought up to date or asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.generation = -1
        self.last = 0
        self.size = 0
        self.index = _EMPTY

    def refresh(self, tx: Tx, workspace: int, owner_id: str) -> None:
        generation, next_block = texts.get_scope(tx, workspace, owner_id)
        if texts.content_of(generation) != self.generation:
            self.generation, self.last = texts.content_of(generation), 0
            self.index = _EMPTY
        if next_block - 1 > self.last:
            blocks = texts.list_blocks(tx, workspace, owner_id, self.last)
            data = [data for _, data in blocks]
            self.index = self.index.extended(data) if self.last else Index.of(data)
            self.last = next_block - 1


class Recollection:
    """The hot indexes of a process, the least recently used dropped first."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._held: OrderedDict[tuple[int, str], _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._cache_bytes = cache_bytes
        self._size = 0

    def rank(
        self,
        tx: Tx,
        workspace: int,
        owner_id: str,
        query: Query,
        limit: int,
        exclude: set[tuple[int, int]] | None = None,
    ) -> list[Ranked]:
        """The best places in the owner's store, best first. Runs inside a read."""
        index = self._index(tx, workspace, owner_id)
        return rank(index, query, limit, exclude)

    def _index(self, tx: Tx, workspace: int, owner_id: str) -> Index:
        """The owner's index as of this transaction. Others are dropped when they don't fit any more."""
        with self._lock:
            held = self._held.get((workspace, owner_id))
            if held is None:
                held = self._held[(workspace, owner_id)] = _Held()
            else:
                self._held.move_to_end((workspace, owner_id))
        with held.lock:
            held.refresh(tx, workspace, owner_id)
            index = held.index
            size, held.size = held.size, index.nbytes + OVERHEAD_BYTES
        with self._lock:
            if self._held.get((workspace, owner_id)) is held:
                self._size += held.size - size
            while self._size > self._cache_bytes and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self._size -= dropped.size
        return index

    def hits(self, tx: Tx, caller: Caller, wanted: Search, exclude: set[tuple[int, int]] | None = None) -> list[Hit]:
        """The messages that a search finds, best first. *Raises* ``NotFound`` for its conversation."""
        conversation, owner_id = None, wanted.user_id
        if wanted.conversation_id is not None:
            found = conversations.resolve(tx, caller, wanted.conversation_id)
            if owner_id is not None and found.owner_id != owner_id:
                return []
            conversation, owner_id = found.number, found.owner_id
        query = Query(
            text=wanted.query[: limits.QUERY_CHARACTERS],
            asked_us=wanted.asked_us,
            conversation=conversation,
            since_us=wanted.since_us,
            until_us=wanted.until_us,
            role=wanted.role,
            sender=wanted.sender_id,
        )
        filtered = bool(wanted.tags or wanted.meta_data)
        depth = wanted.limit * FILTERED_FACTOR if filtered else wanted.limit
        ranked = self.rank(tx, caller.workspace, owner_id or "", query, depth, exclude)
        places = [(item.conversation, item.seq) for item in ranked]
        # The index may be a moment behind: what went to another owner since is not this one's to see.
        messages = message_store.get_messages_at(tx, caller.workspace, places, owner_id=owner_id or "")
        narrowed = filtered or wanted.sender_id is not None
        hits = []
        for item in ranked:
            message = messages.get((item.conversation, item.seq))
            if message is None or (narrowed and not _fits(message, wanted)):
                continue
            hits.append(
                Hit(
                    kind="message",
                    id=message.id,
                    score=item.score,
                    message_ids=(message.id,),
                    message=message,
                    signals=item.signals,
                )
            )
        return hits[: wanted.limit]


def _fits(message: Message, wanted: Search) -> bool:
    if wanted.sender_id is not None and message.sender_id != wanted.sender_id:
        return False
    if any(tag not in (message.tags or ()) for tag in wanted.tags):
        return False
    data = message.meta_data or {}
    return all(data.get(name) == value for name, value in (wanted.meta_data or {}).items())


def check_search(wanted: Search, *where: str | int) -> None:
    """The search is narrowed to a user or a conversation, and asks for something. *Raises* ``Invalid``."""
    if wanted.user_id is None and wanted.conversation_id is None:
        raise Invalid("a search needs a user_id or a conversation_id", *where, "user_id", kind="missing")
    if wanted.user_id is not None:
        checks.identifier(wanted.user_id, *where, "user_id")
    if not wanted.query.strip():
        raise Invalid("must not be blank", *where, "query", kind="string_too_short")
    checks.text(wanted.query, *where, "query", maximum=limits.QUERY_CHARACTERS)


async def search(db: Database, recollection: Recollection, caller: Caller, wanted: Search) -> list[Hit]:
    """The hits of a search, best first. *Raises* ``Invalid``, ``NotFound``."""
    check_search(wanted, "body")
    return await db.read(recollection.hits, caller, wanted)


def recent(tx: Tx, workspace: int, owner_id: str, count: int) -> list[Hit]:
    """The newest messages of a user as hits, newest first: what there is when nothing was named."""
    found: Iterable[Message] = reversed(message_store.list_recent(tx, workspace, owner_id, count))
    return [
        Hit(kind="message", id=m.id, score=0.0, message_ids=(m.id,), message=m, signals={"recent": 0.0}) for m in found
    ]
