"""Which stored conversation a completion request goes on with, and the storing of its turn.

OpenAI clients resend the whole history with each request. A conversation given by id is matched by its tail; without
an id, the request's messages are matched to a stored conversation of the same user by chained fingerprints, so that
only what is new is stored.
"""

from collections import defaultdict

import msgspec

from aforesaid import ids
from aforesaid.core import conversations, messages
from aforesaid.core.asking import FIRST_ROLES, Asked, spoken
from aforesaid.errors import Invalid, NotFound
from aforesaid.model import Caller, Conversation, Draft, Frozen, Message, Receipt
from aforesaid.store import conversations as conversation_store
from aforesaid.store import messages as message_store
from aforesaid.store import turns as turn_store
from aforesaid.store.database import Tx

TITLE_CHARACTERS = 80
TAIL = 64
"""Stored messages that a resent history is compared with."""
TAIL_MARGIN = 8
"""How many more of them than the request has turns: answers given anew stand in between."""
CHAIN_TURNS = 200
"""Answers of a resent history that are looked for, counted from its end."""
TWINS = 4
"""Conversations of one user with the same beginning that are told apart by what follows, besides the newest."""


class Located(Frozen, frozen=True, kw_only=True):
    """Where a request stands. ``new_from`` is the first of its turns that is not stored yet.

    ``parent`` is the message that those follow, where it is not the conversation's last.
    """

    conversation: Conversation | None
    new_from: int
    parent: str | None = None


def given(tx: Tx, caller: Caller, asked: Asked) -> Conversation | None:
    """The conversation that the request names, if it names one.

    *Raises* ``NotFound`` for one that is not there or not this user's; ``Invalid`` for one that has ended.
    """
    if asked.conversation_id is None:
        return None
    conversation = conversations.resolve(tx, caller, asked.conversation_id)
    if asked.user_id is not None and conversation.owner_id not in (None, asked.user_id):
        raise NotFound("Conversation")
    if conversation.status == "ended" and not asked.into_ended:
        raise Invalid("the conversation has ended", "conversation_id")
    return conversation


def locate(tx: Tx, caller: Caller, asked: Asked) -> Located:
    """The conversation of the request. *Raises* as ``given`` does."""
    conversation = given(tx, caller, asked)
    if conversation is not None:
        return _within(tx, conversation, asked)
    if asked.session_id is not None:
        return _in_session(tx, caller, asked)
    if not asked.resent:
        return _begun(asked)
    return _by_chain(tx, caller, asked)


def _begun(asked: Asked) -> Located:
    """A new conversation, with every turn that the request brings."""
    return Located(conversation=None, new_from=0 if asked.resent else len(asked.said) - 1)


def _in_session(tx: Tx, caller: Caller, asked: Asked) -> Located:
    assert asked.session_id is not None
    found = conversation_store.get_conversation_by_session(tx, caller.workspace, asked.user_id or "", asked.session_id)
    if found is None or found.status == "ended":
        return _begun(asked)
    return _within(tx, found, asked)


def _within(tx: Tx, conversation: Conversation, asked: Asked) -> Located:
    """The turns that this conversation does not hold yet: those behind the last one that stands in it.

    A turn stands in it when it and those before it are there in the same order. A lone one counts only at the end:
    in the middle it may be chance ("ok"). Where none stands in it, the turns since the last answer are new.
    """
    lines = asked.lines
    if not asked.resent:
        return Located(conversation=conversation, new_from=len(lines) - 1)
    if conversation.next_seq == 1:
        return Located(conversation=conversation, new_from=0)
    wanted = min(TAIL, len(lines) + TAIL_MARGIN)
    tail = message_store.list_tail(tx, conversation.workspace, conversation.number, wanted)
    stored = [message for message in tail if message.role not in FIRST_ROLES]
    held = [_line(message) for message in stored]
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, line in enumerate(held):
        places[line].append(place)
    for end in range(len(lines), max(0, len(lines) - TAIL), -1):
        for place in reversed(places.get(lines[end - 1], ())):
            same = 1
            while same < end and same <= place and lines[end - 1 - same] == held[place - same]:
                same += 1
            last, whole = place == len(held) - 1, same == min(end, place + 1)
            if (same >= 2 and (whole or last)) or (whole and last):
                parent = None if last else stored[place].id
                return Located(conversation=conversation, new_from=end, parent=parent)
    answered = max((i for i, (role, _) in enumerate(lines) if role == "assistant"), default=-1)
    return Located(conversation=conversation, new_from=answered + 1)


def _line(message: Message) -> tuple[str, str]:
    return message.role, spoken(message.content, message.tool_calls)


def _by_chain(tx: Tx, caller: Caller, asked: Asked) -> Located:
    """The conversation whose beginning is the longest beginning of the request that ends with an answer.

    Of several with that beginning, the newest that nothing has followed in yet; else the newest.
    """
    answers = [i for i, (role, _) in enumerate(asked.lines) if role == "assistant"][-CHAIN_TURNS:]
    if not answers:
        return _begun(asked)
    owner_id = asked.user_id or ""
    found = turn_store.get_chain(tx, caller.workspace, owner_id, [asked.chains[i] for i in answers])
    if found is None:
        return _begun(asked)
    length = answers[found[0] - 1] + 1
    first, fits = _standing(tx, caller, asked, length, found[1], found[2])
    if first is not None and fits:
        return first
    for depth in range(1, TWINS + 1):
        twin = turn_store.get_chain(tx, caller.workspace, owner_id, [_twin(asked.chains[length - 1], depth)])
        if twin is not None:
            other, fits = _standing(tx, caller, asked, length, twin[1], twin[2])
            if other is not None and fits:
                return other
            first = first or other
    return first or _begun(asked)


def _standing(tx: Tx, caller: Caller, asked: Asked, length: int, number: int, seq: int) -> tuple[Located | None, bool]:
    """Where the request stands in the conversation that holds its first ``length`` turns up to ``seq``.

    Also whether it goes on there, instead of away from what follows. None for a conversation that takes nothing more.
    """
    conversation = conversation_store.get_conversation(tx, caller.workspace, number)
    if conversation is None or conversation.status == "ended":
        return None, False
    lines = asked.lines
    last = conversation.next_seq - 1
    if seq < last and length < len(lines):
        # Asked again: what follows may be stored too, up to the answer that is wanted anew.
        later = message_store.list_range(tx, caller.workspace, number, seq + 1, seq + len(lines) - length)
        for message in later:
            if length >= len(lines) or lines[length] != _line(message):
                break
            length += 1
            seq = message.seq
    fits = seq >= last or length == len(lines)
    parent = None
    if seq < last:
        before = message_store.get_messages_at(tx, caller.workspace, [(number, seq)]).get((number, seq))
        parent = before.id if before else None
    return Located(conversation=conversation, new_from=length, parent=parent), fits


def _twin(chain: bytes, depth: int) -> bytes:
    """The name under which an older conversation with the same beginning is kept."""
    return ids.chain(chain, "twin", str(depth))


def _remember(tx: Tx, workspace: int, owner_id: str, chain: bytes, number: int, seq: int) -> None:
    """The list of turns ends at that message; other conversations that it stands in are kept behind it."""
    place = (number, seq)
    for depth in range(TWINS + 1):
        name = _twin(chain, depth) if depth else chain
        found = turn_store.get_chain(tx, workspace, owner_id, [name])
        turn_store.set_chain(tx, workspace, owner_id, name, *place)
        if found is None or found[1] == number:
            return
        place = found[1:]


class Spoken(Frozen, frozen=True, kw_only=True):
    """An answer to be stored with the turn that asked for it; one draft for each choice."""

    answers: list[Draft]


def store_turn(
    tx: Tx,
    caller: Caller,
    asked: Asked,
    spoken: Spoken,
    fresh_id: str,
    receipt: Receipt,
    announced: Located | None = None,
) -> tuple[Conversation, list[str]]:
    """The new turns and the answer stand in the conversation, with the receipt. *Gives* it and the answers' ids.

    *Takes*: ``announced``, what the caller was told of where the turn goes: there, or under ``fresh_id``, it goes.
    *Raises* ``NotFound`` when that conversation is gone.
    """
    located = _now(tx, caller, asked, announced)
    conversation = located.conversation or _new_conversation(tx, caller, asked, fresh_id)
    drafts = [turn.draft() for turn in asked.said[located.new_from :]]
    answers = spoken.answers
    if located.parent is not None and drafts:
        drafts[0] = msgspec.structs.replace(drafts[0], parent_message_id=located.parent)
    elif located.parent is not None:
        answers = [msgspec.structs.replace(answer, parent_message_id=located.parent) for answer in answers]
    stored = messages.add(tx, caller, conversation.number, [*drafts, *answers], into_ended=True)
    made = stored.messages[len(drafts) :]
    owner_id = asked.user_id or conversation.owner_id or ""
    before = asked.chains[-1] if asked.chains else b""
    for message in made if asked.resent else ():
        chain = ids.chain(before, *_line(message))
        _remember(tx, caller.workspace, owner_id, chain, conversation.number, message.seq)
    turn_store.add_receipt(
        tx,
        msgspec.structs.replace(receipt, conversation=conversation.number, answer=made[0].number if made else None),
    )
    return conversation, [message.id for message in made]


def _now(tx: Tx, caller: Caller, asked: Asked, announced: Located | None) -> Located:
    """Where the request stands now, in the conversation that was announced: others may have stored since."""
    if announced is None:
        announced = locate(tx, caller, msgspec.structs.replace(asked, into_ended=True))
    if announced.conversation is None:
        if asked.session_id is None or asked.conversation_id is not None:
            return _begun(asked)
        # Two first requests of one session at once: the second finds what the first began.
        tx.alone(f"session {caller.workspace} {asked.user_id} {asked.session_id}")
        announced = _in_session(tx, caller, asked)
        if announced.conversation is None:
            return announced
    # Lock first, look second: a turn that is being stored at this moment is waited for, then seen.
    conversation = conversations.resolve(tx, caller, announced.conversation.number, lock_us=ids.now_us())
    if asked.conversation_id is None and asked.session_id is None and asked.resent:
        found = _by_chain(tx, caller, asked)
        if found.conversation is not None and found.conversation.number == conversation.number:
            return found
    return _within(tx, conversation, asked)


def _new_conversation(tx: Tx, caller: Caller, asked: Asked, fresh_id: str) -> Conversation:
    first = " ".join(next((turn.text for turn in asked.said if turn.role == "user"), "").split())
    title = first if len(first) <= TITLE_CHARACTERS else first[: TITLE_CHARACTERS - 1] + "…"
    change = conversations.Change(title=title.replace("\x00", "") or None, owner_id=asked.user_id)
    return conversations.add(tx, caller, change, session_id=asked.session_id, id=fresh_id)
