"""SmtpPool on real sockets, against every way that servers behave."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from pocketwatch.errors import SettingsError
from pocketwatch.smtp.pool import SmtpPool
from pocketwatch.smtp.rate_limit import RateLimits
from pocketwatch.smtp.replies import DeliveryResult
from pocketwatch.smtp.reply_rules import Outcome
from tests.fixtures.smtp import Certificates, SmtpServer, Step
from tests.support.waiting import eventually

MESSAGE = b"Subject: News\r\nMessage-ID: <1@site.test>\r\n\r\nYour ad is approved.\r\n"
FAR = 10.0  # seconds; before any timeout or stall
LONG_TIME = timedelta(seconds=30)
SHORT_TIME = timedelta(seconds=0.3)


@asynccontextmanager
async def sending(smtp: SmtpServer, **options: Any) -> AsyncIterator[SmtpPool]:
    given: dict[str, Any] = {"local_hostname": "site.test", "limits": RateLimits(), "timeout": LONG_TIME} | options
    async with SmtpPool(given.pop("url", smtp.url), **given) as pool:
        yield pool


async def send(pool: SmtpPool, number: int = 1, message: bytes = MESSAGE) -> DeliveryResult:
    return await pool.send(sender="noreply@site.test", recipient=f"reader{number}@mail.test", message=message)


async def outcomes(pool: SmtpPool, count: int) -> list[Outcome]:
    return [(await send(pool, number)).outcome for number in range(count)]


async def test_message_arrives_unchanged(smtp: SmtpServer):
    async with sending(smtp) as pool:
        result = await send(pool)

    assert result == DeliveryResult("sent", "250 2.0.0 queued as 1", "end_of_data", 250)
    [email] = smtp.emails
    assert (email.sender, email.recipients) == ("noreply@site.test", ("reader1@mail.test",))
    assert email.content == MESSAGE
    assert email.message["Subject"] == "News"


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
async def test_dots_are_stuffed_and_line_ends_normalized(smtp: SmtpServer, written: bytes, arrives: bytes):
    async with sending(smtp) as pool:
        assert (await send(pool, message=written)).outcome == "sent"

    assert [email.content for email in smtp.emails] == [arrives]


async def test_long_message_arrives_whole(smtp: SmtpServer):
    message = b"Subject: Long\r\n\r\n" + b".A line of a long message.\r\n" * 200_000

    async with sending(smtp) as pool:
        assert (await send(pool, message=message)).outcome == "sent"

    assert smtp.emails[0].content == message


@pytest.mark.parametrize(
    ("step", "reply", "outcome"),
    [
        ("mail", "451 4.3.0 try again", "later"),
        ("mail", "550 5.1.8 sender address rejected", "config_error"),
        ("mail", "530 5.7.0 authentication required", "config_error"),
        ("rcpt", "452 4.3.1 insufficient system storage", "later"),
        ("rcpt", "550 5.1.1 no such user here", "bad_address"),
        ("rcpt", "554 5.7.1 relaying denied", "config_error"),
        ("rcpt", "552 5.2.2 mailbox full", "later"),
        ("data", "554 5.5.1 no valid recipients", "later"),
        ("end_of_data", "550 5.7.1 message refused by policy", "config_error"),
        ("end_of_data", "554 5.6.0 broken", "refused"),
        ("end_of_data", "451 4.3.0 try again", "later"),
    ],
)
async def test_rejection_affects_one_message_and_connection_is_kept(
    smtp: SmtpServer, step: Step, reply: str, outcome: Outcome
):
    smtp.replies(step, reply, times=1)

    async with sending(smtp) as pool:
        first, second = await send(pool, 1), await send(pool, 2)

    assert (first.outcome, first.reply, first.phase) == (outcome, reply, step)
    assert second.outcome == "sent"
    assert smtp.connections == 1
    assert [email.recipients for email in smtp.emails] == [("reader2@mail.test",)]
    assert smtp.verbs(1).count("RSET") == (0 if step == "end_of_data" else 1)


async def test_greylisted_message_is_accepted_the_second_time(smtp: SmtpServer):
    smtp.greylists()

    async with sending(smtp) as pool:
        first, second = await send(pool), await send(pool)

    assert (first.outcome, first.reply) == ("later", "451 4.7.1 greylisted, try again later")
    assert second.outcome == "sent"


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_connection_lost_before_end_of_data_is_temporary(smtp: SmtpServer, step: Step):
    smtp.disconnects(step, times=1)

    async with sending(smtp) as pool:
        result = await send(pool)

    assert result.outcome == "later"
    assert result.code is None
    assert not smtp.emails


async def test_long_message_cut_off_in_the_middle_is_temporary(smtp: SmtpServer):
    smtp.disconnects("middle")

    async with sending(smtp) as pool:
        result = await send(pool, message=b"A line.\r\n" * 2_000_000)

    assert (result.outcome, result.phase) == ("later", "data")


async def test_short_message_cut_off_in_the_middle_is_unknown(smtp: SmtpServer):
    smtp.disconnects("middle")

    async with sending(smtp) as pool:
        assert (await send(pool)).outcome == "unknown"


@pytest.mark.parametrize("accepts", [True, False])
async def test_connection_lost_after_end_of_data_is_unknown(smtp: SmtpServer, *, accepts: bool):
    smtp.disconnects_after_dot(accepts=accepts, times=1)

    async with sending(smtp) as pool:
        first, second = await send(pool, 1), await send(pool, 2)

    assert (first.outcome, first.phase) == ("unknown", "end_of_data")
    assert second.outcome == "sent"
    assert len(smtp.emails) == 1 + accepts


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_timeout_before_end_of_data_is_temporary(smtp: SmtpServer, step: Step):
    smtp.stalls(step)

    async with sending(smtp, timeout=SHORT_TIME) as pool:
        assert (await send(pool)).outcome == "later"

    assert not smtp.emails


async def test_timeout_after_end_of_data_is_unknown(smtp: SmtpServer):
    smtp.stalls("end_of_data", accepts=True, times=1)

    async with sending(smtp, timeout=SHORT_TIME) as pool:
        first, second = await send(pool, 1), await send(pool, 2)

    assert (first.outcome, second.outcome) == ("unknown", "sent")
    assert [email.connection for email in smtp.emails] == [1, 2]


async def test_invalid_reply_ends_the_session(smtp: SmtpServer):
    smtp.replies("rcpt", "hello?", times=1)

    async with sending(smtp) as pool:
        assert await outcomes(pool, 2) == ["later", "sent"]

    assert smtp.connections == 2


@pytest.mark.parametrize("size_is_announced", [True, False])
async def test_too_large_message_is_refused(smtp: SmtpServer, *, size_is_announced: bool):
    smtp.limits_size(1000)

    async with sending(smtp) as pool:
        await send(pool)
        smtp.limits_size(1000 if size_is_announced else 10)
        result = await send(pool, message=b"x" * 1001 if size_is_announced else MESSAGE)

    assert result.outcome == "refused"
    assert result.reply == (
        "message of 1001 bytes: the server accepts 1000" if size_is_announced else "552 5.3.4 message too big"
    )
    assert len(smtp.emails) == 1


@pytest.mark.parametrize("address", ["", "no-address", "a b@c.test", "a@b.test>\r\nRCPT TO:<c@d.test", "a@b.test\0"])
async def test_invalid_recipient_is_rejected_without_asking_the_server(smtp: SmtpServer, address: str):
    async with sending(smtp) as pool:
        result = await pool.send(sender="noreply@site.test", recipient=address, message=MESSAGE)

    assert result.outcome == "bad_address"
    assert result.reply.isprintable()
    assert "RCPT" not in smtp.verbs(1)


async def test_empty_sender_is_allowed_and_invalid_sender_is_not(smtp: SmtpServer):
    async with sending(smtp) as pool:
        assert (await pool.send(sender="", recipient="a@b.test", message=MESSAGE)).outcome == "sent"
        assert (await pool.send(sender="a>b", recipient="a@b.test", message=MESSAGE)).outcome == "config_error"

    assert [email.sender for email in smtp.emails] == [""]


async def test_non_ascii_needs_server_support(smtp: SmtpServer):
    message = "Subject: Новини\r\n\r\nЩит\r\n".encode()

    async with sending(smtp) as pool:
        assert (await send(pool, message=message)).outcome == "sent"
        refused = await pool.send(sender="", recipient="їжак@mail.test", message=MESSAGE)
    smtp.extensions = ("SMTPUTF8",)
    async with sending(smtp) as pool:
        assert (await pool.send(sender="", recipient="їжак@mail.test", message=MESSAGE)).outcome == "sent"
        assert (await send(pool, message=message)).outcome == "refused"

    assert refused.outcome == "refused"
    assert [email.options for email in smtp.emails] == [("BODY=8BITMIME",), ("SMTPUTF8",)]
    assert smtp.emails[1].recipients == ("їжак@mail.test",)


async def test_no_content_is_sent_for_a_rejected_recipient(smtp: SmtpServer):
    smtp.rejects_recipients(times=1)

    async with sending(smtp) as pool:
        assert await outcomes(pool, 2) == ["bad_address", "sent"]

    assert smtp.verbs(1).count("DATA") == 1
    assert [email.recipients for email in smtp.emails] == [("reader1@mail.test",)]


@pytest.mark.parametrize("reply", ["x" * 40_000, "250-more\r\n" * 10_000 + "250 end"])
async def test_endless_reply_ends_the_session(smtp: SmtpServer, reply: str):
    smtp.replies("rcpt", reply, times=1)

    async with sending(smtp) as pool:
        first, second = await send(pool, 1), await send(pool, 2)

    assert (first.outcome, second.outcome) == ("later", "sent")
    assert first.reply == "-1 Response too long"
    assert smtp.connections == 2


async def test_long_message_rejected_in_the_middle_keeps_the_reply(smtp: SmtpServer):
    smtp.replies("middle", "552 5.3.4 message too big")

    async with sending(smtp) as pool:
        result = await send(pool, message=b"A line.\r\n" * 2_000_000)

    assert (result.outcome, result.phase) == ("refused", "data")
    assert result.reply == "552 5.3.4 message too big"


# Kept connections


async def test_messages_share_a_connection_without_reset(smtp: SmtpServer):
    async with sending(smtp) as pool:
        assert await outcomes(pool, 20) == ["sent"] * 20

    assert smtp.connections == 1
    assert "RSET" not in smtp.verbs(1)
    assert smtp.verbs(1)[-1] == "QUIT"


async def test_number_of_connections_is_bounded(smtp: SmtpServer):
    async with sending(smtp, connections=3) as pool:
        results = await asyncio.gather(*(send(pool, number) for number in range(50)))

    assert {result.outcome for result in results} == {"sent"}
    assert {email.recipients[0] for email in smtp.emails} == {f"reader{number}@mail.test" for number in range(50)}
    assert smtp.max_open == 3
    assert smtp.connections == 3


async def test_connection_is_closed_after_max_messages(smtp: SmtpServer):
    async with sending(smtp, connections=1, max_messages=4) as pool:
        await outcomes(pool, 10)

    assert [email.connection for email in smtp.emails] == [1] * 4 + [2] * 4 + [3] * 2
    assert [smtp.verbs(number)[-1] for number in (1, 2, 3)] == ["QUIT"] * 3


async def test_no_message_is_lost_when_server_closes_after_some(smtp: SmtpServer):
    smtp.closes_after(2)

    async with sending(smtp, connections=1) as pool:
        assert await outcomes(pool, 7) == ["sent"] * 7

    assert [email.connection for email in smtp.emails] == [1, 1, 2, 2, 3, 3, 4]


async def test_no_message_is_lost_when_server_closes_idle_connections(smtp: SmtpServer):
    smtp.closes_idle(after=0.2)

    async with sending(smtp) as pool:
        first = await send(pool, 1)
        await eventually(lambda: closed(smtp))
        second = await send(pool, 2)

    assert (first.outcome, second.outcome) == ("sent", "sent")
    assert [email.connection for email in smtp.emails] == [1, 2]


@pytest.mark.parametrize(
    "fails",
    [
        lambda smtp: smtp.disconnects("mail", times=1),
        lambda smtp: smtp.replies("mail", "421 4.4.2 idle for too long", times=1),
        lambda smtp: smtp.stalls("mail", times=1),
    ],
)
async def test_dead_connection_is_replaced_at_once(smtp: SmtpServer, fails: Callable[[SmtpServer], None]):
    async with sending(smtp, timeout=timedelta(seconds=1)) as pool:
        first = await send(pool, 1)
        fails(smtp)
        second = await send(pool, 2)

    assert (first.outcome, second.outcome) == ("sent", "sent")
    assert [email.connection for email in smtp.emails] == [1, 2]


@pytest.mark.parametrize("with_reply", [True, False])
async def test_connection_is_replaced_when_the_server_announces_to_close_it(smtp: SmtpServer, *, with_reply: bool):
    if with_reply:
        smtp.adds_to_reply(CLOSING)

    async with sending(smtp) as pool:
        first = await send(pool, 1)
        if not with_reply:
            await asyncio.to_thread(smtp.announces, CLOSING)
            await asyncio.sleep(0)  # the loop reads the line
        second = await send(pool, 2)

    assert (first.outcome, second.outcome) == ("sent", "sent")
    assert smtp.verbs(1) == ["EHLO", "MAIL", "RCPT", "DATA"]
    assert [email.connection for email in smtp.emails] == [1, 2]


async def test_line_that_belongs_to_no_command_is_ignored(smtp: SmtpServer):
    smtp.adds_to_reply("250 2.0.0 once more")
    smtp.replies("rcpt", "550 5.1.1 no such user here", times=1)
    smtp.replies("mail", "250 2.1.0 ok\r\n250 2.1.0 once more", times=1)

    async with sending(smtp) as pool:
        results = [await send(pool, number) for number in range(3)]

    assert [result.outcome for result in results] == ["bad_address", "sent", "sent"]
    assert smtp.connections == 1


CLOSING = "421 4.3.2 mail.test is shutting down"


async def test_connection_that_cannot_be_reset_is_replaced(smtp: SmtpServer):
    smtp.rejects_recipients(times=1)
    smtp.disconnects("rset", times=1)

    async with sending(smtp) as pool:
        assert await outcomes(pool, 2) == ["bad_address", "sent"]

    assert smtp.connections == 2


async def test_message_is_retried_on_one_new_connection_only(smtp: SmtpServer):
    async with sending(smtp) as pool:
        await send(pool)
        smtp.disconnects("mail")
        assert (await send(pool)).outcome == "later"

    assert smtp.connections == 2


async def test_idle_connection_is_closed_with_quit(smtp: SmtpServer):
    async with sending(smtp, idle_timeout=timedelta(seconds=0.2)) as pool:
        await send(pool)
        await eventually(lambda: closed(smtp))

        assert smtp.verbs(1)[-1] == "QUIT"
        assert (await send(pool)).outcome == "sent"


async def closed(smtp: SmtpServer) -> bool:
    return smtp.open == 0


# A server that is down


async def test_only_one_message_tries_a_server_that_is_down(smtp: SmtpServer):
    smtp.is_busy()

    async with sending(smtp) as pool:
        results = await asyncio.gather(*(send(pool, number) for number in range(50)))

    assert {result.outcome for result in results} == {"later"}
    assert smtp.connections == 1
    assert [result.reply for result in results].count("421 4.3.2 too busy, come back later") == 1
    assert all("421 4.3.2 too busy" in result.reply for result in results)


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("connect", "554 5.3.2 no SMTP service here"),
        ("ehlo", "550 5.7.1 who are you?"),
        ("mail", "550 5.1.8 sender address rejected"),
        ("rcpt", "504 5.5.2 <site.test>: Helo command rejected: need fully-qualified hostname"),
        ("data", "554 5.7.1 not from you"),
        ("end_of_data", "554 Message rejected: Email address is not verified"),
    ],
)
async def test_server_that_refuses_us_is_asked_a_few_times_only(smtp: SmtpServer, step: Step, reply: str):
    smtp.replies(step, reply)
    smtp.replies("helo", reply)

    async with sending(smtp, connections=1) as pool:
        results = await asyncio.gather(*(send(pool, number) for number in range(50)))

    assert {result.outcome for result in results} == {"config_error"}
    assert [result.reply for result in results].count(reply) <= 3
    assert all(result.reply.endswith(reply) for result in results)
    assert smtp.connections == 1


async def test_sending_goes_on_after_a_few_refusals(smtp: SmtpServer):
    smtp.replies("end_of_data", "550 5.7.1 message refused by policy", times=2)

    async with sending(smtp) as pool:
        assert await outcomes(pool, 4) == ["config_error", "config_error", "sent", "sent"]
        smtp.replies("end_of_data", "550 5.7.1 message refused by policy", times=2)
        assert await outcomes(pool, 4) == ["config_error", "config_error", "sent", "sent"]


async def test_unknown_recipients_do_not_stop_sending(smtp: SmtpServer):
    smtp.rejects_recipients(times=10)

    async with sending(smtp) as pool:
        assert await outcomes(pool, 11) == ["bad_address"] * 10 + ["sent"]


async def test_local_hostname_is_announced(smtp: SmtpServer):
    async with sending(smtp, local_hostname="xn--80a1acn3a.example") as pool:
        await send(pool)

    assert smtp.names == ["xn--80a1acn3a.example"]


async def test_sending_resumes_when_the_server_is_back(smtp: SmtpServer):
    smtp.goes_down()

    async with sending(smtp) as pool:
        down = await send(pool)
        smtp.comes_back()

        async def goes() -> bool:
            return (await send(pool)).outcome == "sent"

        await eventually(goes)

    assert down.outcome == "later"
    assert "Connect call failed" in down.reply
    assert len(smtp.emails) == 1


async def test_open_connections_are_used_while_new_ones_are_refused(smtp: SmtpServer):
    async with sending(smtp) as pool:
        await send(pool)
        smtp.is_busy()

        assert await outcomes(pool, 5) == ["sent"] * 5


async def test_no_message_is_lost_when_the_server_restarts(smtp: SmtpServer):
    async with sending(smtp) as pool:
        await send(pool)
        smtp.goes_down()
        smtp.comes_back()

        assert (await send(pool)).outcome == "sent"


async def test_unknown_host_is_temporary(smtp: SmtpServer):
    async with sending(smtp, url="smtp://nowhere.invalid") as pool:
        assert (await send(pool)).outcome == "later"


# TLS and login


async def test_starttls_is_required(smtp: SmtpServer, certificates: Certificates):
    smtp.offers_starttls = True
    url = smtp.url

    async with sending(smtp, tls_context=certificates.client_context) as pool:
        assert (await send(pool)).outcome == "sent"
    smtp.offers_starttls = False
    async with sending(smtp, url=url, tls_context=certificates.client_context) as pool:
        result = await send(pool)

    assert [email.is_encrypted for email in smtp.emails] == [True]
    assert (result.outcome, result.phase) == ("config_error", "tls")


async def test_implicit_tls(smtps: SmtpServer, certificates: Certificates):
    async with sending(smtps, tls_context=certificates.client_context) as pool:
        assert await outcomes(pool, 3) == ["sent"] * 3

    assert [(email.is_encrypted, email.connection) for email in smtps.emails] == [(True, 1)] * 3


@pytest.mark.parametrize("name", ["smtp", "smtps"])
async def test_untrusted_certificate_is_a_config_error(name: str, request: pytest.FixtureRequest):
    server: SmtpServer = request.getfixturevalue(name)
    server.offers_starttls = True

    async with sending(server) as pool:
        first, second = await send(pool), await send(pool)

    assert first.outcome == "config_error"
    assert "certificate verify failed" in first.reply
    assert second.outcome == "config_error"
    assert not server.emails


async def test_certificate_for_another_name_is_a_config_error(smtps: SmtpServer, certificates: Certificates):
    url = smtps.url.replace("127.0.0.1", "127.0.0.2")
    smtps.listens_on("127.0.0.2")

    async with sending(smtps, url=url, tls_context=certificates.client_context) as pool:
        result = await send(pool)

    assert result.outcome == "config_error"
    assert "IP address mismatch" in result.reply


async def test_server_without_tls_is_a_config_error(smtp: SmtpServer, certificates: Certificates):
    url = smtp.url.replace("smtp://", "smtps://")

    async with sending(smtp, url=url, tls_context=certificates.client_context) as pool:
        assert (await send(pool)).outcome == "config_error"


@pytest.mark.parametrize("methods", ["PLAIN LOGIN", "LOGIN", "XOAUTH2 PLAIN"])
@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_login(smtp: SmtpServer, certificates: Certificates, methods: str, *, is_encrypted: bool):
    smtp.requires_login(in_clear=not is_encrypted)
    smtp.login_methods, smtp.offers_starttls = methods, is_encrypted

    async with sending(smtp, tls_context=certificates.client_context) as pool:
        assert (await send(pool)).outcome == "sent"

    assert [(email.user, email.is_encrypted) for email in smtp.emails] == [("suite", is_encrypted)]


async def test_wrong_password_is_a_config_error_and_tried_once(smtp: SmtpServer):
    smtp.requires_login()

    async with sending(smtp, url=smtp.url.replace("secret", "wrong")) as pool:
        first, second = await send(pool), await send(pool)

    assert (first.outcome, first.reply) == ("config_error", "535 5.7.8 authentication credentials invalid")
    assert second.outcome == "config_error"
    assert smtp.verbs(1).count("AUTH") == 1
    assert smtp.connections == 1


async def test_password_repeated_by_the_server_is_masked(smtp: SmtpServer):
    smtp.requires_login()
    smtp.replies("auth", "535 5.7.8 AHN1aXRlAHNlY3JldA== is not secret")

    async with sending(smtp) as pool:
        results = [await send(pool), await send(pool)]

    assert results[0].reply == "535 5.7.8 *** is not ***"
    assert "secret" not in results[1].reply


async def test_missing_login_is_a_config_error(smtp: SmtpServer):
    url = smtp.url
    smtp.requires_login()

    async with sending(smtp, url=url) as pool:
        result = await send(pool)

    assert (result.outcome, result.reply) == ("config_error", "530 5.7.0 authentication required")


async def test_server_without_authentication_is_a_config_error(smtp: SmtpServer):
    smtp.requires_login(in_clear=False)

    async with sending(smtp) as pool:
        result = await send(pool)

    assert (result.outcome, result.reply) == ("config_error", "the server offers no supported authentication method")


async def test_password_is_not_sent_in_clear_to_another_machine():
    with pytest.raises(SettingsError, match="in clear"):
        SmtpPool("smtp://suite:secret@mail.test", local_hostname="site.test", limits=RateLimits(), timeout=LONG_TIME)


# Limits, cancelling, closing


async def test_rate_limit_holds_over_all_connections(smtp: SmtpServer):
    began = time.monotonic()

    async with sending(smtp, limits=RateLimits(per_second=5)) as pool:
        await asyncio.gather(*(send(pool, number) for number in range(11)))

    assert time.monotonic() - began >= 2
    assert len(smtp.emails) == 11


async def test_message_takes_another_connection_when_one_reaches_its_limit(smtp: SmtpServer):
    async with sending(smtp, connections=3, limits=RateLimits(per_minute_each=2)) as pool:
        await outcomes(pool, 6)
        waiting = asyncio.create_task(send(pool))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    assert not done
    assert [email.connection for email in smtp.emails] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "end_of_data"])
async def test_cancelled_message_does_not_affect_the_next(smtp: SmtpServer, step: Step):
    async with sending(smtp, connections=1) as pool:
        smtp.stalls(step, times=1)
        cancelled = asyncio.create_task(send(pool, 1))
        await eventually(lambda: reached(smtp, step))
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)

        result = await send(pool, 2)

    assert cancelled.cancelled()
    assert result.outcome == "sent"
    assert [(email.recipients, email.connection) for email in smtp.emails] == [(("reader2@mail.test",), 2)]


async def reached(smtp: SmtpServer, step: Step) -> bool:
    if step == "connect":
        return smtp.connections == 1
    return (step if step != "end_of_data" else "data").upper() in smtp.verbs(1) and not smtp.has_fault(step)


async def test_waiting_messages_can_be_cancelled(smtp: SmtpServer):
    smtp.stalls("mail", times=1)

    async with sending(smtp, connections=1) as pool:
        tasks = [asyncio.create_task(send(pool, number)) for number in range(10)]
        await eventually(lambda: reached(smtp, "mail"))
        for task in tasks[:9]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[9], DeliveryResult)
    assert results[9].outcome == "sent"
    assert len(smtp.emails) == 1


async def test_silent_server_does_not_delay_closing(smtp: SmtpServer):
    smtp.stalls("quit")

    async with asyncio.timeout(FAR):
        async with sending(smtp) as pool:
            await send(pool)

    assert smtp.verbs(1)[-1] == "QUIT"


async def test_closing_cuts_off_messages_and_refuses_new_ones(smtp: SmtpServer):
    smtp.stalls("end_of_data", times=1)

    async with sending(smtp, connections=1) as pool:
        under_way = asyncio.create_task(send(pool, 1))
        waiting = asyncio.create_task(send(pool, 2))
        await eventually(lambda: reached(smtp, "end_of_data"))

    assert (await under_way).outcome == "unknown"
    assert (await waiting).outcome == "later"
    assert (await send(pool)).reply == "not attempted: the pool is closed"
    assert not smtp.emails
