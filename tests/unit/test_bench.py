"""The benches' own arithmetic: what they ask for, how they compare, and the tokens that they make."""

from pathlib import Path

import jwt
import pytest
from starlette.routing import Route

from bench import console, console_rows, jwt_rows, schedule, stored_runs, table
from bench.__main__ import NAMES, arguments
from bench.jwt_rows import Lot
from bench.rounds import Contender, Result, Sample, Side, alternate, contenders, ratio, share_of_limit
from bench.servers import WorkNotDone
from console.web import pages
from publishers.schedule import parse

MB = 1_000_000


def result(name: str, *seconds: float, ours: bool = False, limit: bool = False, idle: int | None = None) -> Result:
    contender = Contender(name, "works", lambda: Sample(0, peak=0), ours=ours, limit=limit)
    return Result(contender, [Sample(each, peak=80 * MB, idle=idle) for each in seconds])


def test_all_benches_run_by_default():
    assert arguments([]).benches == list(NAMES)
    assert arguments(["media", "--quick"]).benches == ["media"]
    assert arguments(["media", "--quick"]).quick


def test_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        arguments(["weather"])

    assert 'no bench "weather"; known: tokens' in capsys.readouterr().err


def test_every_page_of_the_console_is_measured(monkeypatch: pytest.MonkeyPatch):
    examples = dict.fromkeys(("run", "message_id", "middle", "email", "ad", "dead_id"), "7")

    measured = {path.partition("?")[0] for path in console.paths(examples)}
    monkeypatch.setattr(pages, "routes", lambda: [Route("/weather/{place}", lambda _: None)])

    assert {"/", "/schedule/simulate", "/runs/7", "/queues", "/trigger/cleanup.tokens"} <= measured
    with pytest.raises(WorkNotDone, match=r"page /weather/\{place\}: nothing says what its place is"):
        console.paths(examples)


def test_page_meets_the_target_by_its_median_and_its_95th_percentile():
    fast, slow = [20.0] * 28, 300.0

    assert console.Times([*fast, slow]).is_on_target
    assert not console.Times([*fast, slow, slow]).is_on_target


def test_few_stored_runs_include_those_that_pages_show_of_each_entry():
    daily, often = [("daily", number) for number in range(3)], [("often", number) for number in range(100)]

    stored = console_rows.latest([*daily, *often], 40)

    assert stored == [*daily, *often[-37:]]
    assert console_rows.latest([*daily, *often], 1_000) == [*daily, *often]


@pytest.mark.parametrize(("times", "word"), [(1.5, "flat"), (1.51, "grows")])
def test_cost_is_flat_up_to_one_and_a_half_times(times: float, word: str):
    assert stored_runs.verdict(times) == word


def test_ratio_compares_medians_with_the_best_peer():
    ours, slow, fast = result("ours", 2, 1, 9, ours=True), result("slow", 8), result("fast", 3, 5, 4)

    assert ratio(ours, [ours, slow, fast]) == 2
    assert ratio(slow, [ours, slow, fast]) == 0.5
    assert ratio(fast, [ours, slow, fast]) == 1


def test_limit_is_no_peer_but_has_a_ratio_of_its_own():
    ours, peer, limit = result("ours", 2, ours=True), result("peer", 4), result("by hand", 1, limit=True)

    assert ratio(ours, [ours, peer, limit]) == 2
    assert share_of_limit(ours, [ours, peer, limit]) == 0.5
    assert share_of_limit(ours, [ours, peer]) is None


def test_contender_is_left_out_if_its_package_is_not_installed():
    sides = Side("ours", "works", ours=True), Side("peer", "works", package="no_such_package")
    said: list[str] = []

    (ours,) = contenders(sides, lambda _: Sample(1, peak=0), said.append)

    assert ours.name == "ours"
    assert said == ["  peer: left out, no_such_package is not installed"]


def test_contenders_alternate_and_the_warm_up_is_not_counted():
    turns: list[str] = []

    def runner(name: str) -> Contender:
        return Contender(name, "works", lambda: turns.append(name) or Sample(len(turns), peak=0))

    first, second = alternate([runner("a"), runner("b")], rounds=2, warm_up=True, say=lambda _: None)

    assert turns == ["a", "b"] * 3
    assert [sample.seconds for sample in first.samples] == [3, 5]
    assert [sample.seconds for sample in second.samples] == [4, 6]


def test_speed_is_shown_in_seconds_or_messages_per_second():
    measured = result("ours", 2, 1, 4)

    assert table.speeds(measured, None) == ("2.00", "1.00 … 4.00")
    assert table.speeds(measured, 1000) == ("500", "250 … 1,000")


def test_memory_is_shown_as_an_increase():
    assert table.memories(result("ours", 1, idle=70 * MB)) == ("70", "80", "10.0")
    assert table.memories(result("a program that runs once", 1)) == ("-", "80", "-")


@pytest.mark.parametrize(("target", "words"), [(2.0, "met (2.00)"), (2.5, "MISSED (2.00)")])
def test_target_is_reported_as_met_or_missed(target: float, words: str):
    results = [result("ours", 2, ours=True), result("peer", 4)]

    assert table.verdict(results, target).endswith(words)


def test_each_contender_of_the_suite_is_compared_with_the_limit():
    results = [result("fast", 1.25, ours=True), result("slow", 4, ours=True), result("by hand", 1, limit=True)]

    assert table.limit_verdict(results, 0.75) == (
        "target: at least 0.75 times the limit: fast met (0.80); slow MISSED (0.25)"
    )


def test_entries_of_the_schedule_bench_are_due_at_the_same_instants():
    content = schedule.Load(entries=3, period=5, instants=1).schedule.encode()

    entries = parse(content, Path("schedule.toml")).enabled

    assert {entry.cron for entry in entries} == {"*/5 * * * * *"}
    assert len(entries) == 3


def test_situations_of_the_schedule_bench_have_names_of_their_own():
    assert [load.situation for load in schedule.FULL] == [load.situation for load in schedule.QUICK]
    assert [load.situation for load in schedule.FULL] == [
        "1",
        "500",
        "1, under full consumer load",
        "1, one of two tickers killed",
    ]


def test_delays_are_shown_by_median_99th_percentile_and_maximum():
    assert schedule.milliseconds([number / 1000 for number in range(1, 202)]) == ["101.0", "199.0", "201.0"]


def test_bench_tokens_are_real_and_have_the_expected_ages():
    now, lot = 1_800_000_000, Lot(1000)
    issued = list(jwt_rows.issued_at(lot, now))

    claims = jwt.decode(
        jwt_rows.token(jti="a" * 32, issued=issued[0], user=7),
        jwt_rows.KEY,
        algorithms=["HS256"],
        options={"verify_exp": False},
    )

    assert claims == {
        "token_type": "refresh",
        "exp": issued[0] + jwt_rows.LIFETIME,
        "iat": issued[0],
        "jti": "a" * 32,
        "user_id": "7",
    }
    out_of_retention = now - 30 * jwt_rows.DAY
    assert sum(moment + jwt_rows.LIFETIME < out_of_retention for moment in issued) == lot.expired == 600
    assert sum(moment + jwt_rows.LIFETIME > now for moment in issued) == 400
    assert lot.left == (400, 100)
