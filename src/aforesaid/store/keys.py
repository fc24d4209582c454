"""API keys: only digests of secrets are here."""

from aforesaid.model import ApiKey
from aforesaid.store.database import Row, Tx
from aforesaid.store.rows import text_tuple, to_text

_COLUMNS = (
    "k.workspace, w.id, k.id, k.kind, k.public_part, k.label, k.status, k.permissions, k.ip_allow, k.origins, "
    "k.collections, k.expires_us, k.created_by, k.created_us, k.updated_us, k.last_used_us"
)
_FROM = "from api_key k join workspace w on w.workspace = k.workspace"


def _key(row: Row) -> ApiKey:
    return ApiKey(
        workspace=row[0],
        workspace_id=row[1],
        id=row[2],
        kind=row[3],
        key=row[4],
        label=row[5],
        status=row[6],
        permissions=text_tuple(row[7]),
        ip_allow=text_tuple(row[8]),
        origins=text_tuple(row[9]),
        collections=None if row[10] is None else text_tuple(row[10]),
        expires_us=row[11],
        created_by=row[12],
        created_us=row[13],
        updated_us=row[14],
        last_used_us=row[15],
    )


def get_key_by_digest(tx: Tx, digest: bytes) -> ApiKey | None:
    """The key whose secret has this digest, active or not."""
    row = tx.row(f"select {_COLUMNS} {_FROM} where k.digest = ?", digest)
    return _key(row) if row else None


def get_key(tx: Tx, workspace: int, id: str) -> ApiKey | None:
    """A key of the workspace."""
    row = tx.row(f"select {_COLUMNS} {_FROM} where k.workspace = ? and k.id = ?", workspace, id)
    return _key(row) if row else None


def list_keys(tx: Tx, workspace: int, skip: int = 0, limit: int = 1000) -> list[ApiKey]:
    """Keys of the workspace, oldest first."""
    sql = f"select {_COLUMNS} {_FROM} where k.workspace = ? order by k.created_us, k.id limit ? offset ?"
    return [_key(row) for row in tx.rows(sql, workspace, limit, skip)]


def count_keys(tx: Tx, workspace: int) -> int:
    """How many keys the workspace has."""
    row = tx.row("select count(*) from api_key where workspace = ?", workspace)
    return int(row[0]) if row else 0


def add_key(tx: Tx, key: ApiKey, digest: bytes) -> None:
    """The key is known by its digest. *Raises* ``Clash`` when that secret is known already."""
    columns = (
        "workspace id kind public_part digest label status permissions ip_allow origins collections expires_us "
        "created_by created_us updated_us last_used_us"
    ).split()
    values = (
        key.workspace,
        key.id,
        key.kind,
        key.key,
        digest,
        key.label,
        key.status,
        to_text(key.permissions),
        to_text(key.ip_allow),
        to_text(key.origins),
        to_text(key.collections),
        key.expires_us,
        key.created_by,
        key.created_us,
        key.updated_us,
        key.last_used_us,
    )
    tx.insert("api_key", columns, [values])


def set_key(tx: Tx, key: ApiKey) -> None:
    """Everything of the key but its secret and kind is as given."""
    tx.run(
        "update api_key set label = ?, status = ?, permissions = ?, ip_allow = ?, origins = ?, collections = ?, "
        "expires_us = ?, updated_us = ? where workspace = ? and id = ?",
        key.label,
        key.status,
        to_text(key.permissions),
        to_text(key.ip_allow),
        to_text(key.origins),
        to_text(key.collections),
        key.expires_us,
        key.updated_us,
        key.workspace,
        key.id,
    )


def set_key_used(tx: Tx, workspace: int, id: str, used_us: int) -> None:
    """When the key was last used."""
    tx.run("update api_key set last_used_us = ? where workspace = ? and id = ?", used_us, workspace, id)


def remove_key(tx: Tx, workspace: int, id: str) -> bool:
    """The key is gone; whether it was there."""
    return tx.run("delete from api_key where workspace = ? and id = ?", workspace, id) > 0
