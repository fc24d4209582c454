"""The command line, command by command: what is shown, what is stored, the exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from typer.main import get_command

from aforesaid.cli.main import app
from tests.support.server import clean_environment, command, free_port
from tests.support.terminal import Line, run_alone, run_on_terminal
from tests.support.upstream import Script, Upstream


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Line:
    return Line(monkeypatch, capfd, tmp_path)


@pytest.fixture
def loaves(tmp_path: Path) -> Path:
    """More messages than are indexed by the write that stores them."""
    file = tmp_path / "loaves.jsonl"
    rows = [{"role": "user", "content": f"Loaf {i} rose with the starter."} for i in range(150)]
    file.write_text(json.dumps({"id": "loaves", "messages": rows}) + "\n")
    return file


@pytest.fixture
def bread(tmp_path: Path) -> Path:
    """A file of one conversation."""
    path = tmp_path / "bread.jsonl"
    rows = [
        {"conversation_id": "42", "role": role, "content": text, "created_at": f"2025-06-10T10:28:0{place}Z"}
        for place, (role, text) in enumerate(
            (("user", "My sourdough starter is called Frida."), ("assistant", "A fine name for a starter."))
        )
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# -- the line itself --------------------------------------------------------------------------------------------------


def test_every_command_and_option_is_explained() -> None:
    seen = 0

    def walk(path: str, found: object) -> None:
        nonlocal seen
        for name, inner in getattr(found, "commands", {}).items():
            walk(f"{path} {name}", inner)
        assert str(getattr(found, "help", "")).strip(), path
        for parameter in getattr(found, "params", ()):
            assert getattr(parameter, "help", None) or parameter.name == "help", f"{path}: {parameter.name}"
            seen += 1

    walk("aforesaid", get_command(app))
    assert seen > 50


def test_help_loads_nothing_heavy() -> None:
    heavy = "numpy apsw psycopg aiohttp uvicorn starlette rich uvloop Stemmer".split()
    code = (
        "import sys; from aforesaid.cli.main import app; app(['import', '--help'], standalone_mode=False); "
        f"print('heavy:', *[name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, check=True)
    assert b"aforesaid import conversations.json" in ran.stdout
    assert ran.stdout.strip().endswith(b"heavy:")


def test_wrong_usage_is_2_and_refusals_are_1_in_one_line(line: Line) -> None:
    for wrong in (
        ["frob"],
        ["import"],
        ["serve", "--port", "x"],
        ["search", "x"],
        ["keys", "create", "--expires", "x"],
    ):
        assert line(*wrong).code == 2, wrong
    for refused in (["search", "x", "--user-id", "u"], ["keys", "list"], ["work", "--drain"], ["backup", "x.db"]):
        ran = line(*refused)
        assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1), refused
        assert "aforesaid serve" in ran.err
    line.set("AFORESAID_PRT", "1")
    assert line("doctor").code == 1
    assert line("settings").err == "aforesaid: AFORESAID_PRT: there is no setting 'prt'; did you mean port?\n"


def test_a_reader_that_has_seen_enough_ends_a_command_quietly(line: Line, tmp_path: Path) -> None:
    shell = f"{' '.join(command())} settings --json | head -c 1"
    ran = subprocess.run(["sh", "-c", shell], env=clean_environment(), capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("[", "")


# -- keys and workspaces ----------------------------------------------------------------------------------------------


def test_keys_are_made_listed_and_revoked(line: Line) -> None:
    made = line.ok("keys", "create", "--label", "script", "--expires", "90d", "--read-only", "--json").json
    assert made["secret"].startswith("sk_")
    assert (made["label"], made["permissions"], made["state"]) == ("script", ["read"], "active")
    shown = line.ok("keys", "create", "--anon", "--origin", "https://Docs.example.com/")
    assert shown.out.startswith("anon_")
    assert shown.out.count("\n") == 1
    listed = line.ok("keys", "list", "--json").json
    assert [(key["kind"], key["origins"]) for key in listed] == [("secret", []), ("anon", ["https://docs.example.com"])]
    assert made["secret"] not in line.ok("keys", "list").out + line.ok("keys", "list", "--json").out
    assert made["id"] in line.ok("keys", "revoke", made["id"]).out
    assert [key["id"] for key in line.ok("keys", "list", "--json").json] == [listed[1]["id"]]
    assert line("keys", "revoke", made["id"]).code == 1
    line.ok("keys", "revoke", shown.out.strip())  # the key itself names it too
    assert line.ok("keys", "list", "--json").json == []


def test_keys_of_old_clients_are_registered_as_they_are(line: Line) -> None:
    assert "registered" in line.ok("keys", "register", "old-key-1", "--label", "old").out
    assert "old-key-1" not in line.ok("keys", "list").out
    again = line("keys", "register", "old-key-1")
    assert (again.code, again.err.count("registered already")) == (1, 1)
    assert line("keys", "register", " spaced ").code == 1
    ran = run_alone("keys", "register", "-", env={"AFORESAID_DATA": str(line.data)}, stdin="old-key-2\n")
    assert ran.code == 0
    assert len(line.ok("keys", "list", "--json").json) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ["--expires", "2001-01-01"],
        ["--expires", "soon"],
        ["--origin", "https://a.example"],
        ["--anon", "--origin", "a.example"],
        ["--anon", "--origin", "https://a.example/path"],
    ],
)
def test_keys_that_could_never_work_are_wrong_usage(line: Line, wrong: list[str]) -> None:
    assert line("keys", "create", *wrong).code == 2


def test_workspaces_keep_apart(line: Line, bread: Path) -> None:
    made = line.ok("workspaces", "create", "acme", "--json").json
    assert [row["name"] for row in line.ok("workspaces", "list", "--json").json] == ["default", "acme"]
    again = line("workspaces", "create", "acme")
    assert (again.code, "of this name" in again.err) == (1, True)
    line.ok("keys", "create", "--workspace", "acme")
    assert line.ok("keys", "list", "--json").json == []
    assert [key["workspace_id"] for key in line.ok("keys", "list", "--workspace", made["id"], "--json").json] == [
        made["id"]
    ]
    line.ok("import", bread, "--user-id", "ada", "--workspace", "acme")
    assert line.ok("search", "starter", "--user-id", "ada", "--json").json["data"] == []
    assert len(line.ok("search", "starter", "--user-id", "ada", "--workspace", "acme", "--json").json["data"]) == 2
    missing = line("keys", "list", "--workspace", "nope")
    assert (missing.code, "there are: default, acme" in missing.err) == (1, True)


# -- import and search ------------------------------------------------------------------------------------------------


def test_an_import_is_searchable_at_once_and_twice_is_once(line: Line, bread: Path) -> None:
    dry = line.ok("import", bread, "--user-id", "ada", "--dry-run")
    assert "2 would be new" in dry.out
    assert not line.data.exists()
    first = line.ok("import", bread, "--user-id", "ada")
    assert "2 new, 0 already there" in first.out
    assert "searchable now" in first.err
    assert "0 new, 2 already there" in line.ok("import", bread, "--user-id", "ada").out
    told = line.ok("import", bread, "--user-id", "ada", "--json").json
    assert (told["messages"], told["index_jobs_waiting"], told["broken"]) == ({"new": 0, "known": 2}, 0, 0)
    found = line.ok("search", "what is my starter called?", "--user-id", "ada", "--explain", "--json").json
    assert found["data"][0]["content"] == "My sourdough starter is called Frida."
    assert found["data"][0]["explain"]
    plain = line.ok("search", "starter", "--user-id", "ada", "--limit", "1").out
    assert plain.count("\n") == 1
    assert plain.split("\t")[4] == "My sourdough starter is called Frida.\n"
    nothing = line.ok("search", "starter", "--user-id", "bob")
    assert (nothing.out, nothing.err) == ("", "nothing found\n")


def test_no_index_leaves_the_jobs_to_others(line: Line, loaves: Path) -> None:
    waiting = line.ok("import", loaves, "--user-id", "ada", "--no-index")
    assert "work --drain" in waiting.err
    assert "waiting" in line.ok("search", "starter", "--user-id", "ada").err
    assert line.ok("work", "--drain", "--json").json == {"done": 1, "failed": 0}
    assert len(line.ok("search", "starter", "--user-id", "ada", "--limit", "200", "--json").json["data"]) == 150


def test_broken_rows_are_shown_and_strict_makes_them_fail(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"conversation_id": "a", "content": "x"}\n{"conversation_id": "a", "content": 7}\n')
    ran = line.ok("import", path, "--user-id", "ada")
    assert "line 2: content: expected text or a list of parts" in ran.out
    strict = line("import", path, "--user-id", "ada", "--strict", "--json")
    assert (strict.code, strict.json["stopped_at_broken_row"], strict.json["messages"]["known"]) == (1, True, 1)
    path.write_text('{"conversation_id": "a", "content": 7}\n')
    assert line("import", path, "--user-id", "ada").code == 1  # nothing but broken rows


def test_files_that_can_not_be_imported(line: Line, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello\n")
    research = tmp_path / "sets.jsonl"
    research.write_text('{"conversation_id": "a", "sessions": []}\n')
    for arguments, code, told in (
        (["nowhere.jsonl", "--user-id", "a"], 1, "nowhere.jsonl: No such file"),
        (["text.txt", "--user-id", "a"], 1, "no known format"),
        (["text.txt", "--form", "nix", "--user-id", "a"], 1, "unknown format"),
        ([tmp_path, "--user-id", "a"], 2, "is a folder"),
        (["text.txt", "--user-id", " "], 2, "must not be blank"),
        ([research], 2, "--user-id"),
    ):
        ran = line("import", *arguments)
        assert (ran.code, told in ran.err) == (code, True), ran
    assert not line.data.exists()


def test_an_import_reads_a_pipe(line: Line, bread: Path) -> None:
    env = {"AFORESAID_DATA": str(line.data)}
    ran = run_alone("import", "-", "--user-id", "ada", "--json", env=env, stdin=bread.read_text())
    assert (ran.code, ran.json["messages"]["new"]) == (0, 2)


# -- chat -------------------------------------------------------------------------------------------------------------


def test_chat_in_a_pipe_answers_each_line_from_memory(line: Line, bread: Path) -> None:
    line.ok("import", bread, "--user-id", "ada")
    env = {"AFORESAID_DATA": str(line.data)}
    ran = run_alone("chat", "--user-id", "ada", env=env, stdin="What is my sourdough starter called?\n\n")
    assert (ran.code, ran.err) == (0, "")
    assert "Frida" in ran.out
    stored = line.ok(
        "search", "What is my sourdough starter called?", "--user-id", "ada", "--limit", "50", "--json"
    ).json
    assert [hit["role"] for hit in stored["data"] if hit["content"] == "What is my sourdough starter called?"] == [
        "user"
    ]


def test_chat_streams_resends_the_history_and_goes_on_later(line: Line, upstream: Upstream) -> None:
    env = {"AFORESAID_DATA": str(line.data), "AFORESAID_UPSTREAM_LOCAL_URL": upstream.base_url}
    upstream.queue(Script(text="First answer."), Script(text="Second answer."), Script(text="Third answer."))
    ran = run_on_terminal(["chat", "--user-id", "ada", "--model", "gpt-4"], "one\ntwo\n/quit\n", env=env)
    assert ran.code == 0
    assert "First answer." in ran.out
    assert "Second answer." in ran.out
    asked = upstream.requests[-1].json
    assert [m["content"] for m in asked["messages"] if m["role"] != "system"][-3:] == ["one", "First answer.", "two"]
    assert (asked["model"], asked["stream"]) == ("gpt-4", True)
    conversation = ran.out.rpartition("--conversation ")[2].split()[0]
    again = run_alone(
        "chat", "--user-id", "ada", "--conversation", conversation, env=env, stdin="three\n/quit\nnever\n"
    )
    assert (again.code, again.out) == (0, "Third answer.\n")
    said = [m["content"] for m in upstream.requests[-1].json["messages"]]
    assert said[-5:] == ["one", "First answer.", "two", "Second answer.", "three"]
    assert line("chat", "--user-id", "eve", "--conversation", conversation).err == "aforesaid: Conversation not found\n"


def test_ctrl_c_stops_an_answer_and_not_the_talk(line: Line, upstream: Upstream) -> None:
    env = {"AFORESAID_DATA": str(line.data), "AFORESAID_UPSTREAM_LOCAL_URL": upstream.base_url}
    upstream.queue(Script(words=40, stall_after=5), Script(text="Second answer."))
    process = subprocess.Popen(
        [*command(), "chat", "--user-id", "ada", "--model", "m"],
        env=clean_environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"one\ntwo\n")
    process.stdin.flush()
    shown = b""
    while b"word3" not in shown:
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, shown
        shown += piece
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"(stopped)\n")
    assert rest.endswith(b"Second answer.\n")
    said = [m["content"] for m in upstream.requests[-1].json["messages"]]
    assert said[-3:] == ["one", "word0 word1 word2 word3 ", "two"]


def test_chat_tells_when_there_is_no_answer(line: Line, upstream: Upstream) -> None:
    env = {"AFORESAID_DATA": str(line.data), "AFORESAID_UPSTREAM_LOCAL_URL": upstream.base_url}
    env["AFORESAID_UPSTREAM_LOCAL_RETRIES"] = "0"
    upstream.queue(Script(status=500, body=b'{"error": {"message": "on fire"}}'))
    ran = run_alone("chat", "--user-id", "ada", "--model", "m", env=env, stdin="one\n")
    assert (ran.code, ran.err.startswith("no answer: ")) == (1, True)


# -- keeping it well --------------------------------------------------------------------------------------------------


def states(line: Line) -> dict[str, str]:
    """What the doctor finds, by check."""
    return {finding["check"]: finding["state"] for finding in line("doctor", "--json").json}


def test_the_doctor_is_content_with_a_healthy_store(line: Line, bread: Path) -> None:
    line.set("AFORESAID_PORT", str(free_port()))
    before = states(line)
    assert before["database"] == "warning"
    assert not line.data.exists()
    line.ok("import", bread, "--user-id", "ada")
    assert states(line)["keys"] == "warning"
    line.ok("keys", "create")
    assert line("doctor").code == 0
    assert set(states(line).values()) == {"ok"}


def test_the_doctor_names_what_is_broken(line: Line, loaves: Path, tmp_path: Path, upstream: Upstream) -> None:
    line.ok("import", loaves, "--user-id", "ada", "--no-index")
    database = line.data / "aforesaid.db"
    store = apsw.Connection(str(database))
    store.execute("update job set state = 'failed', error = 'Boom: it broke'")
    ran = line("doctor")
    assert ran.code == 1
    assert "Boom: it broke" in ran.out
    assert "--retry-failed" in ran.out
    assert line.ok("doctor", "--retry-failed", "--json").json
    assert line.ok("work", "--drain", "--json").json["done"] == 1
    store.execute("insert into migration (number, name, done_us) values (999, 'later', 0)")
    assert states(line)["schema"] == "failed"
    store.execute("delete from migration where number = 999")
    store.execute("update migration set done_us = 9000000000000000")
    assert states(line)["clock"] == "failed"
    store.close()
    line.set("AFORESAID_UPSTREAM_GOOD_URL", upstream.base_url)
    line.set("AFORESAID_UPSTREAM_GONE_URL", f"http://127.0.0.1:{free_port()}/v1")
    found = states(line)
    assert (found["model server good"], found["model server gone"]) == ("ok", "failed")
    for name in ("aforesaid.db-wal", "aforesaid.db-shm"):
        (line.data / name).unlink(missing_ok=True)
    database.write_bytes(b"this is no database " * 500)
    assert states(line)["database"] == "failed"
    occupied = tmp_path / "a-file"
    occupied.touch()
    line.set("AFORESAID_DATA", str(occupied))
    assert states(line)["data folder"] == "failed"
    line.set("AFORESAID_DATABASE_URL", f"postgresql://me:hush@127.0.0.1:{free_port()}/x")
    ran = line("doctor")
    assert ran.code == 1
    assert "hush" not in ran.out + ran.err


def test_the_doctor_finds_damage(line: Line, bread: Path) -> None:
    line.ok("import", bread, "--user-id", "ada")
    database = line.data / "aforesaid.db"
    raw = bytearray(database.read_bytes())
    for page in range(2, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    database.write_bytes(raw)
    assert states(line)["database"] == "failed"


def test_settings_are_shown_with_their_sources_and_without_secrets(line: Line) -> None:
    line.set("AFORESAID_API_KEY", "hush")
    rows = {row["name"]: row for row in line.ok("settings", "--json").json}
    assert rows["api_key"] == {"name": "api_key", "value": "***", "source": "AFORESAID_API_KEY"}
    assert rows["data"]["source"] == "AFORESAID_DATA"
    assert {row["name"]: row["source"] for row in line.ok("settings", "--data", "x", "--json").json}["data"] == (
        "command line"
    )
    assert "hush" not in line.ok("settings").out


def test_migrations_are_named_before_and_after(line: Line) -> None:
    names = line.ok("migrate", "--dry-run", "--json").json["migrations"]
    assert names
    assert not line.data.exists()
    assert line.ok("migrate").out == "".join(f"ran {name}\n" for name in names)
    assert line.ok("migrate", "--json").json == {"dry_run": False, "migrations": []}
    assert line.ok("migrate", "--dry-run").out == "the schema is the newest\n"


def test_a_backup_is_whole_and_never_overwrites(line: Line, bread: Path, tmp_path: Path) -> None:
    line.ok("import", bread, "--user-id", "ada")
    copy = tmp_path / "restored" / "aforesaid.db"
    copy.parent.mkdir()
    line.ok("backup", copy)
    assert line("backup", copy).code == 1
    assert line("backup", tmp_path / "nowhere" / "x.db").code == 1
    found = line.ok("search", "starter", "--user-id", "ada", "--data", copy.parent, "--json").json
    assert len(found["data"]) == 2
    assert sorted(path.name for path in copy.parent.iterdir() if path.suffix == ".part") == []


def test_everything_but_backups_works_on_postgresql(line: Line, bread: Path, postgres_url: str) -> None:
    line.set("AFORESAID_DATABASE_URL", postgres_url)
    line.set("AFORESAID_PORT", str(free_port()))
    assert line.ok("migrate", "--dry-run", "--json").json["migrations"]
    assert states(line)["schema"] == "warning"
    assert "2 would be new" in line.ok("import", bread, "--user-id", "ada", "--dry-run").out
    assert "2 new" in line.ok("import", bread, "--user-id", "ada").out
    assert "0 new, 2 already there" in line.ok("import", bread, "--user-id", "ada").out
    assert len(line.ok("search", "starter", "--user-id", "ada", "--json").json["data"]) == 2
    line.ok("keys", "create")
    assert set(states(line).values()) == {"ok"}
    assert "pg_dump" in line("backup", "x.db").err
    assert not line.data.exists()


# -- for people -------------------------------------------------------------------------------------------------------


def test_a_terminal_gets_tables_and_bars(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text(
        "".join(json.dumps({"conversation_id": f"c{n % 50}", "content": f"bread {n}"}) + "\n" for n in range(3000))
    )
    env = {"AFORESAID_DATA": str(line.data)}
    shown = run_on_terminal(["import", path, "--user-id", "ada"], env=env)
    assert shown.code == 0
    assert "importing" in shown.out
    assert "━" in shown.out
    assert "3,000 new" in shown.out
    line.ok("keys", "create", "--label", "[bold]x\x1b[2J")
    table = run_on_terminal(["keys", "list"], env=env)
    assert "─" in table.out
    assert "[bold]x" in table.out
    assert "\x1b[2J" not in table.out
    assert "bread" in run_on_terminal(["search", "bread", "--user-id", "ada"], env=env).out


def test_no_bars_where_nobody_looks(line: Line, bread: Path) -> None:
    assert "━" not in line.ok("import", bread, "--user-id", "ada").err
