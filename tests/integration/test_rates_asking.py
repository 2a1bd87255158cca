"""Asking a bank over a real socket that is slow, broken, hostile, or only busy for a moment."""

import gzip
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from importlib.metadata import version

import pytest

from consumers.rates import http
from consumers.rates.banks import BankFailed
from consumers.rates.http import ask
from demo.banks import NBU_RATES, banks, nbu_rows
from tests.fixtures.banks import Reply, TestBank, serving

SOUND = json.dumps(nbu_rows()).encode()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_WITHIN", 0.2)
    monkeypatch.setattr(http, "ANSWER_WITHIN", 0.5)


async def refused(bank: TestBank, *replies: Reply) -> str:
    """Why the bank has no answer."""
    bank.says(*replies)
    with pytest.raises(BankFailed) as failed:
        await ask(bank.url)
    return str(failed.value)


async def test_a_sound_answer_is_handed_on_as_it_is(bank: TestBank):
    assert json.loads(await ask(bank.url)) == nbu_rows()
    assert len(bank.requests) == 1


async def test_the_bank_is_told_who_asks(bank: TestBank):
    await ask(bank.url)

    request = bank.requests[0].lower()
    assert request.startswith("get /rates?json http/1.1")
    assert f"user-agent: pocketwatch/{version('pocketwatch')}" in request


@pytest.mark.parametrize(
    "hiccup",
    [
        Reply(status=503),
        Reply(status=500, body=b"oops"),
        Reply(SOUND, cut_after=0),
        Reply(SOUND, cut_after=100),
        Reply(SOUND, stall_after=100),
        Reply(SOUND, drip=0.05),
    ],
)
async def test_after_a_hiccup_it_is_asked_again(bank: TestBank, short_patience: None, hiccup: Reply):
    bank.says(hiccup, hiccup, Reply(SOUND))

    assert await ask(bank.url) == SOUND
    assert len(bank.requests) == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=503), "answers with HTTP status 503"),
        (Reply(SOUND, cut_after=100), "does not answer (RemoteProtocolError: "),
        (Reply(SOUND, stall_after=100), "does not answer in time (ReadTimeout)"),
        (Reply(SOUND, drip=0.05), "no complete answer within 0.5 s"),
        (
            Reply(gzip.compress(SOUND), headers={"Content-Encoding": "gzip"}, cut_after=50, says_length=False),
            "ends before",
        ),
    ],
)
async def test_what_does_not_pass_is_told_after_three_tries(
    bank: TestBank, short_patience: None, reply: Reply, words: str
):
    began = time.monotonic()

    assert words in await refused(bank, reply)

    assert len(bank.requests) == 3
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=404), "answers with HTTP status 404"),
        (Reply(status=429), "answers with HTTP status 429"),
        (Reply(status=204), "answers with HTTP status 204"),
        (Reply(b"[" * (http.LARGEST + 1)), "answers with more than 1048576 bytes"),
        (Reply(b"[" * (http.LARGEST + 1), says_length=False), "answers with more than 1048576 bytes"),
        (
            Reply(gzip.compress(bytes(20 * 1024 * 1024)), headers={"Content-Encoding": "gzip"}),
            "answers with more than 1048576 bytes",
        ),
        (Reply(SOUND, headers={"Content-Encoding": "gzip"}), "answers with what it calls gzip, and is not"),
        (Reply(SOUND, headers={"Content-Encoding": "br"}), 'answers in the encoding "br", which was not asked for'),
    ],
)
async def test_what_trying_again_does_not_better_is_told_at_once(bank: TestBank, reply: Reply, words: str):
    assert await refused(bank, reply) == words
    assert len(bank.requests) == 1


async def test_a_bomb_is_not_unpacked(bank: TestBank):
    bomb = Reply(gzip.compress(bytes(50 * 1024 * 1024)), headers={"Content-Encoding": "gzip"})
    tracemalloc.start()

    await refused(bank, bomb)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * 1024 * 1024


@pytest.mark.parametrize(
    "reply",
    [
        Reply(gzip.compress(SOUND), headers={"Content-Encoding": "gzip"}),
        Reply(SOUND, headers={"Content-Type": "text/plain"}),
        Reply(SOUND, says_length=False),
        Reply(b" " * (http.LARGEST - len(SOUND)) + SOUND),
    ],
)
async def test_a_body_is_judged_by_what_it_holds(bank: TestBank, reply: Reply):
    bank.says(reply)

    assert (await ask(bank.url)).strip() == SOUND


async def test_nobody_there_is_told(bank: TestBank):
    with pytest.raises(BankFailed, match=r"does not answer \(ConnectError: "):
        await ask("http://127.0.0.1:1/")


@pytest.fixture
async def elsewhere() -> AsyncIterator[TestBank]:
    other = TestBank([Reply(SOUND)])
    async with serving(other):
        yield other


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_another_host_is_not_followed(bank: TestBank, elsewhere: TestBank, status: int):
    words = await refused(bank, Reply(status=status, headers={"Location": elsewhere.url}))

    assert words == f"redirects to {elsewhere.url.removesuffix('/rates?json')}, which is not followed"
    assert not elsewhere.requests


async def test_a_redirect_on_the_same_host_is_followed(bank: TestBank):
    bank.says(Reply(status=301, headers={"Location": "/new?json"}), Reply(SOUND))

    assert await ask(bank.url) == SOUND
    assert bank.requests[1].startswith("GET /new?json")


async def test_redirects_in_a_circle_end(bank: TestBank):
    assert await refused(bank, Reply(status=302, headers={"Location": "/rates"})) == "redirects more than 3 times"


async def test_a_redirect_to_nowhere_is_told(bank: TestBank):
    words = await refused(bank, Reply(status=302, headers={"Location": "http://[::bad/"}))

    assert words.startswith("does not answer (RemoteProtocolError: ")


async def test_the_banks_of_the_demo_answer_for_today():
    with banks() as settings:
        nbu = json.loads(await ask(settings["POCKETWATCH_NBU_URL"]))
        privatbank = json.loads(await ask(settings["POCKETWATCH_PRIVATBANK_URL"]))

    assert nbu == nbu_rows()
    assert {row["cc"] for row in nbu} == set(NBU_RATES)
    assert [row["ccy"] for row in privatbank] == ["EUR", "USD"]
