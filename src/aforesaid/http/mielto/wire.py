"""The shapes of the Mielto API, and how the nouns of the house turn into them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aforesaid import limits
from aforesaid.core import checks, conversations, messages
from aforesaid.model import ApiKey, Conversation, Draft, Message
from aforesaid.times import iso, parse_time

Time = str | int | float
Limit = Annotated[int, Meta(ge=1, le=limits.PAGE)]
Skip = Annotated[int, Meta(ge=0, le=limits.SKIP)]
Id = Annotated[str, Meta(min_length=1, max_length=limits.ID_CHARACTERS)]
Title = Annotated[str, Meta(max_length=limits.TITLE_CHARACTERS)]
Status = Literal["active", "ended", "archived"]


class MessageIn(msgspec.Struct, kw_only=True):
    """A message to store. One of ``id``, ``checksum`` and ``created_at`` makes a repeated import harmless."""

    content: str
    role: str = "user"
    message_type: str | None = "text"
    sender_id: str | None = None
    created_at: Time | None = None
    sent_at: Time | None = None
    id: str | None = None
    checksum: str | None = None
    owner_id: str | None = None
    parent_message_id: str | None = None
    conversation_id: str | None = None
    tags: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    attachments: list[dict[str, Any]] | None = None
    meta_data: dict[str, Any] | None = None

    def draft(self, *where: str | int) -> Draft:
        """The draft of it, not yet checked but for its times."""
        return Draft(
            content=self.content,
            role=self.role,
            message_type=self.message_type or "text",
            sender_id=self.sender_id,
            created_us=None if self.created_at is None else parse_time(self.created_at, *where, "created_at"),
            sent_us=None if self.sent_at is None else parse_time(self.sent_at, *where, "sent_at"),
            external_id=self.id,
            checksum=self.checksum,
            owner_id=self.owner_id,
            parent_message_id=self.parent_message_id,
            tags=None if self.tags is None else tuple(self.tags),
            tool_calls=self.tool_calls,
            attachments=self.attachments,
            meta_data=self.meta_data,
        )


class MessagesIn(msgspec.Struct, kw_only=True):
    """One or many messages in ``content``; or one message, whose text ``content`` then is."""

    content: str | MessageIn | list[MessageIn]
    conversation_id: str | None = None
    enable_memories: bool | None = False
    sender_policy: Literal["report", "strict"] | None = None
    role: str = "user"
    message_type: str | None = "text"
    sender_id: str | None = None
    created_at: Time | None = None
    sent_at: Time | None = None
    id: str | None = None
    checksum: str | None = None
    owner_id: str | None = None
    parent_message_id: str | None = None
    tags: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    attachments: list[dict[str, Any]] | None = None
    meta_data: dict[str, Any] | None = None

    def items(self) -> list[MessageIn]:
        """The messages, whichever way they came."""
        if isinstance(self.content, list):
            return self.content
        if isinstance(self.content, MessageIn):
            return [self.content]
        names = MessageIn.__struct_fields__
        return [MessageIn(**{name: getattr(self, name) for name in names})]


class MessageRead(msgspec.Struct, kw_only=True):
    """A stored message."""

    id: str
    conversation_id: str
    workspace_id: str
    sender_id: str
    role: str
    content: str
    message_type: str
    tool_calls: list[dict[str, Any]] | None
    tags: list[str] | None
    checksum: str | None
    external_id: str | None
    attachments: list[dict[str, Any]] | None
    parent_message_id: str | None
    meta_data: dict[str, Any] | None
    sent_at: str | None
    owner_id: str | None
    rating: int
    incomplete: bool
    created_at: str
    updated_at: str


def message_read(m: Message, workspace_id: str) -> MessageRead:
    """The message as this API shows it."""
    return MessageRead(
        id=m.id,
        conversation_id=m.conversation_id,
        workspace_id=workspace_id,
        sender_id=m.sender_id,
        role=m.role,
        content=m.content,
        message_type=m.message_type,
        tool_calls=m.tool_calls,
        tags=None if m.tags is None else list(m.tags),
        checksum=m.checksum,
        external_id=m.external_id,
        attachments=m.attachments,
        parent_message_id=m.parent_message_id,
        meta_data=m.meta_data,
        sent_at=None if m.sent_us is None else iso(m.sent_us),
        owner_id=m.owner_id,
        rating=m.rating,
        incomplete=m.incomplete,
        created_at=iso(m.created_us),
        updated_at=iso(m.updated_us),
    )


class MessageUpdate(msgspec.Struct, kw_only=True):
    """What is changed of a message; what is not given stays."""

    content: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    message_type: str | UnsetType = UNSET
    sender_id: str | UnsetType = UNSET
    sent_at: Time | None | UnsetType = UNSET
    parent_message_id: str | None | UnsetType = UNSET
    tags: list[str] | None | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | None | UnsetType = UNSET
    attachments: list[dict[str, Any]] | None | UnsetType = UNSET
    meta_data: dict[str, Any] | None | UnsetType = UNSET

    def change(self) -> messages.Change:
        """The change it asks for."""
        return messages.Change(
            content=self.content,
            role=self.role,
            message_type=self.message_type,
            sender_id=self.sender_id,
            sent_us=_time(self.sent_at, "sent_at"),
            parent_message_id=self.parent_message_id,
            tags=tuple(self.tags) if isinstance(self.tags, list) else self.tags,
            tool_calls=self.tool_calls,
            attachments=self.attachments,
            meta_data=self.meta_data,
        )


def _time(value: Time | None | UnsetType, name: str) -> int | None | UnsetType:
    return value if value is None or isinstance(value, UnsetType) else parse_time(value, "body", name)


class ConversationUpdate(msgspec.Struct, kw_only=True):
    """What is changed of a conversation; what is not given stays. ``user_id`` and ``owner_id`` are the same."""

    title: Title | None | UnsetType = UNSET
    summary: str | None | UnsetType = UNSET
    status: Status | None | UnsetType = UNSET
    is_public: bool | None | UnsetType = UNSET
    collections: list[str] | None | UnsetType = UNSET
    meta_data: dict[str, Any] | None | UnsetType = UNSET
    settings: dict[str, Any] | None | UnsetType = UNSET
    ended_at: Time | None | UnsetType = UNSET
    user_id: Id | None | UnsetType = UNSET
    owner_id: Id | None | UnsetType = UNSET

    def change(self) -> conversations.Change:
        """The change it asks for. ``user_id`` counts when both names are given."""
        if isinstance(self.owner_id, str):
            checks.identifier(self.owner_id, "body", "owner_id")
        owner = self.owner_id if self.user_id is UNSET or self.user_id is None else self.user_id
        if owner is UNSET:
            owner = self.user_id
        return conversations.Change(
            title=self.title,
            summary=self.summary,
            status=self.status,
            is_public=self.is_public,
            collections=self.collections,
            meta_data=self.meta_data,
            settings=self.settings,
            ended_us=_time(self.ended_at, "ended_at"),
            owner_id=owner,
        )


class ConversationCreate(ConversationUpdate, kw_only=True):
    """A conversation to make, with its first messages if there are any."""

    messages: Annotated[list[MessageIn], Meta(max_length=limits.REQUEST_MESSAGES)] | None = None
    session_id: Id | None = None
    enable_memories: bool | None = False


class Participant(msgspec.Struct, kw_only=True):
    """Who spoke in a conversation, in which roles."""

    sender_id: str
    roles: list[str]


class ConversationRead(msgspec.Struct, kw_only=True):
    """A conversation."""

    id: str
    workspace_id: str
    owner_id: str | None
    user_id: str | None
    title: str | None
    summary: str | None
    status: str
    is_public: bool
    collections: list[str]
    meta_data: dict[str, Any] | None
    settings: dict[str, Any] | None
    ended_at: str | None
    created_by: str | None
    created_at: str
    updated_at: str
    session_id: str | None
    message_count: int
    last_message_at: str | None
    participants: list[Participant] | None = None


def conversation_read(
    c: Conversation, workspace_id: str, participants: Sequence[tuple[str, str]] | None = None
) -> ConversationRead:
    """The conversation as this API shows it."""
    people: dict[str, list[str]] = {}
    for sender, role in participants or ():
        people.setdefault(sender, []).append(role)
    return ConversationRead(
        id=c.id,
        workspace_id=workspace_id,
        owner_id=c.owner_id,
        user_id=c.owner_id,
        title=c.title,
        summary=c.summary,
        status=c.status,
        is_public=c.is_public,
        collections=list(c.collections),
        meta_data=c.meta_data,
        settings=c.settings,
        ended_at=None if c.ended_us is None else iso(c.ended_us),
        created_by=c.created_by,
        created_at=iso(c.created_us),
        updated_at=iso(c.updated_us),
        session_id=c.session_id,
        message_count=c.message_count,
        last_message_at=None if c.last_message_us is None else iso(c.last_message_us),
        participants=(None if participants is None else [Participant(sender_id=s, roles=r) for s, r in people.items()]),
    )


class Paged(msgspec.Struct, kw_only=True):
    """What every list tells about itself."""

    total_count: int
    page: int | None = None
    limit: int | None = None
    next_page: int | None = None
    next_cursor: str | None = None
    prev_cursor: str | None = None
    has_more: bool = False


class ConversationList(Paged, kw_only=True):
    """Conversations, under both names that clients look for."""

    data: list[ConversationRead]
    conversations: list[ConversationRead]


class MessageList(Paged, kw_only=True):
    """Messages, under both names that clients look for."""

    data: list[MessageRead]
    messages: list[MessageRead]


class Deleted(msgspec.Struct, kw_only=True):
    """What was removed."""

    id: str
    message: str
    deleted: bool = True


class KeyIn(msgspec.Struct, kw_only=True):
    """An API key to make. An ``anon`` key is for browsers: few routes, only from ``origins`` when there are any."""

    label: Annotated[str, Meta(min_length=1, max_length=limits.LABEL_CHARACTERS)]
    status: Literal["active", "inactive"] = "active"
    expires_at: Time | None = None
    permissions: list[str] | None = None
    ip_whitelist: list[str] | None = None
    collections: list[str] | None = None
    kind: Literal["secret", "anon"] = "secret"
    origins: list[str] | None = None


class KeyUpdate(msgspec.Struct, kw_only=True):
    """What is changed of a key; what is not given stays."""

    label: Annotated[str, Meta(min_length=1, max_length=limits.LABEL_CHARACTERS)] | UnsetType = UNSET
    status: Literal["active", "inactive"] | UnsetType = UNSET
    expires_at: Time | None | UnsetType = UNSET
    permissions: list[str] | None | UnsetType = UNSET
    ip_whitelist: list[str] | None | UnsetType = UNSET
    collections: list[str] | None | UnsetType = UNSET
    origins: list[str] | None | UnsetType = UNSET


class KeyRead(msgspec.Struct, kw_only=True):
    """An API key. ``secret`` is shown once, in the answer that made it."""

    id: str
    key: str
    secret: str | None
    label: str
    status: str
    kind: str
    permissions: list[str]
    expires_at: str | None
    ip_whitelist: list[str] | None
    origins: list[str] | None
    collections: list[str] | None
    workspace_id: str
    created_by: str | None
    last_used_at: str | None
    created_at: str
    updated_at: str


def key_read(k: ApiKey, secret: str | None = None) -> KeyRead:
    """The key as this API shows it."""
    return KeyRead(
        id=k.id,
        key=k.key,
        secret=secret,
        label=k.label,
        status=k.status,
        kind=k.kind,
        permissions=list(k.permissions),
        expires_at=None if k.expires_us is None else iso(k.expires_us),
        ip_whitelist=list(k.ip_allow) or None,
        origins=list(k.origins) or None,
        collections=None if k.collections is None else list(k.collections),
        workspace_id=k.workspace_id,
        created_by=k.created_by,
        last_used_at=None if k.last_used_us is None else iso(k.last_used_us),
        created_at=iso(k.created_us),
        updated_at=iso(k.updated_us),
    )


class KeyList(Paged, kw_only=True):
    """API keys without their secrets."""

    data: list[KeyRead]


class SearchFilters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What narrows a search. ``metadata`` must be equal key by key."""

    since: Time | None = None
    until: Time | None = None
    role: str | None = None
    sender_id: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None


class SearchIn(msgspec.Struct, kw_only=True):
    """A search in what a user's conversations hold."""

    query: Annotated[str, Meta(min_length=1, max_length=limits.QUERY_CHARACTERS)]
    user_id: Id | None = None
    conversation_id: str | None = None
    kinds: list[Literal["message", "memory", "chunk"]] | None = None
    limit: Annotated[int, Meta(ge=1, le=limits.SEARCH_HITS)] | None = 10
    filters: SearchFilters | None = None
    asked_at: Time | None = None
    explain: bool | None = False


class HitRead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something found. ``message_ids`` are the messages it stands for; ``explain`` each signal's part of the score."""

    kind: Literal["message", "memory", "chunk"]
    id: str
    score: float
    message_ids: list[str]
    message: MessageRead | UnsetType = UNSET
    explain: dict[str, float] | UnsetType = UNSET


class SearchResults(msgspec.Struct, kw_only=True):
    """Hits, best first."""

    data: list[HitRead]
    total_results: int
    query: str
    execution_time_ms: float


class Indexing(msgspec.Struct, kw_only=True):
    """Work that waits. With 0 ``pending``, everything that was acknowledged is searchable."""

    user_id: str | None
    pending: int
    running: int
    failed: int
    parked: int
    kinds: dict[str, dict[str, int]]


class MessageStatus(msgspec.Struct, kw_only=True):
    """How far a message has come. ``jobs`` are those that still wait for it."""

    id: str
    conversation_id: str
    stored: bool
    searchable: bool
    jobs: dict[str, str]


class SessionUser(msgspec.Struct, kw_only=True):
    """Who a key speaks for."""

    id: str
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    avatar_url: str | None = None


class SessionWorkspace(msgspec.Struct, kw_only=True):
    """The workspace of a key."""

    id: str
    name: str | None = None


class Session(msgspec.Struct, kw_only=True):
    """Who asks, by the key that was sent."""

    user: SessionUser
    workspace: SessionWorkspace
    workspace_user: dict[str, Any] | None = None
    auth_type: str = "api_key"
    auth_provider: str | None = None
    permissions: list[str] = []


class ReceiptItem(msgspec.Struct, kw_only=True):
    """One record that stood before the question. ``message`` is null when it was deleted since."""

    kind: str
    id: str
    message_ids: list[str]
    rank: int
    score: float
    signals: dict[str, float]
    message: MessageRead | None = None


class ReceiptRead(msgspec.Struct, kw_only=True):
    """What was put before an answer, why, and from which messages."""

    id: str
    user_id: str | None
    conversation_id: str | None
    answer_message_id: str | None
    model: str
    items: list[ReceiptItem]
    tokens: int
    recall_ms: float
    skipped: str | None
    created_at: str
