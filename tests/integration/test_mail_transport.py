"""Letters over real sockets, to a server that behaves in every way that servers do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from pocketwatch.errors import SettingsError
from pocketwatch.smtp.pool import Transport
from pocketwatch.smtp.rate_limit import Pace
from pocketwatch.smtp.replies import Fate, Outcome
from tests.fixtures.smtp import Certificates, SmtpServer, Step
from tests.support.waiting import eventually

LETTER = b"Subject: News\r\nMessage-ID: <1@site.test>\r\n\r\nYour ad is approved.\r\n"
FAR = 10.0  # seconds; before any timeout or stall
LONG_TIME = timedelta(seconds=30)
SHORT_TIME = timedelta(seconds=0.3)


@asynccontextmanager
async def sending(smtp: SmtpServer, **options: Any) -> AsyncIterator[Transport]:
    """A transport to this server."""
    given: dict[str, Any] = {"pace": Pace(), "timeout": LONG_TIME} | options
    async with Transport(given.pop("url", smtp.url), **given) as transport:
        yield transport


async def send(transport: Transport, number: int = 1, letter: bytes = LETTER) -> Fate:
    return await transport.send(sender="noreply@site.test", recipient=f"reader{number}@mail.test", letter=letter)


async def outcomes(transport: Transport, count: int) -> list[Outcome]:
    """Of letters one after the other."""
    return [(await send(transport, number)).outcome for number in range(count)]


async def test_a_letter_arrives_as_it_was_written(smtp: SmtpServer):
    async with sending(smtp) as transport:
        fate = await send(transport)

    assert fate == Fate("sent", "250 2.0.0 queued as 1", "dot", 250)
    [letter] = smtp.letters
    assert (letter.sender, letter.recipients) == ("noreply@site.test", ("reader1@mail.test",))
    assert letter.content == LETTER
    assert letter.message["Subject"] == "News"


@pytest.mark.parametrize(
    ("written", "arrives"),
    [
        (b".\r\n", b".\r\n"),
        (b"a\r\n.\r\n..b\r\n.c\r\n", b"a\r\n.\r\n..b\r\n.c\r\n"),
        (b"a\n.\nb\rc", b"a\r\n.\r\nb\r\nc\r\n"),
        (b"a\r\r\nb\n\r\n", b"a\r\n\r\nb\r\n\r\n"),
        (b"", b"\r\n"),
        (b"a\r\n.\r\nMAIL FROM:<x@y.test>\r\n", b"a\r\n.\r\nMAIL FROM:<x@y.test>\r\n"),
    ],
)
async def test_dots_and_line_ends_come_through(smtp: SmtpServer, written: bytes, arrives: bytes):
    async with sending(smtp) as transport:
        assert (await send(transport, letter=written)).outcome == "sent"

    assert [letter.content for letter in smtp.letters] == [arrives]


async def test_a_long_letter_arrives_whole(smtp: SmtpServer):
    letter = b"Subject: Long\r\n\r\n" + b".A line of a long letter.\r\n" * 200_000

    async with sending(smtp) as transport:
        assert (await send(transport, letter=letter)).outcome == "sent"

    assert smtp.letters[0].content == letter


@pytest.mark.parametrize(
    ("step", "reply", "outcome"),
    [
        ("mail", "451 4.3.0 try again", "later"),
        ("mail", "550 5.1.8 sender address rejected", "ours"),
        ("mail", "530 5.7.0 authentication required", "ours"),
        ("rcpt", "452 4.3.1 insufficient system storage", "later"),
        ("rcpt", "550 5.1.1 no such user here", "bad_address"),
        ("rcpt", "554 5.7.1 relaying denied", "ours"),
        ("rcpt", "552 5.2.2 mailbox full", "later"),
        ("data", "554 5.5.1 no valid recipients", "refused"),
        ("dot", "550 5.7.1 message refused by policy", "ours"),
        ("dot", "554 5.6.0 broken", "refused"),
        ("dot", "451 4.3.0 try again", "later"),
    ],
)
async def test_a_refusal_decides_one_letter_and_the_next_goes_the_same_way(
    smtp: SmtpServer, step: Step, reply: str, outcome: Outcome
):
    smtp.answers(step, reply, times=1)

    async with sending(smtp) as transport:
        first, second = await send(transport, 1), await send(transport, 2)

    assert (first.outcome, first.reply, first.phase) == (outcome, reply, step)
    assert second.outcome == "sent"
    assert smtp.connections == 1
    assert [letter.recipients for letter in smtp.letters] == [("reader2@mail.test",)]
    assert smtp.verbs(1).count("RSET") == (0 if step == "dot" else 1)


async def test_who_is_greylisted_gets_his_letter_the_second_time(smtp: SmtpServer):
    smtp.greylists()

    async with sending(smtp) as transport:
        first, second = await send(transport), await send(transport)

    assert (first.outcome, first.reply) == ("later", "451 4.7.1 greylisted, try again later")
    assert second.outcome == "sent"


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_a_letter_lost_before_its_end_is_for_later(smtp: SmtpServer, step: Step):
    smtp.dies(step, times=1)

    async with sending(smtp) as transport:
        fate = await send(transport)

    assert fate.outcome == "later"
    assert fate.code is None
    assert not smtp.letters


async def test_a_long_letter_lost_in_its_middle_is_for_later(smtp: SmtpServer):
    smtp.dies("middle")

    async with sending(smtp) as transport:
        fate = await send(transport, letter=b"A line.\r\n" * 2_000_000)

    assert (fate.outcome, fate.phase) == ("later", "data")


async def test_a_short_letter_lost_in_its_middle_may_have_arrived(smtp: SmtpServer):
    smtp.dies("middle")

    async with sending(smtp) as transport:
        assert (await send(transport)).outcome == "unknown"


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_letter_lost_after_its_end_may_have_arrived(smtp: SmtpServer, *, keeps: bool):
    smtp.dies_after_dot(keeps=keeps, times=1)

    async with sending(smtp) as transport:
        first, second = await send(transport, 1), await send(transport, 2)

    assert (first.outcome, first.phase) == ("unknown", "dot")
    assert second.outcome == "sent"
    assert len(smtp.letters) == 1 + keeps


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_a_server_that_is_silent_before_the_end_is_for_later(smtp: SmtpServer, step: Step):
    smtp.stalls(step)

    async with sending(smtp, timeout=SHORT_TIME) as transport:
        assert (await send(transport)).outcome == "later"

    assert not smtp.letters


async def test_a_server_that_is_silent_after_the_end_may_have_taken_the_letter(smtp: SmtpServer):
    smtp.stalls("dot", keeps=True, times=1)

    async with sending(smtp, timeout=SHORT_TIME) as transport:
        first, second = await send(transport, 1), await send(transport, 2)

    assert (first.outcome, second.outcome) == ("unknown", "sent")
    assert [letter.connection for letter in smtp.letters] == [1, 2]


async def test_words_that_are_no_smtp_end_the_conversation(smtp: SmtpServer):
    smtp.answers("rcpt", "hello?", times=1)

    async with sending(smtp) as transport:
        assert await outcomes(transport, 2) == ["later", "sent"]

    assert smtp.connections == 2


@pytest.mark.parametrize("size_is_told", [True, False])
async def test_a_letter_that_is_too_large_is_refused(smtp: SmtpServer, *, size_is_told: bool):
    smtp.takes_at_most(1000)

    async with sending(smtp) as transport:
        await send(transport)
        smtp.takes_at_most(1000 if size_is_told else 10)
        fate = await send(transport, letter=b"x" * 1001 if size_is_told else LETTER)

    assert fate.outcome == "refused"
    assert fate.reply == (
        "the letter has 1001 bytes, the server takes 1000" if size_is_told else "552 5.3.4 message too big"
    )
    assert len(smtp.letters) == 1


@pytest.mark.parametrize("address", ["", "nobody", "a b@c.test", "a@b.test>\r\nRCPT TO:<c@d.test", "a@b.test\0"])
async def test_what_is_no_address_is_never_sent_to(smtp: SmtpServer, address: str):
    async with sending(smtp) as transport:
        fate = await transport.send(sender="noreply@site.test", recipient=address, letter=LETTER)

    assert fate.outcome == "bad_address"
    assert fate.reply.isprintable()
    assert "RCPT" not in smtp.verbs(1)


async def test_a_letter_may_have_no_sender_but_not_a_wrong_one(smtp: SmtpServer):
    async with sending(smtp) as transport:
        assert (await transport.send(sender="", recipient="a@b.test", letter=LETTER)).outcome == "sent"
        assert (await transport.send(sender="a>b", recipient="a@b.test", letter=LETTER)).outcome == "ours"

    assert [letter.sender for letter in smtp.letters] == [""]


async def test_what_is_beyond_ascii_needs_a_server_that_takes_it(smtp: SmtpServer):
    letter = "Subject: Новини\r\n\r\nЩит\r\n".encode()

    async with sending(smtp) as transport:
        assert (await send(transport, letter=letter)).outcome == "sent"
        refused = await transport.send(sender="", recipient="їжак@mail.test", letter=LETTER)
    smtp.extensions = ("SMTPUTF8",)
    async with sending(smtp) as transport:
        assert (await transport.send(sender="", recipient="їжак@mail.test", letter=LETTER)).outcome == "sent"
        assert (await send(transport, letter=letter)).outcome == "refused"

    assert refused.outcome == "refused"
    assert [letter.options for letter in smtp.letters] == [("BODY=8BITMIME",), ("SMTPUTF8",)]
    assert smtp.letters[1].recipients == ("їжак@mail.test",)


async def test_mail_rcpt_and_data_are_said_in_one_breath_only_where_the_server_allows_it(smtp: SmtpServer):
    async with sending(smtp) as transport:
        assert await outcomes(transport, 2) == ["sent", "sent"]
    smtp.extensions = ()
    async with sending(smtp) as transport:
        assert await outcomes(transport, 2) == ["sent", "sent"]

    assert smtp.most_in_one_breath == {1: 3, 2: 1}


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
async def test_without_pipelining_a_refusal_decides_one_letter_too(smtp: SmtpServer, step: Step):
    smtp.extensions = ()
    smtp.answers(step, "451 4.3.0 try again", times=1)

    async with sending(smtp) as transport:
        assert await outcomes(transport, 3) == ["later", "sent", "sent"]

    assert smtp.connections == 1
    assert smtp.verbs(1).count("RSET") == 1


async def test_a_server_that_waits_for_a_letter_to_nobody_gets_none(smtp: SmtpServer):
    smtp.knows_nobody(times=1)
    smtp.answers("data", "354 go on", times=1)

    async with sending(smtp) as transport:
        assert await outcomes(transport, 2) == ["bad_address", "sent"]

    assert smtp.connections == 2
    assert [letter.recipients for letter in smtp.letters] == [("reader1@mail.test",)]


async def test_the_first_refusal_counts_though_the_connection_is_lost_after_it(smtp: SmtpServer):
    smtp.knows_nobody(times=1)
    smtp.dies("data", times=1)

    async with sending(smtp) as transport:
        assert await outcomes(transport, 2) == ["bad_address", "sent"]


# Kept connections


async def test_letters_share_a_connection_and_are_not_reset(smtp: SmtpServer):
    async with sending(smtp) as transport:
        assert await outcomes(transport, 20) == ["sent"] * 20

    assert smtp.connections == 1
    assert "RSET" not in smtp.verbs(1)
    assert smtp.verbs(1)[-1] == "QUIT"


async def test_no_more_connections_are_open_than_allowed(smtp: SmtpServer):
    async with sending(smtp, connections=3) as transport:
        fates = await asyncio.gather(*(send(transport, number) for number in range(50)))

    assert {fate.outcome for fate in fates} == {"sent"}
    assert {letter.recipients[0] for letter in smtp.letters} == {f"reader{number}@mail.test" for number in range(50)}
    assert smtp.most_at_once == 3
    assert smtp.connections == 3


async def test_a_connection_carries_so_many_letters_and_no_more(smtp: SmtpServer):
    async with sending(smtp, connections=1, letters_each=4) as transport:
        await outcomes(transport, 10)

    assert [letter.connection for letter in smtp.letters] == [1] * 4 + [2] * 4 + [3] * 2
    assert [smtp.verbs(number)[-1] for number in (1, 2, 3)] == ["QUIT"] * 3


async def test_a_server_that_closes_after_some_letters_costs_none(smtp: SmtpServer):
    smtp.closes_after(2)

    async with sending(smtp, connections=1) as transport:
        assert await outcomes(transport, 7) == ["sent"] * 7

    assert [letter.connection for letter in smtp.letters] == [1, 1, 2, 2, 3, 3, 4]


async def test_a_server_that_closes_what_is_idle_costs_no_letter(smtp: SmtpServer):
    smtp.closes_idle(after=0.2)

    async with sending(smtp) as transport:
        first = await send(transport, 1)
        await eventually(lambda: closed(smtp))
        second = await send(transport, 2)

    assert (first.outcome, second.outcome) == ("sent", "sent")
    assert [letter.connection for letter in smtp.letters] == [1, 2]


@pytest.mark.parametrize(
    "fails",
    [
        lambda smtp: smtp.dies("mail", times=1),
        lambda smtp: smtp.answers("mail", "421 4.4.2 idle for too long", times=1),
        lambda smtp: smtp.stalls("mail", times=1),
    ],
)
async def test_a_kept_connection_that_has_died_is_replaced_at_once(
    smtp: SmtpServer, fails: Callable[[SmtpServer], None]
):
    async with sending(smtp, timeout=timedelta(seconds=1)) as transport:
        first = await send(transport, 1)
        fails(smtp)
        second = await send(transport, 2)

    assert (first.outcome, second.outcome) == ("sent", "sent")
    assert [letter.connection for letter in smtp.letters] == [1, 2]


async def test_a_kept_connection_that_cannot_be_reset_is_replaced(smtp: SmtpServer):
    smtp.knows_nobody(times=1)
    smtp.dies("rset", times=1)

    async with sending(smtp) as transport:
        assert await outcomes(transport, 2) == ["bad_address", "sent"]

    assert smtp.connections == 2


async def test_a_letter_is_retried_on_one_fresh_connection_only(smtp: SmtpServer):
    async with sending(smtp) as transport:
        await send(transport)
        smtp.dies("mail")
        assert (await send(transport)).outcome == "later"

    assert smtp.connections == 2


async def test_an_idle_connection_is_closed_with_quit(smtp: SmtpServer):
    async with sending(smtp, idle=timedelta(seconds=0.2)) as transport:
        await send(transport)
        await eventually(lambda: closed(smtp))

        assert smtp.verbs(1)[-1] == "QUIT"
        assert (await send(transport)).outcome == "sent"


async def closed(smtp: SmtpServer) -> bool:
    return smtp.open == 0


# A server that is down


async def test_a_server_that_is_down_is_asked_by_one_letter_and_the_others_are_told(smtp: SmtpServer):
    smtp.is_busy()

    async with sending(smtp) as transport:
        fates = await asyncio.gather(*(send(transport, number) for number in range(50)))

    assert {fate.outcome for fate in fates} == {"later"}
    assert smtp.connections == 1
    assert [fate.reply for fate in fates].count("421 4.3.2 too busy, come back later") == 1
    assert all("421 4.3.2 too busy" in fate.reply for fate in fates)


async def test_letters_go_again_when_the_server_is_back(smtp: SmtpServer):
    smtp.goes_down()

    async with sending(smtp) as transport:
        down = await send(transport)
        smtp.comes_back()

        async def goes() -> bool:
            return (await send(transport)).outcome == "sent"

        await eventually(goes)

    assert down.outcome == "later"
    assert "Connect call failed" in down.reply
    assert len(smtp.letters) == 1


async def test_kept_connections_go_on_while_no_new_one_is_let_in(smtp: SmtpServer):
    async with sending(smtp) as transport:
        await send(transport)
        smtp.is_busy()

        assert await outcomes(transport, 5) == ["sent"] * 5


async def test_a_restart_of_the_server_between_two_letters_costs_none(smtp: SmtpServer):
    async with sending(smtp) as transport:
        await send(transport)
        smtp.goes_down()
        smtp.comes_back()

        assert (await send(transport)).outcome == "sent"


async def test_a_host_that_does_not_exist_is_for_later(smtp: SmtpServer):
    async with sending(smtp, url="smtp://nowhere.invalid") as transport:
        assert (await send(transport)).outcome == "later"


# TLS and login


async def test_starttls_is_insisted_on(smtp: SmtpServer, certificates: Certificates):
    smtp.offers_starttls = True
    url = smtp.url

    async with sending(smtp, tls_context=certificates.trusting) as transport:
        assert (await send(transport)).outcome == "sent"
    smtp.offers_starttls = False
    async with sending(smtp, url=url, tls_context=certificates.trusting) as transport:
        fate = await send(transport)

    assert [letter.is_encrypted for letter in smtp.letters] == [True]
    assert (fate.outcome, fate.phase) == ("ours", "tls")


async def test_tls_from_the_first_byte(smtps: SmtpServer, certificates: Certificates):
    async with sending(smtps, tls_context=certificates.trusting) as transport:
        assert await outcomes(transport, 3) == ["sent"] * 3

    assert [(letter.is_encrypted, letter.connection) for letter in smtps.letters] == [(True, 1)] * 3


@pytest.mark.parametrize("name", ["smtp", "smtps"])
async def test_a_certificate_that_nobody_vouches_for_is_our_fault(name: str, request: pytest.FixtureRequest):
    server: SmtpServer = request.getfixturevalue(name)
    server.offers_starttls = True

    async with sending(server) as transport:
        first, second = await send(transport), await send(transport)

    assert first.outcome == "ours"
    assert "certificate verify failed" in first.reply
    assert second.outcome == "later"
    assert not server.letters


async def test_a_certificate_for_another_name_is_our_fault(smtps: SmtpServer, certificates: Certificates):
    url = smtps.url.replace("127.0.0.1", "127.0.0.2")
    smtps.listens_on("127.0.0.2")

    async with sending(smtps, url=url, tls_context=certificates.trusting) as transport:
        fate = await send(transport)

    assert fate.outcome == "ours"
    assert "IP address mismatch" in fate.reply


async def test_a_server_without_tls_is_our_fault(smtp: SmtpServer, certificates: Certificates):
    url = smtp.url.replace("smtp://", "smtps://")

    async with sending(smtp, url=url, tls_context=certificates.trusting) as transport:
        assert (await send(transport)).outcome == "ours"


@pytest.mark.parametrize("methods", ["PLAIN LOGIN", "LOGIN", "XOAUTH2 PLAIN"])
@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_who_may_send_logs_in(smtp: SmtpServer, certificates: Certificates, methods: str, *, is_encrypted: bool):
    smtp.wants_login(in_clear=not is_encrypted)
    smtp.login_methods, smtp.offers_starttls = methods, is_encrypted

    async with sending(smtp, tls_context=certificates.trusting) as transport:
        assert (await send(transport)).outcome == "sent"

    assert [(letter.user, letter.is_encrypted) for letter in smtp.letters] == [("suite", is_encrypted)]


async def test_a_wrong_password_is_our_fault_and_tried_once(smtp: SmtpServer):
    smtp.wants_login()

    async with sending(smtp, url=smtp.url.replace("secret", "wrong")) as transport:
        first, second = await send(transport), await send(transport)

    assert (first.outcome, first.reply) == ("ours", "535 5.7.8 authentication credentials invalid")
    assert second.outcome == "later"
    assert smtp.verbs(1).count("AUTH") == 1
    assert smtp.connections == 1


async def test_a_password_that_the_server_repeats_is_not_told(smtp: SmtpServer):
    smtp.wants_login()
    smtp.answers("auth", "535 5.7.8 AHN1aXRlAHNlY3JldA== is not secret")

    async with sending(smtp) as transport:
        fates = [await send(transport), await send(transport)]

    assert fates[0].reply == "535 5.7.8 *** is not ***"
    assert "secret" not in fates[1].reply


async def test_a_server_that_wants_a_login_which_we_have_not_is_our_fault(smtp: SmtpServer):
    url = smtp.url
    smtp.wants_login()

    async with sending(smtp, url=url) as transport:
        fate = await send(transport)

    assert (fate.outcome, fate.reply) == ("ours", "530 5.7.0 authentication required")


async def test_a_server_that_offers_no_login_is_our_fault(smtp: SmtpServer):
    smtp.wants_login(in_clear=False)

    async with sending(smtp) as transport:
        fate = await send(transport)

    assert (fate.outcome, fate.reply) == ("ours", "the server offers no login that we know")


async def test_a_password_is_not_sent_in_clear_to_another_machine():
    with pytest.raises(SettingsError, match="in clear"):
        Transport("smtp://suite:secret@mail.test", pace=Pace(), timeout=LONG_TIME)


# Limits, cancelling, closing


async def test_the_limit_in_all_holds_over_all_connections(smtp: SmtpServer):
    began = time.monotonic()

    async with sending(smtp, pace=Pace(per_second=5)) as transport:
        await asyncio.gather(*(send(transport, number) for number in range(11)))

    assert time.monotonic() - began >= 2
    assert len(smtp.letters) == 11


async def test_a_connection_that_has_used_up_its_minute_leaves_letters_to_another(smtp: SmtpServer):
    async with sending(smtp, connections=3, pace=Pace(per_minute_each=2)) as transport:
        await outcomes(transport, 6)
        waiting = asyncio.create_task(send(transport))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    assert not done
    assert [letter.connection for letter in smtp.letters] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot"])
async def test_a_letter_that_is_cancelled_spoils_no_other(smtp: SmtpServer, step: Step):
    async with sending(smtp, connections=1) as transport:
        smtp.stalls(step, times=1)
        cancelled = asyncio.create_task(send(transport, 1))
        await eventually(lambda: reached(smtp, step))
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)

        fate = await send(transport, 2)

    assert cancelled.cancelled()
    assert fate.outcome == "sent"
    assert [(letter.recipients, letter.connection) for letter in smtp.letters] == [(("reader2@mail.test",), 2)]


async def reached(smtp: SmtpServer, step: Step) -> bool:
    if step == "connect":
        return smtp.connections == 1
    return (step if step != "dot" else "data").upper() in smtp.verbs(1) and not smtp.may_still(step)


async def test_letters_that_wait_may_be_cancelled(smtp: SmtpServer):
    smtp.stalls("mail", times=1)

    async with sending(smtp, connections=1) as transport:
        tasks = [asyncio.create_task(send(transport, number)) for number in range(10)]
        await eventually(lambda: reached(smtp, "mail"))
        for task in tasks[:9]:
            task.cancel()
        fates = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(fates[9], Fate)
    assert fates[9].outcome == "sent"
    assert len(smtp.letters) == 1


async def test_a_silent_server_holds_up_no_closing(smtp: SmtpServer):
    smtp.stalls("quit")

    async with asyncio.timeout(FAR):
        async with sending(smtp) as transport:
            await send(transport)

    assert smtp.verbs(1)[-1] == "QUIT"


async def test_closing_cuts_off_what_is_on_its_way_and_lets_nothing_new_in(smtp: SmtpServer):
    smtp.stalls("dot", times=1)

    async with sending(smtp, connections=1) as transport:
        under_way = asyncio.create_task(send(transport, 1))
        waiting = asyncio.create_task(send(transport, 2))
        await eventually(lambda: reached(smtp, "dot"))

    assert (await under_way).outcome == "unknown"
    assert (await waiting).outcome == "later"
    assert (await send(transport)).reply == "not tried, as the transport is closed"
    assert not smtp.letters
