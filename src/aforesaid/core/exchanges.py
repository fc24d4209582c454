"""Whole conversations and all exchanges of a workspace, page by page, so that size costs no memory."""

from collections.abc import AsyncGenerator

from aforesaid import limits
from aforesaid.core import conversations
from aforesaid.model import Caller, Message
from aforesaid.store import exchanges as store
from aforesaid.store import messages as message_store
from aforesaid.store.database import Database, Tx
from aforesaid.store.exchanges import Exchange, Filter

SCAN = 100_000
"""Answers that one scan of an export notes down."""
EXPORT_PAGE = 200
SPOKEN = ("user", "assistant")

__all__ = ["Exchange", "Filter"]


async def list_spoken(db: Database, caller: Caller, reference: int | str) -> AsyncGenerator[list[Message], None]:
    """What user and assistant said in the conversation up to now, in order. *Raises* ``NotFound`` at the first page."""

    def read(tx: Tx, first: int, last: int) -> list[Message]:
        found = message_store.list_range(tx, caller.workspace, conversation.number, first, last)
        return [message for message in found if message.role in SPOKEN]

    conversation = await db.read(conversations.resolve, caller, reference)
    for first in range(1, conversation.next_seq, limits.PAGE):
        yield await db.read(read, first, min(first + limits.PAGE, conversation.next_seq) - 1)


async def list_exchanges(db: Database, caller: Caller, wanted: Filter) -> AsyncGenerator[list[Exchange], None]:
    """The answers of the workspace that match, each with its question, oldest first."""
    after: tuple[int, int] | None = None
    while places := await db.read(store.list_answers, caller.workspace, wanted, after, SCAN):
        for start in range(0, len(places), EXPORT_PAGE):
            numbers = [number for _, number in places[start : start + EXPORT_PAGE]]
            yield await db.read(store.list_exchanges, caller.workspace, numbers)
        if len(places) < SCAN:
            return
        after = places[-1]
