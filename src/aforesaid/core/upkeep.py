"""What is done now and then: kept answers are aged out."""

from aforesaid.ids import now_us
from aforesaid.limits import IDEMPOTENCY_KEEP_S
from aforesaid.store.database import Database
from aforesaid.store.turns import remove_old_answers


async def age_out(db: Database) -> int:
    """Answers kept for retries are gone when their time is over. *Gives* how many."""
    return await db.write(remove_old_answers, now_us() - IDEMPOTENCY_KEEP_S * 1_000_000)
