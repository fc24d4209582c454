"""``aforesaid serve``: everything is prepared, shown and run until a signal ends it."""

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.supervisors.multiprocess import Multiprocess

from aforesaid.app import App, asgi
from aforesaid.cli import terminal
from aforesaid.cli.embedded import log_to_stderr
from aforesaid.errors import AforesaidError, Misconfigured
from aforesaid.http.server import KEEP_ALIVE_S, Protocol
from aforesaid.settings import Settings, load

BACKLOG = 2048
SHORT_KEY = 16
"""A secret key of fewer characters than this is pointed at: our own have 46."""
_M_ARENA_MAX = -8


class Process:
    """The ASGI application of one process: its parts open with the lifespan."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self._app is None:
            app = App(self._settings)
            await app.open()
            self._app = asgi(app)
        assert self._app is not None
        await self._app(scope, receive, send)


class Factory:
    """Makes a process's application; it travels to worker processes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self) -> ASGIApp:
        # No signal is touched here: uvicorn's own handlers are in place when it asks for the application.
        share_one_heap()
        log_to_stderr(self._settings.log_level)
        return Process(self._settings)


def share_one_heap() -> None:
    """The threads to come allocate from one heap, unless the environment says how many there may be.

    With glibc each would have its own and keep there what its largest piece of work needed: a tenth of the process.
    *Source*: mallopt(3).
    """
    if "MALLOC_ARENA_MAX" not in os.environ and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def quiet_signals() -> None:
    """A signal that stopped the server on purpose does not end the process a second time: it exits with 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


async def prepare(settings: Settings) -> App:
    """The store is there, migrated, with its workspace and keys. *Gives* the closed parts, for what they tell."""
    app = App(settings)
    try:
        await app.open()
    finally:
        await app.db.close()
    return app


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. *Raises* ``Misconfigured`` when the address is taken or not ours."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with contextlib.ExitStack() as on_failure:
            made = on_failure.enter_context(socket.socket(family=family))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
            on_failure.pop_all()
    except OSError as error:
        wrong = "host" if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL else "port"
        told = f"can't listen on {host}:{port}: {error.strerror}; try --{wrong}"
        raise Misconfigured(told, setting=wrong) from None
    made.set_inheritable(True)
    return made


def show(app: App, address: str, workers: int) -> None:
    """What the person who started it needs: keys on the first start, the address, which model answers."""
    console = terminal.console()
    settings, first = app.settings, app.first
    store = f"PostgreSQL at {app.db.shown}" if hasattr(app.db, "shown") else f"{settings.data}/aforesaid.db"
    if first.workspace is not None and first.keys:
        console.print(
            f"\n[bold]First start.[/] Keep these keys of workspace {first.workspace.id}: they are shown once.\n"
        )
        for kind, secret in first.keys.items():
            use = "for servers" if kind == "secret" else "for browsers"
            print(f"  {kind} key ({use}): {secret}", flush=True)
    for kind in sorted(first.registered):
        print(f"  {kind} key: the one given by AFORESAID_{'API' if kind == 'secret' else 'ANON'}_KEY", flush=True)
        given = settings.api_key if kind == "secret" else settings.anon_key
        if kind == "secret" and len(given or "") < SHORT_KEY:
            print(f"  warning: it has fewer than {SHORT_KEY} characters and could be guessed", flush=True)
    print(f"\n  store: {store}", flush=True)
    print(f"  model: {app.chat.describe()}", flush=True)
    if workers > 1:
        print(f"  workers: {workers}", flush=True)
    print(f"  listening on {address}  (docs at {address}/docs)\n", flush=True)


def run(*, host: str | None, port: int | None, data: str | None, workers: int | None) -> None:
    """The server runs until a signal ends it."""
    share_one_heap()
    settings = load(host=host, port=port, data=data, workers=workers).settings
    log_to_stderr(settings.log_level)
    listening = bound(settings.host, settings.port)
    try:
        app = asyncio.run(prepare(settings))
    except AforesaidError:
        listening.close()
        raise
    config = uvicorn.Config(
        Factory(settings),
        factory=True,
        http=Protocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=True,
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_s)),
    )
    name, number = listening.getsockname()[:2]
    shown = f"[{name}]" if ":" in name else name
    show(app, f"http://{shown}:{number}", settings.workers)
    server = uvicorn.Server(config)
    if settings.workers > 1:
        Multiprocess(config, sockets=[listening]).run()
    else:
        quiet_signals()
        server.run(sockets=[listening])
    if not server.started and settings.workers == 1:
        sys.exit(1)
