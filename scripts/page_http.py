"""Writes docs/reference/http.md from the description of the interface. ``page`` gives its text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aforesaid.http.api import MOUNTED
from aforesaid.http.openapi import description

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference" / "http.md"

HEAD = """# HTTP

Generated from the same endpoint table and types that serve requests. A running server shows all of this, with code
samples and a form to try it, at `/docs`, and describes it for machines at `/openapi.json` (OpenAPI 3.1). What every
error means is in [errors](errors.md), what is the most of everything in [limits](limits.md). The Mendable API has a
page of its own, [with its frames and oddities](mendable.md).

"""

Json = dict[str, Any]


def page() -> str:
    """The whole page."""
    drawn = description(MOUNTED, "0")
    parts = [HEAD, drawn["info"]["description"] + "\n\n"]
    for tag in drawn["tags"]:
        parts.append(f"## {tag['name']}\n\n{tag['description']}\n\n")
        for path, operation in _operations(drawn, tag["name"]):
            parts.extend(_operation(drawn, path, operation))
    parts.append("## Shapes\n\n")
    for name, shape in drawn["components"]["schemas"].items():
        parts.extend(_shape(name, shape))
    return "".join(parts).rstrip() + "\n"


def _operations(drawn: Json, tag: str) -> Iterator[tuple[str, Json]]:
    for path, methods in drawn["paths"].items():
        for method, operation in methods.items():
            if operation["tags"] == [tag] and "x-same-as" not in operation:
                yield path, {**operation, "method": method.upper()}


def _operation(drawn: Json, path: str, operation: Json) -> Iterator[str]:
    yield f"### `{operation['method']} {path}`\n\n**{operation['summary']}.** {operation['description']}\n\n"
    same = [
        f"`{other}`"
        for other, methods in drawn["paths"].items()
        for twin in methods.values()
        if twin.get("x-same-as") == operation["operationId"]
    ]
    if same:
        yield f"Also at {' and '.join(same)}.\n\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | | |\n|---|---|---|---|\n"
        for one in parameters:
            yield f"| `{one['name']}` | {one['in']} | {_kind(one['schema'])} | {_cell(one['description'])} |\n"
        yield "\n"
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        yield f"Body: {_kind(content['schema'])}. {body['description']}\n\n"
        yield f"```json\n{json.dumps(content['example'], indent=2, ensure_ascii=False)}\n```\n\n"
    yield "| answer | | |\n|---|---|---|\n"
    for status, response in operation["responses"].items():
        kinds = [
            _kind(content["schema"]) if media == "application/json" else f"`{media}`"
            for media, content in response.get("content", {}).items()
        ]
        yield f"| {status} | {' or '.join(kinds)} | {_cell(response['description'])} |\n"
    yield "\n"
    headers = {
        name: header
        for status, response in operation["responses"].items()
        if status < "300"
        for name, header in response.get("headers", {}).items()
        if name != "x-request-id"
    }
    if headers:
        yield "| header of the answer | |\n|---|---|\n"
        yield from (f"| `{name}` | {_cell(header['description'])} |\n" for name, header in headers.items())
        yield "\n"


def _shape(name: str, shape: Json) -> Iterator[str]:
    yield f"### {name}\n\n{shape.get('description', '')}\n\n"
    required = shape.get("required", [])
    yield "| field | | |\n|---|---|---|\n"
    for field, schema in shape.get("properties", {}).items():
        must = ", required" if field in required else ""
        yield f"| `{field}` | {_kind(schema)}{must} | {_cell(schema.get('description', ''))} |\n"
    yield "\n"


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_kind(kind) for kind in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
