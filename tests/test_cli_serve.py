"""``serve`` as it is run for real: first start, failures to start, several processes, company, the end."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.chats import upstream_environment
from tests.support.server import RunningServer, ServerFactory, clean_environment, command, free_port
from tests.support.terminal import Line, run_alone
from tests.support.upstream import Script, Upstream
from tests.support.web import Web, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("serve")]

Client = Callable[..., Web]
CHAT = "/api/v1/chat/completions"


def started(*arguments: object, env: dict[str, str] | None = None) -> tuple[str, int]:
    """(what a server printed before it answered, its exit code after SIGTERM)."""
    process = subprocess.Popen(
        [*command(), "serve", "--port", "0", *map(str, arguments)],
        env=clean_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "listening on" in line:
            break
    found = re.search(r"http://127.0.0.1:(\d+)", shown)
    assert found is not None, shown
    web = Web(found.group(), None)
    wait_until(lambda: answers(web), "the server answers")
    web.close()
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    return shown + rest, process.returncode


def answers(web: Web) -> bool:
    try:
        return web("GET", "/health").status == 200
    except OSError:
        web.close()
        return False


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Line:
    return Line(monkeypatch, capfd, tmp_path)


@pytest.fixture
def client() -> Iterator[Client]:
    """Clients of servers, with the server's own key or a given one, closed at the end."""
    made: list[Web] = []

    def make(running: RunningServer, key: str | None = None) -> Web:
        made.append(Web(running.base_url, key or running.api_key))
        return made[-1]

    yield make
    for web in made:
        web.close()


def failed(line: Line, *arguments: object) -> str:
    """The one line with which a server refused to start."""
    ran = line("serve", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n"), ran.err[:11]) == (1, "", 1, "aforesaid: "), ran
    return ran.err


def session(base_url: str, key: str) -> int:
    """The status that the key gets."""
    with contextlib.closing(Web(base_url, key)) as web:
        return web("GET", "/api/v1/auth/session").status


def test_the_first_start_shows_keys_once_and_they_work(tmp_path: Path, server: ServerFactory) -> None:
    first, code = started("--data", tmp_path / "d")
    assert code == 0, first
    secret, anon = re.findall(r"key \(.*\): (\S+)", first)
    assert secret.startswith("sk_")
    assert anon.startswith("anon_")
    second, _ = started("--data", tmp_path / "d")
    assert "key (for" not in second
    running = server(data=tmp_path / "d")
    assert session(running.base_url, secret) == 200
    assert session(running.base_url, anon) in (200, 403)
    assert session(running.base_url, "sk_other") == 401
    assert secret not in (tmp_path / "d" / "aforesaid.db").read_bytes().decode("latin-1")


def test_commands_before_the_first_start_leave_it_its_keys(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"conversation_id": "a", "content": "x"}\n')
    line.ok("import", file, "--user-id", "ada")
    assert "secret key (for servers): sk_" in started("--data", line.data)[0]


def test_given_keys_are_registered_and_never_shown(tmp_path: Path) -> None:
    env = {"AFORESAID_API_KEY": "given-secret", "AFORESAID_ANON_KEY": "given-anon"}
    for _ in range(2):
        shown, code = started("--data", tmp_path / "d", env=env)
        assert code == 0
        assert "given-" not in shown
        assert "the one given by AFORESAID_API_KEY" in shown
    listed = run_alone("keys", "list", "--json", "--data", tmp_path / "d").json
    assert [key["kind"] for key in listed] == ["secret", "anon"]


def test_what_keeps_a_server_from_starting_is_said_in_one_line(line: Line, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use; try --port" in failed(line, "--port", taken.getsockname()[1])
    told = failed(line, "--host", "192.0.2.1")
    assert "can't listen on 192.0.2.1" in told
    assert "try --host" in told
    assert "port (from command line)" in failed(line, "--port", "70000")
    occupied = tmp_path / "a-file"
    occupied.touch()
    assert "can't be made" in failed(line, "--port", 0, "--data", occupied)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "aforesaid.db").write_text("this is no database " * 100)
    assert "is not a database" in failed(line, "--port", 0, "--data", strange)
    line.set("AFORESAID_DATABASE_URL", f"postgresql://me:hush@127.0.0.1:{free_port()}/x")
    told = failed(line, "--port", 0)
    assert "does not answer" in told
    assert "hush" not in told
    line.set("AFORESAID_PRT", "1")
    assert "there is no setting 'prt'" in failed(line)


def test_a_newer_database_is_refused_untouched(line: Line) -> None:
    line.ok("migrate")
    with apsw.Connection(str(line.data / "aforesaid.db")) as store:
        store.execute("insert into migration (number, name, done_us) values (999, 'later', 0)")
    assert "newer Aforesaid" in failed(line, "--port", 0)


def test_postgresql_refuses_a_stranger_in_one_line(line: Line, postgres_url: str) -> None:
    line.set("AFORESAID_DATABASE_URL", f"{postgres_url.rpartition('/')[0]}/nowhere")
    assert "does not exist" in failed(line, "--port", 0)


def test_workers_share_one_file(server: ServerFactory, client: Client) -> None:
    running = server("--workers", "2")
    rows = 40

    def write(name: str) -> list[int]:
        web = client(running)
        made = web.ok("POST", "/api/v1/conversations", {"user_id": name, "title": name})
        statuses = []
        for n in range(rows):
            path = f"/api/v1/conversations/{made['id']}/messages"
            answer = web("POST", path, {"content": f"bread {n}", "sender_id": name, "role": "user"})
            statuses.append(answer.status)
            web.close()  # the next request may reach another process
        return statuses

    with ThreadPoolExecutor(4) as pool:
        for statuses in pool.map(write, "abcd"):
            assert set(statuses) == {201}
    web = client(running)

    def searchable() -> bool:
        return bool(web.ok("GET", "/api/v1/indexing")["pending"] == 0)

    wait_until(searchable, "all is indexed")
    for name in "abcd":
        found = web.ok("POST", "/api/v1/search", {"query": "bread 39", "user_id": name, "limit": 100})
        assert len(found["data"]) == rows
    assert running.stop() == 0


def test_commands_work_beside_a_server(server: ServerFactory, client: Client, tmp_path: Path) -> None:
    running = server()
    file = tmp_path / "many.jsonl"
    file.write_text(
        "".join(json.dumps({"conversation_id": f"c{n % 20}", "content": f"bread {n}"}) + "\n" for n in range(4000))
    )
    done = threading.Event()
    statuses: list[int] = []

    def chatter() -> None:
        web = client(running)
        while not done.is_set():
            statuses.append(web("POST", "/api/v1/conversations", {"user_id": "bob"}).status)

    talking = threading.Thread(target=chatter)
    talking.start()
    env = {"AFORESAID_DATA": str(running.data)}
    try:
        ran = run_alone("import", file, "--user-id", "ada", "--json", env=env)
        secret = run_alone("keys", "create", "--json", env=env).json["secret"]
        backup = run_alone("backup", tmp_path / "copy.db", env=env)
        doctor = run_alone("doctor", "--json", env={**env, "AFORESAID_PORT": str(running.port)})
    finally:
        done.set()
        talking.join()
    assert (ran.code, ran.json["messages"]["new"], ran.json["index_jobs_waiting"]) == (0, 4000, 0)
    assert set(statuses) == {201}
    assert (backup.code, doctor.code) == (0, 0)
    assert f"a server answers on 127.0.0.1:{running.port}" in doctor.out
    web = client(running, secret)
    assert web.ok("POST", "/api/v1/search", {"query": "bread 17", "user_id": "ada"})["data"]
    made = [key["id"] for key in run_alone("keys", "list", "--json", env=env).json][-1]
    assert run_alone("keys", "revoke", made, env=env).code == 0
    wait_until(lambda: web("GET", "/api/v1/auth/session").status == 401, "the key is useless")


# -- the end ----------------------------------------------------------------------------------------------------------


def streaming(running: RunningServer, model: str) -> tuple[threading.Thread, list[bytes]]:
    """A streamed completion under way, and its lines as they come."""
    connection = http.client.HTTPConnection(running.host, running.port, timeout=60)
    body = {"model": model, "stream": True, "user": "ada", "messages": [{"role": "user", "content": "Go on."}]}
    connection.request("POST", CHAT, json.dumps(body), {**running.headers, "content-type": "application/json"})
    answer = connection.getresponse()
    lines: list[bytes] = []

    def take() -> None:
        while line := answer.readline():
            if line.strip():
                lines.append(line.strip())
        connection.close()

    reader = threading.Thread(target=take)
    reader.start()
    return reader, lines


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_in_flight_is_finished_before_the_end(
    server: ServerFactory, upstream: Upstream, stop: signal.Signals, workers: int
) -> None:
    running = server("--workers", str(workers), env=upstream_environment(upstream))
    upstream.queue(Script(words=40, pause_s=0.05))
    reader, lines = streaming(running, "gpt-4")
    wait_until(lambda: len(lines) > 3, "the stream runs")
    if stop == signal.SIGINT:  # a terminal's Ctrl-C reaches every process
        os.killpg(running.process.pid, stop)
    else:
        running.process.send_signal(stop)
    assert running.process.wait(60) == 0, running.output()
    reader.join(60)
    assert lines[-1] == b"data: [DONE]"
    assert sum(b"word" in line for line in lines) == 40


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_that_takes_too_long_gets_an_error_event_and_is_stored(
    server: ServerFactory, upstream: Upstream, client: Client, workers: int
) -> None:
    env = {**upstream_environment(upstream), "AFORESAID_SHUTDOWN_S": "1"}
    running = server("--workers", str(workers), env=env)
    upstream.queue(Script(words=40, stall_after=5))
    reader, lines = streaming(running, "gpt-4")
    wait_until(lambda: sum(b"word" in line for line in lines) == 4, "the stream hangs")
    running.process.terminate()
    assert running.process.wait(60) == 0, running.output()
    reader.join(60)
    last: dict[str, Any] = json.loads(lines[-1].removeprefix(b"data: "))
    assert "stopping" in last["error"]["message"]
    assert "Traceback" not in running.output()
    again = server(data=running.data)
    web = client(again)
    (conversation,) = web.ok("GET", "/api/v1/conversations", query={"user_id": "ada", "limit": 10})["data"]
    said = web.ok("GET", f"/api/v1/conversations/{conversation['id']}/messages")["data"]
    assert [m["content"] for m in said] == ["Go on.", "word0 word1 word2 word3 "]


def test_work_runs_until_a_signal(server: ServerFactory, client: Client) -> None:
    running = server(env={"AFORESAID_JOBS": "false"})
    web = client(running)
    made = web.ok("POST", "/api/v1/conversations", {"user_id": "ada"})
    web.ok("POST", f"/api/v1/conversations/{made['id']}/messages", {"content": "bread " * 20_000, "role": "user"})
    assert web.ok("GET", "/api/v1/indexing")["pending"] == 1
    worker = subprocess.Popen(
        [*command(), "work", "--json"],
        env=clean_environment({"AFORESAID_DATA": str(running.data)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: web.ok("GET", "/api/v1/indexing")["pending"] == 0, "the worker did the job")
    worker.terminate()
    out, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, err
    assert json.loads(out) == {"done": 1, "failed": 0}


def test_an_import_that_is_interrupted_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    with file.open("w") as rows:
        for n in range(60_000):
            rows.write(json.dumps({"conversation_id": f"c{n // 30}", "content": f"bread {n}"}) + "\n")
    data = tmp_path / "d"
    arguments = [*command(), "import", str(file), "--user-id", "ada", "--no-index", "--json", "--data", str(data)]
    process = subprocess.Popen(
        arguments, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stored = "select count(*) from message"

    def begun() -> bool:
        if not (data / "aforesaid.db").exists():
            return False
        try:
            return bool(apsw.Connection(str(data / "aforesaid.db")).execute(stored).get)
        except apsw.Error:  # no table yet, or it is being made
            return False

    wait_until(begun, "something is stored")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    first = json.loads(out)
    assert first["interrupted"]
    assert 0 < first["messages"]["new"] < 60_000
    assert apsw.Connection(str(data / "aforesaid.db")).execute(stored).get == first["messages"]["new"]
    again = run_alone(*arguments[len(command()) :])
    assert again.code == 0
    assert again.json["messages"] == {"new": 60_000 - first["messages"]["new"], "known": first["messages"]["new"]}
