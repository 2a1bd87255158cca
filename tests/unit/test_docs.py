"""The docs name everything that exists, and nothing that does not."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from console.checks import versions
from console.cli import main
from console.cli.default_command import DEFAULT, DefaultCommand
from consumers.app import GROUPS
from pocketwatch import settings
from pocketwatch.broker.topology import TOPOLOGY, with_celery
from pocketwatch.clock import parse_duration
from pocketwatch.storage import run_log
from pocketwatch.storage.tables import platform, suite
from publishers.schedule import Entry
from schemas.catalogue import CATALOGUE
from schemas.envelope import Trigger
from schemas.message import Tick

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
OPERATIONS, CONFIGURATION, JOBS, GLOSSARY = (
    (PROJECT / f"docs/{page}.md").read_text(encoding="utf-8")
    for page in ("operations", "configuration", "jobs", "glossary")
)
SOURCES = ("console", "consumers", "publishers", "schemas", "templates", "pocketwatch", "scaffold", "demo", "tests")
# What a reader of the README creates.
TO_BE_CREATED = {"consumers/views/purge/purge.py", "consumers/views/purge/queries.py", "compose.override.yaml"}

FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?<![\w/:@-])pocketwatch ([a-z].*)")
SETTING = re.compile(r"\bPOCKETWATCH_[A-Z_]*[A-Z]\b")
LONG = ("| `POCKETWATCH_", "^(")  # rows with URLs, and patterns of names
# A path starts with a folder of the project; a file name alone has one of these suffixes.
PATH = re.compile(rf"^(?:{'|'.join([*SOURCES, 'docs', 'bench', '[.]ci'])})/[\w./-]*$")
FILE = re.compile(r"^[\w-]+[.](?:py|toml|yaml|sql|md)$")


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def spans(text: str) -> list[str]:
    """The texts in backticks, outside code blocks, each on one line."""
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def code(text: str) -> Iterator[str]:
    """Each line of code, in a block or in backticks, without its comment."""
    yield from spans(text)
    for block in FENCE.findall(text):
        yield from (line.partition(" # ")[0].strip() for line in block.splitlines())


@cache
def everything() -> str:
    """README and docs, without the changelog, which explains nothing."""
    return "\n".join(read(name) for name in NAMES if name != "CHANGELOG.md")


def is_named(words: str, text: str | None = None) -> bool:
    """Match whole names: `cleanup.tokens.dead` does not name `cleanup.tokens`."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    return re.search(rf"(?<![\w.-]){pattern}(?![.-]?\w)", everything() if text is None else text) is not None


def rows(page: str, name: str) -> list[list[str]]:
    """The cells of the table rows of a page that begin with this name."""
    found = re.findall(rf"^\| `{re.escape(name)}` \|(.*)\|$", page, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in found]


def commands() -> dict[str, set[str]]:
    """Every command and subcommand, with its options and subcommands."""
    found: dict[str, set[str]] = {}
    for name in main.COMMANDS:
        command = main.load(name)
        found |= dict(_with_children(name, command))
    return found


def _with_children(name: str, command: Any) -> Iterator[tuple[str, set[str]]]:
    children = getattr(command, "commands", {})
    default = _options(children[DEFAULT]) if isinstance(command, DefaultCommand) else set()
    yield name, _options(command) | default | set(children)
    for child, each in children.items():
        yield from _with_children(f"{name} {child}", each)


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


COMMANDS = commands()


def statistics() -> set[str]:
    """The statistics of the run log that the code names: as keywords, as `stat`, in `STATISTICS` and `statistics()`."""
    files = [*(PROJECT / "consumers").rglob("*.py"), *(PROJECT / "pocketwatch/worker").rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return {run_log.INTERRUPTED}.union(*map(_statistics_in, nodes))


def _statistics_in(node: ast.AST) -> set[str]:
    match node:
        case ast.Call(func=ast.Attribute(ast.Name("job" | "event" | "context" | "self"), "record" | "count")):
            return {keyword.arg for keyword in node.keywords if keyword.arg is not None}
        case ast.keyword("stat") | ast.Assign([ast.Name("STATISTICS")]) | ast.FunctionDef("statistics"):
            texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            return {text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z_]+", text)}
    return set()


def defaults() -> dict[str, Any]:
    groups: list[Any] = [field.annotation for field in settings.Settings.model_fields.values()]
    return {str(field.alias): field.default for group in groups for field in group.model_fields.values()}


@pytest.mark.parametrize("name", list(settings.names()))
def test_every_setting_has_its_row_with_its_default(name: str):
    ((_, shown, accepted),) = rows(CONFIGURATION, name)

    assert accepted
    default = defaults()[name]
    if isinstance(default, timedelta):
        assert parse_duration(shown.strip("`")) == default
    elif isinstance(default, tuple):
        assert shown == (f"`{','.join(default)}`" if default else "none")
    else:
        assert shown in ({"none", "the one that ships"} if default is None else {f"`{default}`"})


def test_example_of_settings_and_docs_have_the_same_names():
    example = set(re.findall(r"^# ([A-Z_]+)=", read(".env.example"), re.MULTILINE))

    assert set(settings.names()) <= example
    assert [name for name in sorted(example) if not is_named(name, CONFIGURATION)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_named_setting_exists(name: str):
    known = {*settings.names(), *(f"{known}_FILE" for known in settings.names())}

    assert [word for word in SETTING.findall(read(name)) if word not in known] == []


def test_every_key_of_the_schedule_has_its_row():
    assert [key for key in Entry.model_fields if not rows(CONFIGURATION, key)] == []


def test_every_job_is_named_with_its_arguments():
    assert [key for key in CATALOGUE if not is_named(key)] == []
    for message in CATALOGUE.values():
        if issubclass(message, Tick):
            assert [field for field in message.model_fields if not is_named(field, JOBS)] == []


def test_every_exchange_and_queue_is_named():
    queues = {queue.name for queue in (*with_celery("celery").queues, *(wait.queue for wait in TOPOLOGY.delay_queues))}
    wanted = queues | {exchange.name for exchange in TOPOLOGY.all_exchanges}

    assert [name for name in sorted(wanted) if f"`{name}`" not in JOBS] == []


def test_every_group_is_named():
    assert [name for name in GROUPS if not is_named(f"pocketwatch consume {name}")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_named(command: str):
    assert is_named(f"pocketwatch {command}")


@pytest.mark.parametrize("name", NAMES)
def test_every_named_command_exists(name: str):
    assert [line for line in code(read(name)) for call in COMMAND.findall(line) if not is_a_command(call)] == []


def is_a_command(call: str) -> bool:
    """Check the command, its subcommand if it has any, and its options."""
    name, *words = re.findall(r"^[a-z]+(?: [a-z]+\b)*", call)[0].split()
    while words and any(known.startswith(f"{name} ") for known in COMMANDS):
        name = f"{name} {words.pop(0)}"
    return name in COMMANDS and set(re.findall(r"(?<= )--[a-z-]+", call)) <= COMMANDS[name]


def test_every_statistic_of_the_jobs_is_explained():
    assert [key for key in sorted(statistics()) if f"`{key}`" not in everything()] == []


def test_every_status_and_every_state_is_explained():
    assert [status for status in suite.STATUSES if not rows(OPERATIONS, status)] == []
    assert [trigger for trigger in get_args(Trigger) if f"`{trigger}`" not in OPERATIONS] == []
    assert [state for state in suite.FIRE_STATES if f"`{state}`" not in OPERATIONS] == []


def test_every_named_log_event_exists():
    table = OPERATIONS.partition("\n| event | level |")[2].partition("\n\n")[0]
    events = {event for line in table.splitlines() for event in SPAN.findall(line.split(" | ")[0])}
    sources = [path for folder in SOURCES[:-3] for path in (PROJECT / folder).rglob("*.py")]
    literals = {literal for path in sources for literal in re.findall(r'"([^"\n]+)"', path.read_text("utf-8"))}

    assert events
    assert sorted(events - literals) == []


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
    """The anchors that GitHub derives from headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_named_path_exists(name: str):
    words = {word.rstrip(".,;") for line in code(read(name)) for word in line.split()}
    paths = {word.partition("::")[0] for word in words if PATH.match(word.partition("::")[0])}
    files = {span for span in spans(read(name)) if FILE.match(span)}

    assert [path for path in sorted(paths - TO_BE_CREATED) if not (PROJECT / path).exists()] == []
    assert sorted(files - TO_BE_CREATED - file_names()) == []


@cache
def file_names() -> set[str]:
    folders = [PROJECT / folder for folder in (*SOURCES, "docs")]
    return {path.name for folder in folders for path in folder.rglob("*")} | {path.name for path in PROJECT.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_every_named_test_exists(name: str):
    named = re.findall(r"(?:(tests/[\w/]+[.]py)::)?\b(test_\w+)\b(?![.]py)", read(name))

    assert [test for file, test in named if f"def {test}(" not in (read(file) if file else all_tests())] == []


@cache
def all_tests() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_named_target_of_make_exists(name: str):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))

    assert [
        word for line in code(read(name)) for word in re.findall(r"\bmake ([a-z-]+)", line) if word not in targets
    ] == []


def test_every_import_contract_is_named_and_no_other():
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    section = read("CONTRIBUTING.md").partition("\n## Imports\n")[2].partition("\n## ")[0]

    assert re.findall(r"^\* (.+)$", section, re.MULTILINE) == [contract["name"] for contract in contracts]


def test_every_page_that_code_names_exists():
    files = [PROJECT / "compose.yaml", *(path for folder in SOURCES for path in (PROJECT / folder).rglob("*"))]
    sources = [path for path in files if path.suffix in {".py", ".toml", ".yaml"}]
    pages = {page for path in sources for page in re.findall(r"\bdocs/[\w/-]+[.]md", path.read_text(encoding="utf-8"))}

    assert pages
    assert [page for page in sorted(pages) if not (PROJECT / page).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit_and_name_no_machine(name: str):
    lines = read(name).splitlines()

    long = [line for line in lines if len(line) > 120 and not line.startswith(LONG)]
    assert long == []
    assert [line for line in lines if re.search(r"(?:^|[\s\"'(=])/(?:tmp|root|home|work)/|\.\./shared", line)] == []


def privileges() -> str:
    return CONFIGURATION.partition("\n## Privileges\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("table", [*suite.metadata.tables, *platform.metadata.tables])
def test_rights_of_the_database_role_cover_every_table(table: str):
    (sql,) = re.findall(r"^```sql\n(.*?)^```", privileges(), re.MULTILINE | re.DOTALL)

    assert re.search(rf"\b{table}\b", sql)


@pytest.mark.parametrize("pattern", re.findall(r"^\^.*\$$", privileges(), re.MULTILINE))
def test_rights_on_the_broker_cover_every_exchange_and_queue(pattern: str):
    topology = with_celery("celery")
    names = [*(each.name for each in topology.all_exchanges), *(each.name for each in topology.all_queues)]

    assert [name for name in names if not re.search(pattern, name)] == []


def test_every_class_of_the_glossary_exists():
    classes = {span for span in spans(GLOSSARY) if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", span)}
    sources = [path for folder in SOURCES for path in (PROJECT / folder).rglob("*.py")]
    defined = {name for path in sources for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE)}

    assert classes
    assert sorted(classes - defined) == []


def test_every_term_of_the_glossary_has_one_line():
    terms = [row[0] for row in re.findall(r"^\| ((?!term |---)[^|]+) \| ([^|]+) \|$", GLOSSARY, re.MULTILINE)]

    assert len(terms) > 50
    assert sorted({term for term in terms if terms.count(term) > 1}) == []


def test_generated_tables_are_current():
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "docs/tables.py", "--check"], cwd=PROJECT, env=environment, check=False)

    assert done.returncode == 0, "run: make docs"


def test_readme_names_the_versions_that_are_tested():
    first, second, last = (
        f"{each.server} {' and '.join(each.tested)}"
        for each in (versions.RABBITMQ, versions.POSTGRESQL, versions.REDIS)
    )

    assert f"The tests run on {first}, {second}, and {last}." in read("README.md")
