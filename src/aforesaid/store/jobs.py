"""Jobs: rows written by the transaction that causes them, claimed by whoever has time.

A job that is done is deleted; one that keeps failing stays as ``failed`` for a person to look at; one of a kind that
nobody runs yet stays ``parked``.
"""

from collections.abc import Iterable

import msgspec

from aforesaid.ids import now_us
from aforesaid.model import Job, Json
from aforesaid.store.database import Row, Tx, marks, slices
from aforesaid.store.rows import from_text, to_text

_COLUMNS = (
    "id, workspace, owner_id, kind, payload, state, attempts, run_at_us, lease_until_us, error, created_us, updated_us"
)

ERROR_MAX = 500
"""Characters of a failure that are kept."""
DIED = "its runner ended without a word each time"


def _job(row: Row) -> Job:
    return Job(
        id=row[0],
        workspace=row[1],
        owner_id=row[2] or None,
        kind=row[3],
        payload=from_text(row[4]),
        state=row[5],
        attempts=row[6],
        run_at_us=row[7],
        lease_until_us=row[8],
        error=row[9],
        created_us=row[10],
        updated_us=row[11],
    )


def add_job(
    tx: Tx,
    workspace: int,
    owner_id: str | None,
    kind: str,
    payload: Json,
    *,
    conversation: int | None = None,
    state: str = "queued",
    run_at_us: int | None = None,
) -> None:
    """The job is there when the transaction is; runners are told after the commit."""
    now = now_us()
    columns = "workspace owner_id kind conversation payload state attempts run_at_us created_us updated_us".split()
    row = (workspace, owner_id or "", kind, conversation, to_text(payload), state, 0, run_at_us or now, now, now)
    tx.insert("job", columns, [row])
    tx.wake()


def claim_jobs(tx: Tx, kinds: Iterable[str], limit: int, lease_us: int, attempts: int) -> list[Job]:
    """Up to ``limit`` due jobs of these kinds, oldest first, leased to the caller until the lease runs out.

    A job whose lease ran out is due again: its runner died. One that this happened to ``attempts`` times is failed.
    Jobs of an owner wait while others of the same owner are running, so that they are done in order.

    *Gives* them as they are now; their ``attempts`` tell this claim from a later one.
    """
    now, wanted = now_us(), list(kinds)
    tx.alone("claim")
    tx.run(
        "update job set state = 'failed', lease_until_us = null, error = ?, updated_us = ? "
        "where state = 'running' and lease_until_us < ? and attempts >= ?",
        DIED,
        now,
        now,
        attempts,
    )
    rows = tx.rows(
        f"select {_COLUMNS} from job where state in ('queued', 'running') and run_at_us <= ? "
        f"and (lease_until_us is null or lease_until_us < ?) and kind in ({marks(len(wanted))}) "
        "and not exists (select 1 from job o where o.workspace = job.workspace and o.owner_id = job.owner_id "
        "and o.state = 'running' and o.lease_until_us >= ?) "
        f"order by id limit ?{tx.skip_locked}",
        now,
        now,
        *wanted,
        now,
        limit,
    )
    jobs = [
        msgspec.structs.replace(
            job, state="running", attempts=job.attempts + 1, lease_until_us=now + lease_us, updated_us=now
        )
        for job in map(_job, rows)
    ]
    for part in slices([job.id for job in jobs]):
        tx.run(
            f"update job set state = 'running', attempts = attempts + 1, lease_until_us = ?, updated_us = ? "
            f"where id in ({marks(len(part))})",
            now + lease_us,
            now,
            *part,
        )
    return jobs


_CLAIMED = "id = ? and attempts = ? and state = 'running'"
"""The job is still of this claim: it was neither removed nor claimed by another runner when a lease ran out."""


def remove_jobs(tx: Tx, jobs: Iterable[Job]) -> bool:
    """The jobs are done. *Gives* False when one of them was not of this claim any more: then take all back."""
    return all(tx.run(f"delete from job where {_CLAIMED}", job.id, job.attempts) for job in jobs)


def extend_leases(tx: Tx, jobs: Iterable[Job], until_us: int) -> None:
    """Those of the jobs that are still of this claim are leased until then."""
    for job in jobs:
        tx.run(f"update job set lease_until_us = ? where {_CLAIMED}", until_us, job.id, job.attempts)


def set_jobs_again(tx: Tx, jobs: Iterable[Job], run_at_us: int, error: str | None, *, tried: bool = True) -> None:
    """Those of the jobs that are still of this claim wait until then. Not ``tried``, this was no attempt."""
    for job in jobs:
        tx.run(
            f"update job set state = 'queued', lease_until_us = null, run_at_us = ?, error = ?, updated_us = ?, "
            f"attempts = attempts - ? where {_CLAIMED}",
            run_at_us,
            error and error[:ERROR_MAX],
            now_us(),
            0 if tried else 1,
            job.id,
            job.attempts,
        )


def set_jobs_failed(tx: Tx, jobs: Iterable[Job], error: str) -> None:
    """Those of the jobs that are still of this claim are dead letters: kept, visible, not run again by themselves."""
    for job in jobs:
        tx.run(
            f"update job set state = 'failed', lease_until_us = null, error = ?, updated_us = ? where {_CLAIMED}",
            error[:ERROR_MAX],
            now_us(),
            job.id,
            job.attempts,
        )


def set_jobs_owner(tx: Tx, workspace: int, conversation: int, kind: str, owner_id: str | None) -> None:
    """The conversation's waiting jobs of this kind are this owner's."""
    tx.run(
        "update job set owner_id = ? where workspace = ? and conversation = ? and kind = ?",
        owner_id or "",
        workspace,
        conversation,
        kind,
    )


def retry_failed(tx: Tx, workspace: int | None = None) -> int:
    """Failed jobs are queued afresh. *Gives* how many."""
    sql = "update job set state = 'queued', attempts = 0, run_at_us = ?, error = null where state = 'failed'"
    changed = tx.run(sql, now_us()) if workspace is None else tx.run(f"{sql} and workspace = ?", now_us(), workspace)
    tx.wake()
    return changed


def count_jobs(tx: Tx, workspace: int | None, owner_id: str | None = None) -> dict[tuple[str, str], int]:
    """How many jobs there are by (kind, state), of a workspace and an owner where given."""
    sql, parameters = "select kind, state, count(*) from job where 1 = 1", []
    for column, value in (("workspace", workspace), ("owner_id", owner_id)):
        if value is not None:
            sql += f" and {column} = ?"
            parameters.append(value)
    return {(row[0], row[1]): row[2] for row in tx.rows(f"{sql} group by kind, state", *parameters)}


def has_jobs(tx: Tx, workspace: int, owner_id: str, kind: str) -> bool:
    """Whether jobs of this kind wait or run for the owner."""
    sql = (
        "select 1 from job where workspace = ? and owner_id = ? and state in ('queued', 'running') and kind = ? limit 1"
    )
    return tx.row(sql, workspace, owner_id, kind) is not None


def list_jobs(tx: Tx, workspace: int, *, conversation: int | None = None, limit: int | None = None) -> list[Job]:
    """Jobs of a workspace, of one conversation where given, oldest first; all of them without ``limit``."""
    sql, parameters = f"select {_COLUMNS} from job where workspace = ?", [workspace]
    if conversation is not None:
        sql += " and conversation = ?"
        parameters.append(conversation)
    sql += " order by id"
    if limit is not None:
        sql += " limit ?"
        parameters.append(limit)
    return [_job(row) for row in tx.rows(sql, *parameters)]


def next_due(tx: Tx, kinds: Iterable[str]) -> int | None:
    """When the next job of these kinds is due, in microseconds UTC."""
    wanted = list(kinds)
    row = tx.row(
        "select min(case when lease_until_us is null then run_at_us else lease_until_us end) from job "
        f"where state in ('queued', 'running') and kind in ({marks(len(wanted))})",
        *wanted,
    )
    return row[0] if row else None
