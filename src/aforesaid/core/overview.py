"""How things stand: later work by kind and state."""

import msgspec

from aforesaid.core.jobs import INDEX_KINDS
from aforesaid.errors import Unavailable
from aforesaid.model import Caller
from aforesaid.store import jobs
from aforesaid.store.database import Database


class IndexingState(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that are not done. ``pending`` counts those of the index, running ones among them."""

    pending: int
    running: int
    failed: int
    parked: int
    kinds: dict[str, dict[str, int]]


async def get_indexing(db: Database, caller: Caller, user_id: str | None) -> IndexingState:
    """The work that waits for a user, or for the caller's whole workspace."""
    counts = await db.read(jobs.count_jobs, caller.workspace, user_id)
    kinds: dict[str, dict[str, int]] = {}
    for (kind, state), count in counts.items():
        kinds.setdefault(kind, {})[state] = count

    def total(*states: str, only: tuple[str, ...] | None = None) -> int:
        return sum(
            count for (kind, state), count in counts.items() if state in states and (only is None or kind in only)
        )

    return IndexingState(
        pending=total("queued", "running", only=INDEX_KINDS),
        running=total("running"),
        failed=total("failed"),
        parked=total("parked"),
        kinds=kinds,
    )


async def get_health(db: Database) -> tuple[dict[str, int], bool]:
    """(jobs by state, whether the store answers)."""
    try:
        counts = await db.read(jobs.count_jobs, None)
    except Unavailable:
        return {}, False
    states: dict[str, int] = {}
    for (_, state), count in counts.items():
        states[state] = states.get(state, 0) + count
    return states, True
