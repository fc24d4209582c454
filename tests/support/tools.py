"""Programs from outside Python that some tests drive. Where one is missing, the test is skipped and says why."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.server import clean_environment

NODE_FOLDER = Path(__file__).parents[1] / "node"
SCRIPT_TIMEOUT_S = 120.0


def node() -> str:
    """The path of Node, with the packages of tests/node installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node here")
    if not (NODE_FOLDER / "node_modules" / ".stamp").exists():
        pytest.skip("the packages of tests/node are not installed: make test does it with npm ci")
    return found


def run_node(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What a script of tests/node printed. *Raises*: AssertionError with its output when it failed."""
    done = subprocess.run(
        [node(), script, *arguments],
        cwd=NODE_FOLDER,
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{script} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def chromium() -> str:
    """The path of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip("no Chromium here: make test installs it where it may")
