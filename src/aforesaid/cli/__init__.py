"""The command ``aforesaid``. Each command's work is in a file of its own, imported when it is called."""

from aforesaid.cli.main import main

__all__ = ["main"]
