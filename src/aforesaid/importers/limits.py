"""The limits of reading a file. What one message or conversation may hold stands in ``aforesaid.limits``."""

MAX_DEPTH = 64
"""How deep metadata, attachments and tool calls may be nested."""

MAX_ROW_BYTES = 64 << 20
"""One line of JSONL, one element of an array, one document. It bounds the memory that reading takes."""

MAX_STRETCH_MESSAGES = 1000
"""The messages handed on at once; a longer conversation comes in several stretches."""

MAX_STRETCH_BYTES = 8 << 20
"""The content handed on at once when messages stand on lines of their own."""

MAX_EXPANSION = 200
"""How many times its size a compressed file may unpack to. Conversations reach 3 to 10, a bomb 1000."""

EXPANSION_FREE_BYTES = 64 << 20
"""What may be unpacked before ``MAX_EXPANSION`` is asked for."""

MAX_MEMBERS = 10_000
"""The files inside an archive."""

MAX_IGNORED_NAMES = 200
"""The different unknown names counted for the report."""

DETECT_ROWS = 100
"""The rows looked at to tell the format."""
