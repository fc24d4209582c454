"""What a message of a ChatGPT export says: its words, its attachments and what kind of message it is."""

from typing import Any

from aforesaid.model import Json

PRIVATE = frozenset({"thoughts", "reasoning_recap", "user_editable_context", "model_editable_context"})
"""Content that was never said to the other side: the model's reasoning, and settings repeated in each conversation."""

_POINTERS = {
    "image_asset_pointer": "image",
    "audio_asset_pointer": "audio",
    "video_container_asset_pointer": "video",
    "file_asset_pointer": "file",
}
_KEPT_OF_POINTER = ("asset_pointer", "width", "height", "size_bytes", "format")


def said(content: Any) -> tuple[str, list[Json]]:
    """The words and the attachments of a ``content``. Whatever has neither, and wrong types, say nothing."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, dict):
        return "", []
    parts = content.get("parts")
    if isinstance(parts, list):
        return _of_parts(parts)
    kind = content.get("content_type")
    keys = ("title", "text", "url") if kind == "tether_quote" else ("text", "result", "content", "summary")
    texts = [value for key in keys if isinstance(value := content.get(key), str) and value.strip()]
    return "\n".join(texts if kind == "tether_quote" else texts[:1]), []


def attached(message_metadata: Json) -> list[Json]:
    """The files that the user put beside the message."""
    files = message_metadata.get("attachments")
    if not isinstance(files, list):
        return []
    kept = {"id": "id", "name": "name", "mimeType": "mime_type", "mime_type": "mime_type", "size": "size_bytes"}
    return [
        {"type": "file", **{ours: file[key] for key, ours in kept.items() if _plain(file.get(key))}}
        for file in files
        if isinstance(file, dict)
    ]


def _of_parts(parts: list[Any]) -> tuple[str, list[Json]]:
    texts: list[str] = []
    attachments: list[Json] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if isinstance(words := part.get("text"), str):
                texts.append(words)
            attachments.extend(_pointers(part))
    return "\n".join(words for words in texts if words.strip()), attachments


def _pointers(part: Json) -> list[Json]:
    """The assets that a part points to. Spoken turns hold theirs one level deeper."""
    found: list[Json] = []
    for item in (part, *(value for value in part.values() if isinstance(value, dict))):
        kind = _POINTERS.get(str(item.get("content_type")))
        if kind is None and isinstance(item.get("asset_pointer"), str):
            kind = "file"
        if kind is not None:
            found.append({"type": kind, **{key: item[key] for key in _KEPT_OF_POINTER if _plain(item.get(key))}})
    prompt = part.get("metadata", {}).get("dalle") if isinstance(part.get("metadata"), dict) else None
    if found and isinstance(prompt, dict) and isinstance(prompt.get("prompt"), str) and prompt["prompt"]:
        found[0]["prompt"] = prompt["prompt"]
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
