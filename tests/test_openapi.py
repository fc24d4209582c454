"""The description of the interface is valid, complete, and what the server serves; the page that shows it works."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from playwright.sync_api import sync_playwright

from aforesaid.http import api, docs_page, openapi_texts
from aforesaid.http.openapi import described, description, path_of
from aforesaid.http.openapi_fields import FIELDS, about
from tests.support.inside import API_KEY, Inside, inside
from tests.support.tools import chromium

ROOT = Path(__file__).parents[1]
METHODS = ("get", "post", "put", "patch", "delete")
Json = dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with inside(tmp_path_factory.mktemp("openapi"), jobs=True) as server:
        yield server


@pytest.fixture(scope="module")
def drawn() -> Json:
    # As it travels: what JSON can't say is not in it.
    return msgspec.json.decode(msgspec.json.encode(description(api.MOUNTED, "1.2.3")), type=Json)


def operations(drawn: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in drawn["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_openapi(drawn: Json) -> None:
    schema = schemathesis.openapi.from_dict(drawn)
    schema.validate()
    assert len(list(schema.get_all_operations())) == len(list(operations(drawn)))
    broken = drawn | {"paths": {"/x": {"get": {"responses": 7}}}}
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_route_is_described_and_nothing_else(drawn: Json, running: Inside) -> None:
    hidden = {endpoint.path for endpoint in docs_page.endpoints(()) if not endpoint.listed}
    served = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in api.table(running.app.services)
        for method in route.methods or ()
        if method != "HEAD" and route.path not in hidden
    }
    assert {(path, method) for path, method, _ in operations(drawn)} == served
    assert {"/api/v1/messages", "/v1/mendableChat", "/v0/mendableChat", "/mendableChat"} <= drawn["paths"].keys()


def test_names_are_told_apart(drawn: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(drawn)]
    assert len(set(names)) == len(names)
    assert {operation["tags"][0] for _, _, operation in operations(drawn)} == {tag["name"] for tag in drawn["tags"]}
    for _, _, operation in operations(drawn):
        assert operation["summary"]
        assert operation["description"]
        parameters = [(one["in"], one["name"]) for one in operation.get("parameters", ())]
        assert len(set(parameters)) == len(parameters)
        assert all(one["description"] for one in operation.get("parameters", ()))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_shape_is_there_is_used_and_says_what_its_fields_mean(drawn: Json) -> None:
    shapes = drawn["components"]["schemas"]
    used = {reference.removeprefix("#/components/schemas/") for reference in references(drawn)}
    assert used - {"#/components/headers/RequestId"} == set(shapes)
    untold = [
        f"{name}.{field}" for name, shape in shapes.items() for field in shape["properties"] if not about(name, field)
    ]
    assert not untold
    fields = {field for shape in shapes.values() for field in shape["properties"]}
    whole = {f"{name}.{field}" for name, shape in shapes.items() for field in shape["properties"]}
    assert not {name for name in FIELDS if name not in fields | whole}, "fields that are no more"


def test_texts_name_nothing_that_is_not_there(drawn: Json) -> None:
    names = {operation["operationId"] for _, _, operation in operations(drawn)}
    in_path = {one["name"] for _, _, o in operations(drawn) for one in o.get("parameters", ()) if one["in"] == "path"}
    in_query = {one["name"] for _, _, o in operations(drawn) for one in o.get("parameters", ()) if one["in"] == "query"}
    assert set(openapi_texts.PATH) == in_path
    assert set(openapi_texts.QUERY) == in_query
    assert set(openapi_texts.LINKS) <= names
    for links in openapi_texts.LINKS.values():
        assert {link["operationId"] for link in links.values()} <= names


def test_examples_are_what_they_are_examples_of(drawn: Json) -> None:
    checked = 0
    for path, method, operation in operations(drawn):
        contents = [(f"{method} {path} request", operation.get("requestBody", {}).get("content", {}))]
        contents += [
            (f"{method} {path} {status}", r.get("content", {})) for status, r in operation["responses"].items()
        ]
        for place, content in contents:
            for media, one in content.items():
                if "example" not in one:
                    assert media == "text/event-stream" or "/chat/" in path or media != "application/json", place
                    continue
                schema = one["schema"] | {"components": drawn["components"]}
                problems = [error.message for error in jsonschema_rs.iter_errors(schema, one["example"])]
                assert not problems, f"{place}: {problems}"
                checked += 1
    assert checked > 300
    for mount, endpoint in described(api.MOUNTED):
        if endpoint.body is not None:
            example = drawn["paths"][path_of(mount, endpoint)][endpoint.method.lower()]["requestBody"]
            raw = msgspec.json.encode(example["content"]["application/json"]["example"])
            msgspec.json.decode(raw, type=endpoint.body)


def test_every_route_that_needs_a_key_says_so(drawn: Json) -> None:
    for mount, endpoint in described(api.MOUNTED):
        operation = drawn["paths"][path_of(mount, endpoint)][endpoint.method.lower()]
        if endpoint.access == "public":
            assert operation["security"] == []
            continue
        assert {"bearer": []} in operation["security"]
        assert ({} in operation["security"]) == mount.dialect.lenient_json
        refusal = "400" if mount.dialect.lenient_json else "401"
        assert {refusal, "403", "503"} <= operation["responses"].keys()


def test_it_is_served_whole_and_not_again_to_who_has_it(running: Inside) -> None:
    first = running.ask("GET", "/openapi.json", key=None)
    assert first.status == 200
    assert first.headers["content-type"] == "application/json"
    assert first.json()["info"]["version"] == running.app.services.options.version
    again = running.ask("GET", "/openapi.json", headers={"if-none-match": first.headers["etag"]}, key=None)
    assert (again.status, again.body) == (304, b"")
    schema = schemathesis.openapi.from_dict(first.json())
    schema.validate()


def test_the_page_takes_nothing_from_outside(running: Inside) -> None:
    page = running.ask("GET", "/docs", key=None)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = page.body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    for name, media in docs_page.MEDIA.items():
        asset = running.ask("GET", f"/docs/{name}", key=None)
        assert (asset.status, asset.headers["content-type"]) == (200, media)
        text = re.sub(r"xmlns='[^']*'", "", asset.body.decode())
        assert not re.search(r"https?://|//[a-z]+\.", text), name
        assert not re.search(r"innerHTML|eval\(|document\.write|localStorage|sessionStorage|cookie", text), name
    for name in ("nothing.js", "..%2fapi.py", "docs.py"):
        assert running.ask("GET", f"/docs/{name}", key=None).status == 404


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_person_finds_an_operation_and_tries_it(running: Inside, scheme: Any) -> None:
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_context(color_scheme=scheme, viewport={"width": 1440, "height": 900}).new_page()
        trouble: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(running.base_url + "/docs")
        page.wait_for_selector("table.overview")
        shown = page.locator("#list a").count()
        assert shown == len([1 for _, _, one in operations(description(api.MOUNTED, "1")) if "x-same-as" not in one])
        page.fill("#search", "store messages")
        assert 0 < page.locator("#list a").count() < shown
        page.click("#list a:has-text('Store one message or many')")
        page.wait_for_selector("h1:has-text('Store one message or many')")
        for language, mark in (("curl", "curl -X POST"), ("Python", "requests.post"), ("JavaScript", "await fetch")):
            page.click(f".tab:text-is('{language}')")
            assert mark in page.inner_text(".side pre >> nth=0")
        page.goto(running.base_url + "/docs#/create_conversation")
        page.wait_for_selector("h1:has-text('Create a conversation')")
        page.click(".send")
        assert page.inner_text(".result .status").startswith("401")
        page.fill("#key", API_KEY)
        page.click(".send")
        page.wait_for_selector(".result .status:has-text('201')")
        assert "conv_" in page.inner_text(".result pre")
        for operation in ("mendable_chat", "get_openapi", "list_messages", "get_message", "create_chat_completion"):
            page.goto(running.base_url + f"/docs#/{operation}")
            page.wait_for_selector("h1")
            assert API_KEY not in page.content()
        assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
        assert {url.split("/docs")[0].split("/api")[0].split("/openapi")[0] for url in asked} == {running.base_url}
        assert [told for told in trouble if "401" not in told] == []
        browser.close()


def test_the_reference_is_as_the_code_has_it() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/build_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_error_and_every_limit_has_its_line() -> None:
    errors = (ROOT / "docs" / "reference" / "errors.md").read_text()
    codes = set(re.findall(r"^    code = \"(\w+)\"", "\n".join(path.read_text() for path in sources()), re.MULTILINE))
    assert codes == set(openapi_texts.ERRORS)
    assert all(f"| `{code}` |" in errors for code in codes)
    limits = (ROOT / "docs" / "reference" / "limits.md").read_text()
    for name in ("limits", "http.body", "http.server", "importers.limits"):
        module = importlib.import_module(f"aforesaid.{name}")
        for constant, value in vars(module).items():
            if constant.isupper() and not constant.startswith("_") and isinstance(value, int | float):
                assert f"| `{constant}` |" in limits, f"{name}.{constant} has no line: give it a docstring"


def sources() -> list[Path]:
    return sorted((ROOT / "src" / "aforesaid").rglob("*.py"))
