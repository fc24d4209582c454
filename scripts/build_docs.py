"""Writes every generated page of docs/reference. With ``--check``, writes nothing and fails when one is stale.

A page is a module ``page_*.py`` beside this file with its ``TARGET`` and a function ``page`` that gives its text.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent


def modules() -> list[ModuleType]:
    """The modules that write a page each."""
    sys.path.insert(0, str(FOLDER))
    return [importlib.import_module(path.stem) for path in sorted(FOLDER.glob("page_*.py"))]


def main(arguments: list[str]) -> int:
    """Every page is as the code has it, or each stale one was named."""
    check = "--check" in arguments
    stale = []
    for module in modules():
        target: Path = module.TARGET
        text: str = module.page()
        if target.exists() and target.read_text("utf-8") == text:
            continue
        if check:
            stale.append(target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
            print(f"wrote {target.relative_to(ROOT)}")
    for target in stale:
        print(f"{target.relative_to(ROOT)} is stale: run make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
