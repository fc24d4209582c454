"""What an operator asks of a store when something is wrong. Nothing here changes anything."""

from aforesaid.model import Job
from aforesaid.store.database import Row, Tx
from aforesaid.store.rows import from_text


def get_damage(tx: Tx, engine: str) -> str | None:
    """The first thing that the engine finds wrong with its file, or None. *Cost*: the file is read once."""
    if engine != "sqlite":
        return None
    row = tx.row("pragma quick_check(1)")
    return None if row is None or row[0] == "ok" else str(row[0])


def get_schema(tx: Tx) -> tuple[int, int]:
    """(number of the last migration, when it ran)."""
    row = tx.row("select number, done_us from migration order by number desc limit 1")
    return (int(row[0]), int(row[1])) if row else (0, 0)


def count_rows(tx: Tx) -> dict[str, int]:
    """How many workspaces, active keys, conversations and messages there are."""
    out = {}
    for name, sql in (
        ("workspaces", "select count(*) from workspace"),
        ("keys", "select count(*) from api_key where status = 'active'"),
        ("conversations", "select count(*) from conversation"),
        ("messages", "select coalesce(sum(message_count), 0) from conversation"),
    ):
        row = tx.row(sql)
        out[name] = int(row[0]) if row else 0
    return out


def get_oldest_job(tx: Tx) -> int | None:
    """When the job that waits longest was queued, in microseconds UTC."""
    row = tx.row("select min(created_us) from job where state in ('queued', 'running')")
    return row[0] if row else None


def list_failed_jobs(tx: Tx, limit: int) -> list[Job]:
    """Dead letters of all workspaces, newest first."""
    sql = (
        "select id, workspace, owner_id, kind, payload, attempts, error, created_us, updated_us from job "
        "where state = 'failed' order by updated_us desc limit ?"
    )
    return [_failed(row) for row in tx.rows(sql, limit)]


def _failed(row: Row) -> Job:
    return Job(
        id=row[0],
        workspace=row[1],
        owner_id=row[2] or None,
        kind=row[3],
        payload=from_text(row[4]),
        state="failed",
        attempts=row[5],
        error=row[6],
        created_us=row[7],
        updated_us=row[8],
    )
