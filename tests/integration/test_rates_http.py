"""Fetching over a real socket that is slow, broken, hostile or briefly unavailable."""

import gzip
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from importlib.metadata import version

import pytest

from consumers.rates import http
from consumers.rates.errors import BankFailed
from demo.banks import NBU_RATES, banks, nbu_rows
from tests.fixtures.banks import Reply, TestBank, serving

VALID = json.dumps(nbu_rows()).encode()


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(http, "TOTAL_TIMEOUT", 0.5)


async def refused(bank: TestBank, *replies: Reply) -> str:
    """Return the error of a bank that answers like this."""
    bank.says(*replies)
    with pytest.raises(BankFailed) as failed:
        await http.get(bank.url)
    return str(failed.value)


async def test_valid_answer_is_returned_unchanged(bank: TestBank):
    assert json.loads(await http.get(bank.url)) == nbu_rows()
    assert len(bank.requests) == 1


async def test_user_agent_names_the_suite(bank: TestBank):
    await http.get(bank.url)

    request = bank.requests[0].lower()
    assert request.startswith("get /rates?json http/1.1")
    assert f"user-agent: pocketwatch/{version('pocketwatch')}" in request


@pytest.mark.parametrize(
    "failure",
    [
        Reply(status=503),
        Reply(status=500, body=b"oops"),
        Reply(VALID, cut_after=0),
        Reply(VALID, cut_after=100),
        Reply(VALID, stall_after=100),
        Reply(VALID, drip=0.05),
    ],
)
async def test_temporary_failure_is_retried(bank: TestBank, short_timeouts: None, failure: Reply):
    bank.says(failure, failure, Reply(VALID))

    assert await http.get(bank.url) == VALID
    assert len(bank.requests) == 3


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(status=503), "HTTP status 503"),
        (Reply(VALID, cut_after=100), "connection failed (RemoteProtocolError: "),
        (Reply(VALID, stall_after=100), "timed out (ReadTimeout)"),
        (Reply(VALID, drip=0.05), "no complete answer within 0.5 s"),
        (
            Reply(gzip.compress(VALID), headers={"Content-Encoding": "gzip"}, cut_after=50, says_length=False),
            "truncated response",
        ),
    ],
)
async def test_lasting_temporary_failure_is_reported_after_three_attempts(
    bank: TestBank, short_timeouts: None, reply: Reply, expected: str
):
    began = time.monotonic()

    assert expected in await refused(bank, reply)

    assert len(bank.requests) == 3
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(status=404), "HTTP status 404"),
        (Reply(status=429), "HTTP status 429"),
        (Reply(status=204), "HTTP status 204"),
        (Reply(b"[" * (http.MAX_SIZE + 1)), "answer is larger than 1048576 bytes"),
        (Reply(b"[" * (http.MAX_SIZE + 1), says_length=False), "answer is larger than 1048576 bytes"),
        (
            Reply(gzip.compress(bytes(20 * 1024 * 1024)), headers={"Content-Encoding": "gzip"}),
            "answer is larger than 1048576 bytes",
        ),
        (Reply(VALID, headers={"Content-Encoding": "gzip"}), "answer is not valid gzip"),
        (Reply(VALID, headers={"Content-Encoding": "br"}), 'content encoding "br" was not requested'),
    ],
)
async def test_permanent_failure_is_reported_at_once(bank: TestBank, reply: Reply, expected: str):
    assert await refused(bank, reply) == expected
    assert len(bank.requests) == 1


async def test_decompression_bomb_is_not_decompressed(bank: TestBank):
    bomb = Reply(gzip.compress(bytes(50 * 1024 * 1024)), headers={"Content-Encoding": "gzip"})
    tracemalloc.start()

    await refused(bank, bomb)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * 1024 * 1024


@pytest.mark.parametrize(
    "reply",
    [
        Reply(gzip.compress(VALID), headers={"Content-Encoding": "gzip"}),
        Reply(VALID, headers={"Content-Type": "text/plain"}),
        Reply(VALID, says_length=False),
        Reply(b" " * (http.MAX_SIZE - len(VALID)) + VALID),
    ],
)
async def test_any_transfer_of_a_valid_body_is_accepted(bank: TestBank, reply: Reply):
    bank.says(reply)

    assert (await http.get(bank.url)).strip() == VALID


async def test_refused_connection_is_reported(bank: TestBank):
    with pytest.raises(BankFailed, match=r"connection failed \(ConnectError: "):
        await http.get("http://127.0.0.1:1/")


@pytest.fixture
async def elsewhere() -> AsyncIterator[TestBank]:
    other = TestBank([Reply(VALID)])
    async with serving(other):
        yield other


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_to_another_host_is_refused(bank: TestBank, elsewhere: TestBank, status: int):
    expected = await refused(bank, Reply(status=status, headers={"Location": elsewhere.url}))

    assert expected == f"redirect to {elsewhere.url.removesuffix('/rates?json')} refused"
    assert not elsewhere.requests


async def test_redirect_on_the_same_host_is_followed(bank: TestBank):
    bank.says(Reply(status=301, headers={"Location": "/new?json"}), Reply(VALID))

    assert await http.get(bank.url) == VALID
    assert bank.requests[1].startswith("GET /new?json")


async def test_redirect_loop_is_refused(bank: TestBank):
    assert await refused(bank, Reply(status=302, headers={"Location": "/rates"})) == "more than 3 redirects"


async def test_redirect_to_invalid_url_is_reported(bank: TestBank):
    expected = await refused(bank, Reply(status=302, headers={"Location": "http://[::bad/"}))

    assert expected.startswith("connection failed (RemoteProtocolError: ")


async def test_demo_banks_answer_for_today():
    with banks() as settings:
        nbu = json.loads(await http.get(settings["POCKETWATCH_NBU_URL"]))
        privatbank = json.loads(await http.get(settings["POCKETWATCH_PRIVATBANK_URL"]))

    assert nbu == nbu_rows()
    assert {row["cc"] for row in nbu} == set(NBU_RATES)
    assert [row["ccy"] for row in privatbank] == ["EUR", "USD"]
