"""The content of a message in OpenAI's wire form: a text, or a list of typed parts."""

from typing import Any

from aforesaid.errors import Invalid
from aforesaid.model import Json

_TEXT_KEYS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def text_and_attachments(value: Any, *field: str | int) -> tuple[str, list[Json]]:
    """The words of a content, and its other parts as attachments. Null is no words.

    Text parts are joined by a line break. *Raises*: Invalid when it is neither text nor a list of parts.
    """
    if value is None:
        return "", []
    if isinstance(value, str):
        return value, []
    if not isinstance(value, list):
        raise Invalid("expected text or a list of parts", *field)
    texts: list[str] = []
    attachments: list[Json] = []
    for place, part in enumerate(value):
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, dict):
            raise Invalid("expected a part: text or an object", *field, place)
        elif (key := _TEXT_KEYS.get(str(part.get("type")))) is not None:
            words = part.get(key)
            if not isinstance(words, str):
                raise Invalid("expected text", *field, place, key)
            texts.append(words)
        else:
            attachments.append(part)
    return "\n".join(texts), attachments
