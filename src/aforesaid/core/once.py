"""Writes that a client may repeat: the answer to an ``Idempotency-Key`` is kept in the transaction of what it did."""

import zlib
from collections.abc import Callable
from typing import TypeVar

from aforesaid.errors import Conflict, Unavailable
from aforesaid.ids import now_us
from aforesaid.model import Caller, Conversation, Frozen, Message, Stored
from aforesaid.store.database import Clash, Database, Tx
from aforesaid.store.turns import add_answer, get_answer

R = TypeVar("R")

CLASH_RETRIES = 4
"""How often a write that met a twin runs again: it then sees what the twin stored."""


class Once(Frozen, frozen=True, kw_only=True):
    """The key under which a request may be repeated, and the digest of everything that it asked."""

    key: str
    digest: bytes


class Answer(Frozen, frozen=True, kw_only=True):
    """A rendered answer. ``replayed`` tells that it was given before."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False


async def write(
    db: Database, caller: Caller, once: Once | None, fn: Callable[[Tx], R], render: Callable[[R], Answer]
) -> Answer:
    """``fn`` ran and its answer is rendered; under a known key, nothing ran and the first answer is given again.

    *Raises* ``Conflict`` when the key was used for another request, or when its answer is not kept any more because
    what it told of was changed or removed.
    """

    def run(tx: Tx) -> Answer:
        if once is None:
            return render(fn(tx))
        kept = get_answer(tx, caller.workspace, once.key)
        if kept is not None and kept[0] != once.digest:
            raise Conflict("this Idempotency-Key was used for another request")
        if kept is not None:
            _, status, headers, body = kept
            if not body:
                raise Conflict("this Idempotency-Key was answered; what it was about has been changed or removed since")
            return Answer(status=status, headers=headers, body=zlib.decompress(body), replayed=True)
        outcome = fn(tx)
        answer = render(outcome)
        packed, about = zlib.compress(answer.body, 1), _about(outcome)
        add_answer(tx, caller.workspace, once.key, once.digest, answer.status, answer.headers, packed, now_us(), about)
        return answer

    return await again(db, run)


def _about(outcome: object) -> set[int]:
    """The conversations that an answer with this outcome tells of."""
    if isinstance(outcome, Stored):
        return {message.conversation for message in outcome.messages}
    if isinstance(outcome, Message):
        return {outcome.conversation}
    return {outcome.number} if isinstance(outcome, Conversation) else set()


async def again(db: Database, fn: Callable[[Tx], R]) -> R:
    """``fn`` ran; when it met a twin that stored the same at the same moment, it ran again after it."""
    for _ in range(CLASH_RETRIES):
        try:
            return await db.write(fn)
        except Clash:
            continue
    raise Unavailable("the store is too busy")
