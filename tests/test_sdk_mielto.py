"""Mielto's own Python client, two releases of it, unchanged but for the address: its completions.

Each release is fetched once into a folder of its own beside the packages of the tests: its requirements are its own.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chats import Client, upstream_environment
from tests.support.server import RunningServer, clean_environment, server_factory
from tests.support.upstream import Upstream
from tests.support.upstream_script import TEXT

pytestmark = pytest.mark.sdk

INSTALL_TIMEOUT_S = 240
SCRIPT = Path(__file__).parent / "support" / "mielto_script.py"


def installed(version: str) -> Path:
    """The folder that holds this release and what it needs. Skips where it can't be had."""
    folder = Path(sys.prefix) / "sdk" / f"mielto-{version}"
    if (folder / ".complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    tool = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    done = subprocess.run(
        [*tool, "--quiet", "--target", str(folder), f"mielto=={version}"],
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"mielto {version} can't be fetched from the package registry: {done.stderr.strip()[-200:]}")
    (folder / ".complete").touch()
    return folder


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("mielto")) as start:
        yield start(env=upstream_environment(model))


@pytest.mark.parametrize("version", ["0.1.7", "0.1.6"])
def test_completions(running: RunningServer, model: Upstream, version: str) -> None:
    folder = installed(version)
    client = Client(running, user=f"user of {version}")
    before = len(model.chats)
    environment = {
        "MIELTO_API_KEY": running.api_key,
        "BASE_URL": f"{running.base_url}/api/v1",
        "USER_ID": str(client.user),
    }
    # Only that client and what it needs: a path before all others, without this project on it.
    start = (
        f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", start],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    plain = said["sync"]
    assert (plain["text"], plain["model"], plain["choices"], plain["streamed"]) == (TEXT, "gpt-4", 2, TEXT)
    assert plain["usage"] > 0
    assert said["async"] == {"text": TEXT, "streamed": TEXT}
    assert plain["errors"]["key"] == ["AuthenticationError", 401]
    assert plain["errors"]["conversation"] == ["NotFoundError", 404]
    assert plain["errors"]["limit"] == ["RateLimitError", 429]
    assert plain["errors"]["server"] == ["ServerError", 500]
    assert plain["errors"]["stream"]  # loudly: half an answer is never a whole one
    for chat in model.chats[before:]:
        assert not {"user_id", "session_id", "conversation_id", "collection_ids"} & set(chat.json)
        assert all(None not in message.values() for message in chat.json["messages"])
    sessions = {made["session_id"]: made for made in client.conversations()}
    assert [role for role, _ in client.spoken(sessions["sync"]["id"])] == [
        "user", "assistant", "user", "assistant", "assistant",
    ]  # fmt: skip
    assert len(client.spoken(sessions["async"]["id"])) == 2
