"""The kinds of later work, and how they are queued. What runs them is in ``core/indexing.py`` and ``jobs.py``."""

from aforesaid.model import Conversation
from aforesaid.store import jobs
from aforesaid.store.database import Tx

INDEX_TEXT = "index_text"
"""Messages ``first`` to ``last`` of ``conversation`` become searchable."""
REINDEX_TEXT = "reindex_text"
"""The messages at ``seqs`` of ``conversation`` were changed or removed: the index follows."""
FORGET_TEXT = "forget_text"
"""``conversation`` left the owner's store: nothing of it stays in that owner's index."""
FOLD_TEXT = "fold_text"
"""The owner's index has many small blocks: they become few large ones."""
EXTRACT_MEMORIES = "extract_memories"
"""Memories are to be drawn from messages ``first`` to ``last`` of ``conversation``."""

INDEX_KINDS = (INDEX_TEXT, REINDEX_TEXT, FORGET_TEXT)
"""While a job of these waits, something is not searchable yet, or still is."""
KINDS = (*INDEX_KINDS, FOLD_TEXT, EXTRACT_MEMORIES)
RUNNABLE = (*INDEX_KINDS, FOLD_TEXT)
"""The kinds that a runner takes. Jobs of the others wait as ``parked`` and are shown."""


def add_index_jobs(tx: Tx, kind: str, conversation: Conversation, first: int, last: int) -> None:
    """A job of the kind stands for the messages ``first`` to ``last``."""
    jobs.add_job(
        tx,
        conversation.workspace,
        conversation.owner_id,
        kind,
        {"conversation": conversation.number, "first": first, "last": last},
        conversation=conversation.number,
        state="queued" if kind in RUNNABLE else "parked",
    )
