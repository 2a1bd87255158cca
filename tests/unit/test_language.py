"""Words that the glossary has retired do not come back, in code or in docs."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pocketwatch.storage.tables import platform, suite
from schemas.catalogue import CATALOGUE

PROJECT = Path(__file__).parents[2]
FOLDERS = (
    "bench",
    "console",
    "consumers",
    "demo",
    "docs",
    "pocketwatch",
    "publishers",
    "scaffold",
    "schemas",
    "templates",
    "tests",
)
SUFFIXES = {".css", ".html", ".md", ".po", ".py", ".sh", ".toml", ".txt", ".yaml"}
# Migrations are never edited, data is what others wrote, and this file names the words.
NOT_READ = ("pocketwatch/storage/migrations/versions/", "tests/data/", "tests/unit/test_language.py")

# Word or phrase: what to write instead. A word is found in prose and in names: `put_aside`, `PutAside`, "put aside".
RETIRED = {
    # people
    "anybody": "any user, any process",
    "everybody": "all users, all processes",
    "he": "the user, they",
    "himself": "the user, they",
    "his": "the user's, their",
    "nobody": "no user, no consumer",
    "somebody": "a user, another session",
    "whoever": "the user who, the process that",
    # prose
    "anew": "again",
    "buried": "dead-lettered",
    "heed": "apply",
    "heeds": "applies",
    "in hand": "in flight",
    "is none of": "is not one of",
    "lies": "is",
    "mended": "fixed",
    "of ours": "of the suite",
    "put off": "postpone, defer, retry later",
    "puts off": "postpones, defers",
    "stands": "is",
    "telling": "announcement, notification",
    "tells": "reports, logs, says",
    "told": "notified, reported, logged",
    "machine room": "(none)",
    # runtime
    "errand": "side effect",
    "errands": "side effects",
    "gathering": "batcher",
    "give up": "Reject",
    "halved": "bisected",
    "hand on": "continue_with",
    "handed on": "continued",
    "hands on": "continues",
    "is interrupted": "is_shutting_down",
    "malformed error": "InvalidMessage",
    "outlasting": "retry_on_outage",
    "overtaken": "superseded",
    "patience": "startup_timeout, Backoff",
    "strangers": "unknown keys",
    "time is up": "should_stop",
    "try later": "RetryLater",
    "twin": "concurrent duplicate",
    "twins": "concurrent duplicates",
    "wire": "protocol, envelope",
    # dev stack
    "holder": "lease",
    "strays": "orphaned processes; unparsed rows",
    # email
    "crowd": "recent_volume",
    "desk": "sender",
    "fate": "delivery result, status",
    "fates": "delivery results",
    "lane": "slot",
    "lanes": "slots",
    "ledger": "delivery log",
    "letter": "email",
    "letters": "emails",
    "styling": "css",
    "unfit": "rejected_locally",
    "wish": "request",
    "wishes": "requests",
    # moderation
    "dictated": "spelled out",
    "folding": "normalize",
    "judging": "judge",
    "lettered": "spelled out",
    "opinion": "rule result, classifier result",
    "posting": "notification",
    "readings": "variants",
    "regret": "log_undeliverable",
    "spelt": "spelled",
    # analytics, rates, clean-up
    "aside": "safe delete",
    "doomed": "expired",
    "inquiry": "fetch",
    "lacking": "missing",
    "overlapped": "pipelined",
    "parcel": "batch",
    "parcels": "batches",
    "segments": "id ranges",
    "tally": "counters",
}

# Where a retired word is right: another meaning, or a name that others rely on.
ALLOWED = re.compile(
    r"dead[\s_-]?letter(?:s|ed|ing)?(?![a-z])"
    r"|[\"'`](?:letters?|Letter)[\"'`]"  # the field of mail.requested, statistics of the run log
    r"|\bletters?=|\.letter\b|\bletter: |\bletter_status\b|\bletters_(?:sent|failed)\b"
    r"|\b(?:ASCII|Cyrillic|Latin|capital|lower-case|upper-case|single) letters?|letters and digits|letters, digits"
    r"|\bfire[ _-]?ledger"
    r"|\bstands for\b"
    r"|\bletter = '|\bkey, letter, locale\b"  # a column
    r"|\b(?:every|some)body[@:]"  # names in addresses
    r"|POCKETWATCH_PATIENCE"
    r"|segments_(?:sealed|corrected)"
    r"|\bletter, locale\b|WHERE letter =|letters_\{",  # a column; statistics
    re.IGNORECASE,
)
REACH = 40  # characters, more than any of these has
# Files in which a word has a meaning of its own.
EXCEPTIONS: dict[str, set[str]] = {
    "CHANGELOG.md": {"give up"},  # names what an upgrade renames
    "consumers/mail/compose/headers.py": {"folding"},  # of header lines
    "consumers/analytics/report/": {"letters"},  # figures of the report
    "consumers/cleanup/sessions/redis_store.py": {"letters"},  # of an alphabet
    "consumers/mail/log_search.py": {"letter"},  # a field of a message
    "consumers/mail/queries.py": {"letter", "letters"},  # a column
    "consumers/moderation/rules/rules.toml": {"nobody", "wire"},  # what owners read and write
    "consumers/moderation/rules/": {"letter", "letters"},  # of an alphabet
    "pocketwatch/stack/native/postgres.py": {"nobody"},  # a user of the system
    "pocketwatch/storage/tables/suite.py": {"letter"},  # a field of a message
    "templates/figures.py": {"letters"},  # figures of the report
    "templates/locale/": {"nobody"},  # what owners read
    "tests/": {"holder", "ledger"},  # of a lock; a table of the tests
    "tests/unit/test_moderation_rules": {"letter", "letters"},
    "tests/integration/test_stack_machine.py": {"nobody"},  # a user of the system
}


@cache
def pattern(words: str) -> re.Pattern[str]:
    """A part of a name or of a sentence, in any case: the boundary is a change of case, `_`, or no letter at all."""
    lower, title, upper = (words.split(), words.title().split(), words.upper().split())
    parts = [r"[\s_-]+".join(lower), r"[\s_-]*".join(title), r"[\s_-]+".join([title[0], *lower[1:]])]
    start = rf"(?<![A-Za-z])(?:{'|'.join(dict.fromkeys(parts))})|(?<=[a-z])(?:{parts[1]})"
    return re.compile(rf"(?:{start})(?![a-z])|(?<![A-Za-z])(?:{r'[_ ]'.join(upper)})(?![A-Za-z])")


def may_contain(words: str, lower: str, tokens: set[str]) -> bool:
    """Filter cheaply before the patterns: short words occur within many others."""
    return all(word in (tokens if len(word) < 4 and words == word else lower) for word in words.split())


def offences(text: str, excepted: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """Line and retired word, for each use that is not allowed."""
    lower = text.lower()
    tokens = set(re.findall(r"[a-z]+", lower))
    for words in RETIRED:
        if words not in excepted and may_contain(words, lower, tokens):
            for found in pattern(words).finditer(text):
                if not is_allowed(text, found):
                    yield text.count("\n", 0, found.start()) + 1, words


def is_allowed(text: str, found: re.Match[str]) -> bool:
    around = ALLOWED.finditer(text, max(0, found.start() - REACH), found.end() + REACH)
    return any(allowed.start() < found.end() and found.start() < allowed.end() for allowed in around)


def files() -> Iterator[Path]:
    yield from (
        path for path in PROJECT.iterdir() if path.suffix in {".md", ".toml", ".yaml"} or path.name == ".env.example"
    )
    for folder in FOLDERS:
        yield from (path for path in (PROJECT / folder).rglob("*") if path.suffix in SUFFIXES)


def test_retired_words_do_not_come_back():
    found = []
    for path in sorted(files()):
        name = path.relative_to(PROJECT).as_posix()
        if not name.startswith(NOT_READ):
            excepted = frozenset[str]().union(
                *(words for prefix, words in EXCEPTIONS.items() if name.startswith(prefix))
            )
            uses = sorted(offences(path.read_text(encoding="utf-8"), excepted))
            found += [f"{name}:{line}: {words} → {RETIRED[words]}" for line, words in uses]

    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "it is put aside",
        "def put_aside(path):",
        "class PutAside:",
        "ASIDE = 1",
        "work.hand_on(tick)",
        "what it has in\nhand",
        "test_a_letter_is_sent",
        "raise GiveUp(reason)",
        "EmailLetter",
    ],
)
def test_retired_word_is_found_in_prose_and_names(text: str):
    assert list(offences(text))


def test_columns_and_fields_of_messages_are_allowed():
    tables = [*suite.metadata.tables.values(), *platform.metadata.tables.values()]
    columns = {column.name for table in tables for column in table.columns}
    fields = {field for message in CATALOGUE.values() for field in message.model_fields}

    assert [name for name in sorted(columns | fields) if list(offences(f'"{name}"'))] == []


@pytest.mark.parametrize(
    "text",
    [
        "a dead letter, the dead-letter queue, DeadLetter, dead_letters.py",
        '{"letter": {"name": "plain"}}',
        "the fire ledger",
        "capital letters",
        "POCKETWATCH_PATIENCE=60s",
        "outstanding tokens",
        "an inside address",
        "the",
    ],
)
def test_other_meanings_and_contract_names_are_allowed(text: str):
    assert list(offences(text)) == []
