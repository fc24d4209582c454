"""What the use cases work with: the running parts, given by the composition root."""

import msgspec

from aforesaid.core.access import Keyring, require
from aforesaid.core.recollection import Recollection
from aforesaid.model import Caller
from aforesaid.providers.chat import Chat
from aforesaid.store.database import Database


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that use cases read."""

    recall_budget_s: float = 0.15
    """How long a completion waits for recall before it goes on without."""
    recall_items: int = 20
    """Messages put before an answer at most."""
    recall_tokens: int = 1500
    """Tokens of them at most."""
    default_model: str | None = None
    """Who answers where a request names no model; None: the first model that the model servers list."""
    legacy_unauthenticated: bool = False
    """Whether the old widget's calls without a key are answered."""
    version: str = ""


class Services:
    """The running parts of a server."""

    def __init__(
        self, db: Database, keyring: Keyring, chat: Chat, recollection: Recollection, options: Options
    ) -> None:
        self.db = db
        self.keyring = keyring
        self.chat = chat
        self.recollection = recollection
        self.options = options

    def require(self, caller: Caller, permission: str) -> None:
        """The caller may do this. *Raises* ``Forbidden``."""
        require(caller, permission)
