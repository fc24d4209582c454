"""``keys``: create, list, revoke, register."""

from typing import TYPE_CHECKING, Annotated

import typer

from aforesaid.cli.options import AsJson, Data, InWorkspace

if TYPE_CHECKING:
    from aforesaid.app import App
    from aforesaid.model import ApiKey, Json, KeyKind, Workspace

app = typer.Typer(help="API keys: make, list, revoke, register your own.", no_args_is_help=True, rich_markup_mode=None)

Anon = Annotated[bool, typer.Option("--anon", help="A key for browsers: few endpoints, safe to show.")]
Label = Annotated[str | None, typer.Option(help="What it is for, in lists.")]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="It may read, and change nothing.")]
Expires = Annotated[
    str | None, typer.Option(metavar="TIME", help="When it stops working: a date or time (UTC), or 90d, 12h, 30m.")
]
Origins = Annotated[
    list[str] | None, typer.Option("--origin", metavar="URL", help="Pages that may use an anon key; repeatable.")
]


@app.command()
def create(
    label: Label = None,
    anon: Anon = False,
    read_only: ReadOnly = False,
    expires: Expires = None,
    origin: Origins = None,
    workspace: InWorkspace = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown once: only a keyed hash of it is kept.

    \b
      aforesaid keys create --label "import script" --expires 90d
      aforesaid keys create --anon --origin https://docs.example.com
      KEY=$(aforesaid keys create --json | jq -r .secret)
    """
    _add(None, label, anon, read_only, expires, origin, workspace, data, as_json)


@app.command()
def register(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key itself; - reads it from standard input.")],
    label: Label = None,
    anon: Anon = False,
    read_only: ReadOnly = False,
    expires: Expires = None,
    origin: Origins = None,
    workspace: InWorkspace = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Register a key that your clients have already, as it is.

    \b
      echo "$OLD_KEY" | aforesaid keys register - --label "old clients"
    """
    given = typer.get_text_stream("stdin").readline().rstrip("\r\n") if key == "-" else key
    _add(given, label, anon, read_only, expires, origin, workspace, data, as_json)


@app.command("list")
def list_(workspace: InWorkspace = None, data: Data = None, as_json: AsJson = False) -> None:
    """Show the keys of a workspace, never their secrets."""
    from aforesaid.cli import embedded, terminal
    from aforesaid.core import access
    from aforesaid.limits import KEYS

    async def work() -> "list[ApiKey]":
        async with embedded.opened(data) as running:
            caller = await embedded.operator(running, workspace)
            return (await access.list_keys(running.db, caller, 0, KEYS))[0]

    found = embedded.run(work())
    if as_json:
        terminal.show_json([_shown(key) for key in found])
        return
    columns = ("id", "kind", "label", "state", "permissions", "expires", "last used", "origins")
    rows = [
        (key.id, key.kind, key.label, _state(key), " ".join(key.permissions), _day(key.expires_us),
         _day(key.last_used_us), " ".join(key.origins))
        for key in found
    ]  # fmt: skip
    terminal.show_table(columns, rows, empty="no keys: aforesaid keys create")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The id that `keys list` shows, or the key itself.")],
    workspace: InWorkspace = None,
    data: Data = None,
) -> None:
    """Make a key useless, within a second also in running servers.

    \b
      aforesaid keys revoke key_01J9ZK3V5QW8XN2M4R6T7Y0ABC
    """
    from aforesaid.cli import embedded, terminal
    from aforesaid.core import access

    async def work() -> "ApiKey":
        async with embedded.opened(data) as running:
            caller = await embedded.operator(running, workspace)
            held = await running.keyring.holds(id)
            named = held.id if held is not None and held.workspace == caller.workspace else id
            key = await access.get_key(running.db, caller, named)
            await access.remove_key(running.db, running.keyring, caller, key.id)
            return key

    key = embedded.run(work())
    terminal.say(f"revoked {key.id} ({key.kind}, {key.label})")


def _add(
    secret: str | None,
    label: str | None,
    anon: bool,
    read_only: bool,
    expires: str | None,
    origins: list[str] | None,
    workspace: str | None,
    data: str | None,
    as_json: bool,
) -> None:
    from aforesaid.cli import embedded, terminal
    from aforesaid.ids import now_us
    from aforesaid.model import ApiKey

    if origins and not anon:
        raise typer.BadParameter("only anon keys are bound to pages: add --anon", param_hint="--origin")
    kind: KeyKind = "anon" if anon else "secret"
    now = now_us()
    template = ApiKey(
        id="",
        workspace=0,
        workspace_id="",
        kind=kind,
        key="",
        label=label if label is not None else kind,
        permissions=("read",) if read_only else ("read", "write"),
        origins=tuple(_origin(text) for text in origins or ()),
        expires_us=None if expires is None else _moment(expires, now),
        created_us=now,
        updated_us=now,
    )

    async def work() -> "tuple[ApiKey, str, Workspace]":
        async with embedded.opened(data, make=True) as running:
            place = await embedded.workspace_of(running, workspace)
            await _check_shared(running, secret)
            key, made = await running.keyring.add(place, kind, secret=secret, template=template)
            return key, made, place

    key, made, place = embedded.run(work())
    if as_json:
        shown = _shown(key)
        terminal.show_json(shown if secret is not None else {**shown, "secret": made})
    elif secret is not None:
        terminal.say(f"registered {key.id} ({key.kind}, {key.label}) in workspace {place.name}")
    else:
        terminal.note(f"{key.id} ({key.kind}, {key.label}) in workspace {place.name}; it is shown once:")
        terminal.say(made)


async def _check_shared(running: "App", secret: str | None) -> None:
    """A key that is registered already is refused with where it is."""
    from aforesaid.errors import Refused

    held = None if secret is None else await running.keyring.holds(secret)
    if held is not None:
        raise Refused(f"this key is registered already, as {held.id} in workspace {held.workspace_id}")


def _moment(text: str, now_us: int) -> int:
    """The microseconds of a time, or of one so many days, hours or minutes from now."""
    from aforesaid.errors import Invalid
    from aforesaid.times import parse_time

    units = {"d": 86_400, "h": 3_600, "m": 60}
    if text[:-1].isdigit() and text[-1:] in units:
        return now_us + int(text[:-1]) * units[text[-1]] * 1_000_000
    try:
        moment = parse_time(text)
    except Invalid as error:
        raise typer.BadParameter(f"{error.message}; or 90d, 12h, 30m", param_hint="--expires") from None
    if moment <= now_us:
        raise typer.BadParameter("lies in the past", param_hint="--expires")
    return moment


def _origin(text: str) -> str:
    """A page's origin as browsers send it: scheme, host, port, without a path."""
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise typer.BadParameter(f"{text!r} is no origin: expected https://docs.example.com", param_hint="--origin")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _shown(key: "ApiKey") -> "Json":
    from aforesaid.times import iso

    return {
        "id": key.id,
        "workspace_id": key.workspace_id,
        "kind": key.kind,
        "key": key.key,
        "label": key.label,
        "state": _state(key),
        "permissions": key.permissions,
        "ip_allow": key.ip_allow,
        "origins": key.origins,
        "expires_at": None if key.expires_us is None else iso(key.expires_us),
        "created_at": iso(key.created_us),
        "last_used_at": None if key.last_used_us is None else iso(key.last_used_us),
    }


def _state(key: "ApiKey") -> str:
    from aforesaid.ids import now_us

    return "expired" if key.expires_us is not None and key.expires_us <= now_us() else key.status


def _day(us: int | None) -> str:
    from aforesaid.times import iso

    return "" if us is None else iso(us)[:16].replace("T", " ")
