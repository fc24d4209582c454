"""All routes of the server, and which dialect an address belongs to."""

import msgspec
from starlette.routing import Route as StarletteRoute

from aforesaid.core.services import Services
from aforesaid.http import docs_page, health
from aforesaid.http.endpoint import Dialect, Endpoint, Route
from aforesaid.http.mendable import chat as mendable_chat
from aforesaid.http.mendable import conversations as mendable_conversations
from aforesaid.http.mendable.dialect import Mendable
from aforesaid.http.mielto import chat, conversations, keys, messages, search
from aforesaid.http.mielto.dialect import Mielto, OpenAI
from aforesaid.http.server import Mounted, routes

MIELTO, OPENAI, MENDABLE = Mielto(), OpenAI(), Mendable()
OPENAI_PATHS = ("/api/v1/chat/", "/api/v1/models")

MENDABLE_ENDPOINTS = (*mendable_conversations.ENDPOINTS, *mendable_chat.ENDPOINTS)
MENDABLE_PREFIXES = {"/v1": "", "/v0": "_v0", "": "_unversioned"}
"""Where the Mendable API is, and what the names of its operations end in there: they are one and the same."""


def _named(endpoints: tuple[Endpoint, ...], ending: str) -> tuple[Endpoint, ...]:
    return tuple(msgspec.structs.replace(endpoint, name=endpoint.name + ending) for endpoint in endpoints)


MOUNTED = (
    Mounted("/api/v1", OPENAI, chat.ENDPOINTS),
    Mounted("/api/v1", MIELTO, messages.ENDPOINTS),
    Mounted("/api/v1", MIELTO, conversations.ENDPOINTS),
    Mounted("/api/v1", MIELTO, search.ENDPOINTS),
    Mounted("/api/v1", MIELTO, keys.ENDPOINTS),
    Mounted("", MIELTO, health.ENDPOINTS),
    *(Mounted(prefix, MENDABLE, _named(MENDABLE_ENDPOINTS, ending)) for prefix, ending in MENDABLE_PREFIXES.items()),
)
PAGES = Mounted("", MIELTO, docs_page.endpoints(MOUNTED))
"""The description of all that, and the page that shows it."""
MENDABLE_HEADS = frozenset(endpoint.path.split("/")[1] for endpoint in MENDABLE_ENDPOINTS)


def dialect_of(path: str) -> Dialect:
    """Whose manners an address without a route has."""
    if path.startswith(("/v0/", "/v1/")) or path[1:].partition("/")[0] in MENDABLE_HEADS:
        return MENDABLE
    return OPENAI if path.startswith(OPENAI_PATHS) else MIELTO


def table(services: Services) -> list[StarletteRoute]:
    """The routing table."""

    def make(endpoint: Endpoint, dialect: Dialect) -> Route:
        return Route(endpoint, dialect, services)

    return routes((*MOUNTED, PAGES), make)
