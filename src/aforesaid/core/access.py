"""Who asks: keys are checked here and nowhere else.

A secret has at least 256 random bits when it is ours, so a keyed SHA-256 is enough to store it: slow hashes guard
weak passwords, and would cost every request a tenth of a second.
"""

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from aforesaid import limits
from aforesaid.core import checks
from aforesaid.core.once import again
from aforesaid.errors import Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from aforesaid.ids import KEY, new_id, now_us
from aforesaid.model import ApiKey, Caller, KeyKind, Workspace
from aforesaid.store import keys as store
from aforesaid.store import workspaces
from aforesaid.store.database import Clash, Database, Tx

CACHE_S = 1.0
"""How long a checked key is believed: a revoked one stops working after this at the latest."""
CACHE_KEYS = 10_000
"""Keys, good and bad, that are remembered."""
USED_EVERY_S = 60.0
"""How exact a key's last use is."""
PERMISSIONS = ("read", "write")
DEFAULT_WORKSPACE = "default"


def new_secret(kind: KeyKind) -> str:
    """A fresh secret: its kind can be seen, the rest is 256 random bits."""
    return f"{'sk' if kind == 'secret' else 'anon'}_{secrets.token_urlsafe(32)}"


class Keyring:
    """The keys of a deployment, checked against the store and remembered for a moment."""

    def __init__(self, db: Database, pepper: bytes) -> None:
        self._db = db
        self._pepper = pepper
        self._seen: OrderedDict[bytes, tuple[float, ApiKey | None]] = OrderedDict()
        self._seal = secrets.token_bytes(32)
        self._used: dict[tuple[int, str], int] = {}

    def digest(self, secret: str) -> bytes:
        """What stands for the secret in the store."""
        return hmac.digest(self._pepper, secret.encode("utf-8", "surrogatepass"), "sha256")

    def _public_part(self, secret: str) -> str:
        """What lists show: keyed like the digest, so that nobody can try guesses of a short secret against it."""
        return f"mk_{hmac.digest(self._pepper, b'public:' + secret.encode(), 'sha256').hex()[:16]}"

    async def caller(self, secret: str | None, *, address: str | None = None, origin: str | None = None) -> Caller:
        """The caller behind a secret.

        *Raises* ``Unauthenticated`` for no, an unknown, an inactive or an expired key; ``Forbidden`` when the key is
        not for this address or page.
        """
        if not secret:
            raise Unauthenticated("no API key was given")
        key = await self._key(secret)
        if key is None or key.status != "active" or (key.expires_us is not None and key.expires_us <= now_us()):
            raise Unauthenticated("the API key is not valid")
        if key.ip_allow and not _listed(address, key.ip_allow):
            raise Forbidden("the API key is not allowed from this address", permission="address")
        if key.kind == "anon" and key.origins and origin not in key.origins:
            raise Forbidden("the API key is not allowed from this page", permission="origin")
        self._used[(key.workspace, key.id)] = now_us()
        return Caller(
            workspace=key.workspace,
            workspace_id=key.workspace_id,
            key_id=key.id,
            kind=key.kind,
            label=key.label,
            permissions=key.permissions,
            collections=key.collections,
            origins=key.origins,
        )

    async def _key(self, secret: str) -> ApiKey | None:
        # What is remembered goes by a hash of this process's own: a quarter of the price of the stored one.
        sealed = hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), key=self._seal, digest_size=32).digest()
        now = time.monotonic()
        seen = self._seen.get(sealed)
        if seen is not None and now - seen[0] < CACHE_S:
            return seen[1]
        key = await self._db.read(store.get_key_by_digest, self.digest(secret))
        self._seen[sealed] = (now, key)
        self._seen.move_to_end(sealed)
        while len(self._seen) > CACHE_KEYS:
            self._seen.popitem(last=False)
        return key

    def forget(self) -> None:
        """Every key is looked up afresh: called after a change made here."""
        self._seen.clear()

    async def flush_used(self) -> None:
        """The last uses since the previous call are stored."""
        used, self._used = self._used, {}
        if used:
            await self._db.write(_set_used, used)

    async def add(
        self, workspace: Workspace, kind: KeyKind, *, secret: str | None = None, template: ApiKey | None = None
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which nobody can read again. A given ``secret`` is registered as it is.

        *Raises* ``Invalid`` when that secret is registered already or can't be sent in a header.
        """
        given = secret is not None
        secret = secret if secret is not None else new_secret(kind)
        if given and (not secret.strip() or secret != secret.strip() or not secret.isprintable()):
            raise Invalid("must be printable, without spaces around it", "key")
        now = now_us()
        base = template or ApiKey(
            id="", workspace=0, workspace_id="", kind=kind, key="", label=kind, created_us=now, updated_us=now
        )
        key = ApiKey(
            id=new_id(KEY),
            workspace=workspace.workspace,
            workspace_id=workspace.id,
            kind=kind,
            key=self._public_part(secret),
            label=base.label,
            status=base.status,
            permissions=base.permissions,
            ip_allow=base.ip_allow,
            origins=base.origins,
            collections=base.collections,
            expires_us=base.expires_us,
            created_by=base.created_by,
            created_us=now,
            updated_us=now,
        )
        check_key(key)
        digest = self.digest(secret)
        try:
            await self._db.write(_add_key, key, digest)
        except Clash:
            raise Invalid("this key is registered already", "key") from None
        self.forget()
        return key, secret

    async def holds(self, secret: str) -> ApiKey | None:
        """The key with this secret, whatever its state."""
        return await self._db.read(store.get_key_by_digest, self.digest(secret))


def _set_used(tx: Tx, used: dict[tuple[int, str], int]) -> None:
    for (workspace, id), us in used.items():
        store.set_key_used(tx, workspace, id, us)


def _add_key(tx: Tx, key: ApiKey, digest: bytes) -> None:
    tx.alone(f"keys {key.workspace}")
    if store.count_keys(tx, key.workspace) >= limits.KEYS:
        raise TooLarge(f"a workspace has at most {limits.KEYS} keys", limit="keys", maximum=limits.KEYS)
    store.add_key(tx, key, digest)


def _listed(address: str | None, allowed: tuple[str, ...]) -> bool:
    try:
        asked = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    return any(asked in ipaddress.ip_network(entry, strict=False) for entry in allowed)


def check_key(key: ApiKey) -> None:
    """The key's fields make sense. *Raises* ``Invalid`` naming the field."""
    if not key.label.strip():
        raise Invalid("must not be blank", "label", kind="string_too_short")
    checks.text(key.label, "label", maximum=limits.LABEL_CHARACTERS)
    for i, permission in enumerate(key.permissions):
        if permission not in PERMISSIONS:
            raise Invalid("must be 'read' or 'write'", "permissions", i)
    for i, entry in enumerate(key.ip_allow):
        try:
            ipaddress.ip_network(entry, strict=False)
        except ValueError:
            raise Invalid("must be an IP address or network", "ip_whitelist", i) from None
    lists = (("collections", key.collections or ()), ("ip_whitelist", key.ip_allow), ("origins", key.origins))
    for name, values in lists:
        if len(values) > limits.LIST_ITEMS:
            raise Invalid(f"must have at most {limits.LIST_ITEMS} items", name, kind="too_long")
        for i, value in enumerate(values):
            checks.identifier(value, name, i)


def require(caller: Caller, permission: str) -> None:
    """The caller may do this. *Raises* ``Forbidden``; an anon key may do nothing but what a route opens to it."""
    if caller.kind != "secret":
        raise Forbidden("this needs a secret key, not an anon key", permission="secret")
    if permission not in caller.permissions:
        raise Forbidden(f"the API key lacks the permission '{permission}'", permission=permission)


async def get_key(db: Database, caller: Caller, id: str) -> ApiKey:
    """A key of the caller's workspace. *Raises* ``NotFound``."""
    key = await db.read(store.get_key, caller.workspace, id)
    if key is None:
        raise NotFound("API key")
    return key


async def list_keys(db: Database, caller: Caller, skip: int, limit: int) -> tuple[list[ApiKey], int]:
    """A page of the workspace's keys, oldest first, and how many there are."""

    def read(tx: Tx) -> tuple[list[ApiKey], int]:
        return store.list_keys(tx, caller.workspace, skip, limit), store.count_keys(tx, caller.workspace)

    return await db.read(read)


async def set_key(
    db: Database, keyring: Keyring, caller: Caller, id: str, change: Callable[[ApiKey], ApiKey]
) -> ApiKey:
    """The key is what ``change`` makes of it; two changes at once both count. *Raises* ``Invalid``, ``NotFound``."""

    def write(tx: Tx) -> ApiKey:
        tx.alone(f"keys {caller.workspace}")
        known = store.get_key(tx, caller.workspace, id)
        if known is None:
            raise NotFound("API key")
        changed = change(known)
        check_key(changed)
        store.set_key(tx, changed)
        return changed

    changed = await db.write(write)
    keyring.forget()
    return changed


async def remove_key(db: Database, keyring: Keyring, caller: Caller, id: str) -> None:
    """The key opens nothing any more. *Raises* ``NotFound``."""
    if not await db.write(store.remove_key, caller.workspace, id):
        raise NotFound("API key")
    keyring.forget()


async def list_workspaces(db: Database) -> list[Workspace]:
    """All workspaces, oldest first."""
    return await db.read(workspaces.list_workspaces)


async def get_workspace(db: Database, id_or_name: str) -> Workspace:
    """A workspace by its id or name. *Raises* ``NotFound``."""
    found = await db.read(workspaces.get_workspace, id_or_name)
    if found is None:
        raise NotFound(f"Workspace {id_or_name!r}")
    return found


async def add_workspace(db: Database, name: str) -> Workspace:
    """A new workspace. *Raises* ``Invalid`` when the name is blank or taken."""
    checks.identifier(name, "name")

    def add(tx: Tx) -> Workspace:
        tx.alone("workspaces")
        if workspaces.get_workspace(tx, name) is not None:
            raise Invalid("there is a workspace of this name", "name")
        return workspaces.add_workspace(tx, name)

    return await again(db, add)


async def default_workspace(db: Database) -> tuple[Workspace, bool]:
    """The first workspace, made when there was none; whether it was made now."""

    def ensure(tx: Tx) -> tuple[Workspace, bool]:
        tx.alone("workspaces")
        known = workspaces.list_workspaces(tx)
        return (known[0], False) if known else (workspaces.add_workspace(tx, DEFAULT_WORKSPACE), True)

    return await again(db, ensure)


async def load_pepper(db: Database, given: str | None) -> bytes:
    """The key of the keyed hash: the operator's, else one made once for the deployment."""
    if given:
        return hashlib.sha256(given.encode()).digest()
    return bytes.fromhex(await again(db, lambda tx: workspaces.set_meta(tx, "pepper", secrets.token_hex(32))))
