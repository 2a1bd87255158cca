"""Logging: one loguru set-up for the suite and its libraries; columns on a terminal, JSON elsewhere.

An event has a stable dotted name, and its values are fields: `logger.bind(count=3).info("outbox.published")`.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from loguru import logger

from pocketwatch import identity
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Logging
from pocketwatch.text import json_printable, printable, shorten
from pocketwatch.tracebacks import own_traceback

if TYPE_CHECKING:
    from loguru import Message, Record

# Libraries whose INFO lines are noise to an operator; their warnings are logged.
WARNINGS_ONLY = ("aio_pika", "aiormq", "alembic", "asyncio", "httpx", "httpcore", "sqlalchemy", "faststream", "uvicorn")
# Libraries that log a lost connection for each channel and attempt; the suite logs it once.
CRITICAL_ONLY = ("aio_pika.tools", "aio_pika.robust_connection", "aiormq.connection")


AMQP = ("aio_pika", "aiormq")


class Intercept(logging.Handler):
    """Passes records of the standard library's logging on to loguru."""

    is_stopping = False  # whether the process closes its connections to the broker

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelname if record.levelname in logging.getLevelNamesMapping() else record.levelno
        if self.is_stopping and record.levelno < logging.ERROR and record.name.startswith(AMQP):
            level = "DEBUG"
        fields = {key: getattr(record, key) for key in ("queue", "exchange", "message_id") if getattr(record, key, "")}
        patched = logger.patch(lambda entry: entry.update({"name": record.name}))
        patched.bind(**fields).opt(exception=record.exc_info).log(level, record.getMessage())


def configure(settings: Logging) -> None:
    """Log to standard error, and to a rotating file when one is set. Safe to call again.

    Raises:
        SettingsError: when the file cannot be written.
    """
    logger.remove()
    as_json = _is_json(settings.format)
    _formats[:] = [as_json]
    logger.add(_write_stderr(as_json=as_json), level=settings.level, format="{message}", catch=True)
    if settings.file is not None:
        _write_file(settings.file, settings.level)
    logging.basicConfig(handlers=[Intercept()], level=logging.INFO, force=True)
    intercept_libraries()
    logging.captureWarnings(capture=True)


def intercept_libraries() -> None:
    """Log what libraries log; to be called again after the import of one that gives its logger a handler of its own."""
    for library in logging.root.manager.loggerDict.values():
        if isinstance(library, logging.Logger):
            library.handlers.clear()
            library.propagate = True
    for name in WARNINGS_ONLY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in CRITICAL_ONLY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("faststream").addFilter(_is_no_lost_connection)


def expect_closed_channels() -> None:
    """Log warnings of the AMQP libraries at DEBUG from now on: a process that stops closes what still waits."""
    for handler in logging.root.handlers:
        if isinstance(handler, Intercept):
            handler.is_stopping = True


_formats: list[bool] = []  # whether the log is JSON; empty before it is configured


def is_json() -> bool:
    """Whether the log is JSON; configure it by the environment alone when a setting cannot be used."""
    if not _formats:
        wanted = os.environ.get("POCKETWATCH_LOG_FORMAT")
        configure(Logging(POCKETWATCH_LOG_FORMAT="auto" if wanted not in ("console", "json") else wanted))
    return _formats[0]


def _is_json(wanted: str) -> bool:
    return wanted == "json" or (wanted == "auto" and not sys.stderr.isatty())


def _is_no_lost_connection(record: logging.LogRecord) -> bool:
    """Drop what is logged for each message in flight when a connection is lost: the broker delivers them again."""
    error = record.exc_info[1] if record.exc_info else None
    lost = isinstance(error, asyncio.CancelledError | ConnectionError)
    return not lost and type(error).__name__ != "ChannelInvalidStateError"  # aiormq's, which takes long to import


def _write_stderr(*, as_json: bool) -> Any:
    colour = sys.stderr.isatty()
    render = _json if as_json else (lambda record: _columns(record, colour=colour))

    def write(message: "Message") -> None:
        sys.stderr.write(render(message.record))

    return write


def _write_file(file: Path, level: str) -> None:
    try:
        logger.add(
            file,
            level=level,
            format=lambda record: _escape(_json(record)),
            rotation="20 MB",
            retention=10,
            compression="gz",
            diagnose=False,
        )
    except OSError as error:
        raise SettingsError(f'POCKETWATCH_LOG_FILE is "{file}", which cannot be written: {error}') from error


def _json(record: "Record") -> str:
    entry: dict[str, Any] = {
        "time": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "event": record["message"],
        "logger": record["name"],
        "worker": identity.worker(),
        "version": identity.version(),
        **record["extra"],
    }
    if (error := _error_of(record)) is not None:
        entry["traceback"] = own_traceback(error)
    shown = {name: shorten(value, LONGEST_TEXT) if isinstance(value, str) else value for name, value in entry.items()}
    return json_printable(json.dumps(shown, ensure_ascii=False, default=str)) + "\n"


def _error_of(record: "Record") -> BaseException | None:
    return None if record["exception"] is None else record["exception"].value


LONGEST_TEXT = 8_000  # characters of a value
COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}


def _columns(record: "Record", *, colour: bool) -> str:
    level = record["level"].name
    fields = " ".join(f"{key}={_quote_spaces(value)}" for key, value in record["extra"].items() if value is not None)
    line = f"{record['time']:HH:mm:ss.SSS} {level:<8} {_on_one_line(record['message']):<22} {fields}".rstrip()
    if (error := _error_of(record)) is not None:
        line += "\n" + indent(own_traceback(error), "    ")
    if colour and level in COLOURS:
        line = f"{COLOURS[level]}{line}\x1b[0m"
    return line + "\n"


def _on_one_line(text: str) -> str:
    """Escape line ends too, so that no text of others looks like a line of the log."""
    return printable(shorten(text, LONGEST_TEXT), keep="")


def _quote_spaces(value: object) -> str:
    text = _on_one_line(str(value))
    return f'"{text}"' if " " in text else text


def _escape(line: str) -> str:
    """Escape braces and tags: loguru formats what a format function returns once more."""
    return line.replace("{", "{{").replace("}", "}}").replace("<", r"\<")
