"""Settings: where each comes from, what is refused and how, and that every one is documented."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aforesaid import settings
from aforesaid.errors import Misconfigured
from aforesaid.settings import Settings, load, shown

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without an aforesaid.toml."""
    monkeypatch.chdir(tmp_path)


def refusal(env: dict[str, str] | None = None, file: Path | None = None, **given: object) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        load(env or {}, file, **given)
    return caught.value


def test_options_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "aforesaid.toml").write_text('port = 1\nhost = "10.0.0.1"\nrecall_items = 7\n')
    loaded = load({"AFORESAID_PORT": "2", "AFORESAID_HOST": "10.0.0.2"}, port=3)
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.recall_items) == (3, "10.0.0.2", 7)
    assert loaded.sources == {"port": "command line", "host": "AFORESAID_HOST", "recall_items": "aforesaid.toml"}
    assert {name: source for name, _, source in shown(loaded.settings, loaded.sources)}["data"] == "default"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    assert "No such file" in refusal({"AFORESAID_CONFIG": str(named)}).message
    named.write_text("workers = 2")
    assert load({"AFORESAID_CONFIG": str(named)}).settings.workers == 2


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "many", "port (from AFORESAID_PORT): expected a whole number"),
        ("PORT", "70000", "port (from AFORESAID_PORT): must be between 0 and 65535"),
        ("JOBS", "maybe", "jobs (from AFORESAID_JOBS): expected true or false"),
        ("SHUTDOWN_S", "nan", "shutdown_s (from AFORESAID_SHUTDOWN_S): must be between 0 and 3600"),
        ("RECALL_BUDGET_MS", "x", "recall_budget_ms (from AFORESAID_RECALL_BUDGET_MS): expected a number"),
        ("EMBEDDER", "e5", "embedder (from AFORESAID_EMBEDDER): only none is there so far: recall works on words"),
        ("LOG_LEVEL", "loud", "log_level (from AFORESAID_LOG_LEVEL): must be one of debug, info, warning, error"),
        ("DATA", " ", "data (from AFORESAID_DATA): must not be blank"),
        ("DATABASE_URL", "mysql://x", "expected postgresql://user:password@host/database"),
        ("PRT", "1", "AFORESAID_PRT: there is no setting 'prt'; did you mean port?"),
        ("UPSTREAM_A_FOO", "1", "AFORESAID_UPSTREAM_A_FOO: expected AFORESAID_UPSTREAM_<NAME>_<FIELD>, with one of"),
        ("UPSTREAM_A_KEY", "k", "upstream 'a' needs a base_url"),
        ("UPSTREAM_A_URL", "ftp://x", "the base_url of a must begin with http:// or https://"),
    ],
)
def test_what_is_wrong_is_told_with_where_it_comes_from(name: str, value: str, told: str) -> None:
    assert told in refusal({f"AFORESAID_{name}": value}).message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", "there is no setting 'prot'; did you mean port?"),
        ('port = "x"', "expected a whole number"),
        ("port = ", "Invalid value"),
        ("upstreams = 3", "[upstreams.NAME]"),
        ('[upstreams.a]\nurl = "http://x"', "an upstream has no 'url' (in a)"),
        ("[upstreams.a]\nbase_url = 3", "upstream 'a'"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    message = refusal(file=path).message
    assert told in message
    assert str(path) in message or "upstream 'a'" in message


@pytest.mark.parametrize(("value", "on"), [("on", True), ("YES", True), ("1", True), ("off", False), ("no", False)])
def test_switches_of_the_environment(value: str, on: bool) -> None:
    assert load({"AFORESAID_JOBS": value}).settings.jobs is on


def test_an_empty_variable_is_not_set() -> None:
    loaded = load({"AFORESAID_PORT": "", "AFORESAID_EMBEDDER": "none", "OPENAI_API_KEY": ""})
    assert loaded.settings == Settings()
    assert loaded.sources == {"embedder": "AFORESAID_EMBEDDER"}


def test_upstreams_of_the_file_then_of_the_environment_by_name_then_the_usual_one(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[upstreams.z]\nbase_url = "http://z/v1"\n[upstreams.ollama]\n')
    env = {
        "OPENAI_API_KEY": "sk-usual",
        "AFORESAID_UPSTREAM_MY_BOX_URL": "http://box/v1",
        "AFORESAID_UPSTREAM_BOAT_URL": "http://boat/v1",
        "AFORESAID_UPSTREAM_BOAT_MODELS": "llama-*, qwen",
        "AFORESAID_UPSTREAM_BOAT_HEADERS": "x-a: 1\nx-b: 2",
        "AFORESAID_UPSTREAM_Z_KEY": "k",
    }
    loaded = load(env, path)
    found = {upstream.name: upstream for upstream in loaded.settings.upstreams}
    assert list(found) == ["z", "ollama", "boat", "my_box", "openai"]
    assert found["z"].api_key == "k"
    assert found["ollama"].base_url == "http://127.0.0.1:11434/v1"
    assert found["boat"].models == ("llama-*", "qwen")
    assert found["boat"].headers == (("x-a", "1"), ("x-b", "2"))
    assert found["openai"].api_key == "sk-usual"
    assert loaded.sources["upstreams"].startswith(f"{path}, AFORESAID_UPSTREAM_BOAT_HEADERS")
    assert loaded.sources["upstreams"].endswith("OPENAI_API_KEY")


def test_secrets_are_stars_wherever_settings_are_shown() -> None:
    env = {
        "AFORESAID_API_KEY": "hush-api",
        "AFORESAID_ANON_KEY": "hush-anon",
        "AFORESAID_SECRET": "hush-secret",
        "AFORESAID_DATABASE_URL": "postgresql://me:hush-password@db/x?password=hush-too",
        "AFORESAID_UPSTREAM_A_URL": "http://u:hush-login@a/v1?key=hush-query",
        "AFORESAID_UPSTREAM_A_KEY": "hush-key",
        "AFORESAID_UPSTREAM_A_HEADERS": "x-key: hush-header",
    }
    loaded = load(env)
    for text in (repr(loaded.settings), str(loaded), str(shown(loaded.settings, loaded.sources))):
        assert "hush" not in text
    rows = {name: value for name, value, _ in shown(loaded.settings, loaded.sources)}
    assert rows["database_url"] == "postgresql://me:***@db/x"
    assert rows["upstreams"] == "a (http://a/v1, key ***)"
    assert rows["api_key"] == "***"


def test_every_setting_is_documented_as_the_code_has_it() -> None:
    for script in ("page_settings", "page_cli"):
        written = subprocess.run(
            [sys.executable, "-c", f"import {script}; print({script}.page(), end='')"],
            cwd=ROOT / "scripts",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        name = script.removeprefix("page_")
        kept = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
        assert kept == written, f"run .venv/bin/python scripts/{script}.py"
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| (.*) \|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(Settings.__struct_fields__)
    assert all(len(meaning) > 10 for _, meaning in rows)
    numbers = {name for name, kind in Settings.__annotations__.items() if kind in (int, float)}
    assert set(settings.RANGES) == numbers
