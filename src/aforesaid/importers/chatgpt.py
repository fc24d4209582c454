"""A ChatGPT data export: ``conversations.json``, an array of conversations that are trees of messages.

Each message is kept once, with its parent. The path that ends in ``current_node`` is the conversation as its user left
it; what was edited away or regenerated keeps its place at its fork, before the path goes on, and carries the number of
its branch in ``meta_data.branch``. *Source*: docs/how-to/import.md and docs/decisions/0007-import-formats.md.
"""

from collections.abc import Callable, Iterator
from typing import Any

from aforesaid import ids
from aforesaid.errors import Invalid
from aforesaid.importers import chatgpt_content, rows
from aforesaid.importers.rows import Broken, Entry, Ignored, Read
from aforesaid.model import Draft, DraftConversation, Json

_UNFINISHED = frozenset({"in_progress", "finished_partial_completion", "interrupted"})
_LONGEST_SLUG = 200


def fits(row: Json) -> bool:
    """Whether the object is a conversation of this format."""
    return isinstance(row.get("mapping"), dict)


def read(entries: Iterator[Entry | Broken], ignored: Ignored) -> Iterator[Read]:
    """The conversations of the export."""
    for entry in entries:
        if isinstance(entry, Broken):
            yield entry
            continue
        line, row = entry
        try:
            yield from _conversation(line, row, ignored)
        except Invalid as error:
            yield rows.broken(line, error)


def _conversation(line: int, row: Json, ignored: Ignored) -> Iterator[Read]:
    mapping = row.get("mapping")
    if not isinstance(mapping, dict):
        raise Invalid("a conversation needs its tree of messages", "mapping")
    tree = _Tree(mapping, row.get("current_node"))
    external_id = rows.name(row.get("conversation_id"), "conversation_id") or rows.name(row.get("id"), "id")
    if external_id is None:
        # The oldest exports name no conversation. The ids of its first messages don't change when it grows.
        first = [key for key, _ in tree.order if isinstance(mapping[key], dict) and mapping[key].get("message")][:2]
        external_id = "content:" + ids.fingerprint(*first).hex() if _clean(first) else None
    if external_id is None or not external_id.strip():
        raise Invalid("a conversation needs an id", "conversation_id")
    created_us = _time(row.get("create_time"), "create_time", ignored)
    messages: list[Draft] = []
    # For each node: the nearest message kept at or above it, and its time.
    above: dict[str, tuple[str | None, int | None]] = {}
    for key, branch in tree.order:
        parent_id, at_us = above.get(tree.parents.get(key, ""), (None, created_us))
        above[key] = parent_id, at_us
        try:
            draft = _message(key, mapping[key], ignored, branch=branch, parent_id=parent_id, at_us=at_us)
        except Invalid as error:
            yield rows.broken(line, error, "mapping", _shown(key))
            continue
        if draft is not None:
            messages.append(draft)
            above[key] = draft.external_id, draft.created_us
    yield DraftConversation(
        external_id=external_id,
        messages=tuple(messages),
        title=_title(row.get("title"), ignored),
        created_us=created_us,
        updated_us=_time(row.get("update_time"), "update_time", ignored),
        meta_data=_conversation_meta(row),
        line=line,
    )


def _message(
    key: str, node: Any, ignored: Ignored, *, branch: int, parent_id: str | None, at_us: int | None
) -> Draft | None:
    """The node's message, or None where there is nothing that was said. *Raises*: Invalid when it can't be kept."""
    if not isinstance(node, dict):
        raise Invalid("expected an object")
    found = node.get("message")
    if found is None:
        return None
    if not isinstance(found, dict):
        raise Invalid("expected an object", "message")
    content, about = _object(found.get("content")), _object(found.get("metadata"))
    kind = _word(content.get("content_type"))
    if kind in chatgpt_content.PRIVATE:
        ignored.note(f"content.{kind}")
        return None
    if about.get("is_visually_hidden_from_conversation") is True or found.get("weight") == 0:
        ignored.note("message.hidden")
        return None
    words, attachments = chatgpt_content.said(found.get("content"))
    attachments += chatgpt_content.attached(about)
    if not words.strip() and not attachments:
        if kind not in ("", "text", "multimodal_text"):
            ignored.note(f"content.{kind}")
        return None
    author, recipient = _object(found.get("author")), _word(found.get("recipient"))
    to_tool = recipient not in ("", "all")
    created_us = _time(found.get("create_time"), "create_time", ignored)
    return Draft(
        content=rows.text(words, "message", "content"),
        role=rows.role(author.get("role"), "message", "author", "role"),
        sender_id=rows.name(author.get("name"), "message", "author", "name"),
        message_type="code" if kind == "code" else "tool_call" if to_tool else "text",
        created_us=at_us if created_us is None else created_us,
        external_id=rows.name(found.get("id"), "message", "id") or rows.name(key),
        parent_message_id=parent_id,
        attachments=rows.objects(attachments, "message", "content", "parts"),
        meta_data=_meta(branch, about, kind, recipient if to_tool else ""),
        incomplete=_is_incomplete(found.get("status"), about),
    )


def _meta(branch: int, about: Json, kind: str, recipient: str) -> Json | None:
    meta: Json = {"branch": branch} if branch else {}
    model = _word(about.get("model_slug"))
    pairs = {"model": model, "content_type": "" if kind == "text" else kind, "recipient": recipient}
    meta.update({key: value for key, value in pairs.items() if value})
    return rows.metadata(meta, "message", "metadata")


def _conversation_meta(row: Json) -> Json:
    meta: Json = {"source": "chatgpt"}
    for key, ours in (("default_model_slug", "model"), ("gizmo_id", "gizmo_id")):
        if (value := _word(row.get(key))) and value.isprintable() and len(value) <= _LONGEST_SLUG:
            meta[ours] = value
    if row.get("is_archived") is True:
        meta["archived"] = True
    return meta


def _is_incomplete(status: Any, about: Json) -> bool:
    return _word(status) in _UNFINISHED or _object(about.get("finish_details")).get("type") == "interrupted"


def _time(value: Any, field: str, ignored: Ignored) -> int | None:
    """The time, or None: what was said is worth more than a wrong clock."""
    try:
        return rows.time(value, field) if value else None
    except Invalid:
        ignored.note(f"invalid.{field}")
        return None


def _title(value: Any, ignored: Ignored) -> str | None:
    """The title, or None: the site cuts titles short, at times in the middle of a character."""
    try:
        return rows.optional_text(value, "title") or None
    except Invalid:
        ignored.note("invalid.title")
        return None


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _clean(keys: list[str]) -> bool:
    return bool(keys) and all(len(key) <= _LONGEST_SLUG for key in keys)


def _shown(key: str) -> str:
    """The node's id, fit for a report."""
    return key[:64].encode("ascii", "backslashreplace").decode()


class _Tree:
    """The nodes of a mapping in the order to keep them, whatever the mapping says.

    ``order`` holds each node once with the number of its branch (0: the path to the current node). ``parents`` has no
    cycle: a node whose parent is missing, or stands below it, is a root.
    """

    def __init__(self, mapping: Json, current: Any) -> None:
        self._mapping = mapping
        self.parents: dict[str, str] = {}
        children: dict[str, list[str]] = {}
        for key, node in mapping.items():
            parent = _object(node).get("parent")
            if isinstance(parent, str) and parent in mapping and parent != key:
                self.parents[key] = parent
                children.setdefault(parent, []).append(key)
        for parent, below in children.items():
            if len(below) > 1:
                below.sort(key=self._place_among(parent))
        roots = [key for key in mapping if key not in self.parents]
        self.order: list[tuple[str, int]] = []
        self._children = children
        self._cut_cycles(roots)
        self._walk(roots, self._path(current, roots))

    def _place_among(self, parent: str) -> Callable[[str], int]:
        """The order of the children that the parent lists; unlisted ones come last."""
        listed = _object(self._mapping[parent]).get("children")
        listed = listed if isinstance(listed, list) else []
        places = {key: place for place, key in enumerate(listed) if isinstance(key, str)}
        return lambda key: places.get(key, len(places))

    def _cut_cycles(self, roots: list[str]) -> None:
        """Every node is below a root. A node that none leads to is in a cycle or below one: it is made a root."""
        seen: set[str] = set()
        self._reach(roots, seen)
        for key in self._mapping:
            if key not in seen:
                self._children[self.parents.pop(key)].remove(key)
                roots.append(key)
                self._reach([key], seen)

    def _reach(self, starts: list[str], seen: set[str]) -> None:
        waiting = list(starts)
        while waiting:
            key = waiting.pop()
            if key not in seen:
                seen.add(key)
                waiting.extend(self._children.get(key, ()))

    def _path(self, current: Any, roots: list[str]) -> set[str]:
        """The nodes from a root to the current one; without a current one, to the newest leaf of the newest child."""
        path: set[str] = set()
        if isinstance(current, str) and current in self._mapping:
            while True:
                path.add(current)
                if current not in self.parents:
                    return path
                current = self.parents[current]
        below = roots
        while below:
            path.add(below[-1])
            below = self._children.get(below[-1], [])
        return path

    def _walk(self, roots: list[str], path: set[str]) -> None:
        """Parents before children; at a fork the branches left behind first, then the path."""
        branches = 0
        waiting = [(key, -1) for key in _last(roots, path)]
        while waiting:
            key, branch = waiting.pop()
            if key in path:
                branch = 0
            elif branch < 1:
                branches += 1
                branch = branches
            self.order.append((key, branch))
            below = _last(self._children.get(key, []), path)
            # The first child goes on with its parent's branch; each other one begins a branch of its own.
            waiting.extend((child, -1) for child in below[:-1])
            waiting.extend((child, branch) for child in below[-1:])


def _last(siblings: list[str], path: set[str]) -> list[str]:
    """The siblings as a stack: taken from its end they come in their order, the one on the path last."""
    return sorted(siblings, key=lambda key: key in path)[::-1]
