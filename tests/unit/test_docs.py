"""The docs name everything that there is, and nothing that there is not."""

import ast
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from console.cli.main import app
from consumers.app import GROUPS
from consumers.cleanup.files.sweep import Figures
from consumers.cleanup.tokens import tokens
from pocketwatch import settings
from pocketwatch.broker.topology import TOPOLOGY, with_celery
from pocketwatch.clock import parse_duration
from pocketwatch.storage import run_log
from pocketwatch.storage.tables import platform, suite
from publishers import schedule
from publishers.schedule import Entry
from schemas.catalogue import CATALOGUE
from schemas.envelope import Trigger
from schemas.message import Tick

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
OPERATIONS = (PROJECT / "docs/operations.md").read_text(encoding="utf-8")
SOURCES = ("consumers", "publishers", "schemas", "templates", "pocketwatch", "demo", "tests")
# What the recipe of the README has its reader make.
TO_BE_MADE = {"consumers/views", "purge.py", "compose.override.yaml"}

FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?<![\w/:@-])pocketwatch ([a-z].*)")
SETTING = re.compile(r"\bPOCKETWATCH_[A-Z_]*[A-Z]\b")
LONG = ("| `POCKETWATCH_", "^(")  # defaults that are URLs, and patterns of names
# A path starts with a folder of the project; a file alone has one of these endings.
PATH = re.compile(rf"^(?:{'|'.join([*SOURCES, 'docs', 'bench', '[.]ci'])})/[\w./-]*$")
FILE = re.compile(r"^[\w-]+[.](?:py|toml|yaml|sql|md)$")


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def spans(text: str) -> list[str]:
    """What stands in backticks, outside code blocks, each on one line."""
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def code(text: str) -> Iterator[str]:
    """Each line of code, in a block or in backticks; without its comment."""
    yield from spans(text)
    for block in FENCE.findall(text):
        yield from (line.partition(" # ")[0].strip() for line in block.splitlines())


@cache
def everything() -> str:
    """What a reader finds in the README and the docs; the changelog explains nothing."""
    return "\n".join(read(name) for name in NAMES if name != "CHANGELOG.md")


def is_named(words: str, text: str | None = None) -> bool:
    """As a whole: `cleanup.tokens` is not named by `cleanup.tokens.dead`."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    return re.search(rf"(?<![\w.-]){pattern}(?![.-]?\w)", everything() if text is None else text) is not None


def rows(name: str) -> list[list[str]]:
    """The cells of the rows of operations.md that begin with this name."""
    found = re.findall(rf"^\| `{re.escape(name)}` \|(.*)\|$", OPERATIONS, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in found]


def commands() -> dict[str, set[str]]:
    """Every command, with the subcommands of each; and the options of all."""
    group: Any = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for name in group.list_commands(None):
        command: Any = group.get_command(None, name)
        children = getattr(command, "commands", {})
        found[name] = _options(command) | set(children)
        found |= {f"{name} {child}": _options(children[child]) for child in children}
    return found


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


COMMANDS = commands()


def statistics() -> set[str]:
    """What jobs record: by name in the code, and what two of them hand over as a whole."""
    files = [*(PROJECT / "consumers").rglob("*.py"), PROJECT / "pocketwatch/worker/context.py"]
    calls = [
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "record"
    ]
    by_name = {keyword.arg for call in calls for keyword in call.keywords if keyword.arg is not None}
    return by_name | set(tokens.STATISTICS) | set(Figures().statistics()) | {run_log.INTERRUPTED}


def defaults() -> dict[str, Any]:
    groups: list[Any] = [field.annotation for field in settings.Settings.model_fields.values()]
    return {str(field.alias): field.default for group in groups for field in group.model_fields.values()}


@pytest.mark.parametrize("name", list(settings.names()))
def test_every_setting_has_its_row_with_its_default(name: str):
    ((_, shown, accepted),) = rows(name)

    assert accepted
    default = defaults()[name]
    if isinstance(default, timedelta):
        assert parse_duration(shown.strip("`")) == default
    elif isinstance(default, tuple):
        assert shown == f"`{','.join(default)}`"
    else:
        assert shown in ({"none", "the one that ships"} if default is None else {f"`{default}`"})


def test_the_example_of_settings_and_the_docs_have_the_same_names():
    example = set(re.findall(r"^# ([A-Z_]+)=", read(".env.example"), re.MULTILINE))

    assert set(settings.names()) <= example
    assert [name for name in sorted(example) if not is_named(name, OPERATIONS)] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_is_named_that_nothing_reads(name: str):
    known = {*settings.names(), *(f"{known}_FILE" for known in settings.names())}

    assert [word for word in SETTING.findall(read(name)) if word not in known] == []


def test_every_entry_of_the_schedule_and_every_key_is_named():
    assert [entry.name for entry in schedule.load().entries if f"`{entry.name}`" not in OPERATIONS] == []
    assert [key for key in Entry.model_fields if not rows(key)] == []


def test_every_job_is_named_with_its_arguments():
    assert [key for key in CATALOGUE if not is_named(key)] == []
    for message in CATALOGUE.values():
        if issubclass(message, Tick):
            assert [field for field in message.model_fields if not is_named(field, OPERATIONS)] == []


def test_every_exchange_and_queue_is_named():
    queues = {queue.name for queue in (*with_celery("celery").queues, *(wait.queue for wait in TOPOLOGY.delay_queues))}
    wanted = queues | {exchange.name for exchange in TOPOLOGY.all_exchanges}

    assert [name for name in sorted(wanted) if f"`{name}`" not in OPERATIONS] == []


def test_every_group_is_named():
    assert [name for name in GROUPS if not is_named(f"pocketwatch consume {name}")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_named(command: str):
    assert is_named(f"pocketwatch {command}")


@pytest.mark.parametrize("name", NAMES)
def test_no_command_is_named_that_does_not_exist(name: str):
    assert [line for line in code(read(name)) for call in COMMAND.findall(line) if not is_a_command(call)] == []


def is_a_command(call: str) -> bool:
    """A known command, a known subcommand where there are any, and known options."""
    name, child = re.findall(r"^([a-z]+)(?: ([a-z]+)\b)?", call)[0]
    if child and any(known.startswith(f"{name} ") for known in COMMANDS):
        name = f"{name} {child}"
    return name in COMMANDS and set(re.findall(r"(?<= )--[a-z-]+", call)) <= COMMANDS[name]


def test_every_figure_of_the_jobs_is_explained():
    assert [key for key in sorted(statistics()) if f"`{key}`" not in everything()] == []


def test_every_status_and_every_state_is_explained():
    assert [status for status in suite.STATUSES if not rows(status)] == []
    assert [trigger for trigger in get_args(Trigger) if f"`{trigger}`" not in OPERATIONS] == []
    assert [state for state in suite.FIRE_STATES if f"`{state}`" not in OPERATIONS] == []


def test_every_column_of_the_run_log_is_named():
    columns = {column.name for column in suite.update_logs.columns} - {"id"}

    assert [column for column in sorted(columns) if f"`{column}`" not in OPERATIONS] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str):
    exchange_bindings = [link for link in LINK.findall(FENCE.sub("", read(name))) if "://" not in link]

    assert [link for link in exchange_bindings if not leads_somewhere(PROJECT / name, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8")))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_path_that_is_named_exists(name: str):
    words = {word.rstrip(".,;") for line in code(read(name)) for word in line.split()}
    paths = {word.partition("::")[0] for word in words if PATH.match(word.partition("::")[0])}
    files = {span for span in spans(read(name)) if FILE.match(span)}

    assert [path for path in sorted(paths - TO_BE_MADE) if not (PROJECT / path).exists()] == []
    assert sorted(files - TO_BE_MADE - file_names()) == []


@cache
def file_names() -> set[str]:
    folders = [PROJECT / folder for folder in (*SOURCES, "docs")]
    return {path.name for folder in folders for path in folder.rglob("*")} | {path.name for path in PROJECT.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_every_test_that_is_named_exists(name: str):
    named = re.findall(r"(?:(tests/[\w/]+[.]py)::)?\b(test_\w+)\b(?![.]py)", read(name))

    assert [test for file, test in named if f"def {test}(" not in (read(file) if file else all_tests())] == []


@cache
def all_tests() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_target_of_make_exists(name: str):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))

    assert [
        word for line in code(read(name)) for word in re.findall(r"\bmake ([a-z]+)", line) if word not in targets
    ] == []


def test_what_the_code_says_of_the_docs_is_there():
    files = [PROJECT / "compose.yaml", *(path for folder in SOURCES for path in (PROJECT / folder).rglob("*"))]
    sources = [path for path in files if path.suffix in {".py", ".toml", ".yaml"}]
    pages = {page for path in sources for page in re.findall(r"\bdocs/[\w/-]+[.]md", path.read_text(encoding="utf-8"))}

    assert pages
    assert [page for page in sorted(pages) if not (PROJECT / page).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit_and_no_machine_is_named(name: str):
    lines = read(name).splitlines()

    long = [line for line in lines if len(line) > 120 and not line.startswith(LONG)]
    assert long == []
    assert [line for line in lines if re.search(r"(?:^|[\s\"'(=])/(?:tmp|root|home|work)/|\.\./shared", line)] == []


def privileges() -> str:
    return OPERATIONS.partition("\n## Privileges\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("table", [*suite.metadata.tables, *platform.metadata.tables])
def test_the_rights_that_a_role_needs_name_every_table(table: str):
    (sql,) = re.findall(r"^```sql\n(.*?)^```", privileges(), re.MULTILINE | re.DOTALL)

    assert re.search(rf"\b{table}\b", sql)


@pytest.mark.parametrize("pattern", re.findall(r"^\^.*\$$", privileges(), re.MULTILINE))
def test_the_rights_on_the_broker_cover_every_exchange_and_queue(pattern: str):
    topology = with_celery("celery")
    names = [thing.name for thing in (*topology.all_exchanges, *topology.all_queues)]

    assert [name for name in names if not re.search(pattern, name)] == []
