"""Writes docs/reference/limits.md from the named constants of the code. ``page`` gives its text."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference" / "limits.md"

HEAD = """# Limits

Every limit has one name and one place. What is beyond one is refused, and nothing of it is stored.
"""

SECTIONS = {
    "Requests": ("aforesaid.limits",),
    "Bodies": ("aforesaid.http.body", "aforesaid.http.endpoint"),
    "Connections": ("aforesaid.http.server",),
    "Import files": ("aforesaid.importers.limits",),
    "Jobs": ("aforesaid.jobs",),
    "Model servers": ("aforesaid.providers.exchange", "aforesaid.providers.upstreams", "aforesaid.providers.breaker"),
    "Store": ("aforesaid.store.sqlite", "aforesaid.store.postgres"),
}
"""Where limits stand, by what they are limits of."""


def limits(module: ModuleType) -> Iterator[tuple[str, int | float, str]]:
    """(name, value, meaning) of every public number of the module that says what it means."""
    body = ast.parse(inspect.getsource(module)).body
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        value = getattr(module, name)
        if not name.isupper() or name.startswith("_") or not isinstance(value, int | float) or isinstance(value, bool):
            continue
        told = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        if isinstance(told, str):
            yield name, value, " ".join(told.replace("``", "`").split())


def shown(name: str, value: int | float) -> str:
    """The number with its unit."""
    if "BYTES" in name:
        rate = "/s" if name.endswith("_S") else ""
        if value % (1 << 20) == 0:
            return f"{int(value) >> 20} MiB{rate}"
        if value % (1 << 10) == 0 and value < 1 << 20:
            return f"{int(value) >> 10} KiB{rate}"
        return f"{value:,} bytes{rate}"
    if name.endswith("_S"):
        return f"{value / 3600:g} h" if value >= 3600 else f"{value:g} s"
    return f"{value:,}"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, names in SECTIONS.items():
        rows = [row for name in names for row in limits(importlib.import_module(name))]
        parts.append(f"\n## {title}\n\n| name | limit | |\n|---|---|---|\n")
        parts += [f"| `{name}` | {shown(name, value)} | {told} |\n" for name, value, told in rows]
    return "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
