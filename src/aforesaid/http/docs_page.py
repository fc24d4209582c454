"""``/openapi.json`` and the page that shows it. The page is three files of this package and loads nothing else."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from aforesaid.errors import NotFound
from aforesaid.http.endpoint import Call, Endpoint, Reply, encode
from aforesaid.http.openapi import description
from aforesaid.http.server import Mounted

TAG = "Server"
MEDIA = {
    "index.html": "text/html; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
}
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def asset(name: str) -> bytes:
    """A file of the page."""
    return (resources.files("aforesaid.http") / "docs" / name).read_bytes()


def _shown(call: Call, raw: bytes, media: str) -> Reply:
    """The bytes, or only that they are the ones that the client has."""
    tag = f'"{hashlib.sha256(raw).hexdigest()[:24]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if media.startswith("text/html"):
        headers |= {"content-security-policy": CONTENT_SECURITY, "referrer-policy": "no-referrer"}
    if call.headers.get("if-none-match") == tag:
        return Reply(304, headers=headers, media=None)
    return Reply(200, raw, media=media, headers=headers)


def endpoints(mounted: Sequence[Mounted]) -> tuple[Endpoint, ...]:
    """The routes that describe the ones given. The description is drawn when it is first asked for."""

    @cache
    def drawn(version: str) -> bytes:
        return encode(description(mounted, version))

    async def _description(call: Call) -> Reply:
        return _shown(call, drawn(call.services.options.version), "application/json")

    async def _page(call: Call) -> Reply:
        return _shown(call, asset("index.html"), MEDIA["index.html"])

    async def _asset(call: Call) -> Reply:
        name = call.path["name"]
        if name not in MEDIA:
            raise NotFound("Page")
        return _shown(call, asset(name), MEDIA[name])

    return (
        Endpoint(
            method="GET", path="/openapi.json", run=_description, name="get_openapi", tag=TAG, access="public",
            summary="This description", listed=False,
        ),
        Endpoint(
            method="GET", path="/docs", run=_page, name="get_docs", tag=TAG, access="public",
            summary="The page that shows it", listed=False,
        ),
        Endpoint(
            method="GET", path="/docs/{name}", run=_asset, name="get_docs_asset", tag=TAG, access="public",
            summary="What the page is made of", listed=False,
        ),
    )  # fmt: skip
