"""API keys and the session over HTTP."""

import msgspec
from msgspec import UNSET

from aforesaid.core import access
from aforesaid.errors import Forbidden, Invalid
from aforesaid.http.endpoint import Call, Endpoint, Reply
from aforesaid.http.mielto.wire import (
    Deleted,
    KeyIn,
    KeyList,
    KeyRead,
    KeyUpdate,
    Limit,
    Session,
    SessionUser,
    SessionWorkspace,
    Skip,
    key_read,
)
from aforesaid.ids import now_us
from aforesaid.model import ApiKey
from aforesaid.times import parse_time

TAG = "API keys"


class ListQuery(msgspec.Struct, kw_only=True):
    """Which part of the list is asked for."""

    skip: Skip = 0
    limit: Limit = 100


def _within(call: Call, permissions: tuple[str, ...]) -> tuple[str, ...]:
    """The permissions, which the caller has itself. *Raises* ``Forbidden``: a key can't make a mightier one."""
    for permission in permissions:
        if permission in access.PERMISSIONS and permission not in call.caller.permissions:
            raise Forbidden(f"the API key lacks the permission '{permission}' itself", permission=permission)
    return permissions


async def _create(call: Call) -> Reply:
    body: KeyIn = call.body
    if body.origins and body.kind != "anon":
        raise Invalid("only anon keys have origins", "body", "origins")
    workspace = await access.get_workspace(call.services.db, call.caller.workspace_id)
    template = ApiKey(
        id="",
        workspace=workspace.workspace,
        workspace_id=workspace.id,
        kind=body.kind,
        key="",
        label=body.label,
        status=body.status,
        permissions=_within(call, tuple(body.permissions if body.permissions is not None else call.caller.permissions)),
        ip_allow=tuple(body.ip_whitelist or ()),
        origins=tuple(origin.rstrip("/") for origin in body.origins or ()),
        collections=None if body.collections is None else tuple(body.collections),
        expires_us=None if body.expires_at is None else parse_time(body.expires_at, "body", "expires_at"),
        created_by=call.caller.key_id,
        created_us=0,
        updated_us=0,
    )
    key, secret = await call.services.keyring.add(workspace, body.kind, template=template)
    return Reply.json(key_read(key, secret), 201)


async def _list(call: Call) -> Reply:
    query: ListQuery = call.query
    keys, total = await access.list_keys(call.services.db, call.caller, query.skip, query.limit)
    more = query.skip + len(keys) < total
    page = query.skip // query.limit + 1
    return Reply.json(
        KeyList(
            data=[key_read(key) for key in keys],
            total_count=total,
            page=page,
            limit=query.limit,
            next_page=page + 1 if more else None,
            has_more=more,
        )
    )


async def _get(call: Call) -> Reply:
    return Reply.json(key_read(await access.get_key(call.services.db, call.caller, call.path["key_id"])))


async def _update(call: Call) -> Reply:
    body: KeyUpdate = call.body
    given: dict[str, object] = {}
    if body.label is not UNSET:
        given["label"] = body.label
    if body.status is not UNSET:
        given["status"] = body.status
    if body.expires_at is not UNSET:
        given["expires_us"] = None if body.expires_at is None else parse_time(body.expires_at, "body", "expires_at")
    if body.permissions is not UNSET:
        given["permissions"] = _within(call, tuple(body.permissions or ()))
    if body.ip_whitelist is not UNSET:
        given["ip_allow"] = tuple(body.ip_whitelist or ())
    if body.collections is not UNSET:
        given["collections"] = None if body.collections is None else tuple(body.collections)
    if body.origins is not UNSET:
        given["origins"] = tuple(origin.rstrip("/") for origin in body.origins or ())

    def change(key: ApiKey) -> ApiKey:
        if body.origins and key.kind != "anon":
            raise Invalid("only anon keys have origins", "body", "origins")
        return msgspec.structs.replace(key, **given, updated_us=now_us())

    services = call.services
    changed = await access.set_key(services.db, services.keyring, call.caller, call.path["key_id"], change)
    return Reply.json(key_read(changed))


async def _delete(call: Call) -> Reply:
    await access.remove_key(call.services.db, call.services.keyring, call.caller, call.path["key_id"])
    return Reply.json(Deleted(id=call.path["key_id"], message="API key deleted"))


async def _session(call: Call) -> Reply:
    caller = call.caller
    workspace = await access.get_workspace(call.services.db, caller.workspace_id)
    return Reply.json(
        Session(
            user=SessionUser(id=caller.key_id, first_name=caller.label or None),
            workspace=SessionWorkspace(id=workspace.id, name=workspace.name),
            permissions=list(caller.permissions),
        )
    )


ENDPOINTS = (
    Endpoint(
        method="POST", path="/api-keys", run=_create, name="create_api_key", tag=TAG, access="write",
        summary="Create an API key", about="`secret` is shown in this answer and never again.", body=KeyIn,
        gives=KeyRead, status=201, example={"label": "Back end", "permissions": ["read", "write"]},
    ),
    Endpoint(
        method="GET", path="/api-keys", run=_list, name="list_api_keys", tag=TAG, summary="List API keys",
        query=ListQuery, gives=KeyList,
    ),
    Endpoint(
        method="GET", path="/api-keys/{key_id}", run=_get, name="get_api_key", tag=TAG, summary="Read an API key",
        gives=KeyRead, errors=(404,),
    ),
    Endpoint(
        method="PUT", path="/api-keys/{key_id}", run=_update, name="update_api_key", tag=TAG, access="write",
        summary="Change an API key", about="Fields that are not given stay as they are.", body=KeyUpdate,
        gives=KeyRead, errors=(404,), example={"status": "inactive"},
    ),
    Endpoint(
        method="DELETE", path="/api-keys/{key_id}", run=_delete, name="delete_api_key", tag=TAG, access="write",
        summary="Delete an API key", about="It stops working within a second.", gives=Deleted, errors=(404,),
    ),
    Endpoint(
        method="GET", path="/auth/session", run=_session, name="get_session", tag=TAG, summary="Who asks",
        gives=Session,
    ),
)  # fmt: skip
