"""A stretch of an imported conversation and what storing it does: the conversation found or made, each message once.

Everything here runs in a transaction.
"""

from collections.abc import Sequence

import msgspec

from aforesaid import ids
from aforesaid.core import messages
from aforesaid.core.messages import Restored
from aforesaid.importers import ImportedConversation, ImportedMessage
from aforesaid.model import Caller, Conversation, Draft, DraftConversation
from aforesaid.store import conversations as conversation_store
from aforesaid.store import messages as message_store
from aforesaid.store.database import Tx


class Stretch(msgspec.Struct, frozen=True):
    """Neighbouring messages of one conversation, checked, with the conversation to make where it is missing."""

    owner_id: str | None
    source: DraftConversation
    blank: Conversation
    drafts: tuple[Draft, ...]
    touched_us: int | None

    @property
    def own_id(self) -> str | None:
        """The conversation's public id where the file is an export of this program."""
        named = self.source.id if isinstance(self.source, ImportedConversation) else None
        named = named or self.source.external_id
        return named if ids.number_of(named, ids.CONVERSATION) is not None else None

    @property
    def key(self) -> tuple[str | None, str]:
        """What tells the conversation from others of the file."""
        return self.owner_id, self.source.external_id


class Outcome(msgspec.Struct, frozen=True):
    """What one stretch came to."""

    made: bool
    new: int
    known: int


def _find(tx: Tx, caller: Caller, stretch: Stretch) -> Conversation | None:
    """The conversation of an earlier import of this source, or the one that the export was made of."""
    found = conversation_store.get_conversation_by_external_id(
        tx, caller.workspace, stretch.owner_id or "", stretch.source.external_id
    )
    if found is None and (own := stretch.own_id) is not None:
        number = ids.number_of(own, ids.CONVERSATION)
        assert number is not None
        candidate = conversation_store.get_conversation(tx, caller.workspace, number)
        if candidate is not None and candidate.id == own and candidate.owner_id == stretch.owner_id:
            return candidate
    return found


def _make(tx: Tx, caller: Caller, stretch: Stretch) -> Conversation:
    """The conversation of the source, under the id that it has in the export where that is free."""
    made, external_id = stretch.blank, stretch.source.external_id
    if (own := stretch.own_id) is not None:
        number = ids.number_of(own, ids.CONVERSATION)
        assert number is not None
        if conversation_store.get_conversation(tx, caller.workspace, number) is None:
            made = msgspec.structs.replace(made, id=own, number=number)
    conversation_store.add_conversation(tx, made, None if external_id == made.id else external_id)
    return made


def _filled(tx: Tx, found: Conversation, blank: Conversation) -> None:
    """What the stored conversation lacks and the source says is there: nothing that stands is changed."""
    gaps = {
        name: value
        for name in ("title", "summary", "meta_data", "settings")
        if getattr(found, name) is None and (value := getattr(blank, name)) is not None
    }
    if gaps:
        conversation_store.set_conversation(tx, msgspec.structs.replace(found, **gaps))


def add_stretch(tx: Tx, caller: Caller, stretch: Stretch, enable_memories: bool) -> Outcome:
    found = _find(tx, caller, stretch)
    if found is not None:
        _filled(tx, found, stretch.blank)
    conversation = found or _make(tx, caller, stretch)
    if not stretch.drafts:
        return Outcome(found is None, 0, 0)
    drafts, restored, there = _placed(tx, caller, conversation, stretch.drafts)
    if not drafts:
        return Outcome(found is None, 0, there)
    stored = messages.add(
        tx,
        caller,
        conversation.number,
        drafts,
        enable_memories=enable_memories,
        sender_policy="report",
        into_ended=True,
        restored=restored,
        touched_us=stretch.touched_us,
    )
    return Outcome(found is None, stored.created, stored.duplicates + there)


def _placed(
    tx: Tx, caller: Caller, conversation: Conversation, drafts: Sequence[Draft]
) -> tuple[list[Draft], dict[int, Restored], int]:
    """(drafts to add, what their export says of them beyond that, how many stand in the conversation by their id).

    A message keeps the public id of its export where that is free in the workspace.
    """
    homes = _homes(tx, caller, drafts)
    out: list[Draft] = []
    restored: dict[int, Restored] = {}
    there = 0
    for draft in drafts:
        if not isinstance(draft, ImportedMessage):
            out.append(draft)
            continue
        number = ids.number_of(draft.id, ids.MESSAGE) if draft.id else None
        home = homes.get(number) if number is not None else None
        if home == conversation.number:
            there += 1
            continue
        id = draft.id if number is not None and home is None else None
        if number is not None and id is not None:
            homes[number] = conversation.number
            if draft.external_id == id:
                draft = msgspec.structs.replace(draft, external_id=None)
        if id is not None or draft.rating or draft.updated_us is not None:
            restored[len(out)] = Restored(id=id, rating=draft.rating, updated_us=draft.updated_us)
        out.append(draft)
    return out, restored, there


def _homes(tx: Tx, caller: Caller, drafts: Sequence[Draft]) -> dict[int, int]:
    """Where the messages stand that have a public id of ours, as far as they do."""
    given = [ids.number_of(d.id, ids.MESSAGE) for d in drafts if isinstance(d, ImportedMessage) and d.id]
    numbers = [number for number in given if number is not None]
    return message_store.get_homes(tx, caller.workspace, numbers) if numbers else {}


def look_up(tx: Tx, caller: Caller, batch: list[Stretch]) -> list[tuple[Stretch, bool, set[int]]]:
    """Of each stretch, whether its conversation is there, and the places of those of its messages that are."""
    out = []
    for stretch in batch:
        found = _find(tx, caller, stretch)
        stored: set[int] = set()
        if found is not None:
            prints = [messages.identity(draft) for draft in stretch.drafts]
            wanted = [fingerprint for fingerprint in prints if fingerprint is not None]
            places = message_store.get_places(tx, caller.workspace, found.number, wanted)
            homes = _homes(tx, caller, stretch.drafts)
            for place, (draft, fingerprint) in enumerate(zip(stretch.drafts, prints, strict=True)):
                id = draft.id if isinstance(draft, ImportedMessage) else None
                number = ids.number_of(id, ids.MESSAGE) if id else None
                if fingerprint in places or (number is not None and homes.get(number) == found.number):
                    stored.add(place)
        out.append((stretch, found is not None, stored))
    return out
