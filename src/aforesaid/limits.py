"""Every limit of the product: its name, its number, one place. Sizes are bytes unless a name says otherwise."""

MESSAGE_BYTES = 1 << 20
"""Text of one message, in UTF-8."""
METADATA_BYTES = 64 << 10
"""JSON of one metadata, settings, tool_calls or attachments value."""
JSON_DEPTH = 64
"""How deep such a value may be nested."""
REQUEST_MESSAGES = 5_000
"""Messages in one request."""
IMPORT_BODY_BYTES = 64 << 20
"""Body of a request that brings messages or documents."""
BODY_BYTES = 10 << 20
"""Body of any other request."""
PAGE = 1_000
"""Items on a page of a list."""
ID_CHARACTERS = 256
"""User ids, sender ids, session ids, external ids and checksums."""
TITLE_CHARACTERS = 255
"""Title of a conversation."""
SUMMARY_CHARACTERS = 20_000
"""Summary of a conversation."""
LABEL_CHARACTERS = 255
"""Label of an API key."""
QUERY_CHARACTERS = 10_000
"""A search query. A chat's question is cut to this much before it is searched for."""
TAGS = 100
"""Tags of one message, of at most ``ID_CHARACTERS`` each."""
SEARCH_HITS = 200
"""Hits of one search."""
SKIP = 1_000_000_000
"""The furthest start of an offset page."""
KEYS = 1_000
"""API keys of a workspace."""
LIST_ITEMS = 1_000
"""Items of a list field such as collections, permissions or addresses."""
IDEMPOTENCY_KEY_CHARACTERS = 255
"""An Idempotency-Key."""
IDEMPOTENCY_KEEP_S = 24 * 3600
"""How long an answer is kept for a retry of its request."""
