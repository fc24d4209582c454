"""Fixtures every test may ask for. What they do is in tests/support; here they are only wired up."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.nodeid import coerce_node_id

from tests.support import loopback
from tests.support.postgres import NoPostgres, empty_database, shared_server, stop_shared_server
from tests.support.server import ServerFactory, server_factory
from tests.support.upstream import Upstream

SHARED = "AFORESAID_TESTS_SHARED"
LEADER = "AFORESAID_TESTS_LEADER"

loopback.install()


def pytest_configure(config: pytest.Config) -> None:
    """The process that leads the run makes the folder that its workers share; they find it in the environment."""
    if not hasattr(config, "workerinput"):
        os.environ[SHARED] = tempfile.mkdtemp(prefix="aforesaid-tests-")
        os.environ[LEADER] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """What the run shared is stopped and removed."""
    if not hasattr(config, "workerinput") and SHARED in os.environ:
        shared = Path(os.environ.pop(SHARED))
        stop_shared_server(shared)
        shutil.rmtree(shared, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """A test that asks for PostgreSQL carries its mark, and suites heavy in processes stay on one worker each."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "postgres_url" in names or parameters.get("database_url") == "postgresql":
            item.add_marker(pytest.mark.postgresql)
        for heavy in ("chaos", "browser", "sdk"):
            if item.get_closest_marker(heavy) and not item.get_closest_marker("xdist_group"):
                item.add_marker(pytest.mark.xdist_group(heavy))
    yield
    # pytest-xdist 3.8 writes the group where pytest before 9.2 read the id: without this, no group stays together.
    for item in items:
        grouped = vars(item).get("_nodeid")
        if grouped is not None and grouped != item.nodeid:
            item._id = coerce_node_id(grouped)


@pytest.fixture(autouse=True)
def loopback_only() -> Iterator[None]:
    """Fails the test that tried to reach another machine, also where the refusal was swallowed."""
    loopback.taken_attempts()
    yield
    refused = loopback.taken_attempts()
    assert not refused, f"tried to leave this machine: {refused}"


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The URL of the run's PostgreSQL. Skips where there can be none, except under CI, where that is a failure."""
    try:
        return shared_server(Path(os.environ[SHARED]), int(os.environ[LEADER]))
    except NoPostgres as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    with empty_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on each engine in turn: the path of a file not yet made, or a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "aforesaid.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted model server on loopback."""
    with Upstream() as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerFactory]:
    """Starts server processes: ``server()`` gives one that answers, with keys and an empty data folder."""
    with server_factory(tmp_path) as start:
        yield start
