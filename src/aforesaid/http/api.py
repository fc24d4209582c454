"""All routes of the server, and which dialect an address belongs to."""

from starlette.routing import Route as StarletteRoute

from aforesaid.core.services import Services
from aforesaid.http import health
from aforesaid.http.endpoint import Dialect, Endpoint, Route
from aforesaid.http.mielto import chat, conversations, keys, messages, search
from aforesaid.http.mielto.dialect import Mielto, OpenAI
from aforesaid.http.server import Mounted, routes

MIELTO, OPENAI = Mielto(), OpenAI()
OPENAI_PATHS = ("/api/v1/chat/", "/api/v1/models")

MOUNTED = (
    Mounted("/api/v1", OPENAI, chat.ENDPOINTS),
    Mounted("/api/v1", MIELTO, messages.ENDPOINTS),
    Mounted("/api/v1", MIELTO, conversations.ENDPOINTS),
    Mounted("/api/v1", MIELTO, search.ENDPOINTS),
    Mounted("/api/v1", MIELTO, keys.ENDPOINTS),
    Mounted("", MIELTO, health.ENDPOINTS),
)


def dialect_of(path: str) -> Dialect:
    """Whose manners an address without a route has."""
    return OPENAI if path.startswith(OPENAI_PATHS) else MIELTO


def table(services: Services) -> list[StarletteRoute]:
    """The routing table."""

    def make(endpoint: Endpoint, dialect: Dialect) -> Route:
        return Route(endpoint, dialect, services)

    return routes(MOUNTED, make)
