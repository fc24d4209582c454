"""A server under test in a process of its own, started as a person would start it."""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0

# What a developer's own shell may hold, and a server under test must not see.
PRIVATE_PREFIXES = ("AFORESAID_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "HTTP_PROXY", "HTTPS_PROXY")


class ServerFailed(Exception):
    """The server ended or stayed silent before it answered; the text holds what it printed."""


def command() -> list[str]:
    """How this environment starts the command line."""
    script = Path(sys.executable).parent / "aforesaid"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from aforesaid.cli import main; sys.exit(main())"]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anybody's keys and addresses, and with ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PRIVATE_PREFIXES)}
    source = str(Path(__file__).parents[2] / "src")
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": source, "NO_COLOR": "1"} | dict(extra or {})


def free_port() -> int:
    """A port of the loopback interface that nobody held a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RunningServer:
    """A server that answers. ``base_url`` has no slash at its end; ``data`` outlives the process."""

    base_url: str
    api_key: str
    anon_key: str
    host: str
    port: int
    data: Path
    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs to be let in."""
        return {"Authorization": f"Bearer {self.api_key}"}

    def output(self) -> str:
        """All it has printed so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """It is dead at once, with its worker processes: SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Asked to stop by SIGTERM, it has ended. *Gives*: its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()


class ServerFactory(Protocol):
    """Starts servers that end with the test. What is not given is made new: data folder, keys, port."""

    def __call__(
        self,
        *arguments: str,
        data: Path | None = None,
        database_url: str | None = None,
        env: Mapping[str, str] | None = None,
        api_key: str | None = None,
        anon_key: str | None = None,
        port: int | None = None,
    ) -> RunningServer: ...


def start_server(
    data: Path,
    arguments: Sequence[str] = (),
    *,
    database_url: str | None = None,
    env: Mapping[str, str] | None = None,
    api_key: str | None = None,
    anon_key: str | None = None,
    port: int | None = None,
) -> RunningServer:
    """A server whose ``GET /health`` has answered 200. The caller stops it.

    *Takes*: ``data``, its folder, made if missing, so that a second start goes on where the first ended; ``arguments``
    for ``aforesaid serve``; ``env`` on top of a cleaned environment.
    *Raises*: ServerFailed, and no process is left.
    """
    port = port or free_port()
    keys = {
        "AFORESAID_API_KEY": api_key or f"test-secret-{secrets.token_hex(16)}",
        "AFORESAID_ANON_KEY": anon_key or f"test-anon-{secrets.token_hex(16)}",
    }
    if database_url is not None:
        keys["AFORESAID_DATABASE_URL"] = database_url
    environment = clean_environment(keys | dict(env or {}))
    data.mkdir(parents=True, exist_ok=True)
    log = data.parent / f"{data.name}-{port}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command(), "serve", "--host", "127.0.0.1", "--port", str(port), "--data", str(data), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = RunningServer(
        base_url=f"http://127.0.0.1:{port}",
        api_key=environment["AFORESAID_API_KEY"],
        anon_key=environment["AFORESAID_ANON_KEY"],
        host="127.0.0.1",
        port=port,
        data=data,
        process=process,
        log=log,
        environment=environment,
    )
    try:
        _wait_until_healthy(server)
    except BaseException:
        server.kill()
        raise
    return server


def _wait_until_healthy(server: RunningServer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if server.process.poll() is not None:
            raise ServerFailed(f"ended with status {server.process.returncode}:\n{server.output()[-4000:]}")
        connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass  # not up yet
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise ServerFailed(f"no answer from /health in {START_TIMEOUT_S:.0f} s:\n{server.output()[-4000:]}")
        time.sleep(0.02)


@contextlib.contextmanager
def server_factory(folder: Path) -> Iterator[ServerFactory]:
    """A ServerFactory whose data folders lie in ``folder``; its servers are killed at the end."""
    started: list[RunningServer] = []

    def start(
        *arguments: str,
        data: Path | None = None,
        database_url: str | None = None,
        env: Mapping[str, str] | None = None,
        api_key: str | None = None,
        anon_key: str | None = None,
        port: int | None = None,
    ) -> RunningServer:
        server = start_server(
            data or folder / f"data-{len(started)}",
            arguments,
            database_url=database_url,
            env=env,
            api_key=api_key,
            anon_key=anon_key,
            port=port,
        )
        started.append(server)
        return server

    try:
        yield start
    finally:
        for server in started:
            server.kill()
