"""The files that hold settings: `.env`, the environment of the local stack, and files with a secret each."""

import codecs
import io
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from pocketwatch.errors import SettingsError


def read_dotenv(file: Path, known: Collection[str]) -> dict[str, str | None]:
    """Return the variables of a file; empty when there is none.

    Args:
        file: with lines such as `NAME=value`, `export NAME='value'` or `NAME="value"  # comment`.
        known: the names of settings.

    Raises:
        SettingsError: when it cannot be read, or has a line that is no assignment; never quotes the line.
    """
    try:
        text = _text(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f'"{file}" cannot be read: {_reason(error)}') from None
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.value is None and line.key in known):
            number = line.original.line + len(line.original.string) - len(line.original.string.lstrip("\r\n"))
            raise SettingsError(f'"{file}" line {number}: not an assignment; write NAME=value, and close each quote')
    return dotenv_values(stream=io.StringIO(text))


def read_secret(name: str, path: str) -> str:
    """Return the content of the file that a variable names, without white space around it.

    Raises:
        SettingsError: when it cannot be read, or is empty.
    """
    try:
        text = _text(Path(path).read_bytes()).strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f'{name} is "{path}", which cannot be read: {_reason(error)}') from None
    if not text:
        raise SettingsError(f'{name} is "{path}", which is empty; write the value into the file')
    return text


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise ValueError("it is not UTF-8 text, but perhaps UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from None


def _reason(error: OSError | ValueError) -> str:
    return f"{error.strerror}; it must be a readable file" if isinstance(error, OSError) else str(error)
