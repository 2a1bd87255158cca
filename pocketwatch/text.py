"""Text that comes from others, made fit for logs, the database and the terminal."""


def shorten(text: str, length: int) -> str:
    """Cut a text to at most `length` characters; an ellipsis shows where it was cut."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def storable(text: str) -> str:
    """Remove what PostgreSQL's `text` and `jsonb` cannot hold: NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")
