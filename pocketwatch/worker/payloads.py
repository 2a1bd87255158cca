"""What the run log keeps of a message's arguments: JSON that PostgreSQL can hold, of a bounded size."""

import json

from pydantic_core import PydanticSerializationError

from schemas import json_bounds
from schemas.message import Message

MAX_SIZE = 64 * 1024  # bytes
NUL = "\\u0000"  # as JSON spells it; `jsonb` cannot hold it


def payload_of(message: Message) -> str | None:
    """Return the arguments that were set and are not private, as JSON; None when they cannot be kept."""
    try:
        return _storable(message.model_dump_json(exclude_unset=True, exclude=set(message.private) or None))
    except (PydanticSerializationError, UnicodeError):  # of half a surrogate pair
        return None


def payload_of_body(body: bytes, message_type: type[Message]) -> str | None:
    """Return the body of a message that was refused; None when it is not JSON or cannot be kept.

    What a body holds under which name is not known before it is valid, so one with private fields is never kept.
    """
    if len(body) > MAX_SIZE or message_type.private:
        return None
    try:
        json_bounds.check(body)
        return _storable(json.dumps(json.loads(body), ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return None


def _storable(document: str) -> str | None:
    return document if NUL not in document and len(document.encode()) <= MAX_SIZE else None
