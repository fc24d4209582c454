"""Workspaces (tenants), and the few values that belong to the whole deployment."""

from aforesaid.ids import WORKSPACE, new_id, now_us
from aforesaid.model import Workspace
from aforesaid.store.database import Row, Tx

_COLUMNS = "workspace, id, name, created_us"


def _workspace(row: Row) -> Workspace:
    return Workspace(workspace=row[0], id=row[1], name=row[2], created_us=row[3])


def list_workspaces(tx: Tx) -> list[Workspace]:
    """All workspaces, oldest first."""
    return [_workspace(row) for row in tx.rows(f"select {_COLUMNS} from workspace order by workspace")]


def get_workspace(tx: Tx, id: str) -> Workspace | None:
    """The workspace with this public id or, failing that, this name."""
    row = tx.row(f"select {_COLUMNS} from workspace where id = ? or name = ? order by id = ? desc", id, id, id)
    return _workspace(row) if row else None


def add_workspace(tx: Tx, name: str) -> Workspace:
    """A new workspace. *Raises* ``Clash`` when another one was made at the same moment."""
    row = tx.row("select coalesce(max(workspace), 0) + 1 from workspace")
    made = Workspace(workspace=row[0] if row else 1, id=new_id(WORKSPACE), name=name, created_us=now_us())
    tx.insert(
        "workspace", ("workspace", "id", "name", "created_us"), [(made.workspace, made.id, name, made.created_us)]
    )
    return made


def get_meta(tx: Tx, name: str) -> str | None:
    """A value of the deployment."""
    row = tx.row("select value from meta where name = ?", name)
    return str(row[0]) if row else None


def set_meta(tx: Tx, name: str, value: str) -> str:
    """The value that stands afterwards: the first one set stays."""
    tx.run("insert into meta (name, value) values (?, ?) on conflict (name) do nothing", name, value)
    return get_meta(tx, name) or value


def replace_meta(tx: Tx, name: str, value: str) -> None:
    """The value of the deployment is this one."""
    tx.run(
        "insert into meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
        name,
        value,
    )
