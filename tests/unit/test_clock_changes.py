"""Fires where the clocks change; `make clocks` asks about every time zone."""

from random import Random
from zoneinfo import available_timezones

from tests.support.clock_changes import SAMPLE, changes, check

UNUSUAL = (
    *(
        "Europe/Kyiv",
        "Europe/Dublin",
        "America/St_Johns",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "Africa/Casablanca",
    ),
    *("Asia/Tehran", "Asia/Gaza", "Asia/Pyongyang", "Australia/Lord_Howe", "Antarctica/Troll", "Pacific/Apia"),
)


def test_fires_at_a_change_of_the_clocks_are_those_of_a_clock_on_the_wall():
    random = Random(1)  # noqa: S311  the same each time
    others = random.sample(sorted(available_timezones() - set(UNUSUAL)), 40)
    cases = [(name, change) for name in UNUSUAL for change in changes(name)]
    cases += [(name, random.choice(changes(name))) for name in others if changes(name)]

    asked = sum(check(name, change, sample=random) for name, change in cases)

    assert len(cases) > 700
    assert asked == SAMPLE * len(cases)
