"""The checks of ``aforesaid doctor``: each finds one thing out and says how to mend it. None changes anything."""

import asyncio
import os
import platform
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

from aforesaid import __version__
from aforesaid.app import DATABASE_FILE, database_of
from aforesaid.cli import embedded
from aforesaid.errors import AforesaidError, Misconfigured, UpstreamFailed
from aforesaid.ids import now_us
from aforesaid.model import Frozen
from aforesaid.settings import Settings, load, shown
from aforesaid.store import checkup, jobs
from aforesaid.store.database import Database
from aforesaid.store.migrate import pending, versions

DISK_LOW_BYTES = 1 << 30
DISK_FULL_BYTES = 64 << 20
FAILED_SHOWN = 5
LAG_S = 60.0
"""A job that waits longer than this is worth a word."""
FUTURE_S = 60.0
PROBE_S = 3.0
"""How long a model server or our own port may take to answer."""


class Finding(Frozen, frozen=True, kw_only=True):
    """What a check found. ``mend`` says what to do where something is to be done."""

    check: str
    state: Literal["ok", "warning", "failed"]
    told: str
    mend: str = ""


def _ok(check: str, told: str) -> Finding:
    return Finding(check=check, state="ok", told=told)


def _warning(check: str, told: str, mend: str) -> Finding:
    return Finding(check=check, state="warning", told=told, mend=mend)


def _failed(check: str, told: str, mend: str) -> Finding:
    return Finding(check=check, state="failed", told=told, mend=mend)


async def checked(data: str | None, retry_failed: bool) -> list[Finding]:
    """What every check found, in the order in which things depend on each other."""
    found = [_ok("version", f"Aforesaid {__version__}, Python {platform.python_version()}, {platform.platform()}")]
    try:
        loaded = load(data=data)
    except Misconfigured as error:
        return [*found, _failed("settings", error.message, "correct it; `aforesaid settings` shows what is in force")]
    settings = loaded.settings
    embedded.log_to_stderr(settings.log_level)
    given = [name for name, _, source in shown(settings, loaded.sources) if source != "default"]
    found.append(_ok("settings", f"given: {', '.join(given)}" if given else "all defaults"))
    if settings.database_url is None:
        found += _folder(Path(settings.data))
    if found[-1].state != "failed" and embedded.is_there(settings):
        found += [finding async for finding in _store(settings, retry_failed)]
    elif found[-1].state != "failed":
        found.append(
            _warning("database", f"there is none in {settings.data} yet", "`aforesaid serve` makes it; or name --data")
        )
    found.append(await _port(settings))
    found += await _upstreams(settings)
    return found


def _folder(folder: Path) -> Iterator[Finding]:
    near = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not near.is_dir():
        yield _failed("data folder", f"{near} is no folder", "name another one with --data or AFORESAID_DATA")
        return
    if not os.access(near, os.W_OK | os.X_OK):
        yield _failed(
            "data folder", f"{near} can't be written", f"give user {os.getuid()} the right to, or name another folder"
        )
        return
    free = shutil.disk_usage(near).free
    told = f"{free / (1 << 30):,.1f} GiB free in {near}"
    if free < DISK_FULL_BYTES:
        yield _failed("disk", told, "make room: nothing more can be stored")
    elif free < DISK_LOW_BYTES:
        yield _warning("disk", told, "make room soon")
    else:
        yield _ok("disk", told)
    yield _ok("data folder", str(folder))


async def _store(settings: Settings, retry_failed: bool) -> AsyncIterator[Finding]:
    db = database_of(settings)
    where = getattr(db, "shown", None) or f"{settings.data}/{DATABASE_FILE}"
    try:
        await db.open()
        async for finding in _opened(db, where, retry_failed):
            yield finding
    except AforesaidError as error:
        if settings.database_url is not None:
            mend = "is PostgreSQL running there, and are user, password and database name right?"
        else:
            mend = "is the file readable, and is it ours? Otherwise put a backup in its place"
        yield _failed("database", error.message, mend)
    finally:
        await db.close()


async def _opened(db: Database, where: str, retry_failed: bool) -> AsyncIterator[Finding]:
    damage = await db.read(checkup.get_damage, db.name)
    if damage is not None:
        yield _failed(
            "database", f"{where} is damaged: {damage}", "stop the server and put the last `aforesaid backup` in place"
        )
        return
    yield _ok("database", f"{where} opens" + (" and is undamaged" if db.name == "sqlite" else ""))
    waiting = await pending(db)
    if len(waiting) == len(versions()):
        yield _warning("schema", "there are no tables yet", "`aforesaid serve` makes them")
        return
    number, done_us = await db.read(checkup.get_schema)
    newest = versions()[-1][0]
    if number > newest:
        yield _failed(
            "schema", f"{number}, and this version knows {newest}", "install the newer Aforesaid that made it so"
        )
        return
    if waiting:
        yield _warning("schema", f"to be migrated: {', '.join(waiting)}", "`aforesaid migrate`, or start the server")
        return
    yield _ok("schema", str(number))
    if done_us > now_us() + FUTURE_S * 1e6:
        yield _failed("clock", "it is before the database was made", "set the clock of this machine")
    else:
        yield _ok("clock", "runs after what is stored")
    counts = await db.read(checkup.count_rows)
    held = ", ".join(f"{counts[name]:,} {name}" for name in ("workspaces", "conversations", "messages"))
    yield _ok("content", held)
    if counts["keys"]:
        yield _ok("keys", f"{counts['keys']:,} active")
    else:
        yield _warning("keys", "there is none", "`aforesaid keys create`, or start the server once")
    async for finding in _jobs(db, retry_failed):
        yield finding


async def _jobs(db: Database, retry_failed: bool) -> AsyncIterator[Finding]:
    if retry_failed:
        again = await db.write(jobs.retry_failed)
        yield _ok("retry", f"{again:,} failed jobs are queued afresh")
    counts = await db.read(jobs.count_jobs, None)
    states: dict[str, int] = {}
    for (_, state), count in counts.items():
        states[state] = states.get(state, 0) + count
    failed = await db.read(checkup.list_failed_jobs, FAILED_SHOWN)
    for job in failed:
        yield _failed(
            "failed job",
            f"{job.id} ({job.kind}, user {job.owner_id or '-'}): {job.error}",
            "mend the cause, then `aforesaid doctor --retry-failed`",
        )
    if states.get("failed", 0) > len(failed):
        yield _failed("failed job", f"{states['failed'] - len(failed):,} more", "see above")
    waiting = states.get("queued", 0) + states.get("running", 0)
    oldest = await db.read(checkup.get_oldest_job)
    lag_s = 0.0 if oldest is None else (now_us() - oldest) / 1e6
    told = f"{waiting:,} waiting, {states.get('parked', 0):,} parked"
    if lag_s > LAG_S:
        yield _warning("jobs", f"{told}; the oldest for {lag_s:,.0f} s", "start a server, or `aforesaid work --drain`")
    else:
        yield _ok("jobs", told)


async def _port(settings: Settings) -> Finding:
    """Whether the server could listen, or is it that listens."""
    host, port = settings.host, settings.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        return _failed("port", f"{host} is no address: {error.strerror}", "set host to an address of this machine")
    with socket.socket(family=family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = error
        else:
            return _ok("port", f"{host}:{port} is free: no server runs there")
    if await _is_ours(host, port):
        return _ok("port", f"a server answers on {host}:{port}")
    return _warning("port", f"{host}:{port}: {taken.strerror}", "`aforesaid serve --port` with another one")


async def _is_ours(host: str, port: int) -> bool:
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - an address to ask, not to listen on
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(asked, port)
            writer.write(f"GET /health HTTP/1.1\r\nhost: {asked}\r\nconnection: close\r\n\r\n".encode())
            answer = await reader.read(4096)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in answer.split(b"\r\n", 1)[0]


async def _upstreams(settings: Settings) -> list[Finding]:
    """Each model server is asked for its models."""
    if not settings.upstreams:
        return [_ok("model server", "none: the embedded answerer answers")]
    import aiohttp

    from aforesaid.providers.upstreams import Server

    out = []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session:
        for upstream in settings.upstreams:
            check = f"model server {upstream.name}"
            try:
                async with asyncio.timeout(PROBE_S):
                    models = await Server(upstream, session).models()
            except (UpstreamFailed, TimeoutError) as error:
                told = error.message if isinstance(error, UpstreamFailed) else f"no answer in {PROBE_S:.0f} s"
                out.append(
                    _failed(check, told, f"check base_url and key: AFORESAID_UPSTREAM_{upstream.name.upper()}_…")
                )
            else:
                out.append(_ok(check, f"{len(models)} models"))
    return out
