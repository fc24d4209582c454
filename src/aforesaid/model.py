"""The nouns of the house. Frozen values without behaviour; times are integer microseconds UTC (``*_us``)."""

from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")

Role = Literal["user", "assistant", "system", "developer", "tool", "function"]
KeyKind = Literal["secret", "anon"]
JobState = Literal["queued", "running", "done", "failed", "parked"]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every noun: immutable, compared by value. Subclasses repeat the flags, which type checkers ask for."""


class Workspace(Frozen, frozen=True, kw_only=True):
    """A tenant. ``workspace`` is its key in every table, ``id`` its public name."""

    workspace: int
    id: str
    name: str
    created_us: int


class Caller(Frozen, frozen=True, kw_only=True):
    """Who asks: an authenticated key and what it may do. The only source of the workspace."""

    workspace: int
    workspace_id: str
    key_id: str
    kind: KeyKind
    label: str = ""
    permissions: tuple[str, ...] = ("read", "write")
    collections: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()


class ApiKey(Frozen, frozen=True, kw_only=True):
    """A stored key without its secret. ``key`` is the public part shown in lists."""

    id: str
    workspace: int
    workspace_id: str
    kind: KeyKind
    key: str
    label: str
    status: Literal["active", "inactive"] = "active"
    permissions: tuple[str, ...] = ("read", "write")
    ip_allow: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    collections: tuple[str, ...] | None = None
    expires_us: int | None = None
    created_by: str | None = None
    created_us: int
    updated_us: int
    last_used_us: int | None = None


class Conversation(Frozen, frozen=True, kw_only=True):
    """A conversation. ``number`` is the integer spelling of ``id`` and the key of its messages."""

    workspace: int
    number: int
    id: str
    owner_id: str | None
    session_id: str | None = None
    title: str | None = None
    summary: str | None = None
    status: str = "active"
    is_public: bool = False
    collections: tuple[str, ...] = ()
    meta_data: Json | None = None
    settings: Json | None = None
    ended_us: int | None = None
    created_by: str | None = None
    created_us: int
    updated_us: int
    message_count: int = 0
    next_seq: int = 1
    last_message_us: int | None = None


class Draft(Frozen, frozen=True, kw_only=True):
    """A message before it is stored: what an importer or a caller says of it.

    ``created_us`` is the caller's own time or None; ``external_id`` the caller's own id of the message.
    """

    content: str
    role: str = "user"
    sender_id: str | None = None
    message_type: str = "text"
    created_us: int | None = None
    sent_us: int | None = None
    external_id: str | None = None
    checksum: str | None = None
    owner_id: str | None = None
    parent_message_id: str | None = None
    tags: tuple[str, ...] | None = None
    tool_calls: list[Json] | None = None
    attachments: list[Json] | None = None
    meta_data: Json | None = None
    incomplete: bool = False


class DraftConversation(Frozen, frozen=True, kw_only=True):
    """A conversation of an import: its own key there, and its messages in order.

    ``external_id`` names it in the source; the same source imported twice finds the same conversation by it.
    ``line`` is where it stands in the file (1-based), for reports.
    """

    external_id: str
    messages: tuple[Draft, ...]
    owner_id: str | None = None
    title: str | None = None
    created_us: int | None = None
    updated_us: int | None = None
    status: str = "active"
    summary: str | None = None
    ended_us: int | None = None
    meta_data: Json | None = None
    line: int = 0


class Message(Frozen, frozen=True, kw_only=True):
    """A stored message. ``seq`` is its dense place in the conversation, ``number`` the integer spelling of ``id``."""

    workspace: int
    conversation: int
    conversation_id: str
    seq: int
    number: int
    id: str
    sender_id: str
    role: str
    content: str
    message_type: str = "text"
    created_us: int
    updated_us: int
    sent_us: int | None = None
    owner_id: str | None = None
    external_id: str | None = None
    checksum: str | None = None
    parent_message_id: str | None = None
    tags: tuple[str, ...] | None = None
    tool_calls: list[Json] | None = None
    attachments: list[Json] | None = None
    meta_data: Json | None = None
    rating: int = 0
    incomplete: bool = False


class Stored(Frozen, frozen=True, kw_only=True):
    """What became of a batch: its messages at their places, which of them are new, and what was odd about rows."""

    messages: list[Message]
    created: int
    duplicates: int
    notes: list[Json] = []


class Hit(Frozen, frozen=True, kw_only=True):
    """A recalled item, best first in lists. ``signals`` holds each signal's part of ``score``."""

    kind: Literal["message", "memory", "chunk"]
    id: str
    score: float
    message_ids: tuple[str, ...]
    message: Message | None = None
    signals: dict[str, float] = {}


class Job(Frozen, frozen=True, kw_only=True):
    """A piece of later work, stored with what caused it. Times decide when it may be claimed."""

    id: int
    workspace: int
    owner_id: str | None
    kind: str
    payload: Json
    state: JobState = "queued"
    attempts: int = 0
    run_at_us: int = 0
    lease_until_us: int | None = None
    error: str | None = None
    created_us: int = 0
    updated_us: int = 0


class Receipt(Frozen, frozen=True, kw_only=True):
    """What was put before an answer and why: the record behind one completion.

    ``items`` name their messages by id and hold scores, never text: deleting a message leaves none of it here.
    """

    id: str
    workspace: int
    user_id: str | None
    conversation: int | None
    answer: int | None
    model: str
    items: list[Json]
    tokens: int
    recall_ms: float
    skipped: str | None
    created_us: int


class Page(Frozen, Generic[T], frozen=True, kw_only=True):
    """A page of a list. ``total`` counts everything that matches, where the caller asked for it."""

    items: list[T]
    next_cursor: str | None = None
    prev_cursor: str | None = None
    has_more: bool = False
    total: int | None = None
