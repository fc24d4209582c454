"""The command line as a person or a script uses it: in this process, in one of its own, on a terminal."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aforesaid.cli import main
from tests.support.server import PRIVATE_PREFIXES, clean_environment, command

TIMEOUT_S = 120.0


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, decoded."""
        return json.loads(self.out)


class Line:
    """Runs commands in this process, with the environment of nobody but the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path) -> None:
        for name in os.environ:
            if name.upper().startswith(PRIVATE_PREFIXES):
                monkeypatch.delenv(name)
        monkeypatch.chdir(folder)
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        self.data = folder / "store"
        self.set("AFORESAID_DATA", str(self.data))

    def set(self, name: str, value: str) -> None:
        """The variable is in the environment of what runs from now on."""
        self._monkeypatch.setenv(name, value)

    def __call__(self, *arguments: object) -> Ran:
        """What ``aforesaid`` with these arguments did."""
        self._monkeypatch.setattr(sys, "argv", ["aforesaid", *map(str, arguments)])
        self._capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1 if left.code else 0
        out, err = self._capfd.readouterr()
        return Ran(code, out, err)

    def ok(self, *arguments: object) -> Ran:
        """The same, having succeeded."""
        ran = self(*arguments)
        assert ran.code == 0, (arguments, ran)
        return ran


def run_alone(*arguments: object, env: Mapping[str, str] | None = None, stdin: str | None = None) -> Ran:
    """The command in a process of its own."""
    done = subprocess.run(
        [*command(), *map(str, arguments)],
        env=clean_environment(env),
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def run_on_terminal(arguments: Sequence[object], typed: str = "", *, env: Mapping[str, str] | None = None) -> Ran:
    """The command on a terminal, where ``typed`` is typed before it asks."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*command(), *map(str, arguments)],
        env=clean_environment(env) | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    os.write(leader, typed.encode())
    shown = bytearray()

    def take() -> None:
        while True:
            try:
                piece = os.read(leader, 65_536)
            except OSError:  # how Linux says that the other side is closed
                return
            if not piece:
                return
            shown.extend(piece)

    reader = threading.Thread(target=take)
    reader.start()
    try:
        code = process.wait(TIMEOUT_S)
    finally:
        process.kill()
        reader.join()
        os.close(leader)
    return Ran(code, shown.decode(errors="replace"), "")
