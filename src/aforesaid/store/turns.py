"""What completions leave behind: chained fingerprints of turns, receipts, and answers kept for retried requests."""

from collections.abc import Iterable

from aforesaid.model import Receipt
from aforesaid.store.database import Tx, marks, slices
from aforesaid.store.rows import from_text, to_text


def get_chain(tx: Tx, workspace: int, owner_id: str, chains: list[bytes]) -> tuple[int, int, int] | None:
    """(length, conversation, seq) of the longest of these chained fingerprints that is known: chains[length - 1]."""
    found: dict[bytes, tuple[int, int]] = {}
    for part in slices(chains):
        sql = (
            "select chain, conversation, seq from turn_chain where workspace = ? and owner_id = ? "
            f"and chain in ({marks(len(part))})"
        )
        found.update({bytes(row[0]): (row[1], row[2]) for row in tx.rows(sql, workspace, owner_id, *part)})
    for length in range(len(chains), 0, -1):
        place = found.get(chains[length - 1])
        if place is not None:
            return (length, *place)
    return None


def set_chain(tx: Tx, workspace: int, owner_id: str, chain: bytes, conversation: int, seq: int) -> None:
    """The list of turns with this fingerprint ends at that message."""
    tx.run(
        "insert into turn_chain (workspace, owner_id, chain, conversation, seq) values (?, ?, ?, ?, ?) "
        "on conflict (workspace, owner_id, chain) do update set conversation = excluded.conversation, "
        "seq = excluded.seq",
        workspace,
        owner_id,
        chain,
        conversation,
        seq,
    )


def remove_chains(tx: Tx, workspace: int, conversation: int) -> None:
    """No list of turns leads to the conversation."""
    tx.run("delete from turn_chain where workspace = ? and conversation = ?", workspace, conversation)


def add_receipt(tx: Tx, made: Receipt) -> None:
    """The receipt is kept."""
    columns = "workspace id user_id conversation answer model items tokens recall_ms skipped created_us".split()
    row = (
        made.workspace,
        made.id,
        made.user_id or "",
        made.conversation,
        made.answer,
        made.model,
        to_text(made.items),
        made.tokens,
        made.recall_ms,
        made.skipped,
        made.created_us,
    )
    tx.insert("receipt", columns, [row])


def get_receipt(tx: Tx, workspace: int, id: str) -> Receipt | None:
    """A receipt of the workspace."""
    row = tx.row(
        "select id, user_id, conversation, answer, model, items, tokens, recall_ms, skipped, created_us from receipt "
        "where workspace = ? and id = ?",
        workspace,
        id,
    )
    if row is None:
        return None
    return Receipt(
        workspace=workspace,
        id=row[0],
        user_id=row[1] or None,
        conversation=row[2],
        answer=row[3],
        model=row[4],
        items=from_text(row[5]),
        tokens=row[6],
        recall_ms=row[7],
        skipped=row[8],
        created_us=row[9],
    )


def get_answer(tx: Tx, workspace: int, key: str) -> tuple[bytes, int, dict[str, str], bytes] | None:
    """(digest of the request, status, headers, body) of the request that carried this idempotency key.

    The body is empty when what it told of was changed or removed since.
    """
    sql = "select digest, status, headers, body from idempotency where workspace = ? and key = ?"
    row = tx.row(sql, workspace, key)
    return (bytes(row[0]), row[1], from_text(row[2]), bytes(row[3])) if row else None


def add_answer(
    tx: Tx,
    workspace: int,
    key: str,
    digest: bytes,
    status: int,
    headers: dict[str, str],
    body: bytes,
    now: int,
    about: Iterable[int] = (),
) -> None:
    """The answer, which tells of these conversations, is kept for retries. *Raises* ``Clash`` for a quicker twin."""
    columns = ("workspace", "key", "digest", "status", "headers", "body", "created_us")
    tx.insert("idempotency", columns, [(workspace, key, digest, status, to_text(headers), body, now)])
    rows = [(workspace, conversation, key) for conversation in about]
    tx.insert("idempotency_conversation", ("workspace", "conversation", "key"), rows)


def forget_answers(tx: Tx, workspace: int, conversation: int) -> None:
    """Kept answers hold nothing of the conversation any more; that their requests were answered stays known."""
    tx.run(
        "update idempotency set headers = '{}', body = ? where workspace = ? and key in "
        "(select key from idempotency_conversation where workspace = ? and conversation = ?)",
        b"",
        workspace,
        workspace,
        conversation,
    )
    sql = "delete from idempotency_conversation where workspace = ? and conversation = ?"
    tx.run(sql, workspace, conversation)


def remove_old_answers(tx: Tx, before_us: int) -> int:
    """Kept answers from before then are gone. *Gives* how many."""
    tx.run(
        "delete from idempotency_conversation where (workspace, key) in "
        "(select workspace, key from idempotency where created_us < ?)",
        before_us,
    )
    return tx.run("delete from idempotency where created_us < ?", before_us)
