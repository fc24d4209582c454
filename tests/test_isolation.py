"""Nobody sees another workspace's data: every route × every kind of key × every place where an id can stand.

The routes are taken from the routing table, so a new one is covered by being there. Ids of another workspace must be
answered like ids of nothing: same status, same body but for the id itself, same headers.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest

from aforesaid import ids
from aforesaid.core import access
from aforesaid.http.api import MOUNTED
from aforesaid.http.endpoint import Endpoint
from aforesaid.ids import now_us
from aforesaid.model import ApiKey
from aforesaid.store import keys as key_store
from tests.support.served import ENGINES, served
from tests.support.server import RunningServer
from tests.support.stores import opened
from tests.support.web import Answer, Web, wait_indexed

pytestmark = pytest.mark.xdist_group("isolation")  # one worker starts the servers, once

CONVERSATIONS, MESSAGES, KEYS = "/api/v1/conversations", "/api/v1/messages", "/api/v1/api-keys"
CHAT, SEARCH = "/api/v1/chat/completions", "/api/v1/search"
QUESTION = "What is my favourite colour?"
SECRETS = ("canaryalpha", "canarybravo", "canarycharlie", "canarydelta")
VICTIM, PROBER = 0, 3
"""Which of the workspaces is probed, and which one's keys do it: its own data change on the way."""
USERS = ("ann", "ben", "the same")

Routed = tuple[str, str, Endpoint]
ROUTES: list[Routed] = [
    (mount.dialect.name, mount.prefix + endpoint.path, endpoint) for mount in MOUNTED for endpoint in mount.endpoints
]


def named(route: Routed) -> str:
    return f"{route[2].method} {route[1]}"


@dataclass
class Tenant:
    """A workspace with its keys and one of everything, each holding its secret word."""

    word: str
    workspace_id: str
    keys: dict[str, str]
    ids: dict[str, Any] = field(default_factory=dict)
    cursor: str = ""


@dataclass
class World:
    """A server with several workspaces."""

    server: RunningServer
    tenants: list[Tenant]

    def web(self, key: str | None) -> Web:
        return Web(self.server.base_url, key)


async def add_tenants(url: str) -> list[Tenant]:
    """Workspaces, each with every kind of key."""
    tenants = []
    async with opened(url) as db:
        ring = access.Keyring(db, await access.load_pepper(db, None))
        for word in SECRETS:
            workspace = await access.add_workspace(db, f"workspace of {word}")
            base = ApiKey(
                id="", workspace=0, workspace_id="", kind="secret", key="", label=word, created_us=0, updated_us=0
            )
            kinds = {
                "secret": base,
                "reading": msgspec.structs.replace(base, permissions=("read",)),
                "writing": msgspec.structs.replace(base, permissions=("write",)),
                "nothing": msgspec.structs.replace(base, permissions=()),
                "inactive": msgspec.structs.replace(base, status="inactive"),
                "expired": msgspec.structs.replace(base, expires_us=now_us() - 1),
                "elsewhere": msgspec.structs.replace(base, ip_allow=("10.11.12.13",)),
                "anon": msgspec.structs.replace(base, kind="anon"),
            }
            keys = {}
            for kind, template in kinds.items():
                keys[kind] = (await ring.add(workspace, template.kind, template=template))[1]
            gone, keys["revoked"] = await ring.add(workspace, "secret", template=base)
            await db.write(key_store.remove_key, workspace.workspace, gone.id)
            tenants.append(Tenant(word=word, workspace_id=workspace.id, keys=keys))
    return tenants


def settle_in(world: World, tenant: Tenant) -> None:
    """The tenant has conversations of three users, keys, ratings, a completion and its receipt."""
    web, word = world.web(tenant.keys["secret"]), tenant.word
    for user in USERS:
        secret = f"{word}{USERS.index(user)}"
        made = web.ok(
            "POST",
            CONVERSATIONS,
            {
                "user_id": user,
                "title": f"title {secret}",
                "summary": secret,
                "session_id": f"session {user}",
                "collections": ["shared name", secret],
                "meta_data": {"x": secret},
                "messages": [
                    {"content": f"My favourite colour is {secret}.", "sender_id": user, "tags": ["tag", secret]},
                    {"content": f"Noted: {secret}", "role": "assistant", "created_at": 1749551286, "id": "same id"},
                ],
            },
            headers={"Idempotency-Key": "everybody's key"} if user == "ann" else None,
        )
        said = web.ok("GET", f"{CONVERSATIONS}/{made['id']}/messages")["data"]
        if user == "ann":
            tenant.ids = {"conversation_id": made["id"], "message_id": said[0]["id"]}
    wait_indexed(web)
    asked = {"model": "gpt-4", "messages": [{"role": "user", "content": QUESTION}]}
    answer = web("POST", CHAT, asked, headers={"x-user-id": "ann"})
    assert answer.status == 200, answer.body
    assert f"{word}0" in answer.body.decode()
    tenant.ids["receipt_id"] = answer.headers["x-aforesaid-receipt-id"]
    tenant.ids["key_id"] = web.ok("GET", KEYS)["data"][0]["id"]
    tenant.ids["workspace_id"] = tenant.workspace_id
    tenant.cursor = web.ok("GET", CONVERSATIONS, query={"limit": 1, "sort_by": "id"})["next_cursor"]
    wait_indexed(web)
    web.close()


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Workspaces of the same shape, each with a secret word of its own."""
    with served(request, request.param, tmp_path_factory.mktemp("isolation")) as server:
        url = server.environment.get("AFORESAID_DATABASE_URL") or str(Path(server.data) / "aforesaid.db")
        made = World(server, asyncio.run(add_tenants(url)))
        for tenant in made.tenants:
            settle_in(made, tenant)
        yield made


# -- what a request to a route looks like -----------------------------------------------------------------------------

MISSING = {
    "conversation_id": ids.new_id(ids.CONVERSATION),
    "message_id": ids.new_id(ids.MESSAGE),
    "receipt_id": ids.new_id(ids.RECEIPT),
    "key_id": ids.new_id(ids.KEY),
    "workspace_id": ids.new_id(ids.WORKSPACE),
}
"""Ids of the right form that name nothing."""
FOREIGN_NAMES = frozenset({*MISSING, "parent_message_id", "cursor", "id"})


def sample(kind: Any) -> Any:
    """Some value of the type, as JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind, include_extras=False)
        return {one.encode_name: sample(hints[one.name]) for one in msgspec.structs.fields(kind) if one.required}
    if origin is Literal:
        return arguments[0]
    if origin is list or kind is list:
        return [sample(arguments[0])] if arguments else []
    if origin is not None and arguments and origin is not dict:
        return sample(arguments[0])  # a union, or an annotated type: its first form
    return {int: 1, float: 0.5, bool: False, str: "x"}.get(kind, {})


def path_of(route: Routed, values: dict[str, Any]) -> str:
    path = route[1].replace(":path}", "}")
    for name, value in values.items():
        path = path.replace("{" + name + "}", str(value))
    return path.replace("{model}", "gpt-4")


def body_of(route: Routed, values: dict[str, Any]) -> Any:
    endpoint = route[2]
    if endpoint.body is None:
        return None
    body = json.loads(json.dumps(endpoint.example if endpoint.example is not None else sample(endpoint.body)))
    if isinstance(body, dict):
        for name in ("api_key", "anon_key"):  # those of printed examples; ours are in the headers
            body.pop(name, None)
    return with_ids(body, endpoint.body, values)


def with_ids(body: Any, kind: Any, values: dict[str, Any]) -> Any:
    """The body with these ids in every field that takes one."""
    forms = [kind, *get_args(kind)]
    struct = next((form for form in forms if isinstance(form, type) and issubclass(form, msgspec.Struct)), None)
    if isinstance(body, dict) and struct is not None:
        for name in struct.__struct_fields__:
            if name in values:
                body[name] = values[name]
    return body


def fields_of(kind: Any) -> set[str]:
    """The fields of a struct, or of each struct of a union."""
    forms = [kind, *get_args(kind)]
    return {
        name
        for form in forms
        if isinstance(form, type) and issubclass(form, msgspec.Struct)
        for name in form.__struct_fields__
    }


def send(web: Web, route: Routed, values: dict[str, Any], **more: Any) -> Answer:
    return web(route[2].method, path_of(route, values), body_of(route, values), **more)


# -- keys -------------------------------------------------------------------------------------------------------------

BAD = (None, "bad", "revoked", "inactive", "expired")
REFUSED = {"mielto": 401, "openai": 401, "mendable": 400}


@pytest.mark.parametrize("route", [route for route in ROUTES if route[2].access != "public"], ids=named)
def test_a_route_opens_to_the_keys_it_is_for_and_to_no_other(world: World, route: Routed) -> None:
    tenant = world.tenants[0]
    dialect, _, endpoint = route
    for kind in BAD:
        key = "sk_" + "x" * 43 if kind == "bad" else tenant.keys[kind] if kind else None
        web = world.web(key)
        answers = [send(web, route, values) for values in (tenant.ids, world.tenants[1].ids, MISSING)]
        web.close()
        for answer in answers:
            assert answer.status == REFUSED[dialect], (kind, answer.body)
            assert same(answers[0], answer), kind  # the key is all that such an answer speaks of
            assert not any(word in answer.body.decode() for word in SECRETS)
    allowed = {"secret"} | {"read": {"reading"}, "write": {"writing"}}.get(endpoint.access, set())
    if endpoint.access == "anon":
        allowed = set(tenant.keys)  # what more it asks of secret keys is the route's own matter
    for kind in ("reading", "writing", "nothing", "elsewhere", "anon"):
        if kind in allowed and kind != "elsewhere":
            continue
        web = world.web(tenant.keys[kind])
        answers = [send(web, route, values) for values in (tenant.ids, world.tenants[1].ids, MISSING)]
        web.close()
        for answer in answers:
            assert answer.status == 403, (kind, answer.status, answer.body)
            assert same(answers[0], answer), kind


def test_public_routes_are_these() -> None:
    """Whatever needs no key is named here, so that a route is never public by accident."""
    public = {named(route) for route in ROUTES if route[2].access == "public"}
    legacy = {f"PATCH {prefix}/endConversation/{{conversation_id}}" for prefix in ("", "/v0", "/v1")}
    assert public - legacy == {"GET /health", "POST /auth/logout"}


@pytest.mark.parametrize("route", [route for route in ROUTES if route[2].access == "public"], ids=named)
def test_a_public_route_tells_and_changes_nothing_of_anybody(world: World, route: Routed) -> None:
    web = world.web(None)
    before = state_of(world)
    answers = [send(web, route, values) for values in (world.tenants[0].ids, MISSING)]
    web.close()
    assert answers[0].status == answers[1].status < 500
    assert not any(word in answer.body.decode() for answer in answers for word in SECRETS)
    assert state_of(world) == before


# -- ids --------------------------------------------------------------------------------------------------------------

NOT_COMPARED = {"date", "x-request-id", "x-aforesaid-recall-ms"}


def headers_of(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in NOT_COMPARED}


def same(one: Answer, two: Answer) -> bool:
    return (one.status, one.body, headers_of(one)) == (two.status, two.body, headers_of(two))


def without(answer: Answer, value: Any) -> tuple[int, str, dict[str, str]]:
    """The answer with the id that it was asked by taken out."""
    told = json.dumps(str(value))[1:-1]
    return answer.status, answer.body.decode().replace(told, "ID"), headers_of(answer)


def state_of(world: World) -> list[Any]:
    """All that the first workspace's own key can see of it, but for what is measured and counted as time passes."""
    web = world.web(world.tenants[0].keys["secret"])
    out: list[Any] = []
    for path in (CONVERSATIONS, MESSAGES, KEYS, f"/api/v1/receipts/{world.tenants[0].ids['receipt_id']}"):
        found = web.ok("GET", path, query=None if "receipts" in path else {"limit": 1000, "skip": 0})
        for item in found.get("data", ()):
            item.pop("last_used_at", None)
        out.append(found)
    web.close()
    return out


Probe = tuple[Routed, str, str]


def probes() -> list[Probe]:
    """(route, place, name) of every place of every route where an id can stand."""
    out: list[Probe] = []
    for route in ROUTES:
        endpoint = route[2]
        if endpoint.access == "public":
            continue
        out += [(route, "path", name) for name in MISSING if "{" + name + "}" in route[1]]
        for place, kind in (("query", endpoint.query), ("body", endpoint.body)):
            out += [(route, place, name) for name in sorted(fields_of(kind) & FOREIGN_NAMES)]
        out += [(route, "header", one.name) for one in endpoint.headers if one.name.lower().endswith("-id")]
    return out


def id_for(values: dict[str, Any], name: str, route: Routed) -> Any:
    if name in values:
        return values[name]
    plain = name.lower().removeprefix("x-").replace("-", "_")
    kind = {"parent_message_id": "message_id", "cursor": "conversation_id", "id": "message_id"}.get(plain, plain)
    return values.get(kind, values["conversation_id"])


@pytest.mark.parametrize("probe", probes(), ids=lambda probe: f"{named(probe[0])} {probe[1]} {probe[2]}")
@pytest.mark.parametrize("spelling", ["text", "number"])
def test_an_id_of_another_workspace_is_an_id_of_nothing(world: World, probe: Probe, spelling: str) -> None:
    route, place, name = probe
    victim, asking = world.tenants[VICTIM], world.tenants[PROBER]
    web = world.web(asking.keys["secret"])
    before = state_of(world)

    def spelt(value: Any) -> Any:
        if spelling == "text" or not isinstance(value, str):
            return value
        number = ids.number_of(value, value.partition("_")[0])
        return value if number is None else str(number).zfill(16)[-16:].lstrip("0")

    def ask(value: Any) -> Answer:
        own = dict(asking.ids)
        body = body_of(route, own)
        query: dict[str, Any] = {}
        headers: dict[str, str] = {}
        path = path_of(route, own | {name: value} if place == "path" else own)
        if place == "body":
            if isinstance(body, list):
                body = [{**body[0], name: value}]
            else:
                body = {**body, name: value}
        elif place == "query":
            query[name] = value
        elif place == "header":
            headers[name] = str(value)
        return web(route[2].method, path, body, query=query, headers=headers)

    foreign, missing = spelt(id_for(victim.ids, name, route)), spelt(id_for(MISSING, name, route))
    if spelling == "number" and len(foreign) != len(missing):  # as many digits, so that lengths can be compared
        missing = str(int("9" * len(foreign)) - 7)
    one, two = ask(foreign), ask(missing)
    web.close()
    assert not any(word in one.body.decode() for word in SECRETS[:PROBER]), one.body
    if one.status < 300 and place in ("body", "header", "query"):
        # A name that the route takes as a word of the caller's own: it must then say the same of anything.
        assert two.status == one.status, (one.body, two.body)
    else:
        assert without(one, foreign) == without(two, missing)
        assert one.status in (400, 403, 404, 422), one.body
    assert state_of(world) == before


def test_the_places_of_ids_are_found() -> None:
    """The generator sees what people know is there."""
    found = {(named(route), place, name) for route, place, name in probes()}
    for wanted in (
        ("GET /api/v1/conversations/{conversation_id}", "path", "conversation_id"),
        ("DELETE /api/v1/messages/{message_id}", "path", "message_id"),
        ("GET /api/v1/receipts/{receipt_id}", "path", "receipt_id"),
        ("PUT /api/v1/api-keys/{key_id}", "path", "key_id"),
        ("GET /api/v1/messages", "query", "conversation_id"),
        ("GET /api/v1/conversations", "query", "cursor"),
        ("GET /api/v1/conversations", "query", "workspace_id"),
        ("POST /api/v1/messages", "body", "conversation_id"),
        ("POST /api/v1/search", "body", "conversation_id"),
        ("POST /api/v1/chat/completions", "body", "conversation_id"),
        ("POST /api/v1/chat/completions", "header", "x-conversation-id"),
        ("POST /v1/messages/byConversationId", "body", "conversation_id"),
        ("POST /v0/rateMessage", "body", "message_id"),
        ("POST /mendableChat", "body", "conversation_id"),
    ):
        assert wanted in found
    assert len(found) > 40


def test_a_cursor_of_another_workspace_leads_into_ones_own(world: World) -> None:
    victim, asking = world.tenants[VICTIM], world.tenants[PROBER]
    web = world.web(asking.keys["secret"])
    for direction in ("next", "prev"):
        answer = web("GET", CONVERSATIONS, query={"cursor": victim.cursor, "sort_by": "id", "direction": direction})
        assert answer.status == 200
        assert not any(word in answer.body.decode() for word in SECRETS[:PROBER])
    web.close()


def test_an_idempotency_key_of_another_workspace_is_unknown(world: World) -> None:
    """All used the same key when they settled in, and got their own answers."""
    for tenant in world.tenants[:PROBER]:
        web = world.web(tenant.keys["secret"])
        shown = web.ok("GET", f"{CONVERSATIONS}/{tenant.ids['conversation_id']}")
        assert shown["title"] == f"title {tenant.word}0"
        web.close()


# -- canaries ---------------------------------------------------------------------------------------------------------


def looked_at(answer: Answer, tenant: Tenant, user: str | None, asked: str) -> str:
    """The whole answer, which holds no word of another workspace, nor of another user where one is asked for."""
    assert answer.status < 500, answer.body
    # What was asked is told back in one place only.
    text = answer.body.decode().replace(f'"query":{json.dumps(asked)}', "") + json.dumps(answer.headers)
    for word in SECRETS:
        assert word == tenant.word or word not in text, (asked, text)
    if user is not None:
        others = [f"{tenant.word}{i}" for i, other in enumerate(USERS) if other != user]
        assert not any(word in text for word in others), (user, asked, text)
    return text


def test_no_list_or_search_holds_a_word_of_another_workspace_or_user(world: World) -> None:
    rng = random.Random(3)
    queries = [QUESTION, "canary", *SECRETS, "noted", "colour", "title", "*", "%", "title OR 1=1"]
    for tenant in world.tenants[:PROBER]:
        web = world.web(tenant.keys["secret"])
        for _ in range(60):
            user, asked = rng.choice(USERS), rng.choice(queries)
            filters = {"metadata": {"x": f"{rng.choice(SECRETS)}1"}, "tags": ["tag"]}
            for method, path, body, query, narrowed in (
                ("POST", SEARCH, {"query": asked, "user_id": user, "explain": True}, None, user),
                ("POST", SEARCH, {"query": asked, "user_id": user, "filters": filters}, None, user),
                ("GET", CONVERSATIONS, None, {"user_id": user, "search": asked}, user),
                ("GET", CONVERSATIONS, None, {"user_id": user, "collection_id": "shared name"}, user),
                ("GET", MESSAGES, None, {"user_id": user, "search": asked, "tags": "tag"}, user),
                ("GET", CONVERSATIONS, None, {"search": asked, "skip": 0, "sort_by": "title"}, None),
                ("GET", MESSAGES, None, {"search": asked}, None),
            ):
                looked_at(web(method, path, body, query=query), tenant, narrowed, asked)
        web.close()


def test_no_completion_holds_a_word_of_another_workspace_or_user(world: World) -> None:
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": QUESTION}]}
    for tenant in world.tenants[:PROBER]:
        web = world.web(tenant.keys["secret"])
        for user in USERS:
            headers = {"x-user-id": user, "x-aforesaid-store": "false"}
            for stream in (False, True):
                told = looked_at(web("POST", CHAT, {**body, "stream": stream}, headers=headers), tenant, user, QUESTION)
                assert f"{tenant.word}{USERS.index(user)}" in told  # it is asked of somebody who knows
        stranger = {"x-user-id": "nobody yet", "x-aforesaid-store": "false"}
        told = looked_at(web("POST", CHAT, body, headers=stranger), tenant, None, QUESTION)
        assert not any(word in told for word in SECRETS)
        web.close()


@pytest.mark.parametrize(
    "user", ["", " ", "\t", "*", "%", "_", "ann%", "ANN", "ann ", "ben' OR '1'='1", "\x00", "ann\x00"]
)
def test_no_users_name_means_everybody(world: World, user: str) -> None:
    tenant = world.tenants[0]
    web = world.web(tenant.keys["secret"])
    answers = [
        web("POST", "/api/v1/search", {"query": "favourite colour", "user_id": user}),
        web("GET", CONVERSATIONS, query={"user_id": user}),
        web("GET", CONVERSATIONS, query={"owner_id": user}),
        web("GET", MESSAGES, query={"user_id": user}),
        web("GET", MESSAGES, query={"owner_id": user}),
        web("POST", CHAT, {"model": "x", "user_id": user, "messages": [{"role": "user", "content": QUESTION}]},
            headers={"x-aforesaid-store": "false"}),
    ]  # fmt: skip
    web.close()
    for answer in answers:
        assert answer.status in (200, 400, 422), answer.body
        assert not any(word in answer.body.decode() for word in SECRETS)
    if not user.strip("\x00 \t"):
        assert {answer.status for answer in answers} <= {400, 422}


def test_key_lists_never_show_a_secret(world: World) -> None:
    for tenant in world.tenants:
        web = world.web(tenant.keys["secret"])
        raw = web("GET", KEYS, query={"limit": 1000}).body.decode()
        found = json.loads(raw)["data"]
        assert len(found) == 8
        assert all(key["secret"] is None and key["workspace_id"] == tenant.workspace_id for key in found)
        for other in world.tenants:
            assert not any(secret in raw for secret in other.keys.values())
        web.close()
