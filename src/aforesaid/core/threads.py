"""Which stored conversation a completion request goes on with, and the storing of its turn.

OpenAI clients resend the whole history with each request. A conversation given by id is matched by its tail; without
an id, the request's messages are matched to a stored conversation of the same user by chained fingerprints, so that
only what is new is stored.
"""

from collections.abc import Sequence

import msgspec

from aforesaid import ids
from aforesaid.core import conversations, messages
from aforesaid.core.asking import Asked, Turn
from aforesaid.errors import NotFound
from aforesaid.model import Caller, Conversation, Draft, Frozen, Receipt
from aforesaid.store import conversations as conversation_store
from aforesaid.store import messages as message_store
from aforesaid.store import turns as turn_store
from aforesaid.store.database import Tx

TITLE_CHARACTERS = 80
TAIL = 64
"""Stored messages that a resent history is compared with."""


class Located(Frozen, frozen=True, kw_only=True):
    """Where a request stands. ``new_from`` is the first of its turns that is not stored yet."""

    conversation: Conversation | None
    new_from: int
    parent: str | None = None


def locate(tx: Tx, caller: Caller, asked: Asked) -> Located:
    """The conversation of the request. *Raises* ``NotFound`` for a given one that is not there or not this user's."""
    said = asked.said
    if asked.conversation_id is not None:
        conversation = conversations.resolve(tx, caller, asked.conversation_id)
        if asked.user_id is not None and conversation.owner_id not in (None, asked.user_id):
            raise NotFound("Conversation")
        return _by_tail(tx, conversation, said)
    if asked.session_id is not None:
        found = conversation_store.get_conversation_by_session(
            tx, caller.workspace, asked.user_id or "", asked.session_id
        )
        return _by_tail(tx, found, said) if found else Located(conversation=None, new_from=0)
    return _by_chain(tx, caller, asked.user_id or "", said)


def _by_tail(tx: Tx, conversation: Conversation, said: Sequence[Turn]) -> Located:
    """The turns behind the last one that the conversation ends with; without one, those since the last answer."""
    stored = message_store.list_tail(tx, conversation.workspace, conversation.number, TAIL)
    spoken = [(message.role, _spoken(message.content, message.tool_calls)) for message in stored]
    for end in range(len(said), 0, -1):
        same = 0
        while same < end and same < len(spoken):
            turn = said[end - 1 - same]
            if (turn.role, turn.spoken) != spoken[len(spoken) - 1 - same]:
                break
            same += 1
        # A lone equal message may be chance ("ok"); it counts when all that could be compared is equal.
        if same and (same == min(end, len(spoken)) or same >= 2):
            return Located(conversation=conversation, new_from=end)
    answered = max((i for i, turn in enumerate(said) if turn.role == "assistant"), default=-1)
    return Located(conversation=conversation, new_from=answered + 1)


def _spoken(text: str, tool_calls: list[dict[str, object]] | None) -> str:
    return Turn(role="", text=text, index=0, tool_calls=tool_calls).spoken


def _by_chain(tx: Tx, caller: Caller, owner_id: str, said: Sequence[Turn]) -> Located:
    """The conversation whose beginning is the longest beginning of the request."""
    nothing = Located(conversation=None, new_from=0)
    if len(said) < 2:
        return nothing
    found = turn_store.get_chain(tx, caller.workspace, owner_id, ids.chains((t.role, t.spoken) for t in said))
    if found is None:
        return nothing
    length, number, seq = found
    conversation = conversation_store.get_conversation(tx, caller.workspace, number)
    if conversation is None or conversation.status == "ended":
        return nothing
    # Asked again: what follows may be stored too, up to the answer that is wanted anew.
    later = message_store.list_range(tx, caller.workspace, number, seq + 1, seq + len(said) - length)
    for message in later:
        if length >= len(said):
            break
        turn = said[length]
        if (turn.role, turn.spoken) != (message.role, _spoken(message.content, message.tool_calls)):
            break
        length += 1
        seq = message.seq
    parents = message_store.get_messages_at(tx, caller.workspace, [(number, seq)])
    parent = parents.get((number, seq))
    return Located(conversation=conversation, new_from=length, parent=parent.id if parent else None)


class Spoken(Frozen, frozen=True, kw_only=True):
    """An answer to be stored with the turn that asked for it; one draft for each choice."""

    answers: list[Draft]


def store_turn(
    tx: Tx, caller: Caller, asked: Asked, spoken: Spoken, fresh_id: str, receipt: Receipt
) -> tuple[Conversation, list[str]]:
    """The new turns and the answer stand in the conversation, with the receipt. *Gives* it and the answers' ids."""
    located = locate(tx, caller, asked)
    conversation = located.conversation or _new_conversation(tx, caller, asked, fresh_id)
    said = asked.said
    drafts = [turn.draft() for turn in said[located.new_from :]]
    branched = located.parent is not None and conversation.next_seq > 1
    if drafts and branched:
        drafts[0] = msgspec.structs.replace(drafts[0], parent_message_id=located.parent)
    answers = spoken.answers
    if not drafts and branched:
        answers = [msgspec.structs.replace(answer, parent_message_id=located.parent) for answer in answers]
    stored = messages.add(tx, caller, conversation.number, [*drafts, *answers], into_ended=True)
    made = stored.messages[len(drafts) :]
    owner_id = conversation.owner_id or ""
    before = ids.chains((turn.role, turn.spoken) for turn in said)
    for message in made:
        text = _spoken(message.content, message.tool_calls)
        chain = ids.chain(before[-1] if before else b"", "assistant", text)
        turn_store.set_chain(tx, caller.workspace, owner_id, chain, conversation.number, message.seq)
    turn_store.add_receipt(
        tx,
        msgspec.structs.replace(receipt, conversation=conversation.number, answer=made[0].number if made else None),
    )
    return conversation, [message.id for message in made]


def _new_conversation(tx: Tx, caller: Caller, asked: Asked, fresh_id: str) -> Conversation:
    first = " ".join(next((turn.text for turn in asked.said if turn.role == "user"), "").split())
    title = first if len(first) <= TITLE_CHARACTERS else first[: TITLE_CHARACTERS - 1] + "…"
    change = conversations.Change(title=title.replace("\x00", "") or None, owner_id=asked.user_id)
    return conversations.add(tx, caller, change, session_id=asked.session_id, id=fresh_id)
