"""The documents hold together: links lead somewhere, code blocks parse, nothing in the repository names its makers."""

import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_TEXT_BYTES = 400_000

# The project speaks of itself alone. Written apart, so that this file passes its own test.
FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        r"/work/(main|shared)",
        r"\bshared/(spec|api|eval|data|hooks)\b",
        r"\bTO" + r"DO\b",
        r"\bFIX" + r"ME\b",
        r"\bX" + r"XX\b",
        r"(?i)lorem " + r"ipsum",
        r"(?i)--index-url|extra-index-url",
        r"(?i)\b[a-z0-9.-]*(artifactory|nexus|jfrog|files\.python" + r"hosted)\b",
    )
]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


@cache
def files() -> tuple[Path, ...]:
    """What belongs to the repository, committed or about to be."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # unpacked from an archive
        paths = [path for folder in ("src", "tests", "docs", "scripts") for path in (ROOT / folder).rglob("*.*")]
        paths += ROOT.glob("*.*")
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def prose(text: str) -> str:
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(document: Path) -> set[str]:
    """The names that links into a document may use, as the common renderers make them from headings."""
    found: dict[str, int] = {}
    names = set()
    for heading in HEADING.findall(FENCE.sub("", document.read_text())):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        name = words.strip().replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names | set(re.findall(r'<a (?:id|name)="([^"]+)"', document.read_text()))


def test_links_inside_the_documents_lead_somewhere() -> None:
    broken = []
    for document in documents():
        for match in LINK.finditer(prose(document.read_text())):
            link = match.group(1) or match.group(2)
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            if not target.exists():
                broken.append(f"{document.relative_to(ROOT)}: {link}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                broken.append(f"{document.relative_to(ROOT)}: {link} (no such heading)")
    assert not broken, "\n".join(broken)


def test_code_blocks_parse() -> None:
    wrong = []
    for document in documents():
        for language, block in FENCE.findall(document.read_text()):
            try:
                match language:
                    case "python":
                        compile(block, str(document), "exec", flags=0x2000)  # top-level await is allowed
                    case "json":
                        json.loads(block)
                    case "toml":
                        tomllib.loads(block)
                    case _:
                        pass
            except ValueError as error:
                wrong.append(f"{document.relative_to(ROOT)}: {language} block: {error}")
            except SyntaxError as error:
                wrong.append(f"{document.relative_to(ROOT)}: {language} block: {error}")
    assert not wrong, "\n".join(wrong)


def test_nothing_names_what_is_no_part_of_the_project() -> None:
    found = []
    for path in files():
        if path == Path(__file__) or path.stat().st_size > MAX_TEXT_BYTES:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}: {match.group()}" for pattern in FORBIDDEN for match in pattern.finditer(text)
        ]
    assert not found, "\n".join(found)


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert [lock.stem for lock in locks] == ["build", "dev", "local", "run"]
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock
        for entry in re.split(r"\n(?=\S)", text.strip()):
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==", entry), entry
            assert "--hash=sha256:" in entry, entry


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    record = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text()
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["local"],
        *project["dependency-groups"]["dev"],
    ]
    names = [re.split(r"[\[>=<~ ]", line)[0] for line in wanted]
    missing = [name for name in names if not re.search(rf"`{name}[`\[]", record)]
    assert not missing


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "src/aforesaid/py.typed"])
def test_what_must_ship_is_there(name: str) -> None:
    assert (ROOT / name).exists()
