"""Aforesaid: conversations brought along, and completions that remember them."""

__version__ = "0.1.0"
