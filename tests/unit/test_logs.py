"""Log lines of the suite and its libraries, on a terminal and as JSON."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fixtures.servers import ROOT

SET_UP = """
import logging, sys
from loguru import logger
from pocketwatch import logs
from pocketwatch.settings import Logging
logs.configure(Logging(**{settings!r}))
"""


def logged(code: str, **settings: str) -> str:
    """Run this code and return standard error."""
    named = {f"POCKETWATCH_LOG_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-c", SET_UP.format(settings=named) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def as_json(code: str, **settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(code, format="json", **settings).splitlines()]


def test_line_is_an_event_with_its_fields():
    (line,) = as_json("logger.bind(job='cleanup.tokens', took_ms=3, path='{a} <b>').info('message.handled')")

    assert (line["event"], line["level"]) == ("message.handled", "INFO")
    assert (line["job"], line["took_ms"], line["path"]) == ("cleanup.tokens", 3, "{a} <b>")


def test_json_line_names_the_process_and_its_version():
    (line,) = as_json(
        "from pocketwatch.identity import worker, version; logger.bind(w=worker(), v=version()).info('x')"
    )

    assert (line["worker"], line["version"]) == (line["w"], line["v"])
    assert line["worker"].rpartition(":")[2].isdecimal()


def test_traceback_of_a_failed_attempt_holds_our_own_frames():
    code = """
from pocketwatch.clock import parse_duration
try:
    parse_duration("soon")
except ValueError:
    logger.opt(exception=True).warning("message.retried")
"""
    (line,) = as_json(code)

    first, frame = line["traceback"].splitlines()
    assert first.startswith("ValueError: not a duration")
    assert frame.startswith("  pocketwatch.clock:")


def test_terminal_format_shows_fields_in_columns():
    line = logged("logger.bind(job='cleanup.tokens', why='two words', none=None).warning('waits')", format="console")

    assert line.split()[1:] == ["WARNING", "waits", "job=cleanup.tokens", 'why="two', 'words"']


def test_format_is_json_without_a_terminal():
    assert json.loads(logged("logger.info('x')", format="auto"))["event"] == "x"


def test_library_log_lines_keep_their_name_and_level():
    code = """
for name in ("faststream", "aio_pika.connection", "aiormq.channel", "sqlalchemy.pool"):
    logging.getLogger(name).warning("lost %s", "it")
    logging.getLogger(name).info("chatter")
"""
    lines = as_json(code)

    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("faststream", "WARNING", "lost it"),
        ("aio_pika.connection", "WARNING", "lost it"),
        ("aiormq.channel", "WARNING", "lost it"),
        ("sqlalchemy.pool", "WARNING", "lost it"),
    ]


def test_library_with_a_handler_of_its_own_is_logged_once_as_json():
    code = """
import faststream
logs.configure(Logging(POCKETWATCH_LOG_FORMAT="json"))
logging.getLogger("faststream").error("lost %s", "it")
"""
    (line,) = as_json(code)

    assert (line["logger"], line["level"], line["event"]) == ("faststream", "ERROR", "lost it")


def test_library_that_is_imported_later_is_logged_as_json():
    code = """
assert "faststream" not in sys.modules
import pocketwatch.worker.connections
logging.getLogger("faststream").info("chatter")
logging.getLogger("faststream").error("lost %s", "it")
"""
    (line,) = as_json(code)

    assert (line["logger"], line["level"], line["event"]) == ("faststream", "ERROR", "lost it")


def test_lost_connection_is_not_logged_again_for_each_message():
    code = """
import asyncio
from aiormq.exceptions import AMQPConnectionError, ChannelInvalidStateError
for error in (asyncio.CancelledError(), AMQPConnectionError("reset"), ChannelInvalidStateError(), ZeroDivisionError()):
    logging.getLogger("faststream").error(type(error).__name__, exc_info=error)
"""
    (line,) = as_json(code)

    assert line["event"] == "ZeroDivisionError"


def test_python_warnings_are_logged():
    (line,) = as_json("import warnings; warnings.warn('old')")

    assert line["level"] == "WARNING"
    assert "UserWarning: old" in line["event"]


def test_exception_is_one_line_without_values_of_variables():
    code = """
def connect(password):
    raise ConnectionError("refused")
try:
    connect("hunter2")
except ConnectionError:
    logging.getLogger("asyncio").exception("it broke")
"""
    (line,) = as_json(code)

    assert line["event"] == "it broke"
    assert "ConnectionError: refused" in line["traceback"]
    assert "hunter2" not in line["traceback"]


def test_level_applies_to_libraries_too():
    code = "logger.info('ours'); logging.getLogger('theirs').info('info'); logging.getLogger('theirs').error('error')"

    assert [line["event"] for line in as_json(code, level="ERROR")] == ["error"]


def test_log_file_is_json_and_rotated(tmp_path: Path):
    file = tmp_path / "logs/pocketwatch.log"
    logged("for n in range(3_000): logger.bind(n=n, text='{x}<y>' + 'z' * 8_000).info('grow')", file=str(file))

    rotated = list(file.parent.glob("*.gz"))
    assert len(rotated) == 1
    last = file.read_text().splitlines()[-1]
    entry = json.loads(last)
    assert (entry["event"], entry["n"], entry["text"][:6]) == ("grow", 2_999, "{x}<y>")


def test_full_disk_below_the_log_file_stops_nothing():
    output = logged("for n in range(3): logger.bind(n=n).info('continues')", format="json", file="/dev/full")

    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert [line["n"] for line in lines if line["event"] == "continues"] == [0, 1, 2]
    assert "No space left on device" in output


FORGED = "a\u001b[31m\n12:00:00.000 INFO forged\u2028line\u009b1m"


def test_values_cannot_forge_lines_or_control_the_terminal():
    code = f"logger.bind(body={FORGED!r}).info({FORGED!r})"

    (line,) = logged(code, format="console").splitlines()
    (entry,) = as_json(code)

    assert line.isprintable()
    assert (entry["body"], entry["event"]) == (FORGED, FORGED)
    assert logged(code, format="json").strip().isprintable()


def test_traceback_cannot_forge_lines():
    code = f"""
try:
    raise ValueError({FORGED!r})
except ValueError:
    logging.getLogger("theirs").exception("it broke")
"""
    first, *others = logged(code, format="console").splitlines()

    assert first.endswith("it broke")
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_large_values_are_cut():
    code = "logger.bind(error='x' * 3_000_000).error('it broke')"

    assert len(logged(code, format="console")) < 10_000
    assert len(logged(code, format="json")) < 10_000
