"""The settings: defaults, then a TOML file, then the environment, as one frozen value. Nothing else reads either.

Every setting has one name: ``recall_tokens`` in the file is ``AFORESAID_RECALL_TOKENS`` in the environment.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aforesaid.errors import Misconfigured
from aforesaid.providers.exchange import Upstream, shown_url

PREFIX = "AFORESAID_"
FILE = "aforesaid.toml"
"""Looked for in the working directory when ``AFORESAID_CONFIG`` names no file."""
SECRET = frozenset({"api_key", "anon_key", "secret"})

KNOWN_UPSTREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("https://api.openai.com/v1", {}),
    "anthropic": ("https://api.anthropic.com/v1", {"models": ("claude-*",)}),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", {"models": ("gemini-*",)}),
    "openrouter": ("https://openrouter.ai/api/v1", {"keep_prefix": True}),
    "ollama": ("http://127.0.0.1:11434/v1", {}),
    "vllm": ("http://127.0.0.1:8001/v1", {}),
    "llamacpp": ("http://127.0.0.1:8080/v1", {}),
}
"""Addresses of the usual model servers: naming one is enough."""
USUAL_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GEMINI_API_KEY",
              "openrouter": "OPENROUTER_API_KEY"}  # fmt: skip
"""Where each vendor's own tools look for the key."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    data: str = "./aforesaid-data"
    """Folder of the embedded database."""
    database_url: str | None = None
    """`postgresql://…` to keep everything in PostgreSQL instead."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on. 0 takes a free one."""
    workers: int = 1
    """Server processes on one address."""
    api_key: str | None = None
    """A secret key to register at the start, as it is."""
    anon_key: str | None = None
    """An anon key (for browsers) to register at the start, as it is."""
    secret: str | None = None
    """Key of the keyed hash under which API keys are stored. Without it, one is made and kept in the database."""
    embedder: str = "none"
    """What turns text into vectors. `none`: recall works on words."""
    upstreams: tuple[Upstream, ...] = ()
    """OpenAI-compatible model servers. Without one, the embedded model answers."""
    default_model: str | None = None
    """The model that answers where the API has no place for one (the Mendable API). Unset: the first one named under
    an upstream's `models`, else the first one that an upstream lists."""
    local_model: bool = False
    """Whether the generative model of the `local` extra words the answers when there is no model server."""
    recall_budget_ms: float = 150.0
    """How long a completion waits for recall before it goes on without."""
    recall_items: int = 20
    """Records put before a question at most."""
    recall_tokens: int = 1500
    """Tokens of them at most."""
    index_cache_mib: int = 48
    """Memory for hot text indexes, in MiB."""
    jobs: bool = True
    """Whether the server runs the jobs itself; otherwise `aforesaid work` does."""
    legacy_unauthenticated: bool = False
    """Whether the old widget's calls without a key are answered."""
    shutdown_s: float = 30.0
    """How long streams may go on after a stop was asked for."""
    log_level: str = "warning"
    """What is logged to standard error: `debug`, `info` (each request), `warning` or `error`."""

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value}' for name, value, _ in shown(self, {}))})"


BOOLEAN = frozenset(field.name for field in msgspec.structs.fields(Settings) if field.type is bool)
SWITCHES = {"on": "true", "yes": "true", "off": "false", "no": "false"}
"""What is understood in the environment besides true, false, 1 and 0."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, and for each one that was set, where."""

    settings: Settings
    sources: dict[str, str]


def load(environment: Mapping[str, str] | None = None, file: Path | None = None, **given: Any) -> Loaded:
    """The settings in force. ``given`` are options of the command line: they go before everything.

    *Raises* ``Misconfigured`` for an unknown name or a value that can't be.
    """
    env = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    path = file or (Path(env[PREFIX + "CONFIG"]) if env.get(PREFIX + "CONFIG") else None)
    if path is None and Path(FILE).is_file():
        path = Path(FILE)
    upstreams: dict[str, dict[str, Any]] = {}
    if path is not None:
        for name, value in _read(path).items():
            if name == "upstreams":
                upstreams = _file_upstreams(value, path)
            else:
                values[_known(name, str(path))] = value
                sources[name] = str(path)
        if upstreams:
            sources["upstreams"] = str(path)
    for name, value in sorted(env.items()):  # sorted: the first upstream has a meaning, the environment no order
        if not name.startswith(PREFIX) or name == PREFIX + "CONFIG" or value == "":
            continue
        key = name.removeprefix(PREFIX).lower()
        if key.startswith("upstream_"):
            _upstream(upstreams, key.removeprefix("upstream_"), value, name)
            sources["upstreams"] = f"{sources['upstreams']}, {name}" if "upstreams" in sources else name
        else:
            values[_known(key, name)] = SWITCHES.get(value.lower(), value) if key in BOOLEAN else value
            sources[key] = name
    if env.get("OPENAI_API_KEY") or env.get("OPENAI_BASE_URL"):
        upstreams.setdefault("openai", {})
        usual = "OPENAI_API_KEY" if env.get("OPENAI_API_KEY") else "OPENAI_BASE_URL"
        sources["upstreams"] = f"{sources['upstreams']}, {usual}" if "upstreams" in sources else usual
    for name, value in given.items():
        if value is not None:
            values[name] = value
            sources[name] = "command line"
    if upstreams:
        values["upstreams"] = tuple(_built(name, fields, env) for name, fields in upstreams.items())
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        told = str(error)
        name = told.rpartition("$.")[2].rstrip("`") if "$." in told else "settings"
        raise _wrong(name, _expected(told.split(" - at")[0]), sources) from None
    _check(settings, sources)
    return Loaded(settings=settings, sources=sources)


def _wrong(name: str, told: str, sources: Mapping[str, str]) -> Misconfigured:
    """The error of a setting, with where its value comes from."""
    return Misconfigured(f"{name} (from {sources.get(name, 'its default')}): {told}", setting=name)


def _expected(told: str) -> str:
    """What a value should have been, in words for people."""
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    for kind, words in kinds.items():
        if f"Expected `{kind}" in told:
            return f"expected {words}"
    return told.replace("`", "")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}", setting="config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: {error}", setting="config") from None


def _known(name: str, where: str) -> str:
    if name not in Settings.__struct_fields__ or name == "upstreams":
        import difflib

        close = difflib.get_close_matches(name, Settings.__struct_fields__, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Misconfigured(f"{where}: there is no setting {name!r}{hint}", setting=name)
    return name


def _file_upstreams(value: Any, path: Path) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(fields, dict) for fields in value.values()):
        raise Misconfigured(f"{path}: upstreams are tables: [upstreams.NAME]", setting="upstreams")
    for name, fields in value.items():
        for field in fields:
            if field not in Upstream.__struct_fields__ or field == "name":
                raise Misconfigured(f"{path}: an upstream has no {field!r} (in {name})", setting="upstreams")
    return {name: dict(fields) for name, fields in value.items()}


def _upstream(upstreams: dict[str, dict[str, Any]], rest: str, value: str, variable: str) -> None:
    """``NAME_FIELD`` of the environment: the field of an upstream. The name may hold underscores itself."""
    aliases = {"url": "base_url", "key": "api_key"}
    fields = [*Upstream.__struct_fields__, *aliases]
    for field in sorted(fields, key=len, reverse=True):
        if field != "name" and (rest == field or rest.endswith("_" + field)):
            name = rest.removesuffix(field).rstrip("_") or "default"
            parsed: Any = value
            if field in ("models", "fallbacks"):
                parsed = [item.strip() for item in value.split(",") if item.strip()]
            elif field == "headers":
                pairs = (item.partition(":") for item in value.split("\n"))
                parsed = [[head.strip(), text.strip()] for head, _, text in pairs if head.strip()]
            upstreams.setdefault(name, {})[aliases.get(field, field)] = parsed
            return
    known = ", ".join(sorted(field.upper() for field in fields if field != "name"))
    raise Misconfigured(
        f"{variable}: expected {PREFIX}UPSTREAM_<NAME>_<FIELD>, with one of {known}", setting="upstreams"
    )


def _built(name: str, fields: dict[str, Any], env: Mapping[str, str]) -> Upstream:
    address, usual = KNOWN_UPSTREAMS.get(name, (None, {}))
    given = {**usual, **fields}
    if name == "openai" and env.get("OPENAI_BASE_URL"):
        given.setdefault("base_url", env["OPENAI_BASE_URL"])
    if name in USUAL_KEYS and env.get(USUAL_KEYS[name]):
        given.setdefault("api_key", env[USUAL_KEYS[name]])
    given.setdefault("base_url", address)
    if given["base_url"] is None:
        raise Misconfigured(f"upstream {name!r} needs a base_url", setting="upstreams")
    if isinstance(given.get("headers"), dict):
        given["headers"] = [[head, str(text)] for head, text in given["headers"].items()]
    try:
        return msgspec.convert({"name": name, **given}, Upstream, strict=False)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"upstream {name!r}: {error}", setting="upstreams") from None


RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "workers": (1, 64),
    "recall_budget_ms": (1, 60_000),
    "recall_items": (1, 200),
    "recall_tokens": (100, 1_000_000),
    "index_cache_mib": (1, 1 << 20),
    "shutdown_s": (0, 3600),
}
"""The least and the most that a number may be."""
LOG_LEVELS = ("debug", "info", "warning", "error")
EMBEDDERS = ("none",)


def _check(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.embedder not in EMBEDDERS:
        raise _wrong("embedder", f"only {', '.join(EMBEDDERS)} is there so far: recall works on words", sources)
    if settings.database_url and not settings.database_url.startswith(("postgresql://", "postgres://")):
        raise _wrong("database_url", "expected postgresql://user:password@host/database", sources)
    for name, (low, high) in RANGES.items():
        if not low <= getattr(settings, name) <= high:
            raise _wrong(name, f"must be between {low:g} and {high:g}", sources)
    if settings.log_level.lower() not in LOG_LEVELS:
        raise _wrong("log_level", f"must be one of {', '.join(LOG_LEVELS)}", sources)
    for name in ("data", "host"):
        if not getattr(settings, name).strip():
            raise _wrong(name, "must not be blank", sources)
    for upstream in settings.upstreams:
        if not upstream.base_url.startswith(("http://", "https://")):
            raise _wrong("upstreams", f"the base_url of {upstream.name} must begin with http:// or https://", sources)


def shown(settings: Settings, sources: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(name, value, source) of every setting, as text for people; secrets as stars."""
    rows = []
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if value is None or value == ():
            text = "-"
        elif name in SECRET:
            text = "***"
        elif name == "database_url":
            text = shown_database(value)
        elif name == "upstreams":
            text = ", ".join(f"{u.name} ({shown_url(u.base_url)}, key {'***' if u.api_key else '-'})" for u in value)
        else:
            text = (
                str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
            )
        rows.append((name, str(text), sources.get(name, "default")))
    return rows


def shown_database(url: str) -> str:
    """The URL without its password and its parameters, which may hold one too."""
    head, _, rest = url.partition("?")[0].partition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{head}://{user}{':***' if colon else ''}{at}{place}"
