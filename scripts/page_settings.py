"""Writes docs/reference/settings.md from the code. ``page`` gives its text."""

import ast
import itertools
from collections.abc import Iterable
from pathlib import Path

import msgspec

from aforesaid import settings
from aforesaid.providers.exchange import Upstream
from aforesaid.settings import Settings

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference" / "settings.md"

HEAD = """# Settings

Every setting has one name: `recall_tokens` in the file is `AFORESAID_RECALL_TOKENS` in the environment. Options of the
command line go before the environment, the environment before the file, the file before the default. The file is
`aforesaid.toml` in the working directory, or the one that `AFORESAID_CONFIG` names. An empty variable counts as not
set. An unknown name is an error, with the nearest known one; a value that can't be is one, with where it comes from.

`aforesaid settings` shows what is in force and why.

| setting | default | | meaning |
|---|---|---|---|
"""

TAIL = """
Switches take `true`, `false`, `1`, `0`, and in the environment `on`, `off`, `yes`, `no` too.

## Secrets

`api_key`, `anon_key`, `secret`, keys of model servers and passwords in addresses are never shown or logged. `secret`
must stay the same for the life of a database: with another one, no key fits any more.

## Model servers

In the file a table for each, in the environment `AFORESAID_UPSTREAM_<NAME>_<FIELD>`:

```toml
[upstreams.house]
base_url = "http://127.0.0.1:9000/v1"
api_key = "…"
```

```sh
AFORESAID_UPSTREAM_HOUSE_URL=http://127.0.0.1:9000/v1
AFORESAID_UPSTREAM_HOUSE_KEY=…
```

Fields: FIELDS.

In the environment `URL` and `KEY` are short for `BASE_URL` and `API_KEY`; lists have commas; `HEADERS` holds
`name: value` lines. The file's servers come first, then the environment's by name; the first of all is asked for
what belongs to no other. [Model servers](../how-to/upstreams.md) says what each field does.

These names know their address: NAMES.

These variables of other tools are used too: VARIABLES. `OPENAI_API_KEY` or `OPENAI_BASE_URL` alone make an upstream
`openai`.
"""


def meanings() -> dict[str, str]:
    """The text under each setting in the code."""
    tree = ast.parse(Path(settings.__file__).read_text("utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    out = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            out[before.target.id] = " ".join(str(text).split())
    return out


def page() -> str:
    """The text of the page."""
    told = meanings()
    rows = []
    for name in Settings.__struct_fields__:
        low_high = settings.RANGES.get(name)
        allowed = {"log_level": settings.LOG_LEVELS, "embedder": settings.EMBEDDERS}.get(name, ())
        span = f"{low_high[0]:g} to {low_high[1]:,.0f}" if low_high else " ".join(f"`{item}`" for item in allowed)
        default = msgspec.json.encode(getattr(Settings(), name)).decode().strip('"')
        shown = {"null": "", "[]": ""}.get(default, f"`{default}`")
        rows.append(f"| `{name}` | {shown} | {span} | {told[name]} |\n")
    tail = (
        TAIL.replace("FIELDS", _listed(f for f in Upstream.__struct_fields__ if f != "name"))
        .replace("NAMES", _listed(settings.KNOWN_UPSTREAMS))
        .replace("VARIABLES", _listed([*settings.USUAL_KEYS.values(), "OPENAI_BASE_URL"]))
    )
    return HEAD + "".join(rows) + tail


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
