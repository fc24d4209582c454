"""A server shared by the tests of a module, on either engine."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.postgres import empty_database
from tests.support.server import RunningServer, start_server

ENGINES = ("sqlite", "postgresql")


@contextlib.contextmanager
def served(
    request: pytest.FixtureRequest, engine: str, folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """A server on an empty store of the engine, stopped at the end."""
    with contextlib.ExitStack() as stack:
        url = None
        if engine == "postgresql":
            url = stack.enter_context(empty_database(request.getfixturevalue("postgres_server")))
        server = start_server(folder / "data", arguments, database_url=url, env=env)
        try:
            yield server
        finally:
            server.kill()
