"""Keys: what they open, how soon they close, and that nobody can read them anywhere."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aforesaid import limits
from aforesaid.core import access
from aforesaid.errors import Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from aforesaid.ids import now_us
from aforesaid.model import ApiKey, Caller
from aforesaid.store import keys as store
from aforesaid.store import workspaces
from aforesaid.store.database import Database
from tests.support.served import ENGINES, served
from tests.support.server import RunningServer
from tests.support.stores import caller_of, in_store, keyring
from tests.support.web import Web, wait_until

KEYS = "/api/v1/api-keys"
pytestmark = pytest.mark.xdist_group("keys")  # one worker starts the servers, once


def template(**more: Any) -> ApiKey:
    base: dict[str, Any] = {
        "id": "", "workspace": 0, "workspace_id": "", "kind": "secret", "key": "", "label": "l", "created_us": 0,
        "updated_us": 0,
    }  # fmt: skip
    return ApiKey(**{**base, **more})


def test_a_secret_opens_its_own_workspace_and_no_near_miss_does(database_url: str) -> None:
    async def run(db: Database) -> None:
        ring = keyring(db)
        one, two = [await access.add_workspace(db, name) for name in ("one", "two")]
        key, secret = await ring.add(one, "secret")
        _, other = await ring.add(two, "anon")
        assert secret.startswith("sk_")
        assert other.startswith("anon_")
        assert len(secret) >= 43 + 3
        caller = await ring.caller(secret)
        assert (caller.workspace, caller.key_id, caller.kind) == (one.workspace, key.id, "secret")
        assert (await ring.caller(other)).workspace == two.workspace
        for wrong in (
            None, "", " ", secret + " ", " " + secret, secret[:-1], secret + "a", secret.upper(), key.key, key.id,
            secret.replace("sk_", "anon_"), "*", "%", "\x00", "\ud800", "ü",
        ):  # fmt: skip
            with pytest.raises(Unauthenticated):
                await ring.caller(wrong)
        # Another pepper, other digests: the store alone opens nothing.
        with pytest.raises(Unauthenticated):
            await access.Keyring(db, b"other").caller(secret)
        assert await ring.holds(secret) == key
        assert await ring.holds("none") is None

    in_store(database_url, run)


def test_a_given_secret_is_registered_once(database_url: str) -> None:
    async def run(db: Database) -> None:
        ring = keyring(db)
        one, two = [await access.add_workspace(db, name) for name in ("one", "two")]
        _, secret = await ring.add(one, "secret", secret="sk-ours")
        assert secret == "sk-ours"
        for workspace in (one, two):
            with pytest.raises(Invalid, match="registered already"):
                await ring.add(workspace, "anon", secret="sk-ours")
        for bad in ("", " ", " x", "x ", "a\nb", "a\x00"):
            with pytest.raises(Invalid):
                await ring.add(one, "secret", secret=bad)
        assert (await ring.caller("sk-ours")).workspace == one.workspace

    in_store(database_url, run)


def test_states_times_addresses_and_pages(database_url: str) -> None:
    async def run(db: Database) -> None:
        ring = keyring(db)
        one = await access.add_workspace(db, "one")

        async def made(**more: Any) -> str:
            return (await ring.add(one, more.get("kind", "secret"), template=template(**more)))[1]

        with pytest.raises(Unauthenticated):
            await ring.caller(await made(status="inactive"))
        with pytest.raises(Unauthenticated):
            await ring.caller(await made(expires_us=now_us() - 1))
        soon = await made(expires_us=now_us() + 200_000)
        await ring.caller(soon)
        await asyncio.sleep(0.25)
        with pytest.raises(Unauthenticated):  # from the very moment, though it was remembered
            await ring.caller(soon)
        homely = await made(ip_allow=("10.0.0.0/8", "192.168.1.7", "2001:db8::/32"))
        for address in ("10.1.2.3", "192.168.1.7", "2001:db8::1"):
            await ring.caller(homely, address=address)
        elsewhere: tuple[str | None, ...] = (
            None,
            "",
            "11.0.0.1",
            "192.168.1.70",
            "::1",
            "10.0.0.1.evil",
            "010.0.0.1",
            "testclient",
        )
        for nowhere in elsewhere:
            with pytest.raises(Forbidden):
                await ring.caller(homely, address=nowhere)
        page = await made(kind="anon", origins=("https://shop.example",))
        await ring.caller(page, origin="https://shop.example")
        pages: tuple[str | None, ...] = (
            None,
            "",
            "null",
            "https://shop.example.evil",
            "http://shop.example",
            "https://SHOP.example",
        )
        for origin in pages:
            with pytest.raises(Forbidden):
                await ring.caller(page, origin=origin)

    in_store(database_url, run)


def test_permissions() -> None:
    def caller(kind: Any, *permissions: str) -> Caller:
        return Caller(workspace=1, workspace_id="w", key_id="k", kind=kind, permissions=permissions)

    access.require(caller("secret", "read"), "read")
    for who, permission in (
        (caller("secret", "read"), "write"), (caller("secret"), "read"), (caller("anon", "read", "write"), "read"),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            access.require(who, permission)


def test_a_revoked_key_is_forgotten_in_a_second_by_those_who_remember_it(database_url: str) -> None:
    async def run(db: Database) -> None:
        here, elsewhere = keyring(db), keyring(db)
        one = await access.add_workspace(db, "one")
        key, secret = await here.add(one, "secret")
        await here.caller(secret)
        await elsewhere.caller(secret)
        begun = time.monotonic()
        await access.remove_key(db, here, caller_of(one), key.id)
        with pytest.raises(Unauthenticated):
            await here.caller(secret)
        while True:
            try:
                await elsewhere.caller(secret)
            except Unauthenticated:
                break
            assert time.monotonic() - begun < 30
            await asyncio.sleep(0.01)
        # A key that is new elsewhere is believed here as soon.
        with pytest.raises(Unauthenticated):
            await elsewhere.caller("sk-new")
        await here.add(one, "secret", secret="sk-new")
        while True:
            try:
                await elsewhere.caller("sk-new")
                break
            except Unauthenticated:
                await asyncio.sleep(0.01)

    in_store(database_url, run)


def test_two_changes_of_a_key_at_once_both_count(database_url: str) -> None:
    async def run(db: Database) -> None:
        from msgspec.structs import replace

        ring = keyring(db)
        one = await access.add_workspace(db, "one")
        caller = caller_of(one)
        key, secret = await ring.add(one, "secret")
        for _ in range(5):
            key, secret = await ring.add(one, "secret")
            await asyncio.gather(
                access.set_key(db, ring, caller, key.id, lambda k: replace(k, label="renamed")),
                access.set_key(db, ring, caller, key.id, lambda k: replace(k, status="inactive")),
                access.set_key(db, ring, caller, key.id, lambda k: replace(k, permissions=("read",))),
            )
            after = await access.get_key(db, caller, key.id)
            assert (after.label, after.status, after.permissions) == ("renamed", "inactive", ("read",))
            with pytest.raises(Unauthenticated):
                await ring.caller(secret)
        other = caller_of(await access.add_workspace(db, "two"))
        for gone in ("key_x", key.id):
            with pytest.raises(NotFound):
                await access.set_key(db, ring, other, gone, lambda k: replace(k, label="x"))
        with pytest.raises(Invalid):
            await access.set_key(db, ring, caller, key.id, lambda k: replace(k, label=" "))

    in_store(database_url, run)


def test_a_workspace_has_so_many_keys_and_no_more(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEYS", 5)

    async def run(db: Database) -> None:
        ring = keyring(db)
        one = await access.add_workspace(db, "one")
        made = await asyncio.gather(*(ring.add(one, "secret") for _ in range(12)), return_exceptions=True)
        assert sum(isinstance(outcome, TooLarge) for outcome in made) == 7
        assert await db.read(store.count_keys, one.workspace) == 5

    in_store(database_url, run)


def test_the_last_use_is_kept_now_and_then(database_url: str) -> None:
    async def run(db: Database) -> None:
        ring = keyring(db)
        one = await access.add_workspace(db, "one")
        key, secret = await ring.add(one, "secret")
        await ring.caller(secret)
        assert (await access.get_key(db, caller_of(one), key.id)).last_used_us is None
        await ring.flush_used()
        used = (await access.get_key(db, caller_of(one), key.id)).last_used_us
        assert used is not None
        assert used >= key.created_us
        await ring.flush_used()

    in_store(database_url, run)


def test_what_lists_show_of_a_key_can_not_be_tried_out(database_url: str) -> None:
    """The public part of a short given secret must not be computable from a guess of it."""

    async def run(db: Database) -> None:
        one = await access.add_workspace(db, "one")
        first, _ = await keyring(db).add(one, "secret", secret="sk-test")
        assert "sk-test" not in first.key
        await db.write(store.remove_key, one.workspace, first.id)
        second, _ = await access.Keyring(db, b"another pepper").add(one, "secret", secret="sk-test")
        assert first.key != second.key
        found = await db.read(workspaces.list_workspaces)
        assert len(found) == 1

    in_store(database_url, run)


# -- over HTTP, two workers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers on one store."""
    with served(request, request.param, tmp_path_factory.mktemp("keys"), "--workers", "2") as running:
        yield running


@pytest.fixture
def web(server: RunningServer) -> Iterator[Web]:
    client = Web(server.base_url, server.api_key)
    yield client
    client.close()


def test_the_life_of_a_key(server: RunningServer, web: Web) -> None:
    made = web.ok("POST", KEYS, {"label": "Back end", "permissions": ["read"], "ip_whitelist": ["127.0.0.0/8", "::1"]})
    assert made["secret"].startswith("sk_")
    path = f"{KEYS}/{made['id']}"
    shown = {**made, "secret": None}
    assert web.ok("GET", path) == shown
    listed = web.ok("GET", KEYS)
    assert shown in listed["data"]
    assert made["secret"] not in str(listed)
    assert all(key["secret"] is None for key in listed["data"])
    mine = Web(server.base_url, made["secret"])
    assert mine("GET", "/api/v1/conversations").status == 200
    refused = mine("POST", "/api/v1/conversations", {"user_id": "u"})
    assert refused.status == 403
    assert mine("POST", KEYS, {"label": "mightier"}).status == 403
    session = mine.ok("GET", "/api/v1/auth/session")
    assert session["permissions"] == ["read"]
    changed = web.ok("PUT", path, {"label": "new", "permissions": ["read", "write"]})
    assert (changed["label"], changed["secret"], changed["ip_whitelist"]) == ("new", None, ["127.0.0.0/8", "::1"])
    wait_until(lambda: mine("POST", "/api/v1/conversations", {"user_id": "u"}).status == 201, "it may write")
    web.ok("PUT", path, {"ip_whitelist": ["10.9.9.9"]})
    wait_until(lambda: mine("GET", "/api/v1/conversations").status == 403, "it is for another address")
    web.ok("PUT", path, {"ip_whitelist": None})
    wait_until(lambda: mine("GET", "/api/v1/conversations").status == 200, "it is for every address")
    assert web.ok("DELETE", path)["deleted"] is True
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"label": "x"})):
        assert web(method, path, body).status == 404
    mine.close()
    for bad in (
        {}, {"label": ""}, {"label": " "}, {"label": "x", "permissions": ["admin"]}, {"label": "x", "kind": "root"},
        {"label": "x", "ip_whitelist": ["here"]}, {"label": "x", "origins": ["https://a"]},
        {"label": "x", "expires_at": "soon"}, {"label": "x" * 256},
    ):  # fmt: skip
        assert web("POST", KEYS, bad).status == 422, bad


@pytest.mark.parametrize("how", ["deleted", "inactive", "expired"])
def test_a_closed_key_opens_no_worker_a_second_later(server: RunningServer, web: Web, how: str) -> None:
    made = web.ok("POST", KEYS, {"label": how})

    def answers() -> set[int]:
        """Fresh connections, so that both workers are asked."""
        out = set()
        for _ in range(12):
            one = Web(server.base_url, made["secret"])
            out.add(one("GET", "/api/v1/conversations").status)
            one.close()
        return out

    assert answers() == {200}
    path = f"{KEYS}/{made['id']}"
    if how == "deleted":
        web.ok("DELETE", path)
    else:
        web.ok("PUT", path, {"status": "inactive"} if how == "inactive" else {"expires_at": "2020-01-01"})
    time.sleep(access.CACHE_S)
    assert answers() == {401}


def test_both_headers_carry_a_key(server: RunningServer) -> None:
    none = Web(server.base_url, None)

    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return none("GET", "/api/v1/conversations", headers=named).status

    good = server.api_key
    assert status(Authorization=f"Bearer {good}") == 200
    assert status(Authorization=f"bearer  {good} ") == 200
    assert status(x_api_key=good) == 200
    assert status(x_api_key=good, Authorization=f"Bearer {good}") == 200
    assert status(x_api_key="other", Authorization=f"Bearer {good}") == 401
    assert status(x_api_key=good, Authorization="Bearer other") == 401
    for wrong in ("", "Bearer", "Bearer ", f"Basic {good}", good, f"Bearer {good}x", f"Bearer {good} {good}"):
        assert status(Authorization=wrong) == 401, wrong
    assert status() == 401
    assert status(x_api_key=server.anon_key) == 403
    none.close()


def test_no_secret_is_in_the_files(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    folder = tmp_path_factory.mktemp("scan")
    with served(request, "sqlite", folder, env={"AFORESAID_LOG_LEVEL": "info"}) as running:
        web = Web(running.base_url, running.api_key)
        secrets = [running.api_key, running.anon_key]
        secrets += [web.ok("POST", KEYS, {"label": "x", "kind": kind})["secret"] for kind in ("secret", "anon")]
        for secret in secrets:
            one = Web(running.base_url, secret)
            one("GET", "/api/v1/conversations")
            one("POST", "/api/v1/conversations", {"user_id": "u"}, headers={"Idempotency-Key": "k"})
            one("GET", "/api/v1/conversations/nothing")
            one.close()
        web.close()
        assert running.stop() == 0
        files = [file for file in folder.rglob("*") if file.is_file()]
        assert any(file.name == "aforesaid.db" for file in files)
        assert any(file.suffix == ".log" for file in files)
        for file in files:
            raw = file.read_bytes()
            for secret in secrets:
                assert secret.encode() not in raw, file
                assert secret.encode()[8:32] not in raw, file
