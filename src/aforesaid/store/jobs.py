"""Jobs: rows written by the transaction that causes them, claimed by whoever has time.

A job that is done is deleted; one that keeps failing stays as ``failed`` for a person to look at; one of a kind that
nobody runs yet stays ``parked``.
"""

from collections.abc import Iterable

from aforesaid.ids import now_us
from aforesaid.model import Job, Json
from aforesaid.store.database import Row, Tx, marks, slices
from aforesaid.store.rows import from_text, to_text

_COLUMNS = (
    "id, workspace, owner_id, kind, payload, state, attempts, run_at_us, lease_until_us, error, created_us, updated_us"
)

ERROR_MAX = 500
"""Characters of a failure that are kept."""


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


def claim_jobs(tx: Tx, kinds: Iterable[str], limit: int, lease_us: int) -> list[Job]:
    """Up to ``limit`` due jobs of these kinds, oldest first, leased to the caller until the lease runs out.

    A job whose lease ran out is due again: its runner died. Jobs of an owner wait while others of the same owner are
    running, so that they are done in order.
    """
    now, wanted = now_us(), list(kinds)
    tx.alone("claim")
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
    jobs = [_job(row) for row in rows]
    for part in slices([job.id for job in jobs]):
        tx.run(
            f"update job set state = 'running', attempts = attempts + 1, lease_until_us = ?, updated_us = ? "
            f"where id in ({marks(len(part))})",
            now + lease_us,
            now,
            *part,
        )
    return jobs


def remove_jobs(tx: Tx, ids: list[int]) -> None:
    """The jobs are done."""
    for part in slices(ids):
        tx.run(f"delete from job where id in ({marks(len(part))})", *part)


def set_jobs_again(tx: Tx, ids: list[int], run_at_us: int, error: str | None) -> None:
    """The jobs wait until then for their next attempt."""
    for part in slices(ids):
        tx.run(
            f"update job set state = 'queued', lease_until_us = null, run_at_us = ?, error = ?, updated_us = ? "
            f"where id in ({marks(len(part))})",
            run_at_us,
            error and error[:ERROR_MAX],
            now_us(),
            *part,
        )


def set_jobs_failed(tx: Tx, ids: list[int], error: str) -> None:
    """The jobs are dead letters: kept, visible, not run again by themselves."""
    for part in slices(ids):
        tx.run(
            f"update job set state = 'failed', lease_until_us = null, error = ?, updated_us = ? "
            f"where id in ({marks(len(part))})",
            error[:ERROR_MAX],
            now_us(),
            *part,
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


def list_jobs(tx: Tx, workspace: int, *, conversation: int | None = None, limit: int = 100) -> list[Job]:
    """Jobs of a workspace, of one conversation where given, oldest first."""
    sql, parameters = f"select {_COLUMNS} from job where workspace = ?", [workspace]
    if conversation is not None:
        sql += " and conversation = ?"
        parameters.append(conversation)
    return [_job(row) for row in tx.rows(f"{sql} order by id limit ?", *parameters, limit)]


def next_due(tx: Tx, kinds: Iterable[str]) -> int | None:
    """When the next job of these kinds is due, in microseconds UTC."""
    wanted = list(kinds)
    row = tx.row(
        "select min(case when lease_until_us is null then run_at_us else lease_until_us end) from job "
        f"where state in ('queued', 'running') and kind in ({marks(len(wanted))})",
        *wanted,
    )
    return row[0] if row else None
