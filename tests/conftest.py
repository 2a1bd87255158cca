"""Where the fixtures are; nothing is imported from here."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.suite",
    "tests.fixtures.tokens",
    "tests.fixtures.sessions",
    "tests.fixtures.banks",
    "tests.fixtures.ads",
    "tests.fixtures.people",
    "tests.fixtures.smtp",
    "tests.fixtures.celery",
    "tests.fixtures.emails",
    "tests.fixtures.moderation",
    "tests.fixtures.mail",
    "tests.fixtures.activity",
    "tests.fixtures.reports",
    "tests.fixtures.limited",
    "tests.fixtures.site",
    "tests.fixtures.failures",
    "tests.fixtures.watched",
    "tests.fixtures.console",
    "tests.fixtures.command",
]
