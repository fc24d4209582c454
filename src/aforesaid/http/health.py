"""Is it up, and what is it?"""

import msgspec

from aforesaid.core import overview
from aforesaid.http.endpoint import Call, Endpoint, Reply


class Health(msgspec.Struct, kw_only=True):
    """The state of the server. ``status`` is ``ok``, or ``degraded`` with a 503 when the store doesn't answer."""

    status: str
    version: str
    store: str
    store_ok: bool
    model: str
    jobs: dict[str, int]


async def _health(call: Call) -> Reply:
    services = call.services
    jobs, ok = await overview.get_health(services.db)
    told = Health(
        status="ok" if ok else "degraded",
        version=services.options.version,
        store=services.db.name,
        store_ok=ok,
        model=services.chat.describe(),
        jobs=jobs,
    )
    return Reply.json(told, 200 if ok else 503)


async def _logout(call: Call) -> Reply:
    return Reply.json({"message": "Logged out"})


class Told(msgspec.Struct, kw_only=True):
    """A word of confirmation."""

    message: str


ENDPOINTS = (
    Endpoint(
        method="GET", path="/health", run=_health, name="get_health", tag="Server", access="public",
        summary="Is it up?", gives=Health, gives_also=((503, Health),),
    ),
    Endpoint(
        method="POST", path="/auth/logout", run=_logout, name="logout", tag="Server", access="public",
        summary="Nothing to forget", about="For clients that say goodbye: there is no session here.", gives=Told,
    ),
)  # fmt: skip
